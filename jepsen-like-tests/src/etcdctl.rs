//! Runs Debian's `etcdctl` as a user would.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// No command of a test takes longer, except for those that say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Printed {
    /// The output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it has not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "etcdctl failed: {}{}", self.out, self.err);
        self.out
    }
}

/// `etcdctl` with the global flags that lead to a cluster.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    global: Vec<String>,
}

impl Etcdctl {
    /// Speaks with these endpoints.
    #[must_use]
    pub fn to(endpoints: &[String]) -> Self {
        Self { global: vec![format!("--endpoints={}", endpoints.join(","))] }
    }

    /// Uses TLS with this authority.
    #[must_use]
    pub fn authority(mut self, authority: &Path) -> Self {
        self.global.push(format!("--cacert={}", authority.display()));
        self
    }

    /// Shows this certificate to the server.
    #[must_use]
    pub fn certificate(mut self, certificate: &Path, key: &Path) -> Self {
        self.global.push(format!("--cert={}", certificate.display()));
        self.global.push(format!("--key={}", key.display()));
        self
    }

    /// Adds a flag to every command.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.global.push(flag.to_owned());
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("etcdctl");
        command.env("ETCDCTL_API", "3").args(&self.global).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs one command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Printed {
        self.run_with(arguments, "", PATIENCE).await
    }

    /// Runs one command that reads `input` and may take as long as `patience`.
    pub async fn run_with(&self, arguments: &[&str], input: &str, patience: Duration) -> Printed {
        let mut child = self.command(arguments).spawn().unwrap_or_else(missing);
        let mut stdin = child.stdin.take().expect("stdin is piped");
        stdin.write_all(input.as_bytes()).await.expect("etcdctl reads what it is given");
        drop(stdin);
        let output = timeout(patience, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("etcdctl {arguments:?} still runs after {patience:?}"));
        let output = output.expect("a child can be waited for");
        Printed {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Starts a command that goes on until it is stopped, such as `watch` or `lock`.
    #[must_use]
    pub fn open(&self, arguments: &[&str]) -> OpenCommand {
        let mut child = self.command(arguments).spawn().unwrap_or_else(missing);
        let out = child.stdout.take().expect("stdout is piped");
        OpenCommand { child, lines: BufReader::new(out).lines() }
    }
}

fn missing<T>(why: io::Error) -> T {
    panic!("cannot run etcdctl: {why} (`apt-get install etcd-client`)")
}

/// A command that still runs; dropping it ends it.
#[derive(Debug)]
pub struct OpenCommand {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl OpenCommand {
    /// The next line it prints, or `None` when `patience` runs out or it has ended.
    pub async fn line(&mut self, patience: Duration) -> Option<String> {
        timeout(patience, self.lines.next_line()).await.ok()?.expect("etcdctl prints text")
    }

    /// The next `count` lines; fails when they do not come.
    pub async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match self.line(PATIENCE).await {
                Some(line) => lines.push(line),
                None => panic!("etcdctl printed {lines:?}; {} more lines were expected", count - lines.len()),
            }
        }
        lines
    }

    /// Interrupts it (SIGINT, as Ctrl-C does) and waits for its end.
    pub async fn interrupt(mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("etcdctl is our child");
        }
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.expect("etcdctl ends when interrupted").expect("a child can be waited for");
    }
}
