//! Masters and hollow nodes as processes: three `barque server`, each at an address of its own, and one `barque agent` that keeps
//! nodes. Must never touch a process that it did not start; they end with it.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::Rng as _;
use rustix::process::Signal;
use tempfile::TempDir;

use super::client::Server;
use crate::clocks::Clocks;
use crate::cluster::barque_binary;
use crate::cluster::process::{Process, tail};
use crate::deadline::eventually;
use crate::network::Network;
use crate::sick_disk::{Disks, SickDisk};

/// How many there are.
pub const MASTERS: usize = 3;
/// How many nodes the agent keeps.
const NODES: u32 = 3;
/// How long a master may take until it is ready; also on a machine with ten times too much to do.
pub(crate) const START: Duration = Duration::from_secs(180);
/// How many lines of a log are shown when its process has ended.
const LINES: usize = 12;
/// What masters log when they serve and take part.
const READY: &str = "the master is ready";
/// Where API servers listen.
const PORT: u16 = 6443;
/// Where the run itself is, in a network of its own.
const OWN_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);

/// What API servers tell of: what controllers and schedulers write.
const AUDIT_POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- level: None
  resources: [{group: '', resources: [events]}, {group: events.k8s.io}]
- level: RequestResponse
  omitManagedFields: true
  users: ['system:kube-controller-manager', 'system:kube-scheduler']
  verbs: [create, update, patch, delete, deletecollection]
- level: None
";

/// What masters stand on.
#[derive(Clone, Debug, Default)]
pub struct Stage {
    /// Each is a host of its own.
    pub network: Option<Arc<Network>>,
    /// Each has a disk of its own.
    pub disks: Option<Arc<Disks>>,
    /// Their clocks are in our hands.
    pub clocks: Option<Arc<Clocks>>,
}

#[derive(Debug)]
struct Master {
    name: String,
    address: IpAddr,
    data: PathBuf,
    starts: u32,
    process: Option<Process>,
    /// Where clients find it, once it has been ready.
    server: Option<Server>,
}

/// All processes.
#[derive(Debug)]
pub struct Masters {
    // In this order: processes end before what they stand on goes.
    nodes: Option<Process>,
    masters: Vec<Master>,
    stage: Stage,
    /// What the next start of a master runs.
    program: PathBuf,
    root: TempDir,
    logs: PathBuf,
}

impl Masters {
    /// Starts them one after another, as they join. Logs go to this directory.
    ///
    /// # Errors
    /// When one does not come to be ready.
    pub async fn start(stage: Stage, logs: &Path) -> anyhow::Result<Self> {
        let root = tempfile::Builder::new().prefix("masters-").tempdir()?;
        std::fs::write(root.path().join("audit.yaml"), AUDIT_POLICY)?;
        let network = free_network()?;
        let mut masters = Vec::new();
        for index in 0..MASTERS {
            let name = format!("m{}", index + 1);
            let address = match &stage.network {
                Some(hosts) => hosts.add_host(&name)?.parse()?,
                None => address_in(network, index).into(),
            };
            let below = match &stage.disks {
                Some(disks) => disks.add(&name).context("a disk for a master")?.path().to_owned(),
                None => root.path().to_owned(),
            };
            masters.push(Master {
                data: below.join(&name),
                name,
                address,
                starts: 0,
                process: None,
                server: None,
            });
        }
        let mut all =
            Self { stage, program: barque_binary(), root, logs: logs.to_owned(), masters, nodes: None };
        for index in 0..MASTERS {
            all.spawn(index)?;
            all.ready(index).await?;
        }
        Ok(all)
    }

