//! A member: the parts of the store wired together, and what it does by itself.
//!
//! ```text
//! task               ends when              what it does
//! proposer           stop                   hands batches to the leader
//! read barrier       stop                   confirms reads with the leader
//! leadership         stop or Raft ends      follows who leads
//! lease clock        stop                   ends leases while this member leads
//! compactor          stop                   compacts by time or revisions while this member leads
//! garbage            stop or Raft ends      forgets compacted history in steps
//! snapshots          stop or Raft ends      writes snapshots, purges the log
//! backups            stop                   takes snapshots on a schedule, if there is one
//! space              stop                   warns of the quota, clears the space alarm
//! time marks         stop                   notes what was current when, while this member leads
//! comparison         stop                   compares the members' hashes while this member leads
//! quarantine         stop                   ends streams and the lead when this member's data is wrong
//! failover           stop                   elects at once when the leader's process died
//! promotion          stop or Raft ends      gives votes to members that caught up
//! first election     stop or a leader       elects at once after a restart, when nobody leads
//! ```
//! All are on one tracker; `drain` ends client streams first, `stop` ends the tasks.

pub mod backend;
pub mod backups;
pub mod compactor;
mod corruption;
pub mod failover;
pub mod garbage;
pub mod gauges;
pub mod join;
pub mod lease_clock;
pub mod machine;
pub mod maintenance;
pub mod membership;
pub mod peer_backend;
mod quarantine;
pub mod quorum;
pub mod reads;
mod removal;
pub mod snapshots;
pub mod space;
pub mod start;
pub mod time_marks;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::activity::Activity;
use crate::blocking::Blocking;
use crate::error::StoreError;
use crate::ids::{LeaseId, MemberId, Revision};
use crate::metrics::Metrics;
use crate::raft::leadership::{LeaderWatch, changed_within};
use crate::raft::log_storage::LogStore;
use crate::raft::node::{RaftHandle, transfer_leadership};
use crate::raft::observe;
use crate::raft::peer_service::LeaderContact;
use crate::raft::peers::{Peer, PeerError, Peers};
use crate::raft::proposer::{Desk, Proposer};
use crate::raft::read_index::ReadBarrier;
use crate::raft::snapshots::Snapshots;
use crate::records::RecordWriter;
use crate::rpc::backend::{Limits, MemberInfo};
use crate::rpc::permit::Logins;
use crate::state::published::Published;
use crate::storage::data_dir::DataDir;
use crate::watch::WatchHub;
use backups::Backups;
use lease_clock::LeaseClock;
use membership::Membership;
use space::Space;

/// A leader that nobody heard of for so many election timeouts is not shown to clients any more.
const SILENT_TIMEOUTS: u32 = 2;
/// How long a stopping leader waits for another one.
const HANDOVER: Duration = Duration::from_secs(2);

/// A running member. Cloning copies a pointer.
#[derive(Clone)]
pub struct Member(Arc<Inner>);

struct Inner {
    raft: RaftHandle,
    peers: Arc<Peers>,
    leader: LeaderWatch,
    contact: Arc<LeaderContact>,
    desk: Arc<Desk>,
    proposer: Proposer,
    barrier: ReadBarrier,
    published: Arc<Published>,
    hub: Arc<WatchHub>,
    leases: Arc<LeaseClock>,
    membership: Membership,
    snapshots: Arc<Snapshots>,
    /// `None` without a schedule.
    backups: Option<Arc<Backups>>,
    records: Arc<RecordWriter>,
    blocking: Blocking,
    log: LogStore,
    space: Arc<Space>,
    activity: Arc<Activity>,
    metrics: Arc<Metrics>,
    collected: watch::Sender<Revision>,
    /// False until the others had their chance to refuse this member.
    takes_part: watch::Sender<bool>,
    limits: Limits,
    logins: Logins,
    election_timeout: Duration,
    timeout: Duration,
    tasks: TaskTracker,
    drain: CancellationToken,
    /// Ends with `drain`, or when this member may not serve what it holds; another one when it may again.
    serving: ArcSwap<CancellationToken>,
    stop: CancellationToken,
    /// Held for its lock.
    _data_dir: DataDir,
}

impl Inner {
    fn member_infos(&self) -> Vec<MemberInfo> {
        let picture = self.published.peek();
        let infos = observe::nodes(&self.raft).into_iter().map(|observe::Node { id, voter, peer }| {
            let told = picture.members.get(id);
            MemberInfo {
                id,
                name: told.map(|member| member.name.clone()).unwrap_or_default(),
                client_urls: told.map(|member| member.client_urls.clone()).unwrap_or_default(),
                // One that gets its vote by itself was not asked to be a learner.
                is_learner: !voter && !peer.vote_when_ready,
                peer_urls: peer.peer_urls,
            }
        });
        infos.collect()
    }
}

impl Member {
    /// The watches of this member.
    #[must_use]
    pub fn hub(&self) -> &Arc<WatchHub> {
        &self.0.hub
    }

    /// What readers of this member see.
    #[must_use]
    pub fn published(&self) -> &Arc<Published> {
        &self.0.published
    }

    /// The clock of leases.
    #[must_use]
    pub fn lease_clock(&self) -> &Arc<LeaseClock> {
        &self.0.leases
    }

