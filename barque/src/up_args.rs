//! The flags of `barque up`, `barque down` and `barque fault`, each also as `BARQUE_UP_*` in the environment.
//!
//! Turns words into values; what a cluster may be is its plan's to say.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_local::fault::Fault;
use barque_local::up::Up;
use clap::{Args, ValueEnum};

use crate::component_args::time;

/// Where a cluster is when nobody says it.
const OF_ROOT: &str = "/var/lib/barque/up";

/// Which cluster of this machine.
#[derive(Debug, Args)]
pub(crate) struct DirectoryArgs {
    /// What belongs to the cluster [default: /var/lib/barque/up for root, ~/.local/share/barque/up for others].
    #[arg(long = "dir", env = "BARQUE_UP_DIR", value_name = "DIRECTORY")]
    dir: Option<PathBuf>,
}

impl DirectoryArgs {
    /// Its path, absolute: processes run elsewhere.
    pub(crate) fn path(&self) -> io::Result<PathBuf> {
        let path = match &self.dir {
            Some(dir) => dir.clone(),
            None if rustix::process::geteuid().is_root() => OF_ROOT.into(),
            None => of_user(&|name| std::env::var_os(name).map(PathBuf::from)),
        };
        std::path::absolute(path)
    }
}

/// Where a user's data is, by the XDG base directory specification.
fn of_user(variable: &dyn Fn(&str) -> Option<PathBuf>) -> PathBuf {
    let named = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
    let usual = || variable("HOME").unwrap_or_default().join(".local/share");
    named.unwrap_or_else(usual).join("barque/up")
}

/// Makes a cluster on this machine, or starts it again.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    directory: DirectoryArgs,
    /// How many masters, 1 to 9; of three, one may fail [default: 3].
    #[arg(long, env = "BARQUE_UP_MASTERS", value_name = "COUNT")]
    masters: Option<u8>,
    /// How many nodes [default: 2].
    #[arg(long, env = "BARQUE_UP_NODES", value_name = "COUNT")]
    nodes: Option<u8>,
    /// Objects that are applied, in files of YAML or JSON, or in directories of such; `-` is standard input.
    #[arg(
        short = 'f',
        long = "filename",
        env = "BARQUE_UP_FILENAME",
        value_name = "FILES",
        value_delimiter = ','
    )]
    filename: Vec<PathBuf>,
    /// A snapshot, saved by `kvctl snapshot save`, that a new cluster begins with.
    #[arg(long, env = "BARQUE_UP_RESTORE", value_name = "FILE")]
    restore: Option<PathBuf>,
    /// Where clients reach the cluster [default: 127.0.0.1:6443].
    #[arg(long, env = "BARQUE_UP_LISTEN", value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// The network of masters and nodes [default: 10.77.0.0/24; without root 127.77.0.0/24].
    #[arg(long, env = "BARQUE_UP_SUBNET", value_name = "NETWORK")]
    subnet: Option<String>,
    /// As without root: members are on loopback addresses, and nodes are hollow. For containers that may do little.
    #[arg(long, env = "BARQUE_UP_LOOPBACK")]
    loopback: bool,
    /// What links, namespaces and control groups are named by; clusters on one machine need different names
    /// [default: barque].
    #[arg(long, env = "BARQUE_UP_NAME", value_name = "NAME")]
    name: Option<String>,
    /// How long everything may take.
    #[arg(long, env = "BARQUE_UP_TIMEOUT", default_value = "5m", value_name = "TIME", value_parser = time)]
    timeout: Duration,
    /// What was begun is kept when something fails, to look at it.
    #[arg(long, env = "BARQUE_UP_KEEP")]
    keep: bool,
}

impl UpArgs {
    /// What is asked for; processes are those of this program.
    pub(crate) fn into_up(self) -> io::Result<Up> {
        Ok(Up {
            name: self.name,
            masters: self.masters,
            nodes: self.nodes,
            subnet: self.subnet,
            listen: self.listen,
            is_on_loopback: self.loopback,
            directory: self.directory.path()?,
            restore: self.restore.map(std::path::absolute).transpose()?,
            manifests: self.filename,
            timeout: self.timeout,
            keep: self.keep,
            program: std::env::current_exe()?,
        })
    }
}

/// Takes a cluster of this machine away.
#[derive(Debug, Args)]
pub(crate) struct DownArgs {
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    /// The data stays, and `barque up` starts the cluster again with it.
    #[arg(long, env = "BARQUE_UP_KEEP_DATA")]
    pub(crate) keep_data: bool,
}

