//! What the client services need from a member: one trait, so that the services know nothing of Raft,
//! disks or other members, and a member knows nothing of gRPC.
//!
//! Waiting methods are futures that may be dropped at any point (a client went away): dropping one must
//! leave nothing behind but a command that may still commit. Time limits (5 s and two election timeouts)
//! are the implementation's business and answer the `Timeout` errors of [`StoreError`].

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures::Stream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::permit::Logins;
use crate::activity::Activity;
use crate::auth::Rights;
use crate::command::{
    AlarmKind, Command, CommandError, KeyRange, Outcome, Range, RangeOutcome, Txn, TxnOutcome,
};
use crate::error::StoreError;
use crate::ids::{ClusterId, LeaseId, MemberId, Revision};
use crate::record::{KeptVersion, Record};
use crate::timeline::Timeline;

/// All versions that are kept of the keys with a prefix, in portions: keys in ascending order, of each key the
/// newest version first.
pub trait KeptVersions: Send + 'static {
    /// Tells up to `max_versions` more; whether there may be more. Blocks when history must be read from disk.
    ///
    /// # Errors
    /// `History`; `Compacted` when what has to be read was compacted meanwhile.
    fn advance(
        &mut self,
        max_versions: usize,
        tell: &mut dyn FnMut(KeptVersion<'_>),
    ) -> Result<bool, CommandError>;
}

/// A picture of the keyspace that does not change while it is held.
pub trait ReadView: Send + Sync + 'static {
    /// What [`ReadView::kept_versions`] answers.
    type Kept: KeptVersions;

    /// The current revision in this picture.
    fn revision(&self) -> Revision;

    /// The oldest revision that can be read from it; -1 when nothing was ever compacted.
    fn compact_revision(&self) -> Revision;

    /// All versions that are kept of the keys that begin with `prefix`.
    fn kept_versions(&self, prefix: &[u8]) -> Self::Kept;

    /// Executes a range.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`, `History`, `Corrupt`.
    fn range(&self, range: &Range) -> Result<RangeOutcome, CommandError>;

    /// Executes a transaction that holds only compares and ranges.
    ///
    /// # Errors
    /// As [`ReadView::range`], from any of its ranges.
    fn read_txn(&self, txn: &Txn) -> Result<TxnOutcome, CommandError>;

    /// Who may read what in this picture; `None` while rights are not asked for.
    fn rights(&self) -> Option<&dyn Rights>;
}

/// A command that Raft committed and this member executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The keyspace's revision right after this very command, whether or not it changed anything.
    pub revision: Revision,
    /// Its answer.
    pub outcome: Outcome,
}

/// Which member of which cluster this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// This member.
    pub member: MemberId,
}

/// Limits on requests, from the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest request, as protobuf; etcd's default is 1.5 MiB.
    pub max_request_bytes: usize,
    /// The most compares, operations in "then" and operations in "else" of a transaction; default 128.
    pub max_txn_ops: usize,
    /// Shorter leases are raised to this: one and a half election timeouts, in whole seconds, rounded up.
    pub min_lease_ttl_s: i64,
}

/// One change of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyEvent {
    /// The new version.
    Put(Record),
    /// The tombstone: key and revision of the deletion.
    Delete(Record),
}

/// A lease as its primary lessor (the leader) knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseInfo {
    /// Whole seconds left, rounded down.
    pub ttl_s: i64,
    /// Seconds that were granted.
    pub granted_ttl_s: i64,
    /// The attached keys when they were asked for, else empty.
    pub keys: Vec<Bytes>,
}

/// A member as the membership records it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub id: MemberId,
    /// Its name; empty until it started once.
    pub name: String,
    /// Where the other members reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it started once.
    pub client_urls: Vec<String>,
    /// Has no vote.
    pub is_learner: bool,
}

/// An alarm that was raised and not cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ActiveAlarm {
    /// The member that raised it.
    pub member: MemberId,
    /// Which one.
    pub kind: AlarmKind,
}

/// Numbers for `Maintenance.Status`; the rest of that answer comes from the other methods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberStatus {
    /// The last entry known to be committed.
    pub raft_index: u64,
    /// The last entry executed here.
    pub raft_applied_index: u64,
    /// Bytes that the keyspace takes.
    pub db_size_bytes: i64,
    /// Of them, those that are not free for reuse.
    pub db_size_in_use_bytes: i64,
    /// The quota; negative for none.
    pub db_size_quota_bytes: i64,
}

/// The hash of the whole keyspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyspaceHash {
    /// CRC-32C.
    pub hash: u32,
    /// The current revision that was hashed.
    pub revision: Revision,
}

