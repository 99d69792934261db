//! A member as the client services see it: the one implementation of `rpc::Backend`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::stream::{BoxStream, StreamExt as _};
use prometheus::Histogram;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use barque_proto::peer as wire;
use barque_proto::peer::membership_change::Change;

use super::Member;
use super::lease_clock::RenewError;
use super::maintenance;
use super::reads::CountedView;
use crate::activity::Activity;
use crate::auth::Rights;
use crate::command::{Command, CommandError, KeyRange};
use crate::error::StoreError;
use crate::event::EventKind;
use crate::ids::{LeaseId, MemberId, Revision};
use crate::raft::observe;
use crate::raft::proposals::ProposeError;
use crate::raft::read_index::ReadError;
use crate::rpc::backend::{
    ActiveAlarm, Applied, Backend, HistoryHash, Identity, KeyEvent, KeyspaceHash, LeaseInfo, Limits,
    MemberInfo, MemberStatus, ReadView, ScheduledSnapshots, Snapshot,
};
use crate::rpc::permit::Logins;
use crate::timeline::Timeline;
use crate::watch::History as _;
use crate::watch::range::WatchRange;

/// Events read in one go for a lock or an election that waits.
const WATCH_EVENTS: usize = 256;
const WATCH_BYTES: usize = 1 << 20;
/// Keep-alives in one message to the leader.
const NO_LEADER_TIMEOUTS: u32 = 3;

impl From<ProposeError> for StoreError {
    fn from(error: ProposeError) -> Self {
        match error {
            ProposeError::Command(error) => Self::Command(error),
            ProposeError::TooMany => Self::TooManyRequests,
            ProposeError::TimedOut => Self::Timeout,
            ProposeError::LeaderGone => Self::TimeoutDueToLeaderFail,
            ProposeError::ConnectionLost => Self::TimeoutDueToConnectionLost,
            ProposeError::Stopped => Self::Stopped,
        }
    }
}

impl From<ReadError> for StoreError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::TimedOut => Self::Timeout,
            ReadError::Stopped => Self::Stopped,
        }
    }
}

impl From<RenewError> for StoreError {
    fn from(error: RenewError) -> Self {
        match error {
            RenewError::NotLeader => Self::NotLeader,
            RenewError::TimedOut => Self::Timeout,
        }
    }
}

/// About how many bytes a command takes in the log.
fn size_of(command: &Command) -> usize {
    match command {
        Command::Put(put) => put.key.len() + put.value.len() + 16,
        Command::DeleteRange(delete) => delete.range.key.len() + delete.range.range_end.len() + 16,
        Command::Txn(txn) => {
            let puts: usize =
                crate::state::txn_puts(txn).map(|put| put.key.len() + put.value.len() + 16).sum();
            puts + 64 * (txn.compare.len() + txn.success.len() + txn.failure.len())
        }
        Command::As { caller, command } => caller.user.len() + 16 + size_of(command),
        // Names and ranges; rare, and seldom long.
        Command::Auth(_) => 512,
        _ => 64,
    }
}

impl Member {
    /// The hash of the history up to a revision, 0 for the current one.
    async fn hash_upto(&self, revision: Revision, seconds: &Histogram) -> Result<HistoryHash, StoreError> {
        let view = self.view();
        let seconds = seconds.clone();
        let hashed = self.0.blocking.run(move || {
            let began = Instant::now();
            let current = view.revision();
            let hash = view.uncounted().hash(revision)?;
            seconds.observe(began.elapsed().as_secs_f64());
            Ok::<_, CommandError>(HistoryHash {
                hash: hash.hash,
                revision: current,
                compact_revision: hash.compact_revision,
                hash_revision: hash.hash_revision,
            })
        });
        Ok(hashed.await.map_err(|_| StoreError::Stopped)??)
    }
}

impl Backend for Member {
    type View = CountedView;
    type Events = BoxStream<'static, Result<Vec<KeyEvent>, StoreError>>;
    type SnapshotChunks = BoxStream<'static, Result<Bytes, StoreError>>;

