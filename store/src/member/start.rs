//! Starts a member on its data directory: identity, log, state, Raft, then the tasks.

use openraft::async_runtime::WatchReceiver as _;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backups::Backups;
use super::compactor;
use super::join::{self, JoinError, Named};
use super::lease_clock::{self, LeaseClock};
use super::machine::Machine;
use super::membership::Membership;
use super::snapshots::{self, SnapshotRule};
use super::space::{self, Space};
use super::{Inner, Member, failover, garbage, time_marks};
use crate::activity::Activity;
use crate::blocking::Unfinished;
use crate::command::Command;
use crate::config::{self, AutoCompaction, ConfigError};
use crate::ids::{ClusterId, MemberId, Revision};
use crate::metrics::Metrics;
use crate::raft::codec;
use crate::raft::identity::{Identity, Roster};
use crate::raft::log_storage::LogStore;
use crate::raft::network::Network;
use crate::raft::node::{self, NodeError, RaftTiming};
use crate::raft::observe;
use crate::raft::peer_service::PeerService;
use crate::raft::peers::Peers;
use crate::raft::proposer::{Desk, Proposer};
use crate::raft::read_index::ReadBarrier;
use crate::raft::snapshot_transfer::SnapshotReceiver;
use crate::raft::snapshots::Snapshots;
use crate::raft::state_machine::{StateMachine, Surroundings};
use crate::raft::types::{PeerNode, log_id};
use crate::records::RecordsMetrics;
use crate::rpc::backend::Limits;
use crate::rpc::permit::{LoginSettings, Logins};
use crate::state::published::Published;
use crate::storage::data_dir::{DataDir, DataDirError, DiskIdentity};
use crate::storage::restore::{self, RestoreError};
use crate::wal::disk::Syncs;
use crate::wal::{WalConfig, WalError, WalMetrics};
use crate::watch::{HubLimits, WatchHub};

/// Proposals and reads of a client are given up after this and two election timeouts (etcd).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How a member is to run; made from the command line.
pub struct MemberSettings {
    /// Human name.
    pub name: String,
    /// Where its data is.
    pub data_dir: PathBuf,
    /// Where other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// The members of the initial cluster, this one included.
    pub initial_cluster: Vec<(MemberId, Named)>,
    /// The initial cluster's id.
    pub cluster_id: ClusterId,
    /// This member's id in the initial cluster.
    pub member_id: MemberId,
    /// Sets clusters apart that have the same addresses.
    pub token: String,
    /// Whether the initial cluster is formed now.
    pub new_cluster: bool,
    /// Raft's times.
    pub timing: RaftTiming,
    /// Limits on requests.
    pub limits: Limits,
    /// How clients log in.
    pub logins: LoginSettings,
    /// Negative for none.
    pub quota_bytes: i64,
    /// What history to keep.
    pub auto_compaction: AutoCompaction,
    /// How often the members' hashes are compared; `None` for never.
    pub corrupt_check: Option<Duration>,
    /// When to write snapshots.
    pub snapshots: SnapshotRule,
    /// Snapshots on a schedule; `None` for none.
    pub backups: Option<config::Backups>,
    /// The log is not synced.
    pub unsafe_no_fsync: bool,
    /// What this member counts.
    pub metrics: Arc<Metrics>,
    /// What it runs on.
    pub machine: Arc<dyn Machine>,
}