    /// Starts an agent that keeps some nodes.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_nodes(&mut self) -> anyhow::Result<()> {
        let urls: Vec<String> = self
            .masters
            .iter()
            .map(|master| format!("https://{}", SocketAddr::new(master.address, PORT)))
            .collect();
        let address = if self.stage.network.is_some() { OWN_ADDRESS } else { Ipv4Addr::LOCALHOST };
        let words = [
            "agent".to_owned(),
            "--runtime=hollow".to_owned(),
            format!("--kubeconfig={}", self.kubeconfig(0).display()),
            format!("--master={}", urls.join(",")),
            "--hostname-override=hollow".to_owned(),
            format!("--hollow-nodes={NODES}"),
            "--healthz-port=0".to_owned(),
            format!("--node-ip={address}"),
            format!("--root-dir={}", self.root.path().join("nodes").display()),
        ];
        let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
        self.nodes = Some(Process::start(&barque_binary(), &words, &self.logs.join("nodes.log"))?);
        Ok(())
    }

    /// How many nodes there should be.
    #[must_use]
    pub fn node_count(&self) -> usize {
        if self.nodes.is_some() { NODES as usize } else { 0 }
    }

    fn kubeconfig(&self, index: usize) -> PathBuf {
        self.root.path().join(format!("{}.kubeconfig", self.masters[index].name))
    }

    /// The audit log of a master's API server that was started so often.
    fn audit_log(&self, index: usize, start: u32) -> PathBuf {
        self.logs.join(format!("{}-{start}.audit", self.masters[index].name))
    }

    /// Audit logs, each with the name of its process: a master, and how often it had been started.
    #[must_use]
    pub fn audit_logs(&self) -> Vec<(String, PathBuf)> {
        let of = |index: usize| {
            let master = &self.masters[index];
            (1..=master.starts)
                .map(move |start| (format!("{}-{start}", master.name), self.audit_log(index, start)))
        };
        (0..self.masters.len()).flat_map(of).collect()
    }

    fn words(&self, index: usize) -> Vec<String> {
        let master = &self.masters[index];
        let mut words = vec![
            "server".to_owned(),
            format!("--name={}", master.name),
            format!("--data-dir={}", master.data.display()),
            format!("--advertise-address={}", master.address),
            format!("--bind-address={}", master.address),
            "--node-failover=fast".to_owned(),
            format!("--apiserver-arg=audit-policy-file={}", self.root.path().join("audit.yaml").display()),
            format!("--apiserver-arg=audit-log-path={}", self.audit_log(index, master.starts).display()),
            "--apiserver-arg=audit-log-maxsize=0".to_owned(),
        ];
        if index > 0 {
            words.push(format!("--join=https://{}", SocketAddr::new(self.masters[0].address, PORT)));
            words.push(format!("--token-file={}", self.root.path().join("token").display()));
        }
        words
    }

    /// Starts a master, and does not wait for it.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(&mut self, index: usize) -> anyhow::Result<()> {
        self.masters[index].starts += 1;
        let mut words: Vec<OsString> = vec![self.program.clone().into_os_string()];
        words.extend(self.words(index).into_iter().map(OsString::from));
        let name = &self.masters[index].name;
        if let Some(clocks) = &self.stage.clocks {
            words.splice(..0, clocks.before_program(name)?.map(OsString::from));
        }
        if self.stage.network.is_some() {
            words.splice(..0, Network::on_host(name).map(OsString::from));
        }
        let (program, words) = words.split_first().expect("the program was put there");
        let process = Process::start(Path::new(program), words, &self.log(index))?;
        self.masters[index].process = Some(process);
        Ok(())
    }

    /// Waits until a master's API server says that it is ready.
    ///
    /// # Errors
    /// When it ends, or is not within [`START`].
    pub async fn ready(&mut self, index: usize) -> anyhow::Result<()> {
        let name = self.masters[index].name.clone();
        if self.masters[index].server.is_none() {
            self.connect(index).await?;
        }
        let server = self.server(index);
        if self.masters[index].starts == 1 {
            // The first one gives the cluster what it begins with only then, and others join by that.
            let log = self.log(index);
            let said = eventually("that the master says that it is ready", START, || {
                let has_said = tail(&log, usize::MAX).contains(READY);
                std::future::ready(if has_said { Ok(()) } else { Err("it does not") })
            });
            self.unless_ended(index, said).await??;
        }
        let ready = eventually("/readyz", START, || server.is_ready());
        self.unless_ended(index, ready).await?.with_context(|| format!("{name} is not ready"))
    }

    /// A master writes what its administrator needs when it starts for the first time.
    async fn connect(&mut self, index: usize) -> anyhow::Result<()> {
        let written = self.masters[index].data.join("admin.kubeconfig");
        let is_there = eventually("the administrator's kubeconfig", START, || async {
            let text = std::fs::read(&written).map_err(|error| error.to_string())?;
            if text.ends_with(b"\n") { Ok(text) } else { Err("it is not whole".to_owned()) }
        });
        let text = self.unless_ended(index, is_there).await??;
        std::fs::write(self.kubeconfig(index), text)?;
        if index == 0 {
            std::fs::copy(self.masters[0].data.join("token"), self.root.path().join("token"))?;
        }
        let server = Server::of(&self.masters[index].name, &self.kubeconfig(index)).await?;
        self.masters[index].server = Some(server);
        Ok(())
    }

    /// Waits for something that does not come when the process ends.
    async fn unless_ended<T>(&mut self, index: usize, what: impl Future<Output = T>) -> anyhow::Result<T> {
        let mut what = std::pin::pin!(what);
        loop {
            // What is asked never learns of the process's end; a look at it now and then does.
            if let Ok(answer) = tokio::time::timeout(Duration::from_millis(200), what.as_mut()).await {
                return Ok(answer);
            }
            let master = &mut self.masters[index];
            if let Some(process) = &mut master.process
                && let Some(status) = process.exit_status()?
            {
                let (name, log) = (master.name.clone(), tail(&self.log(index), LINES));
                anyhow::bail!("{name} has ended ({status}); its last words:\n{log}");
            }
        }
    }

    /// Starts these masters together, and waits until each is ready.
    ///
    /// # Errors
    /// When one is not.
    pub async fn restart(&mut self, indexes: &[usize]) -> anyhow::Result<()> {
        for &index in indexes {
            self.spawn(index)?;
        }
        for &index in indexes {
            self.ready(index).await?;
        }
        Ok(())
    }

    fn process(&mut self, index: usize) -> &mut Process {
        self.masters[index].process.as_mut().expect("masters are started when the cluster is")
    }

    /// Ends a master at once.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn kill(&mut self, index: usize) -> anyhow::Result<()> {
        Ok(self.process(index).kill()?)
    }

    /// Asks a master to end.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn terminate(&mut self, index: usize) -> anyhow::Result<()> {
        Ok(self.process(index).signal(Signal::TERM)?)
    }

    /// From now on masters start from a file of another name, as a new release would be.
    ///
    /// # Errors
    /// When there is no room for one.
    pub fn renew_program(&mut self) -> anyhow::Result<()> {
        let number: u32 = self.masters.iter().map(|master| master.starts).sum();
        let program = self.root.path().join(format!("barque-{number}"));
        // Another file system has its own copy.
        if std::fs::hard_link(&self.program, &program).is_err() {
            std::fs::copy(&self.program, &program).context("a copy of the program")?;
        }
        self.program = program;
        Ok(())
    }

    /// Stops a master where it is.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn pause(&mut self, index: usize) -> anyhow::Result<()> {
        Ok(self.process(index).pause()?)
    }

    /// Lets a paused master go on.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn resume(&mut self, index: usize) -> anyhow::Result<()> {
        Ok(self.process(index).signal(Signal::CONT)?)
    }

    /// Waits for the end of a master; none if it still runs after `patience`.
    ///
    /// # Errors
    /// When the system does not let us.
    pub async fn ended(&mut self, index: usize, patience: Duration) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.process(index).ended(patience).await?)
    }

    /// The name of a master.
    #[must_use]
    pub fn name(&self, index: usize) -> &str {
        &self.masters[index].name
    }

    /// The directory of a master.
    #[must_use]
    pub fn data(&self, index: usize) -> &Path {
        &self.masters[index].data
    }

    /// The address of a master.
    #[must_use]
    pub fn address(&self, index: usize) -> IpAddr {
        self.masters[index].address
    }

    /// The log of a master.
    #[must_use]
    pub fn log(&self, index: usize) -> PathBuf {
        self.logs.join(format!("{}.log", self.masters[index].name))
    }

    /// What clients speak to.
    #[must_use]
    pub fn server(&self, index: usize) -> Server {
        self.masters[index].server.clone().expect("a master that has been ready has one")
    }

    /// All of them.
    #[must_use]
    pub fn servers(&self) -> Vec<Server> {
        (0..self.masters.len()).map(|index| self.server(index)).collect()
    }

    /// What they stand on.
    #[must_use]
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// The disk of a master.
    #[must_use]
    pub fn disk(&self, index: usize) -> Option<Arc<SickDisk>> {
        self.stage.disks.as_ref().and_then(|disks| disks.of(self.name(index)))
    }
}

fn address_in([a, b]: [u8; 2], index: usize) -> Ipv4Addr {
    Ipv4Addr::new(127, a, b, 11 + u8::try_from(index).unwrap_or_default())
}

/// A network of the loopback at whose addresses nobody listens.
fn free_network() -> anyhow::Result<[u8; 2]> {
    let mut rng = rand::rng();
    for _ in 0..100 {
        let network = [rng.random_range(100..250), rng.random_range(1..250)];
        let is_free = (0..MASTERS).all(|index| {
            let address = address_in(network, index);
            // API, store for clients and for members, controllers, scheduler.
            [PORT, 2379, 2380, 10257, 10259].iter().all(|port| TcpListener::bind((address, *port)).is_ok())
        });
        if is_free {
            return Ok(network);
        }
    }
    anyhow::bail!(
        "somebody listens on port {PORT} of all addresses of this machine; masters need it at one of 127.0.0.0/8"
    )
}