    fn identity(&self) -> Identity {
        let own = self.0.peers.own();
        Identity { cluster: own.cluster, member: own.member }
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn raft_term(&self) -> u64 {
        self.0.leader.borrow().term
    }

    fn leader(&self) -> Option<MemberId> {
        self.heard_leader()
    }

    fn is_learner(&self) -> bool {
        self.0.leader.borrow().is_learner
    }

    fn is_corrupt(&self) -> bool {
        self.in_quarantine()
    }

    fn auth_enabled(&self) -> bool {
        self.0.published.peek().auth.is_enabled()
    }

    fn rights(&self) -> Arc<dyn Rights> {
        self.0.published.picture()
    }

    fn logins(&self) -> &Logins {
        &self.0.logins
    }

    fn has_space_for(&self, cost_bytes: u64) -> bool {
        self.0.space.has_room_for(&self.0.published.peek().view, cost_bytes)
    }

    async fn propose(&self, command: Command) -> Result<Applied, StoreError> {
        let size = size_of(&command);
        let applied = self.0.proposer.propose(command, size).await?;
        Ok(Applied { revision: applied.revision, outcome: applied.outcome })
    }

    async fn read_barrier(&self) -> Result<(), StoreError> {
        Ok(self.0.barrier.wait().await?)
    }

    fn view(&self) -> CountedView {
        CountedView::new(&self.0.published.peek(), &self.0.metrics)
    }

    async fn wait_compacted(&self, revision: Revision) -> Result<(), StoreError> {
        let mut collected = self.0.collected.subscribe();
        collected.wait_for(|done| *done >= revision).await.map_err(|_| StoreError::Stopped)?;
        Ok(())
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Self::Events, StoreError> {
        let range =
            WatchRange::from_request(&range.key, &range.range_end).map_err(|_| StoreError::WatchCanceled)?;
        let published = Arc::clone(&self.0.published);
        let applied = published.applied();
        let stop = self.serving();
        let state = (published, applied, range, from, stop);
        let events = futures::stream::try_unfold(
            state,
            |(published, mut applied, range, mut from, stop)| async move {
                loop {
                    applied.mark_unchanged();
                    let read = if published.is_cold(from) {
                        let published = Arc::clone(&published);
                        let read = tokio::task::spawn_blocking(move || {
                            published.read(from, WATCH_EVENTS, WATCH_BYTES)
                        });
                        read.await.map_err(|_| StoreError::Stopped)?
                    } else {
                        published.read(from, WATCH_EVENTS, WATCH_BYTES)
                    };
                    let read = read?;
                    if let Some(last) = read.last() {
                        from = last.at.main.next();
                        let wanted: Vec<_> = read
                            .into_iter()
                            .filter(|event| range.contains(event.record.key()))
                            .map(|event| match event.kind {
                                EventKind::Put => KeyEvent::Put(event.record),
                                EventKind::Delete => KeyEvent::Delete(event.record),
                            })
                            .collect();
                        if !wanted.is_empty() {
                            return Ok(Some((wanted, (published, applied, range, from, stop))));
                        }
                        continue;
                    }
                    tokio::select! {
                        // That this member may not serve any more is said by the next thing it is asked for.
                        () = stop.cancelled() => return Err(StoreError::Stopped),
                        changed = applied.changed() => changed.map_err(|_| StoreError::Stopped)?,
                    }
                }
            },
        );
        Ok(events.boxed())
    }

    async fn lease_keep_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<Option<i64>>, StoreError> {
        let work = self.ask_leader(
            || async { self.keep_alive_here(&ids).await },
            |peer, peers| {
                let ids = ids.iter().map(|id| id.0).collect();
                async move {
                    let request = peers.request(wire::LeaseKeepAliveBatch { ids });
                    let response = peer.control().lease_keep_alive(request).await?;
                    let ttls = peers.accept(peer.id, response)?.ttls;
                    Ok(ttls.into_iter().map(|ttl| (ttl > 0).then_some(ttl)).collect())
                }
            },
        );
        tokio::time::timeout(self.0.timeout, work).await.unwrap_or(Err(StoreError::Timeout))
    }

    async fn lease_time_to_live(
        &self,
        id: LeaseId,
        with_keys: bool,
    ) -> Result<Option<LeaseInfo>, StoreError> {
        let work = self.ask_leader(
            || async { self.time_to_live_here(id).await },
            |peer, peers| async move {
                let request = peers.request(wire::LeaseTimeToLiveQuery { id: id.0 });
                let response = peer.control().lease_time_to_live(request).await?;
                let answer = peers.accept(peer.id, response)?;
                Ok(answer.found.then_some((answer.remaining_ttl, answer.granted_ttl)))
            },
        );
        let found = tokio::time::timeout(self.0.timeout, work).await.unwrap_or(Err(StoreError::Timeout))?;
        let Some((ttl_s, granted_ttl_s)) = found else { return Ok(None) };
        let mut keys = Vec::new();
        if with_keys {
            // What the leader knows of the lease may not have been executed here yet.
            self.0.barrier.wait().await?;
            keys.extend(self.0.published.peek().leases.keys(id).map(Bytes::copy_from_slice));
        }
        Ok(Some(LeaseInfo { ttl_s, granted_ttl_s, keys }))
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.0.published.peek().leases.iter().map(|lease| lease.id()).collect()
    }

    fn members(&self) -> Vec<MemberInfo> {
        self.0.member_infos()
    }

    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<(MemberInfo, Vec<MemberInfo>), StoreError> {
        let change = Change::Add(wire::AddMember { peer_urls, learner: is_learner });
        let id = MemberId(self.0.membership.change(change).await?);
        self.0.barrier.wait().await?;
        let members = self.members();
        let added =
            members.iter().find(|member| member.id == id).cloned().ok_or(StoreError::MemberNotFound)?;
        Ok((added, members))
    }

    async fn remove_member(&self, id: MemberId) -> Result<Vec<MemberInfo>, StoreError> {
        self.0.membership.change(Change::Remove(id.0)).await?;
        // A member that removed itself learns of its own end from the log and not from a leader.
        if id != self.0.peers.own().member {
            self.0.barrier.wait().await?;
        }
        Ok(self.members().into_iter().filter(|member| member.id != id).collect())
    }

    async fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<MemberInfo>, StoreError> {
        self.0.membership.change(Change::Update(wire::UpdateMember { id: id.0, peer_urls })).await?;
        self.0.barrier.wait().await?;
        Ok(self.members())
    }

    async fn promote_member(&self, id: MemberId) -> Result<Vec<MemberInfo>, StoreError> {
        self.0.membership.change(Change::Promote(id.0)).await?;
        self.0.barrier.wait().await?;
        Ok(self.members())
    }

    fn status(&self) -> MemberStatus {
        let raft_index = observe::committed_index(&self.0.raft);
        let picture = self.0.published.peek();
        MemberStatus {
            raft_index: raft_index.max(picture.applied_index),
            raft_applied_index: picture.applied_index,
            db_size_bytes: i64::try_from(picture.view.live_bytes() + picture.view.history_bytes() as u64)
                .unwrap_or(i64::MAX),
            db_size_in_use_bytes: i64::try_from(picture.view.live_bytes()).unwrap_or(i64::MAX),
            db_size_quota_bytes: self.0.space.quota_bytes(),
        }
    }

    fn alarms(&self) -> Vec<ActiveAlarm> {
        let picture = self.0.published.peek();
        picture.alarms.iter().map(|&(member, kind)| ActiveAlarm { member, kind }).collect()
    }

    async fn hash(&self) -> Result<KeyspaceHash, StoreError> {
        let hash = self.hash_upto(Revision(0), &self.0.metrics.mvcc.hash_duration_seconds).await?;
        Ok(KeyspaceHash { hash: hash.hash, revision: hash.revision })
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HistoryHash, StoreError> {
        self.hash_upto(revision, &self.0.metrics.mvcc.hash_rev_duration_seconds).await
    }

    async fn snapshot(&self, since: Option<Revision>) -> Result<Snapshot<Self::SnapshotChunks>, StoreError> {
        let sent_seconds = &self.0.metrics.disk.backend_snapshot_duration_seconds;
        maintenance::snapshot(&self.0.snapshots, &self.0.published, since, sent_seconds).await
    }

    async fn transfer_leadership(&self, to: MemberId) -> Result<(), StoreError> {
        self.0.membership.change_here(Change::MoveLeader(to.0)).await.map(|_| ())
    }

    fn activity(&self) -> &Arc<Activity> {
        &self.0.activity
    }

    fn scheduled_snapshots(&self) -> ScheduledSnapshots {
        self.0.backups.as_ref().map(|backups| backups.told()).unwrap_or_default()
    }

    fn timeline(&self) -> Arc<Timeline> {
        Arc::clone(&self.0.published.peek().timeline)
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        let member = self.clone();
        async move {
            let limit = member.0.election_timeout * NO_LEADER_TIMEOUTS;
            loop {
                let since = member.heard_leader_ago();
                if since >= limit {
                    return;
                }
                tokio::time::sleep(limit.saturating_sub(since).max(Duration::from_millis(50))).await;
            }
        }
    }

    fn serving(&self) -> CancellationToken {
        CancellationToken::clone(&self.0.serving.load())
    }

    fn shutdown(&self) -> &CancellationToken {
        &self.0.drain
    }

    fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}