    /// The other members.
    #[must_use]
    pub fn peers(&self) -> &Arc<Peers> {
        &self.0.peers
    }

    /// Raft, for those who report its numbers.
    #[must_use]
    pub fn raft(&self) -> &RaftHandle {
        &self.0.raft
    }

    /// Commands of this member that wait or are on their way.
    #[must_use]
    pub fn proposals_pending(&self) -> usize {
        self.0.desk.pending()
    }

    /// The log.
    #[must_use]
    pub fn log(&self) -> &LogStore {
        &self.0.log
    }

    /// The quota; -1 for none.
    #[must_use]
    pub fn quota_bytes(&self) -> i64 {
        self.0.space.quota_bytes()
    }

    /// The leader, if it was heard of lately: a follower's leader that went silent, or a leader whose
    /// quorum went silent, does not count.
    #[must_use]
    pub fn heard_leader(&self) -> Option<MemberId> {
        let status = self.0.leader.borrow().clone();
        let limit = self.0.election_timeout * SILENT_TIMEOUTS;
        status.leader.filter(|_| self.heard_leader_ago() < limit)
    }

    /// How long ago this member's leader was known to lead.
    fn heard_leader_ago(&self) -> Duration {
        let own = self.0.peers.own().member;
        if !self.0.leader.borrow().is_led_by(own) {
            return self.0.contact.silence();
        }
        observe::confirmed_ago(&self.0.raft)
    }

    /// Asks the leader, wherever it is; again when it changes meanwhile. Ends only with the caller's
    /// patience.
    async fn ask_leader<T, Here, HereFuture, There, ThereFuture>(
        &self,
        here: Here,
        there: There,
    ) -> Result<T, StoreError>
    where
        Here: Fn() -> HereFuture,
        HereFuture: Future<Output = Result<T, StoreError>>,
        There: Fn(Arc<Peer>, Arc<Peers>) -> ThereFuture,
        ThereFuture: Future<Output = Result<T, PeerError>>,
    {
        let mut leader = self.0.leader.clone();
        loop {
            let status = leader.borrow_and_update().clone();
            let answer = match (status.leader, &status.node) {
                (Some(_), None) => match here().await {
                    Err(StoreError::NotLeader | StoreError::Timeout) => None,
                    answer => Some(answer),
                },
                (Some(id), Some(node)) => match self.0.peers.peer(id, node) {
                    Ok(peer) => there(peer, Arc::clone(&self.0.peers)).await.ok().map(Ok),
                    Err(_) => None,
                },
                (None, _) => None,
            };
            if let Some(answer) = answer {
                return answer;
            }
            // A new leader keeps no deadlines yet for some milliseconds.
            changed_within(&mut leader, Duration::from_millis(50)).await;
        }
    }

    async fn keep_alive_here(&self, ids: &[LeaseId]) -> Result<Vec<Option<i64>>, StoreError> {
        // A leader that was replaced without noticing must not tell anybody that a lease lives.
        self.0.barrier.wait().await?;
        Ok(self.0.leases.renew(ids, &self.0.proposer).await?)
    }

    async fn time_to_live_here(&self, id: LeaseId) -> Result<Option<(i64, i64)>, StoreError> {
        self.0.barrier.wait().await?;
        let Some(left_ms) = self.0.leases.remaining_ms(id)? else { return Ok(None) };
        let granted = self.0.published.peek().leases.get(id).map(|lease| lease.ttl_s());
        Ok(granted.map(|granted| (i64::try_from(left_ms / 1000).unwrap_or(i64::MAX), granted)))
    }

    /// Hands leadership over, then ends client streams. Requests that run go on.
    pub async fn drain(&self) {
        self.hand_over().await;
        self.0.drain.cancel();
    }

    /// Ends all tasks and closes log and disk.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::error!(%error, "Raft did not stop cleanly");
        }
        self.0.tasks.close();
        self.0.tasks.wait().await;
        if let Err(error) = self.0.log.wal().close().await {
            tracing::error!(%error, "the log did not close cleanly");
        }
        let records = Arc::clone(&self.0.records);
        let closed = self.0.blocking.run(move || {
            if let Err(error) = records.close() {
                tracing::warn!(%error, "the record store did not close cleanly; it is checked at the next start");
            }
        });
        let _ = closed.await;
    }

    async fn hand_over(&self) {
        let own = self.0.peers.own().member;
        let mut leader = self.0.leader.clone();
        if !leader.borrow().is_led_by(own) {
            return;
        }
        let Some(to) = self.best_successor() else { return };
        let started = tokio::time::Instant::now();
        let moved = transfer_leadership(&self.0.raft, &mut leader, to, HANDOVER).await;
        tracing::info!(%to, moved, took_ms = started.elapsed().as_millis() as u64, "handed leadership over");
    }

    /// The voter whose log is the longest.
    fn best_successor(&self) -> Option<MemberId> {
        let own = self.0.peers.own().member;
        let voters = observe::voters(&self.0.raft);
        let followers = observe::progress(&self.0.raft)?;
        let followers = followers.into_iter().filter(|(id, _)| *id != own && voters.contains(id));
        followers.max_by_key(|(_, matched)| *matched).map(|(id, _)| id)
    }
}
