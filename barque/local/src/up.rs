//! A cluster is made, or started again: its ground, its processes in order, its objects. What was begun and does not come to an
//! end is taken away again.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_manifests::manifest::Manifest;
use futures::future::{select_all, try_join_all};
use tokio_util::sync::CancellationToken;

use crate::apply::{self, ApplyError};
use crate::down::take_away;
use crate::ground::{self, GroundError};
use crate::kubeconfig::{KubeconfigError, with_server};
use crate::manifests::{self, ManifestError};
use crate::plan::{Ground, Member, Plan, PlanError, Resolvers, Role, Wanted, resolvers_of};
use crate::process::{self, ProcessError, Started};
use crate::progress::Progress;
use crate::state::{Lock, State, StateError, write_private};

/// What processes log when they serve.
pub(crate) const fn ready_line(role: Role) -> &'static str {
    match role {
        Role::Master => "the master is ready",
        Role::Node => "keeping nodes",
        Role::Front => "the front is ready",
    }
}

/// Where machines say whom they ask for names, the preferred one first.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// There where Docker has its network.
const DOCKER: &str = "/proc/sys/net/ipv4/conf/docker0";

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Up {
    /// The name, if it was said.
    pub name: Option<String>,
    /// How many masters, if it was said.
    pub masters: Option<u8>,
    /// How many nodes, if it was said.
    pub nodes: Option<u8>,
    /// The network, if it was said.
    pub subnet: Option<String>,
    /// Where clients reach the cluster, if it was said.
    pub listen: Option<SocketAddr>,
    /// Members are on loopback addresses also for root.
    pub is_on_loopback: bool,
    /// What belongs to the cluster.
    pub directory: PathBuf,
    /// The snapshot that a new cluster begins with.
    pub restore: Option<PathBuf>,
    /// Files with objects.
    pub manifests: Vec<PathBuf>,
    /// How long everything may take.
    pub timeout: Duration,
    /// What was begun is not taken away when it fails.
    pub keep: bool,
    /// The program of all processes.
    pub program: PathBuf,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It runs now.
    Started {
        /// Its layout.
        plan: Box<Plan>,
        /// How long it took.
        took: Duration,
    },
    /// It ran before; nothing was changed.
    Running {
        /// Its layout.
        plan: Box<Plan>,
        /// Members that do not run.
        missing: Vec<String>,
    },
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// There is no such cluster.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The file of the cluster.
    #[error(transparent)]
    State(#[from] StateError),
    /// The files of objects.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The namespaces and links.
    #[error(transparent)]
    Ground(#[from] GroundError),
    /// A process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The objects.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The first master's kubeconfig.
    #[error("{path}")]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: KubeconfigError,
    },
    /// A file.
    #[error("{path} cannot be used")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Somebody else has the address.
    #[error("--listen={address}: cannot listen there; name an address and a port that are free")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The cluster that is there is another one.
    #[error(
        "the cluster in {directory} was made with {is}, and not with {asked}; leave that flag out to start it again, or take it away with `barque down`"
    )]
    Differs {
        /// Where.
        directory: PathBuf,
        /// What it has.
        is: String,
        /// What was asked for.
        asked: String,
    },
    /// There is one already.
    #[error(
        "--restore: there is a cluster in {0} already, and a snapshot is what a new one begins with; `barque down` takes the old one away"
    )]
    NotNew(PathBuf),
    /// The cluster needs root.
    #[error("the cluster in {0} has namespaces of its own, for which root is needed")]
    NeedsRoot(PathBuf),
    /// It took too long.
    #[error("the cluster is not complete after {}s (--timeout); {missing}", after.as_secs())]
    Timeout {
        /// How long it was waited.
        after: Duration,
        /// What is missing.
        missing: String,
    },
    /// Somebody does not want to wait any more.
    #[error("stopped before the cluster was complete")]
    Stopped,
    /// Something is left of what was taken away again.
    #[error("{why}\nand what was begun could not be taken away: {}", left.join("; "))]
    Left {
        /// Why there is no cluster.
        why: Box<UpError>,
        /// What is left.
        left: Vec<String>,
    },
}

fn file(path: &Path) -> impl Fn(io::Error) -> UpError {
    let path = path.to_owned();
    move |source| UpError::File { path: path.clone(), source }
}

