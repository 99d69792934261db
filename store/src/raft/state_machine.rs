//! The state machine as openraft drives it: entries in, answers to waiting clients out.
//!
//! Order within one batch of entries: execute all, show the new state to readers, tell watchers and disk,
//! only then answer. So a client that was answered can read what it wrote, on this member, at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt as _};
use openraft::entry::RaftEntry as _;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::watch;

use super::codec;
use super::identity::Roster;
use super::proposals::{Applied, Reply, Waiter};
use super::proposer::Desk;
use super::snapshots::{OpenSnapshot, Snapshot, Snapshots};
use super::types::{LogId, StoredMembership, TypeConfig};
use crate::blocking::Blocking;
use crate::ids::MemberId;
use crate::metrics::{ApplyCounts, InProgress, Metrics};
use crate::records::{Persisted, RecordBatch, RecordWriter};
use crate::snapshot::{self, SnapshotReader};
use crate::state::newest_picture::from_newest_picture;
use crate::state::published::{Picture, Published};
use crate::state::{Effects, LeaseChange, State, batch};
use crate::storage::restore::{self, RestoreError};
use crate::stored::StoredVersion;
use crate::watch::WatchHub;

/// Entries executed before readers and waiting clients hear of it, when more are ready.
const ENTRIES_PER_PICTURE: usize = 256;

/// Growth of the log is marked after so many entries or bytes.
const GROWTH_ENTRIES: u64 = 64;
const GROWTH_BYTES: usize = 1 << 20;

/// Hears of leases that come and go.
pub trait LeaseListener: Send + Sync + 'static {
    /// In the order of the log.
    fn leases_changed(&self, changes: &[LeaseChange]);
    /// The state was replaced by another member's snapshot.
    fn leases_replaced(&self);
}

/// What the state machine tells others, and who they are.
#[derive(Clone)]
pub struct Surroundings {
    /// Readers.
    pub published: Arc<Published>,
    /// Watchers.
    pub hub: Arc<WatchHub>,
    /// Clients of this member that wait for their commands.
    pub desk: Arc<Desk>,
    /// The clock of leases.
    pub leases: Arc<dyn LeaseListener>,
    /// Who may talk to this member.
    pub roster: Arc<Roster>,
    /// Disk, written behind.
    pub records: Arc<RecordWriter>,
    /// The snapshots of this member.
    pub snapshots: Arc<Snapshots>,
    /// Reads and writes snapshots.
    pub blocking: Blocking,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The state and those who hear of it. Owned by openraft's worker: nobody else writes.
pub struct StateMachine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    encoded_membership: Arc<[u8]>,
    counts: ApplyCounts,
    around: Surroundings,
    persisted: watch::Receiver<Persisted>,
    answers: Vec<Answer>,
    responders: Vec<ApplyResponder<TypeConfig>>,
    /// Since growth was last marked.
    grown_entries: u64,
    grown_bytes: usize,
}

struct Answer {
    waiters: Vec<Waiter>,
    replies: Vec<Reply>,
}

fn other<E: std::error::Error + Send + Sync + 'static>(error: E) -> std::io::Error {
    std::io::Error::other(error)
}

impl StateMachine {
    /// Goes on from a restored state.
    #[must_use]
    pub fn new(
        state: State,
        applied: Option<LogId>,
        membership: StoredMembership,
        around: Surroundings,
    ) -> Self {
        let encoded_membership = codec::encode_stored_membership(&membership).into();
        let this = Self {
            state,
            applied,
            membership,
            encoded_membership,
            counts: ApplyCounts::new(Arc::clone(&around.metrics)),
            persisted: around.records.persisted(),
            around,
            answers: Vec::new(),
            responders: Vec::new(),
            grown_entries: 0,
            grown_bytes: 0,
        };
        this.tell_roster();
        this
    }

    fn tell_roster(&self) {
        let members = self.state.members();
        let known = members.published().map(|member| (member.id, member.incarnation));
        self.around.roster.update(known, members.removed());
    }