/// The hash of the history from the compact revision up to one revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryHash {
    /// CRC-32C.
    pub hash: u32,
    /// The current revision when it was taken.
    pub revision: Revision,
    /// Hashes are comparable only when this is equal; -1 when nothing was ever compacted.
    pub compact_revision: Revision,
    /// The revision up to which was hashed.
    pub hash_revision: Revision,
}

/// A snapshot on its way to a client: a file that ends with the SHA-256 of everything before.
#[derive(Debug)]
pub struct Snapshot<S> {
    /// All bytes that `chunks` will hold, to the byte.
    pub size_bytes: u64,
    /// The last revision in it.
    pub revision: Revision,
    /// The content; chunks of 32 KiB to 1 MiB (some clients take at most 4 MiB), none empty.
    pub chunks: S,
}

/// The snapshots that a member takes by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScheduledSnapshots {
    /// As the member was told; empty for never.
    pub schedule: String,
    /// How many good ones are kept.
    pub retention: u32,
    /// Where they are.
    pub directory: String,
    /// When the next one is due, in milliseconds since 1970.
    pub next_ms: Option<i64>,
    /// The last failure with its time, until one succeeds.
    pub last_error: Option<(i64, String)>,
    /// The oldest first.
    pub snapshots: Vec<ScheduledSnapshot>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduledSnapshot {
    /// The file's name.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// The last revision in it.
    pub revision: Revision,
    /// When it was taken, in milliseconds since 1970.
    pub taken_ms: i64,
    /// This member has read it completely and found it good.
    pub verified: bool,
}