/// Makes a cluster, or starts it again.
///
/// # Errors
/// When it does not come to be complete; then nothing of it runs, unless it was asked for.
pub async fn up(up: Up, progress: &Progress, stop: CancellationToken) -> Result<Outcome, UpError> {
    let objects = manifests::read(&up.manifests)?;
    DirBuilder::new().recursive(true).mode(0o700).create(&up.directory).map_err(file(&up.directory))?;
    let lock = Lock::take(&up.directory)?;
    let is_root = rustix::process::geteuid().is_root();
    let before = State::load(&up.directory)?;
    let is_new = before.is_none();
    let state = match before {
        Some(state) => {
            let running: BTreeSet<String> = state.running().into_iter().map(str::to_owned).collect();
            if !running.is_empty() {
                let all = state.plan.members.iter().map(|member| member.name.clone());
                let missing = all.filter(|name| !running.contains(name)).collect();
                return Ok(Outcome::Running { plan: Box::new(state.plan), missing });
            }
            is_the_same(&state.plan, &up)?;
            if !begins_with(&state.plan, up.restore.as_deref()) {
                return Err(UpError::NotNew(up.directory));
            }
            if state.plan.ground != Ground::Loopback && !is_root {
                return Err(UpError::NeedsRoot(up.directory));
            }
            state
        }
        None => {
            let plan = Plan::of(&wanted(&up, is_root && !up.is_on_loopback)).map_err(UpError::from);
            let room = match &plan {
                Ok(plan) => room(plan).await,
                Err(_) => Ok(()),
            };
            match plan.and_then(|plan| room.map(|()| plan)) {
                Ok(plan) => State::new(plan),
                Err(why) => {
                    // What was made for the lock alone.
                    let _ = State::remove(&up.directory);
                    let _ = std::fs::remove_dir(&up.directory);
                    return Err(why);
                }
            }
        }
    };
    state.save()?;
    if state.plan.ground == Ground::Loopback {
        progress.done(
            "without root, members are on loopback addresses, and nodes are hollow: they run no containers",
        );
    }
    let mut making = Making { program: &up.program, state, started: Vec::new(), progress };
    let bringing = tokio::time::timeout(up.timeout, Box::pin(making.make(&objects, is_new)));
    let outcome = match stop.run_until_cancelled(bringing).await {
        None => Err(UpError::Stopped),
        Some(Err(_)) => {
            let missing = match progress.missing() {
                none if none.is_empty() => "it was not told what is missing".to_owned(),
                missing => format!("missing: {missing}"),
            };
            Err(UpError::Timeout { after: up.timeout, missing })
        }
        Some(Ok(outcome)) => outcome,
    };
    let Making { mut state, .. } = making;
    let Err(why) = outcome else {
        return Ok(Outcome::Started { plan: Box::new(state.plan), took: progress.elapsed() });
    };
    if up.keep {
        return Err(why);
    }
    progress.done("that failed; what was begun is taken away");
    let left = take_away(&mut state, &up.program, !is_new).await;
    drop(lock);
    if left.is_empty() { Err(why) } else { Err(UpError::Left { why: Box::new(why), left }) }
}

fn wanted(up: &Up, is_privileged: bool) -> Wanted {
    let name = up.name.clone().unwrap_or_else(|| "barque".to_owned());
    let run_directory =
        if is_privileged { Path::new("/run/barque-up").join(&name) } else { up.directory.join("run") };
    Wanted {
        name,
        masters: up.masters.unwrap_or(3),
        nodes: up.nodes.unwrap_or(2),
        subnet: up.subnet.clone(),
        restore: up.restore.clone(),
        listen: up.listen.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 6443))),
        directory: up.directory.clone(),
        run_directory,
        is_privileged,
    }
}

/// Whether the machine has room for a cluster.
async fn room(plan: &Plan) -> Result<(), UpError> {
    ground::check(plan).await?;
    // The front tells it too, but late.
    let listening = TcpListener::bind(plan.listen);
    listening.map(drop).map_err(|source| UpError::Listen { address: plan.listen, source })
}

/// Whether what was said fits to the cluster that is there.
fn is_the_same(plan: &Plan, up: &Up) -> Result<(), UpError> {
    let flags = [
        ("name", up.name.clone(), plan.name.clone()),
        ("masters", up.masters.map(|count| count.to_string()), plan.count(Role::Master).to_string()),
        ("nodes", up.nodes.map(|count| count.to_string()), plan.count(Role::Node).to_string()),
        ("listen", up.listen.map(|listen| listen.to_string()), plan.listen.to_string()),
        (
            "subnet",
            plan.network().and(up.subnet.clone()),
            plan.network().map_or_else(String::new, |net| net.to_string()),
        ),
    ];
    for (flag, asked, is) in flags {
        if let Some(asked) = asked.filter(|asked| *asked != is) {
            return Err(UpError::Differs {
                directory: plan.directory.clone(),
                is: format!("--{flag}={is}"),
                asked: format!("--{flag}={asked}"),
            });
        }
    }
    Ok(())
}

/// Whether the cluster began with this snapshot, if one was said.
fn begins_with(plan: &Plan, snapshot: Option<&Path>) -> bool {
    let Some(snapshot) = snapshot else { return true };
    let word = format!("--restore={}", snapshot.display());
    plan.of_role(Role::Master).any(|master| master.words.contains(&word))
}

/// A cluster that comes to be.
struct Making<'a> {
    program: &'a Path,
    state: State,
    started: Vec<Started>,
    progress: &'a Progress,
}