/// A member cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory cannot be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The directory of its scheduled snapshots cannot be used.
    #[error(transparent)]
    Backups(#[from] ConfigError),
    /// The cluster does not let it take part.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Its log cannot be used.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// Its state cannot be restored.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// Log and state do not fit together.
    #[error(
        "the log begins at index {purged}, but the state ends at {applied}: a snapshot file was lost; remove this \
         member, then add it again as a new one with an empty data directory"
    )]
    Gap {
        /// First missing log index before which everything was purged.
        purged: u64,
        /// Last applied log index.
        applied: u64,
    },
    /// Raft says no.
    #[error(transparent)]
    Raft(#[from] NodeError),
    /// A membership on disk cannot be read.
    #[error(transparent)]
    Membership(#[from] codec::CodecError),
}

/// A member that runs, and its service for the others, which is to be served from now on.
pub struct Started {
    /// The member.
    pub member: Member,
    /// What it answers to other members.
    pub peer_service: PeerService,
}

/// Starts a member. It does not vote or take part before the other members had a chance to refuse it, see
/// [`Member::take_part`].
///
/// # Errors
/// See [`StartError`]; each one is a sentence for the administrator.
pub async fn start(settings: &MemberSettings) -> Result<Started, StartError> {
    let data_dir = DataDir::open(&settings.data_dir)?;
    let roster = Arc::new(Roster::default());
    let others: Vec<Named> = settings
        .initial_cluster
        .iter()
        .filter(|(id, _)| *id != settings.member_id)
        .map(|(_, named)| named.clone())
        .collect();
    let disk = match data_dir.identity()? {
        Some(disk) => disk,
        None => first_identity(settings, &data_dir, &roster, &others).await?,
    };
    let own = Identity { cluster: disk.cluster, member: disk.member, incarnation: disk.incarnation };
    tracing::info!(cluster = %own.cluster, member = %own.member, name = settings.name, "starting");

    let backups = settings
        .backups
        .clone()
        .map(|plan| Backups::open(plan, own.member, settings.metrics.backups.clone()).map(Arc::new));
    let backups = backups.transpose()?;

    let mut wal_config = WalConfig::new(data_dir.wal(), own.cluster, own.member);
    wal_config.syncs = if settings.unsafe_no_fsync { Syncs::Off } else { Syncs::On };
    wal_config.metrics = Arc::new(DiskCounts(Arc::clone(&settings.metrics)));
    let blocking = settings.machine.blocking();
    wal_config.blocking = blocking.clone();
    let (snapshots_dir, records_dir) = (data_dir.snapshots(), data_dir.records());
    let counts = DiskCounts(Arc::clone(&settings.metrics));
    // Neither needs the other, and each reads much.
    let began = Instant::now();
    let machine = Arc::clone(&settings.machine);
    let log = blocking.run(move || {
        let opened = machine.open_log(wal_config)?;
        tracing::info!(entries = opened.1.entries, took_ms = began.elapsed().as_millis(), "the log is open");
        Ok::<_, StartError>(opened)
    });
    let machine = Arc::clone(&settings.machine);
    let state =
        blocking.run(move || restore::restore(&snapshots_dir, || machine.open_records(&records_dir), counts));
    let (log, state) = tokio::join!(log, state);
    let ended = |error: Unfinished| NodeError::Fatal(error.to_string());
    let (wal, recovered) = log.map_err(ended)??;
    let restored = state.map_err(ended)??;
    let (applied_term, applied_index) = (restored.meta.applied_term, restored.meta.applied_index);
    if let Some(purged) = recovered.purged.filter(|purged| purged.index > applied_index) {
        return Err(StartError::Gap { purged: purged.index, applied: applied_index });
    }
    let took_ms = began.elapsed().as_millis();
    tracing::info!(revision = %restored.state.revision(), applied_index, ?recovered, took_ms, "restored");

    let applied = (applied_index > 0 || applied_term > 0).then(|| log_id(applied_term, applied_index));
    let membership = codec::decode_stored_membership(&restored.meta.membership)?;
    let encoded: Arc<[u8]> = restored.meta.membership.clone().into();
    let picture = StateMachine::picture(&restored.state, applied.as_ref(), &encoded, None);
    let published = Arc::new(Published::new(picture));
    let activity = Arc::<Activity>::default();
    let hub = WatchHub::new(restored.state.revision(), HubLimits::default());
    let hub = Arc::new(hub.with_activity(Arc::clone(&activity)));
    let desk = Arc::new(Desk::new(own.member, rand::random()));
    let clock = Arc::new(LeaseClock::new(Arc::clone(&settings.metrics)));
    let snapshots =
        Arc::new(Snapshots::new(data_dir.snapshots(), own.cluster, own.member, restored.snapshot));
    let state_machine = StateMachine::new(
        restored.state,
        applied,
        membership,
        Surroundings {
            published: Arc::clone(&published),
            hub: Arc::clone(&hub),
            desk: Arc::clone(&desk),
            leases: Arc::clone(&clock) as _,
            roster: Arc::clone(&roster),
            records: Arc::clone(&restored.records),
            snapshots: Arc::clone(&snapshots),
            blocking: blocking.clone(),
            metrics: Arc::clone(&settings.metrics),
        },
    );
    let metrics = Arc::clone(&settings.metrics);
    let peers = Arc::new(Peers::new(own, roster, settings.machine.dial(), Arc::clone(&metrics)));
    let handle = Arc::new(OnceLock::new());
    let network =
        Network::new(Arc::clone(&peers), Arc::clone(&handle), Arc::clone(&snapshots), blocking.clone());
    let log = LogStore::new(wal);
    let config = node::config(&settings.token, settings.timing)?;
    let raft = Box::pin(node::start(own.member, config, network, log.clone(), state_machine)).await?;
    raft.runtime_config().elect(false);
    let _ = handle.set(raft.clone());

    let (tasks, drain, stop) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
    let leader =
        node::follow_leadership(&raft, metrics.server.leader_changes_seen.clone(), &tasks, stop.clone());
    let election_timeout = Duration::from_millis(settings.timing.election_ms);
    let timeout = REQUEST_TIMEOUT + election_timeout * 2;
    let proposer = Proposer::start(
        Arc::clone(&desk),
        raft.clone(),
        Arc::clone(&peers),
        leader.clone(),
        timeout,
        metrics.server.proposals_failed.clone(),
        &tasks,
        stop.clone(),
    );
    let barrier = ReadBarrier::start(
        raft.clone(),
        Arc::clone(&peers),
        leader.clone(),
        published.applied(),
        timeout,
        Arc::clone(&metrics),
        &tasks,
        stop.clone(),
    );
    let membership = Membership::new(
        raft.clone(),
        Arc::clone(&peers),
        leader.clone(),
        Arc::clone(&published),
        election_timeout,
        timeout,
    );
    let member = Member(Arc::new(Inner {
        raft,
        peers,
        leader,
        contact: Arc::default(),
        desk,
        proposer,
        barrier,
        published,
        hub,
        leases: clock,
        membership,
        snapshots,
        backups,
        records: restored.records,
        blocking,
        log,
        space: Arc::new(Space::new(settings.quota_bytes)),
        activity,
        collected: watch::Sender::new(Revision(-1)),
        takes_part: watch::Sender::new(false),
        metrics,
        limits: settings.limits,
        logins: Logins::new(settings.logins),
        election_timeout,
        timeout,
        tasks,
        serving: ArcSwap::from_pointee(drain.child_token()),
        drain,
        stop,
        _data_dir: data_dir,
    }));
    member.show_in(&settings.metrics);
    let peer_service = member.peer_service();
    Ok(Started { member, peer_service })
}

/// Moves the metrics of the log and of the records.
struct DiskCounts(Arc<Metrics>);

impl WalMetrics for DiskCounts {
    fn synced(&self, took: Duration) {
        self.0.disk.wal_fsync_duration_seconds.observe(took.as_secs_f64());
    }

    fn written(&self, bytes: u64, took: Duration) {
        self.0.disk.wal_write_bytes.inc_by(bytes);
        self.0.disk.wal_write_duration_seconds.observe(took.as_secs_f64());
    }
}

impl RecordsMetrics for DiskCounts {
    fn committed(&self, took: Duration) {
        self.0.disk.backend_commit_duration_seconds.observe(took.as_secs_f64());
    }

    fn rewritten(&self, took: Duration) {
        self.0.disk.backend_defrag_duration_seconds.observe(took.as_secs_f64());
    }
}

/// The identity of an empty data directory.
async fn first_identity(
    settings: &MemberSettings,
    data_dir: &DataDir,
    roster: &Arc<Roster>,
    others: &[Named],
) -> Result<DiskIdentity, StartError> {
    // Nobody is asked for more than who they are, so this identity is not shown to be believed.
    let nobody = Identity {
        cluster: settings.cluster_id,
        member: settings.member_id,
        incarnation: crate::ids::Incarnation(0),
    };
    let metrics = Arc::clone(&settings.metrics);
    let peers = Peers::new(nobody, Arc::clone(roster), settings.machine.dial(), metrics);
    let answers = join::ask_members(&peers, others).await;
    let (cluster, member) = if settings.new_cluster {
        join::found_new(nobody.cluster, nobody.member, &answers)?;
        (nobody.cluster, nobody.member)
    } else {
        join::find_existing(&settings.peer_urls, &answers)?
    };
    Ok(data_dir.set_identity(cluster, member)?)
}

impl Member {
    fn peer_service(&self) -> PeerService {
        let inner = &self.0;
        PeerService::new(
            inner.raft.clone(),
            inner.log.clone(),
            Arc::clone(&inner.peers),
            Arc::new(self.clone()),
            Arc::clone(&inner.contact),
            Arc::new(SnapshotReceiver::new(
                inner.snapshots.dir.clone(),
                inner.blocking.clone(),
                inner.metrics.disk.clone(),
            )),
            inner.barrier.clone(),
            inner.takes_part.subscribe(),
            inner.tasks.clone(),
            inner.stop.clone(),
        )
    }

    /// Lets the other members refuse this one before it votes or elects.
    async fn greet_others(&self) -> Result<(), JoinError> {
        let own = self.0.peers.own().member;
        let (others, vote) = {
            let nodes = observe::nodes(&self.0.raft).into_iter().filter(|node| node.id != own);
            let others: Vec<(MemberId, PeerNode)> = nodes.map(|node| (node.id, node.peer)).collect();
            (others, codec::vote_to_wire(&self.0.raft.server_metrics().borrow_watched().vote))
        };
        let last = self.0.log.last_durable_log_id().as_ref().map(codec::log_id_to_wire);
        join::greet(&self.0.peers, &others, Some(vote), last).await
    }

    fn start_tasks(&self, settings: &MemberSettings) {
        let inner = &self.0;
        let stop = || inner.stop.clone();
        let own = inner.peers.own().member;
        inner.tasks.spawn(lease_clock::run(
            lease_clock::Surroundings {
                clock: Arc::clone(&inner.leases),
                peers: Arc::clone(&inner.peers),
                leader: inner.leader.clone(),
                barrier: inner.barrier.clone(),
                proposer: inner.proposer.clone(),
                published: Arc::clone(&inner.published),
                election_timeout: inner.election_timeout,
            },
            stop(),
        ));
        inner.tasks.spawn(compactor::run(
            settings.auto_compaction,
            own,
            inner.leader.clone(),
            Arc::clone(&inner.published),
            inner.proposer.clone(),
            stop(),
        ));
        inner.tasks.spawn(garbage::run(
            inner.raft.clone(),
            Arc::clone(&inner.published),
            inner.collected.clone(),
            Arc::clone(&inner.records),
            Arc::clone(&inner.metrics),
            stop(),
        ));
        inner.tasks.spawn(snapshots::run(
            settings.snapshots,
            inner.raft.clone(),
            inner.log.clone(),
            Arc::clone(&inner.snapshots),
            Arc::clone(&inner.published),
            inner.collected.subscribe(),
            stop(),
        ));
        if let Some(backups) = &inner.backups {
            let (snapshots, published) = (Arc::clone(&inner.snapshots), Arc::clone(&inner.published));
            inner.tasks.spawn(Arc::clone(backups).run(snapshots, published, stop()));
        }
        inner.tasks.spawn(space::run(
            Arc::clone(&inner.space),
            own,
            Arc::clone(&inner.published),
            inner.proposer.clone(),
            inner.metrics.server.quota_warning.clone(),
            stop(),
        ));
        inner.tasks.spawn(time_marks::run(
            own,
            inner.leader.clone(),
            Arc::clone(&inner.published),
            inner.proposer.clone(),
            settings.machine.wall_clock(),
            stop(),
        ));
        inner.tasks.spawn(failover::run(
            inner.raft.clone(),
            Arc::clone(&inner.peers),
            Arc::clone(&inner.contact),
            inner.leader.clone(),
            stop(),
        ));
        inner.tasks.spawn(self.clone().keep_quarantine(stop()));
        if let Some(interval) = settings.corrupt_check {
            inner.tasks.spawn(self.clone().compare_members(interval));
        }
        let member = self.clone();
        let token = stop();
        inner.tasks.spawn(async move { member.0.membership.promote_ready(token).await });
    }

    /// Takes part in the cluster from now on, unless the others refuse: forms it if it is new, may be elected,
    /// and tells the others its name. To be called once the other members can reach this one: members that
    /// start together greet each other.
    ///
    /// # Errors
    /// When the others refuse this member, or Raft has stopped.
    pub async fn take_part(&self, settings: &MemberSettings) -> Result<(), StartError> {
        let inner = &self.0;
        let began = Instant::now();
        self.greet_others().await?;
        tracing::info!(took_ms = began.elapsed().as_millis(), "the other members were greeted");
        inner.takes_part.send_replace(true);
        self.start_tasks(settings);
        let was_here_before = inner.log.last_durable_log_id().is_some();
        if settings.new_cluster {
            let nodes: BTreeMap<u64, PeerNode> = settings
                .initial_cluster
                .iter()
                .map(|(id, named)| {
                    (id.0, PeerNode { peer_urls: named.peer_urls.clone(), vote_when_ready: false })
                })
                .collect();
            node::initialize(&inner.raft, nodes).await?;
        }
        inner.raft.runtime_config().elect(true);
        let own = *inner.peers.own();
        if was_here_before || settings.new_cluster {
            inner.tasks.spawn(failover::elect_after_start(
                inner.raft.clone(),
                own.member,
                Arc::clone(&inner.contact),
                inner.leader.clone(),
                inner.stop.clone(),
            ));
        }
        let publish = Command::PublishMember {
            id: own.member,
            name: settings.name.clone(),
            client_urls: settings.client_urls.clone(),
            incarnation: own.incarnation,
        };
        let (proposer, stop) = (inner.proposer.clone(), inner.stop.clone());
        inner.tasks.spawn(async move {
            loop {
                // Waits for a leader by itself.
                let told = tokio::select! {
                    () = stop.cancelled() => return,
                    told = proposer.propose(publish.clone(), 128) => told,
                };
                match told {
                    Ok(_) => return tracing::info!("the cluster knows this member"),
                    Err(error) => tracing::info!(%error, "cannot tell the cluster about this member yet"),
                }
            }
        });
        Ok(())
    }

    /// Completes with the reason when this member cannot go on: its disk failed, or it was removed.
    pub async fn failed(&self) -> String {
        let own = self.0.peers.own().member;
        let removed = format!("member {own} was removed from the cluster");
        let mut wal = self.0.log.wal().failed();
        let mut server = self.0.raft.server_metrics();
        let removed_or_ended = async {
            let mut was_member = false;
            loop {
                {
                    let server = server.borrow_and_update();
                    let is_member = server.committed_membership_config.get_node(&own.0).is_some();
                    if was_member && !is_member {
                        return removed.clone();
                    }
                    was_member |= is_member;
                }
                // The channel closes when Raft ends, and only then the end is looked for: the metrics that
                // tell it change with every entry.
                if server.changed().await.is_err() {
                    let running = self.0.raft.metrics().borrow_watched().running_state.clone();
                    return running
                        .err()
                        .map_or_else(|| "Raft has ended".to_owned(), |fatal| fatal.to_string());
                }
            }
        };
        let disk = async {
            let failure =
                wal.wait_for(Option::is_some).await.map(|failure| failure.as_ref().map(ToString::to_string));
            match failure {
                Ok(failure) => failure.unwrap_or_default(),
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = disk => reason,
            reason = removed_or_ended => reason,
            () = self.removed_by_the_others() => removed,
        }
    }
}