/// Does harm to a member of a cluster of this machine, or undoes it.
#[derive(Debug, Args)]
pub(crate) struct FaultArgs {
    /// What is done.
    #[arg(value_name = "FAULT")]
    pub(crate) fault: FaultWord,
    /// To whom: m1 is a master, n1 a node, `front` what clients speak to.
    #[arg(value_name = "MEMBER")]
    pub(crate) member: String,
    #[command(flatten)]
    pub(crate) directory: DirectoryArgs,
    /// How long a member that is started again may take to be ready.
    #[arg(long, env = "BARQUE_UP_TIMEOUT", default_value = "2m", value_name = "TIME", value_parser = time)]
    pub(crate) timeout: Duration,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FaultWord {
    /// It ends at once, as by a crash.
    Kill,
    /// It stops where it is; connections to it are taken, and nothing answers.
    Pause,
    /// It goes on.
    Resume,
    /// It is stopped if it runs, and started with the same words.
    Restart,
    /// A master ends at once and its disk is lost; one with an empty disk joins in its place.
    Replace,
    /// Its link is down: nothing reaches it.
    Partition,
    /// Its link is up again.
    Heal,
}

impl From<FaultWord> for Fault {
    fn from(word: FaultWord) -> Self {
        match word {
            FaultWord::Kill => Self::Kill,
            FaultWord::Pause => Self::Pause,
            FaultWord::Resume => Self::Resume,
            FaultWord::Restart => Self::Restart,
            FaultWord::Replace => Self::Replace,
            FaultWord::Partition => Self::Partition,
            FaultWord::Heal => Self::Heal,
        }
    }
}

/// What to do next with a cluster that runs.
pub(crate) fn advice(directory: &Path, kubeconfig: &Path) -> String {
    let dir = if directory == Path::new(OF_ROOT) {
        String::new()
    } else {
        format!(" --dir {}", directory.display())
    };
    format!(
        "export KUBECONFIG={}\nkubectl get nodes\nbarque fault kill m2{dir}   # or pause, partition, ...: the cluster goes on\nbarque down{dir}            # takes everything away",
        kubeconfig.display()
    )
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct UpCli {
        #[command(flatten)]
        up: UpArgs,
    }

    #[derive(Debug, Parser)]
    struct FaultCli {
        #[command(flatten)]
        fault: FaultArgs,
    }

    #[test]
    fn every_flag_can_come_from_the_environment_under_its_own_name() {
        let mut flags = 0;
        let commands = [UpCli::command(), FaultCli::command()];
        let all = commands.iter().flat_map(|command| command.get_arguments());
        for arg in all.filter(|arg| arg.get_id() != "help" && arg.get_long().is_some()) {
            let expected = format!("BARQUE_UP_{}", arg.get_long().unwrap().to_uppercase().replace('-', "_"));
            assert_eq!(arg.get_env().unwrap().to_str().unwrap(), expected);
            flags += 1;
        }
        assert_eq!(flags, 13);
    }

    #[test]
    fn words_are_understood_or_named() {
        let words =
            ["up", "--masters=1", "-f", "a.yaml", "-f", "b.yaml,c", "--dir=d", "--listen=127.0.0.1:7443"];
        let up = UpCli::try_parse_from(words).unwrap().up.into_up().unwrap();
        assert_eq!((up.masters, up.nodes, up.manifests.len()), (Some(1), None, 3));
        assert!(up.directory.is_absolute() && up.directory.ends_with("d"));
        assert_eq!((up.listen.unwrap().port(), up.timeout), (7443, Duration::from_secs(300)));
        let wrong = UpCli::try_parse_from(["up", "--listen=6443"]).unwrap_err().to_string();
        assert!(wrong.contains("--listen"), "{wrong}");
        let fault = FaultCli::try_parse_from(["fault", "pause", "m2"]).unwrap().fault;
        assert_eq!((Fault::from(fault.fault), fault.member.as_str()), (Fault::Pause, "m2"));
        let wrong = FaultCli::try_parse_from(["fault", "break", "m2"]).unwrap_err().to_string();
        assert!(wrong.contains("partition"), "{wrong}");
    }

    #[test]
    fn data_of_users_is_where_other_programs_have_theirs() {
        let of = |data: Option<&'static str>| {
            of_user(&move |name| match name {
                "HOME" => Some("/somebody".into()),
                _ => data.map(PathBuf::from),
            })
        };
        assert_eq!(of(None), Path::new("/somebody/.local/share/barque/up"));
        assert_eq!(of(Some("/data")), Path::new("/data/barque/up"));
        assert_eq!(of(Some("not/absolute")), Path::new("/somebody/.local/share/barque/up"));
    }
}