impl Making<'_> {
    async fn make(&mut self, objects: &[Manifest], is_new: bool) -> Result<(), UpError> {
        if !is_new {
            // After a start of the machine nothing is there; after a crash, all sorts of things.
            for left in take_away(&mut self.state, self.program, true).await {
                self.progress.done(&format!("left from before: {left}"));
            }
            room(&self.state.plan).await?;
        }
        let resolvers = self.write_resolvers()?;
        ground::make(&self.state.plan, resolvers.as_ref()).await?;
        if let Ground::Bridge { bridge, network, .. } = &self.state.plan.ground {
            self.progress.done(&format!("the network {network} is on the bridge {bridge}"));
            if Path::new(DOCKER).exists() {
                self.progress.done(&format!(
                    "Docker may drop what nodes send to the outside; if images cannot be pulled: iptables -I DOCKER-USER -s {network} -j ACCEPT; iptables -I DOCKER-USER -d {network} -j ACCEPT"
                ));
            }
        }
        // Those that know each other need each other to begin.
        let masters: Vec<Member> = self.state.plan.of_role(Role::Master).cloned().collect();
        let (known, new): (Vec<_>, Vec<_>) =
            masters.into_iter().partition(|member| self.state.joined.contains(&member.name));
        self.start(known).await?;
        // One after the other joins.
        for master in new {
            self.start(vec![master]).await?;
        }
        self.write_kubeconfig()?;
        for role in [Role::Front, Role::Node] {
            let members = self.state.plan.of_role(role).cloned().collect();
            self.start(members).await?;
        }
        let nodes: BTreeSet<String> =
            self.state.plan.of_role(Role::Node).map(|node| node.name.clone()).collect();
        let (plan, progress) = (self.state.plan.clone(), self.progress);
        self.unless_one_ends(async move {
            let client = apply::client(&plan.kubeconfig()).await?;
            apply::nodes_ready(&client, &nodes, progress).await?;
            if !nodes.is_empty() {
                progress.done(&format!("{} nodes are ready", nodes.len()));
                ground::reach_nodes(&plan, &apply::networks_behind_nodes(&client, progress).await?).await?;
            }
            if !objects.is_empty() {
                apply::apply(&client, objects, progress).await?;
                progress.done("all objects are what they ask for");
            }
            Ok(())
        })
        .await
    }

    /// Starts members beside each other, and waits until all serve.
    async fn start(&mut self, members: Vec<Member>) -> Result<(), UpError> {
        let mut fresh = Vec::new();
        for member in &members {
            self.progress.waiting(&member.name, "starts".to_owned());
            let started = process::start(self.program, member, &self.state.plan.log_of(&member.name)).await?;
            // Known before it is waited for, so that it can be taken away.
            self.state.started(&member.name, started.identity);
            self.state.save()?;
            fresh.push((member.role, started));
        }
        let progress = self.progress;
        let ready = try_join_all(fresh.iter_mut().map(|(role, started)| async move {
            started.ready(ready_line(*role)).await?;
            progress.came(&started.name);
            progress.done(&format!("{} is ready", started.name));
            Ok(())
        }));
        self.unless_one_ends(async { ready.await.map(drop) }).await?;
        self.state.joined.extend(members.into_iter().map(|member| member.name));
        self.state.save()?;
        self.started.extend(fresh.into_iter().map(|(_, started)| started));
        Ok(())
    }

    /// Does something while all processes run.
    async fn unless_one_ends<T>(
        &mut self,
        work: impl Future<Output = Result<T, UpError>>,
    ) -> Result<T, UpError> {
        if self.started.is_empty() {
            return work.await;
        }
        let ends = select_all(self.started.iter_mut().map(|started| Box::pin(started.end())));
        tokio::select! {
            outcome = work => outcome,
            (error, ..) = ends => Err(error.into()),
        }
    }

    fn write_resolvers(&self) -> Result<Option<Resolvers>, UpError> {
        let texts: Vec<String> =
            RESOLVERS.iter().map(|path| std::fs::read_to_string(path).unwrap_or_default()).collect();
        let resolvers = resolvers_of(&texts);
        if resolvers.is_none() && self.state.plan.ground != Ground::Loopback {
            self.progress.done(
                "this machine's resolver is on loopback, where nodes do not reach it: names outside of the cluster are not found there",
            );
        }
        let path = self.state.plan.resolvers();
        let text = resolvers.as_ref().map_or("", |resolvers| resolvers.text.as_str());
        std::fs::write(&path, text).map_err(file(&path))?;
        Ok(resolvers)
    }

    /// The administrator speaks to the front.
    fn write_kubeconfig(&self) -> Result<(), UpError> {
        let plan = &self.state.plan;
        let path = plan.admin_kubeconfig("m1");
        let text = std::fs::read_to_string(&path).map_err(file(&path))?;
        let server = match plan.listen {
            // Everywhere is nowhere to connect to.
            any if any.ip().is_unspecified() => format!("https://127.0.0.1:{}", any.port()),
            one => format!("https://{one}"),
        };
        let (text, authority) =
            with_server(&text, &server).map_err(|source| UpError::Kubeconfig { path, source })?;
        for (path, content) in [(plan.kubeconfig(), text.into_bytes()), (plan.authority(), authority)] {
            write_private(&path, &content).map_err(file(&path))?;
        }
        Ok(())
    }
}