    /// What readers see of the state as it is now; also the picture from before Raft runs.
    #[must_use]
    pub fn picture(
        state: &State,
        applied: Option<&LogId>,
        membership: &Arc<[u8]>,
        before: Option<&Picture>,
    ) -> Picture {
        let same = before.filter(|before| before.members.as_ref() == state.members());
        let members = same.map_or_else(|| Arc::new(state.members().clone()), |b| Arc::clone(&b.members));
        let same = before.filter(|before| before.alarms.as_ref() == state.alarms());
        let alarms = same.map_or_else(|| Arc::new(state.alarms().clone()), |b| Arc::clone(&b.alarms));
        Picture {
            view: state.view(),
            leases: state.leases().clone(),
            alarms,
            auth: Arc::clone(state.auth()),
            members,
            timeline: Arc::clone(state.timeline()),
            membership: Arc::clone(membership),
            applied_term: applied.map_or(0, |id| **id.committed_leader_id()),
            applied_index: applied.map_or(0, |id| id.index()),
        }
    }

    fn execute(&mut self, entry: super::types::Entry) -> std::io::Result<()> {
        let log_id = entry.log_id();
        let term = **log_id.committed_leader_id();
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                let before: Vec<_> = self.membership.nodes().map(|(id, _)| *id).collect();
                let gone = before.into_iter().filter(|id| membership.get_node(id).is_none()).map(MemberId);
                self.state.remember_removed(gone);
                self.membership = StoredMembership::new(Some(log_id), membership);
                self.encoded_membership = codec::encode_stored_membership(&self.membership).into();
            }
            EntryPayload::Normal(payload) => {
                self.grown_bytes += payload.0.len();
                let (id, commands) = batch::decode(&payload.0).map_err(other)?;
                let waiters = self.around.desk.applied(id);
                let mut replies = Vec::with_capacity(if waiters.is_some() { commands.len() } else { 0 });
                self.counts.begin();
                for command in &commands {
                    let result = self.state.apply(term, command);
                    self.counts.executed(command, &result);
                    if let Err(error @ crate::command::CommandError::History(_)) = result {
                        return Err(other(error));
                    }
                    if waiters.is_some() {
                        let revision = self.state.revision();
                        replies.push(result.map(|outcome| Applied { revision, outcome }).map_err(Into::into));
                    }
                }
                if let Some(waiters) = waiters {
                    self.answers.push(Answer { waiters, replies });
                }
            }
        }
        self.grown_entries += 1;
        self.applied = Some(log_id);
        Ok(())
    }

    /// Shows what was executed, then answers.
    fn publish(&mut self) {
        let persisted = self.persisted.borrow().revision;
        self.state.set_persisted(persisted);
        let effects = self.state.take_effects();
        let before = self.around.published.picture();
        let picture = Arc::new(Self::picture(
            &self.state,
            self.applied.as_ref(),
            &self.encoded_membership,
            Some(&before),
        ));
        if effects.members_or_alarms {
            self.tell_roster();
        }
        self.around.published.publish(Arc::clone(&picture));
        self.mark_milestones(&effects);
        self.around.hub.publish(&effects.events, self.state.revision());
        if !effects.leases.is_empty() {
            self.around.leases.leases_changed(&effects.leases);
        }
        let put = effects.events.into_iter().map(StoredVersion::from).collect();
        self.record(RecordBatch { put, ..RecordBatch::default() }, picture);
        for Answer { waiters, replies } in self.answers.drain(..) {
            for (waiter, reply) in waiters.into_iter().zip(replies) {
                // A client that went away does not wait any more.
                let _ = waiter.send(reply);
            }
        }
        for responder in self.responders.drain(..) {
            responder.send(());
        }
        self.around.desk.advance(self.applied.map_or(0, |id| **id.committed_leader_id()));
        self.counts.flush();
    }

    /// Hands a batch to disk with the picture after it; what disk keeps of that is made when it is written.
    fn record(&self, batch: RecordBatch, picture: Arc<Picture>) {
        self.around.records.hand_over_with(batch, Some(Box::new(move || picture.meta())));
    }

    fn mark_milestones(&mut self, effects: &Effects) {
        let grown = self.grown_entries >= GROWTH_ENTRIES || self.grown_bytes >= GROWTH_BYTES;
        if grown {
            (self.grown_entries, self.grown_bytes) = (0, 0);
        }
        if grown || effects.compacted.is_some() || effects.members_or_alarms {
            self.around.published.mark(|milestones| {
                milestones.growth += u64::from(grown);
                milestones.compactions += u64::from(effects.compacted.is_some());
                milestones.members_or_alarms += u64::from(effects.members_or_alarms);
            });
        }
    }

    /// Forgets compacted history, at most about `max_events` of it; whether there is more.
    pub fn collect_garbage(&mut self, max_events: usize) -> bool {
        let began = Instant::now();
        self.state.set_persisted(self.persisted.borrow().revision);
        let garbage = self.state.collect_garbage(max_events);
        let removed = garbage.removed.len() as u64;
        if !garbage.removed.is_empty() {
            let before = self.around.published.picture();
            let picture = Arc::new(Self::picture(
                &self.state,
                self.applied.as_ref(),
                &self.encoded_membership,
                Some(&before),
            ));
            self.around.published.publish(Arc::clone(&picture));
            self.record(RecordBatch { remove: garbage.removed, ..RecordBatch::default() }, picture);
        }
        let mvcc = &self.around.metrics.mvcc;
        mvcc.db_compaction_keys.inc_by(removed);
        mvcc.db_compaction_pause_milliseconds.observe(began.elapsed().as_secs_f64() * 1e3);
        !garbage.finished
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = OpenSnapshot;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> std::io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> std::io::Result<()>
    where
        Strm: Stream<Item = std::io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut executed = 0;
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.execute(entry)?;
            self.responders.extend(responder);
            executed += 1;
            if executed >= ENTRIES_PER_PICTURE {
                self.publish();
                executed = 0;
            }
        }
        if executed > 0 {
            self.publish();
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            published: Arc::clone(&self.around.published),
            snapshots: Arc::clone(&self.around.snapshots),
            blocking: self.around.blocking.clone(),
            metrics: Arc::clone(&self.around.metrics),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &openraft::alias::SnapshotMetaOf<TypeConfig>,
        received: OpenSnapshot,
    ) -> std::io::Result<()> {
        let _installing = InProgress::new(&self.around.metrics.server.snapshot_apply_in_progress);
        let file = received.file;
        let path = file.path.clone();
        let records = Arc::clone(&self.around.records);
        let state = self.around.blocking.run(move || {
            let mut reader = SnapshotReader::open(&path)?;
            restore::from_snapshot(&mut reader, &records)
        });
        let state: Result<State, RestoreError> = state.await.map_err(std::io::Error::other)?;
        self.state = state.map_err(other)?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.encoded_membership = codec::encode_stored_membership(&self.membership).into();
        self.around.snapshots.replace(file);
        self.tell_roster();
        let picture =
            Arc::new(Self::picture(&self.state, self.applied.as_ref(), &self.encoded_membership, None));
        self.around.published.publish(Arc::clone(&picture));
        self.around.hub.restored(self.state.revision());
        self.around.leases.leases_replaced();
        self.record(RecordBatch::default(), picture);
        self.around.desk.skipped();
        self.around.desk.advance(self.applied.map_or(0, |id| **id.committed_leader_id()));
        tracing::info!(revision = %self.state.revision(), applied = ?self.applied, "a snapshot was installed");
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> std::io::Result<Option<Snapshot>> {
        self.around.snapshots.described().map_err(other)
    }
}

