//! What is started and how: flavour, flags, certificates, places for data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::clocks::Clocks;
use crate::deadline::PATIENCE;
use crate::door::Door;
use crate::network::Network;
use crate::sick_disk::Disks;

/// The program behind the client API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Flavor {
    /// Debian's `etcd`, the original
    Etcd,
    /// `barque store`
    Barque,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl Flavor {
    /// What the tests examine: Barque, unless `STORE_UNDER_TEST=etcd` asks for the original, which is how an
    /// expectation of a test is itself tested.
    #[must_use]
    pub fn under_test() -> Self {
        match std::env::var("STORE_UNDER_TEST").as_deref() {
            Ok("etcd") => Self::Etcd,
            Ok("barque") | Err(_) => Self::Barque,
            Ok(other) => panic!("STORE_UNDER_TEST is `{other}`; it may be `etcd` or `barque`"),
        }
    }

    /// Whether Barque is meant.
    #[must_use]
    pub fn is_barque(self) -> bool {
        self == Self::Barque
    }

    /// The program and the arguments that come before every flag.
    ///
    /// Barque's binary is `$BARQUE_BIN`, or `barque` in the directory of this build.
    fn program(self) -> (PathBuf, &'static [&'static str]) {
        match self {
            Self::Etcd => (PathBuf::from("etcd"), &[]),
            Self::Barque => (barque_binary(), &["store"]),
        }
    }
}

/// `$BARQUE_BIN`, or the binary that this build put beside (or above) the running one.
#[must_use]
pub fn barque_binary() -> PathBuf {
    built_binary("BARQUE_BIN", "barque")
}

/// `$variable`, or the binary `name` that this build put beside (or above) the running one.
#[must_use]
pub fn built_binary(variable: &str, name: &str) -> PathBuf {
    if let Some(path) = std::env::var_os(variable) {
        return PathBuf::from(path);
    }
    let this = std::env::current_exe().expect("a running program has a path");
    let near = this.ancestors().skip(1).take(2).map(|dir| dir.join(name));
    near.into_iter().find(|path| path.is_file()).unwrap_or_else(|| PathBuf::from(name))
}

/// Paths of PEM files with which every member serves clients and peers.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificates of the authority that signed the members and the clients.
    pub authority: PathBuf,
    /// A member's certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// How a cluster is started. Every flag that is not named here keeps its default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub(super) flags: BTreeMap<String, String>,
    pub(super) tls: Option<TlsFiles>,
    pub(super) data_roots: BTreeMap<usize, PathBuf>,
    pub(super) network: Option<Arc<Network>>,
    pub(super) disks: Option<Arc<Disks>>,
    pub(super) clocks: Option<Arc<Clocks>>,
    pub(super) door: Door,
    patience: Option<Duration>,
    program: Option<PathBuf>,
    pub(super) root: Option<PathBuf>,
}

impl Options {
    /// Gives every member `flag` (with its dashes) the value `value`.
    #[must_use]
    pub fn flag(mut self, flag: &str, value: impl ToString) -> Self {
        self.flags.insert(flag.to_owned(), value.to_string());
        self
    }

    /// Heartbeats and elections faster than by default, for tests that lose leaders often; slow enough for a busy
    /// machine.
    #[must_use]
    pub fn fast_elections(self) -> Self {
        self.flag("--heartbeat-interval", 50).flag("--election-timeout", 800)
    }

    /// TLS towards clients and peers, with client certificates required on both.
    #[must_use]
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self
    }

    /// Member `index` keeps its data below `root` instead of the cluster's own directory.
    #[must_use]
    pub fn data_root(mut self, index: usize, root: PathBuf) -> Self {
        self.data_roots.insert(index, root);
        self
    }

    /// Each member is a host of this network, instead of all on loopback.
    #[must_use]
    pub fn network(mut self, network: Arc<Network>) -> Self {
        self.network = Some(network);
        self
    }

    /// Each member has its data on a disk of its own, which can be made sick.
    #[must_use]
    pub fn disks(mut self, disks: Arc<Disks>) -> Self {
        self.disks = Some(disks);
        self
    }

    /// Each member has a clock of its own among these, instead of the machine's.
    #[must_use]
    pub fn clocks(mut self, clocks: Arc<Clocks>) -> Self {
        self.clocks = Some(clocks);
        self
    }

    /// Clients of the cluster come in so.
    #[must_use]
    pub fn door(mut self, door: Door) -> Self {
        self.door = door;
        self
    }

    /// Members may take this long to become ready.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    /// Runs this executable instead of the one that the flavour is found by.
    #[must_use]
    pub fn program(mut self, program: PathBuf) -> Self {
        self.program = Some(program);
        self
    }

    /// Keeps the cluster's own directory below this one instead of where temporary files go.
    #[must_use]
    pub fn root(mut self, root: PathBuf) -> Self {
        self.root = Some(root);
        self
    }

    /// The executable of a flavour, and the arguments that come before every flag.
    pub(super) fn program_of(&self, flavor: Flavor) -> (PathBuf, &'static [&'static str]) {
        let (found, leading) = flavor.program();
        (self.program.clone().unwrap_or(found), leading)
    }

    pub(super) fn ready_within(&self) -> Duration {
        self.patience.unwrap_or(PATIENCE)
    }
}