/// One member of the store, as the client services see it. Cloning copies a pointer.
pub trait Backend: Clone + Send + Sync + 'static {
    /// What [`Backend::view`] answers.
    type View: ReadView;
    /// What [`Backend::watch`] answers: per item the changes of one or more revisions, in order; never an
    /// empty item. Ends with an error (compacted, stopped), never silently.
    type Events: Stream<Item = Result<Vec<KeyEvent>, StoreError>> + Send + 'static;
    /// The content of a snapshot.
    type SnapshotChunks: Stream<Item = Result<Bytes, StoreError>> + Send + 'static;

    // Facts that every answer or check needs. Called for every request: an atomic load each, no lock.

    /// Which member this is; never changes.
    fn identity(&self) -> Identity;
    /// The limits; they never change.
    fn limits(&self) -> &Limits;
    /// The current Raft term.
    fn raft_term(&self) -> u64;
    /// The member that leads as far as this one knows.
    fn leader(&self) -> Option<MemberId>;
    /// Whether this member has no vote.
    fn is_learner(&self) -> bool;
    /// Whether this member was found to hold other data than the majority, so that it may serve none of it.
    fn is_corrupt(&self) -> bool;
    /// Whether rights are asked for, as far as this member knows.
    fn auth_enabled(&self) -> bool;
    /// Whether the quota allows so many more bytes. True when there is no quota.
    fn has_space_for(&self, cost_bytes: u64) -> bool;

    // Users and roles.

    /// Users, roles and leases in the newest picture of this member.
    fn rights(&self) -> Arc<dyn Rights>;
    /// The clients of this member that said who they are.
    fn logins(&self) -> &Logins;

    // Keyspace.

    /// Has a command replicated and executed on this member. Here is where "too many requests" (the gap
    /// between commit and apply), time limits and forwarding to the leader live.
    ///
    /// # Errors
    /// Those of the command, of leadership and of time.
    fn propose(&self, command: Command) -> impl Future<Output = Result<Applied, StoreError>> + Send;

    /// Waits until this member has executed everything that was committed anywhere when this was called.
    ///
    /// # Errors
    /// Those of leadership and of time.
    fn read_barrier(&self) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The newest picture of the keyspace that this member has. Never blocks.
    fn view(&self) -> Self::View;

    /// Waits until this member has removed everything below the compacted revision `revision` from memory
    /// and disk, durably. Called after the compaction was executed.
    ///
    /// # Errors
    /// When the member stops first.
    fn wait_compacted(&self, revision: Revision) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// The changes of keys in `range` with revisions from `from` on, past and future, on this member.
    ///
    /// # Errors
    /// `Compacted` when `from` was compacted away, `Stopped`.
    fn watch(
        &self,
        range: KeyRange,
        from: Revision,
    ) -> impl Future<Output = Result<Self::Events, StoreError>> + Send;

    // Leases. Granting and revoking are commands.

    /// Renews leases at the leader, which first makes sure that it still leads; forwarded from followers,
    /// where calls of many streams should share one message. Answers the full time in seconds of each
    /// lease in the order of `ids`, `None` for one that does not exist. Ids come as clients sent them: any
    /// number, also 0, also several times.
    ///
    /// # Errors
    /// Those of leadership and of time.
    fn lease_keep_alive(
        &self,
        ids: Vec<LeaseId>,
    ) -> impl Future<Output = Result<Vec<Option<i64>>, StoreError>> + Send;

    /// What the leader knows of a lease; `None` when it does not exist.
    ///
    /// # Errors
    /// Those of leadership and of time.
    fn lease_time_to_live(
        &self,
        id: LeaseId,
        with_keys: bool,
    ) -> impl Future<Output = Result<Option<LeaseInfo>, StoreError>> + Send;

    /// All leases that this member knows, in any order.
    fn leases(&self) -> Vec<LeaseId>;

    // Membership.

    /// All members that this member knows, itself included.
    fn members(&self) -> Vec<MemberInfo>;

    /// Adds a member under a new id. `peer_urls` is not empty, valid and sorted. Refuses unsafe steps.
    /// Answers the new member and all members.
    ///
    /// # Errors
    /// `PeerUrlExists`, `TooManyLearners`, `NotEnoughStartedMembers`, `Unhealthy`, leadership, time.
    fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> impl Future<Output = Result<(MemberInfo, Vec<MemberInfo>), StoreError>> + Send;

    /// Removes a member for ever; answers those that remain.
    ///
    /// # Errors
    /// `MemberNotFound`, `NotEnoughStartedMembers`, `Unhealthy`, leadership, time.
    fn remove_member(&self, id: MemberId)
    -> impl Future<Output = Result<Vec<MemberInfo>, StoreError>> + Send;

    /// Replaces a member's peer addresses (valid, sorted); answers all members.
    ///
    /// # Errors
    /// `MemberNotFound`, `PeerUrlExists`, leadership, time.
    fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> impl Future<Output = Result<Vec<MemberInfo>, StoreError>> + Send;

    /// Gives a learner a vote; answers all members.
    ///
    /// # Errors
    /// `MemberNotFound`, `MemberNotLearner`, `LearnerNotReady`, leadership, time.
    fn promote_member(
        &self,
        id: MemberId,
    ) -> impl Future<Output = Result<Vec<MemberInfo>, StoreError>> + Send;

    // Maintenance.

    /// Numbers about this member.
    fn status(&self) -> MemberStatus;

    /// Alarms that are active, as this member knows them.
    fn alarms(&self) -> Vec<ActiveAlarm>;

    /// Hashes the whole keyspace of this member.
    ///
    /// # Errors
    /// When it cannot be read.
    fn hash(&self) -> impl Future<Output = Result<KeyspaceHash, StoreError>> + Send;

    /// Hashes this member's history up to `revision`; 0 or less for the current one.
    ///
    /// # Errors
    /// `Compacted`, `FutureRevision`.
    fn hash_kv(&self, revision: Revision) -> impl Future<Output = Result<HistoryHash, StoreError>> + Send;

    /// Starts sending a consistent picture of this member's whole state; with `since`, of the keyspace only what
    /// came after that revision.
    ///
    /// # Errors
    /// `Compacted` when some of that may be gone, `FutureRevision`; when it cannot be read.
    fn snapshot(
        &self,
        since: Option<Revision>,
    ) -> impl Future<Output = Result<Snapshot<Self::SnapshotChunks>, StoreError>> + Send;

    /// Hands leadership from this member, which leads, to `to`, which votes, and waits until it has it.
    ///
    /// # Errors
    /// `TimeoutLeaderTransfer`.
    fn transfer_leadership(&self, to: MemberId) -> impl Future<Output = Result<(), StoreError>> + Send;

    // What an administrator asks.

    /// What this member counts of its clients' requests while somebody looks.
    fn activity(&self) -> &Arc<Activity>;

    /// The snapshots that this member takes by itself.
    fn scheduled_snapshots(&self) -> ScheduledSnapshots;

    /// Which revision was current when, as far as this member has executed.
    fn timeline(&self) -> Arc<Timeline>;

    // Ends.

    /// Completes when this member has had no leader for three election timeouts in a row, counted from
    /// now. Ends streams that were opened with `hasleader`.
    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static;

    /// Cancelled when streams of what this member holds must end: with [`Backend::shutdown`], or because
    /// [`Backend::is_corrupt`] holds.
    fn serving(&self) -> CancellationToken;

    /// Cancelled when the member drains before it stops: streams end with "server stopped".
    fn shutdown(&self) -> &CancellationToken;

    /// Owner of what must go on after a client went away, such as giving up its place in a lock's queue.
    /// A stopping member waits for these tasks before it stops taking commands.
    fn tasks(&self) -> &TaskTracker;
}
