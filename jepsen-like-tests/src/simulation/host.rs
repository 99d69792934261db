//! One simulated machine: its disk, its clock, and the process on it, which is a real member on a runtime of its own.
//!
//! The runtime has one thread and a clock that stands still; [`Host::run`] lets it go on by some milliseconds. A process
//! ends when its runtime is dropped, with all its tasks wherever they are.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use barque_proto::server::peer::peer_server::PeerServer;
use barque_store::config::AutoCompaction;
use barque_store::ids::{ClusterId, MemberId};
use barque_store::member::Member;
use barque_store::member::join::Named;
use barque_store::member::snapshots::SnapshotRule;
use barque_store::member::start::{MemberSettings, Started, start};
use barque_store::metrics::Metrics;
use barque_store::raft::node::RaftTiming;
use barque_store::rpc::backend::Limits;
use barque_store::rpc::permit::LoginSettings;
use barque_store::wall_clock::WallClock;
use tokio::runtime::Runtime;

use super::disk::SimDisk;
use super::files::Files;
use super::machine::{SimMachine, Tasks};
use super::network::{Network, Place, url_of};

/// Raft's times in simulated clusters.
pub const TIMING: RaftTiming = RaftTiming { heartbeat_ms: 50, election_ms: 500 };
/// All simulated clusters are this one.
const CLUSTER: ClusterId = ClusterId(0x51);
/// 2026-01-01.
const WALL_EPOCH_MS: u64 = 1_767_225_600_000;

/// What a process shows to those who look from outside.
pub struct Process {
    runtime: Option<Runtime>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    /// Counts the processes of a machine.
    pub boot: u64,
    state: Arc<ProcessState>,
}

/// What tasks of the process write, and others read.
#[derive(Default)]
pub struct ProcessState {
    ended: AtomicBool,
    member: Mutex<Option<Member>>,
    failure: Mutex<Option<String>>,
}

impl ProcessState {
    /// Whether what it says still counts.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }
}

/// A machine.
pub struct Host {
    /// Where.
    pub place: Place,
    /// Its member.
    pub id: MemberId,
    /// Under the log.
    pub disk: SimDisk,
    /// Identity and snapshots.
    pub files: Files,
    dir: PathBuf,
    network: Network,
    process: Option<Process>,
    boots: u64,
    /// Simulated milliseconds that its clock runs in one of the world's.
    rate: f64,
    /// Fractions of a millisecond that were not run yet.
    owed_ms: f64,
    paused: bool,
    /// Since 1970; steps now and then.
    wall_ms: Arc<AtomicU64>,
    /// Its member founded a cluster alone, and may not do so again.
    has_founded: bool,
    /// Snapshots that processes which ended had received and installed.
    installed: u64,
}

/// What all hosts of a cluster have in common.
#[derive(Clone, Debug)]
pub struct Founding {
    /// The first members.
    pub members: Vec<(MemberId, Named)>,
    /// When members write snapshots.
    pub snapshot_rule: SnapshotRule,
    /// How much may be live; negative for no limit.
    pub quota_bytes: i64,
    /// What history is kept.
    pub auto_compaction: AutoCompaction,
}

/// The first member at a place.
#[must_use]
pub fn first_member(place: Place) -> (MemberId, Named) {
    (MemberId(place as u64 + 1), Named { name: format!("m{place}"), peer_urls: vec![url_of(place)] })
}

impl Host {
    /// A machine with an empty disk, off.
    #[must_use]
    pub fn new(place: Place, dir: &Path, network: &Network, disk_seed: u64) -> Self {
        let dir = dir.join(format!("m{place}"));
        let disk = SimDisk::new(disk_seed);
        Self {
            place,
            id: first_member(place).0,
            files: Files::new(&dir, &disk, disk_seed),
            disk,
            dir,
            network: network.clone(),
            process: None,
            boots: 0,
            rate: 1.0,
            owed_ms: 0.0,
            paused: false,
            wall_ms: Arc::new(AtomicU64::new(WALL_EPOCH_MS)),
            has_founded: false,
            installed: 0,
        }
    }

    /// Starts a process, which is told of the machines `known` if its member is none of the first.
    ///
    /// # Errors
    /// When the operating system gives no runtime.
    pub fn boot(&mut self, founding: &Founding, known: &[Place]) -> std::io::Result<()> {
        self.network.power_on(self.place);
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let state = Arc::<ProcessState>::default();
        let wall_ms = Arc::clone(&self.wall_ms);
        let (tasks, metrics) = (Tasks::default(), Arc::new(Metrics::new()));
        let machine = SimMachine {
            tasks: Arc::clone(&tasks),
            disk: self.disk.clone(),
            dial: self.network.dial_from(self.place),
            wall_clock: WallClock::told_by(move || Duration::from_millis(wall_ms.load(Ordering::Relaxed))),
        };
        let (id, named) = first_member(self.place);
        let is_first = founding.members.iter().any(|(member, _)| *member == self.id) && !self.has_founded;
        let others = known.iter().filter(|place| **place != self.place).copied();
        let settings = MemberSettings {
            name: named.name,
            data_dir: self.dir.clone(),
            peer_urls: named.peer_urls,
            client_urls: vec![format!("http://m{}:2379", self.place)],
            initial_cluster: if is_first {
                founding.members.clone()
            } else {
                others.map(first_member).chain([first_member(self.place)]).collect()
            },
            cluster_id: CLUSTER,
            member_id: id,
            token: "simulated".to_owned(),
            new_cluster: is_first,
            timing: TIMING,
            limits: Limits { max_request_bytes: 1 << 20, max_txn_ops: 128, min_lease_ttl_s: 1 },
            logins: LoginSettings { token_ttl: Duration::from_secs(300), client_cert_auth: false },
            quota_bytes: founding.quota_bytes,
            auto_compaction: founding.auto_compaction,
            corrupt_check: Some(Duration::from_secs(2)),
            snapshots: founding.snapshot_rule,
            backups: None,
            unsafe_no_fsync: false,
            metrics: Arc::clone(&metrics),
            machine: Arc::new(machine),
        };
        let incoming = self.network.listen(self.place);
        let shown = Arc::clone(&state);
        let life = async move {
            let ended = Box::pin(live(settings, incoming, &shown)).await;
            *shown.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(ended);
        };
        tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(life, runtime.handle());
        self.boots += 1;
        self.owed_ms = 0.0;
        self.process = Some(Process { runtime: Some(runtime), tasks, metrics, boot: self.boots, state });
        Ok(())
    }

