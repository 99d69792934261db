//! Units of systemd for a master and for a node: texts. Pure; must never put a secret on a command line.

use std::path::Path;

use clap::ValueEnum;

/// Which process a unit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Service {
    /// A master.
    Server,
    /// A node.
    Agent,
}

/// Where units are.
const UNITS: &str = "/etc/systemd/system";
/// Where their environment is.
const ENVIRONMENTS: &str = "/etc/barque";

impl Service {
    /// All of them.
    pub(crate) const ALL: [Self; 2] = [Self::Server, Self::Agent];

    /// The command that runs it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Agent => "agent",
        }
    }

    /// The unit's name.
    pub(crate) fn unit(self) -> String {
        format!("barque-{}.service", self.command())
    }

    /// The unit's file.
    pub(crate) fn unit_path(self) -> String {
        format!("{UNITS}/{}", self.unit())
    }

    /// The file with what must not be seen by others.
    pub(crate) fn environment_path(self) -> String {
        format!("{ENVIRONMENTS}/barque-{}.env", self.command())
    }

    /// The variable of a flag whose value nobody else may see; nothing when others may.
    fn secret(self, flag: &str) -> Option<&'static str> {
        match (self, flag) {
            (Self::Server, "--token") => Some("BARQUE_SERVER_TOKEN"),
            (Self::Agent, "--token") => Some("BARQUE_AGENT_TOKEN"),
            _ => None,
        }
    }
}

/// Flags whose values are paths, which a unit would look for below `/`.
const PATHS: [&str; 9] = [
    "--config",
    "--token-file",
    "--data-dir",
    "--manifests",
    "--kubeconfig",
    "--root-dir",
    "--run-dir",
    "--pod-manifest-path",
    "--registry-config",
];

/// The same flags, with paths as whoever wrote them in this directory meant them.
pub(crate) fn absolute(flags: &[String], directory: &Path) -> Vec<String> {
    let mut is_path = false;
    let meant = flags.iter().map(|flag| {
        let before = std::mem::take(&mut is_path);
        match flag.split_once('=') {
            _ if before => directory.join(flag).display().to_string(),
            Some((name, value)) if PATHS.contains(&name) => {
                format!("{name}={}", directory.join(value).display())
            }
            _ => {
                is_path = PATHS.contains(&flag.as_str());
                flag.clone()
            }
        }
    });
    meant.collect()
}

/// A unit with its environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unit {
    pub(crate) text: String,
    /// Lines of variables; secret.
    pub(crate) environment: String,
}

/// The unit that runs this program with these flags.
pub(crate) fn unit(service: Service, program: &Path, flags: &[String]) -> Unit {
    let (mut words, mut environment) =
        (vec![program.display().to_string(), service.command().to_owned()], String::new());
    let mut flags = flags.iter();
    while let Some(flag) = flags.next() {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag.as_str(), None),
        };
        match service.secret(name) {
            Some(variable) => {
                let value = value.or_else(|| flags.next().cloned()).unwrap_or_default();
                environment += &format!("{variable}={value}\n");
            }
            None => words.push(flag.clone()),
        }
    }
    let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let (description, own) = match service {
        Service::Server => ("Barque, a master of a cluster", "KillMode=mixed\nTimeoutStopSec=60\n"),
        // Containers go on while the agent does not run.
        Service::Agent => {
            ("Barque, a node of a cluster", "KillMode=process\nDelegate=yes\nTimeoutStopSec=60\n")
        }
    };
    let text = format!(
        "[Unit]\n\
         Description={description}\n\
         Wants=network-online.target\n\
         After=network-online.target\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         Type=notify\n\
         # Who waits for its cluster is not ready yet, and must not be ended for it.\n\
         TimeoutStartSec=infinity\n\
         EnvironmentFile=-{}\n\
         ExecStart={}\n\
         Restart=always\n\
         RestartSec=2\n\
         {own}\
         LimitNOFILE=1048576\n\
         LimitNPROC=infinity\n\
         TasksMax=infinity\n\
         OOMScoreAdjust=-999\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        service.environment_path(),
        command.join(" ")
    );
    Unit { text, environment }
}

/// A word of a command line, as systemd reads it (systemd.service(5)).
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    let mut text = String::from('"');
    for c in word.chars() {
        match c {
            '\\' | '"' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '$' | '%' => text.extend([c, c]),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(all: &[&str]) -> Vec<String> {
        all.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn secrets_are_in_the_environment_and_not_on_the_command_line() {
        let program = Path::new("/usr/local/bin/barque");
        for flags in [
            words(&["--join=https://10.0.0.1:6443", "--token=s3cret"]),
            words(&["--token", "s3cret", "--join=https://10.0.0.1:6443"]),
        ] {
            let unit = unit(Service::Server, program, &flags);
            assert_eq!(unit.environment, "BARQUE_SERVER_TOKEN=s3cret\n");
            assert!(!unit.text.contains("s3cret"), "{}", unit.text);
            assert!(
                unit.text.contains("\nExecStart=/usr/local/bin/barque server --join=https://10.0.0.1:6443\n")
            );
            assert!(unit.text.contains("\nEnvironmentFile=-/etc/barque/barque-server.env\n"));
        }
    }

    #[test]
    fn containers_live_on_without_their_agent() {
        let agent = unit(Service::Agent, Path::new("/b"), &words(&["--node-labels=a=b"])).text;
        let server = unit(Service::Server, Path::new("/b"), &[]).text;
        assert!(agent.contains("\nKillMode=process\nDelegate=yes\n") && !server.contains("Delegate"));
        for text in [agent, server] {
            for line in
                ["Type=notify", "Restart=always", "LimitNOFILE=1048576", "After=network-online.target"]
            {
                assert!(text.lines().any(|it| it == line), "{line}: {text}");
            }
        }
    }

    #[test]
    fn paths_are_those_that_were_meant() {
        let flags = words(&[
            "--config=f",
            "--token-file=token",
            "--data-dir",
            "d",
            "--kubeconfig=/k",
            "--name",
            "m1",
        ]);
        let expected = [
            "--config=/here/f",
            "--token-file=/here/token",
            "--data-dir",
            "/here/d",
            "--kubeconfig=/k",
            "--name",
            "m1",
        ];
        assert_eq!(absolute(&flags, Path::new("/here")), expected);
    }

    #[test]
    fn words_are_quoted_as_systemd_reads_them() {
        let cases =
            [("--a=b", "--a=b"), ("", "\"\""), ("a b", "\"a b\""), ("50%$\"\\", "\"50%%$$\\\"\\\\\"")];
        for (word, expected) in cases {
            assert_eq!(quoted(word), expected);
        }
    }
}