/// Writes a snapshot of one picture, while the state machine goes on: of the newest one, as often as a compaction
/// takes away history that is being read from disk, since openraft ends the member when a snapshot fails.
pub struct SnapshotBuilder {
    published: Arc<Published>,
    snapshots: Arc<Snapshots>,
    blocking: Blocking,
    metrics: Arc<Metrics>,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = OpenSnapshot;

    async fn build_snapshot(&mut self) -> std::io::Result<Snapshot> {
        let published = Arc::clone(&self.published);
        let snapshots = Arc::clone(&self.snapshots);
        let synced = self.metrics.disk.snap_fsync_duration_seconds.clone();
        let began = Instant::now();
        let written = self.blocking.run(move || {
            from_newest_picture(&published, usize::MAX, |picture, watched| {
                let manifest = snapshots.manifest(picture, None);
                let mut synced = |took: Duration| synced.observe(took.as_secs_f64());
                let items = watched.watch(picture.view.items());
                snapshot::write_file(&snapshots.dir, &manifest, items, &mut synced)
            })
        });
        let file = written.await.map_err(std::io::Error::other)?.map_err(other)?;
        self.metrics.disk.snap_save_total_duration_seconds.observe(began.elapsed().as_secs_f64());
        let snapshot = OpenSnapshot::open(file.clone()).and_then(OpenSnapshot::described).map_err(other)?;
        self.snapshots.replace(file);
        Ok(snapshot)
    }
}