    /// Lets the machine go on for some milliseconds of the world's time.
    pub fn run(&mut self, world_ms: u64) {
        self.wall_ms.fetch_add(world_ms, Ordering::Relaxed);
        let Some(process) = &self.process else { return };
        let Some(runtime) = &process.runtime else { return };
        while process.tasks.lock().unwrap_or_else(PoisonError::into_inner).try_join_next().is_some() {}
        self.owed_ms += world_ms as f64 * self.rate;
        if self.paused {
            return;
        }
        let due_ms = self.owed_ms.floor();
        self.owed_ms -= due_ms;
        let due = Duration::from_millis(due_ms as u64);
        runtime.block_on(async move {
            // A process that was stopped finds, when it goes on, that all this time has passed.
            if due > Duration::from_millis(8 * world_ms.max(1)) {
                tokio::time::advance(due).await;
            } else {
                tokio::time::sleep(due).await;
            }
        });
    }

    /// Stops the process as SIGSTOP does, or lets it go on.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether it is stopped.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Its clock runs faster or slower from now on.
    pub fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// Its time of day jumps.
    pub fn step_wall_clock(&self, by_ms: i64) {
        let now = self.wall_ms.load(Ordering::Relaxed);
        self.wall_ms.store(now.saturating_add_signed(by_ms), Ordering::Relaxed);
    }

    /// The process ends at once; the machine goes on.
    pub fn kill(&mut self) {
        self.network.process_ended(self.place);
        self.end();
        self.disk.process_ended();
    }

    /// The machine loses its power.
    pub fn lose_power(&mut self) {
        self.network.lose_power(self.place);
        self.end();
        self.disk.power_lost();
        self.files.power_lost();
    }

    /// Gives the machine an empty disk, as an administrator does who deletes a data directory. No process may run.
    pub fn wipe(&mut self, founding: &Founding) {
        // Nobody could tell a member that was told of no others that there was a cluster: it would form another one.
        self.has_founded |= founding.members.len() == 1;
        self.disk.replace();
        self.files.wipe();
    }

    /// Bits of this machine's disk that were turned over.
    #[must_use]
    pub fn bits_flipped(&self) -> u64 {
        self.disk.counts().bits_flipped + self.files.bits_flipped()
    }

    /// Snapshots that this machine's processes received and installed.
    #[must_use]
    pub fn snapshots_installed(&self) -> u64 {
        let running = self.process.as_ref().map_or(0, |process| received(&process.metrics));
        self.installed + running
    }

    fn end(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        process.state.ended.store(true, Ordering::Relaxed);
        // First of all its tasks, so that nothing of it runs on.
        drop(process.runtime.take());
        self.installed += received(&process.metrics);
        drop(process.state.member.lock().unwrap_or_else(PoisonError::into_inner).take());
        self.paused = false;
    }

    /// Whether there is a process.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// Why the process wants to end, if it does.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        let state = &self.process.as_ref()?.state;
        state.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The member, once it takes part, and which process of this machine it is.
    #[must_use]
    pub fn member(&self) -> Option<(Member, u64)> {
        let process = self.process.as_ref()?;
        let member = process.state.member.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some((member, process.boot))
    }

    /// Runs a task in the process; what it is given tells it whether what it says still counts. Whether there is one.
    pub fn spawn<F>(&self, task: impl FnOnce(Arc<ProcessState>) -> F) -> bool
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(process) = &self.process else { return false };
        let Some(runtime) = &process.runtime else { return false };
        let task = task(Arc::clone(&process.state));
        process.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn_on(task, runtime.handle());
        true
    }
}

fn received(metrics: &Metrics) -> u64 {
    metrics.disk.snap_db_save_total_duration_seconds.get_sample_count()
}

/// A member from its start to the reason of its end.
async fn live(settings: MemberSettings, incoming: super::network::Incoming, shown: &ProcessState) -> String {
    let Started { member, peer_service } = match Box::pin(start(&settings)).await {
        Ok(started) => started,
        Err(error) => return format!("it does not start: {error}"),
    };
    let service = PeerServer::new(peer_service).max_decoding_message_size(64 << 20);
    let serving = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
    let living = async {
        if let Err(error) = Box::pin(member.take_part(&settings)).await {
            return format!("it may not take part: {error}");
        }
        *shown.member.lock().unwrap_or_else(PoisonError::into_inner) = Some(member.clone());
        member.failed().await
    };
    tokio::select! {
        biased;
        reason = living => reason,
        _ = serving => "its port was closed".to_owned(),
    }
}
