//! A member for tests: one keyspace without history, in memory, with a leader that tests switch off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::{
    ActiveAlarm, Applied, Backend, HistoryHash, Identity, KeptVersions, KeyEvent, KeyspaceHash, LeaseInfo,
    Limits, MemberInfo, MemberStatus, ReadView, ScheduledSnapshots, Snapshot,
};
use super::permit::{LoginSettings, Logins};
use crate::activity::Activity;
use crate::auth::{AuthState, Check, Rights, check};
use crate::command::auth::AuthCommand;
use crate::command::{
    Command, CommandError, Compare, CompareResult, CompareTarget, DeleteRange, DeleteRangeOutcome, KeyRange,
    OpOutcome, Outcome, Put, PutOutcome, Range, RangeOutcome, SortOrder, SortTarget, Txn, TxnOp, TxnOutcome,
};
use crate::error::StoreError;
use crate::ids::{ClusterId, LeaseId, MemberId, Revision};
use crate::record::{Fields, KeptVersion, Record, Standing};
use crate::timeline::Timeline;

/// The newest versions alone; everything older counts as compacted.
#[derive(Clone)]
pub(super) struct Keyspace {
    revision: Revision,
    compacted: Revision,
    records: BTreeMap<Vec<u8>, Record>,
    events: Vec<KeyEvent>,
    /// Set in views, while rights are asked for.
    rights: Option<Arc<Users>>,
}

/// Users, and what hangs on leases.
#[derive(Clone, Default)]
pub(super) struct Users {
    auth: AuthState,
    leased: BTreeMap<LeaseId, Vec<Vec<u8>>>,
}

impl Rights for Users {
    fn auth(&self) -> &AuthState {
        &self.auth
    }

    fn lease_keys(&self, lease: LeaseId) -> Box<dyn Iterator<Item = &[u8]> + '_> {
        Box::new(self.leased.get(&lease).into_iter().flatten().map(Vec::as_slice))
    }
}

impl Default for Keyspace {
    fn default() -> Self {
        Self {
            revision: Revision(1),
            compacted: Revision(-1),
            records: BTreeMap::new(),
            events: vec![],
            rights: None,
        }
    }
}

fn holds(range: &KeyRange, key: &[u8]) -> bool {
    match &range.range_end[..] {
        [] => key == range.key,
        [0] => key >= &range.key[..],
        end => key >= &range.key[..] && key < end,
    }
}

impl Keyspace {
    /// Puts in a revision of its own.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8], lease: Option<LeaseId>) {
        self.write(key, value, lease, self.revision.next());
        self.revision = self.revision.next();
    }

    fn write(&mut self, key: &[u8], value: &[u8], lease: Option<LeaseId>, revision: Revision) {
        let prev = self.records.get(key).map(Record::fields);
        let record = Record::new(&Fields {
            key,
            create_revision: prev.map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.map_or(1, |prev| prev.version + 1),
            value,
            lease,
        });
        self.records.insert(key.to_vec(), record.clone());
        self.events.push(KeyEvent::Put(record));
    }

    fn delete(&mut self, range: &KeyRange, revision: Revision) -> Vec<Record> {
        let gone: Vec<_> = self.records.values().filter(|r| holds(range, r.key())).cloned().collect();
        for record in &gone {
            self.records.remove(record.key());
            self.events.push(KeyEvent::Delete(Record::tombstone(record.key(), revision)));
        }
        gone
    }

    fn delete_leased(&mut self, lease: LeaseId) {
        let keys: Vec<_> =
            self.records.values().filter(|r| r.fields().lease == Some(lease)).cloned().collect();
        let revision = self.revision.next();
        for record in &keys {
            let key = Bytes::copy_from_slice(record.key());
            self.delete(&KeyRange { key, range_end: Bytes::new() }, revision);
        }
        if !keys.is_empty() {
            self.revision = revision;
        }
    }

    fn compare(&self, compare: &Compare) -> bool {
        let holds_for = |fields: Option<Fields<'_>>| {
            let (version, create, modified, lease) = fields.map_or((0, 0, 0, 0), |f| {
                (f.version, f.create_revision.0, f.mod_revision.0, f.lease.map_or(0, |l| l.0))
            });
            let order = match &compare.target {
                CompareTarget::Version(operand) => version.cmp(operand),
                CompareTarget::Create(operand) => create.cmp(&operand.0),
                CompareTarget::Mod(operand) => modified.cmp(&operand.0),
                CompareTarget::Lease(operand) => lease.cmp(&operand.0),
                CompareTarget::Value(operand) => match fields {
                    Some(fields) => fields.value.cmp(operand),
                    None => return false,
                },
            };
            match compare.result {
                CompareResult::Equal => order.is_eq(),
                CompareResult::NotEqual => order.is_ne(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
            }
        };
        let mut found = self.records.values().filter(|r| holds(&compare.range, r.key())).peekable();
        if found.peek().is_none() { holds_for(None) } else { found.all(|r| holds_for(Some(r.fields()))) }
    }

    fn txn(&mut self, before: &Self, txn: &Txn, revision: Revision) -> Result<TxnOutcome, CommandError> {
        let succeeded = txn.compare.iter().all(|compare| before.compare(compare));
        let ops = if succeeded { &txn.success } else { &txn.failure };
        let responses = ops
            .iter()
            .map(|op| {
                Ok(match op {
                    TxnOp::Range(range) => OpOutcome::Range(self.range(range)?),
                    TxnOp::Put(put) => OpOutcome::Put(self.execute_put(put, revision)?),
                    TxnOp::DeleteRange(delete) => {
                        OpOutcome::DeleteRange(self.execute_delete(delete, revision))
                    }
                    TxnOp::Txn(inner) => OpOutcome::Txn(self.txn(before, inner, revision)?),
                })
            })
            .collect::<Result<_, CommandError>>()?;
        Ok(TxnOutcome { succeeded, responses })
    }

    fn execute_put(&mut self, put: &Put, revision: Revision) -> Result<PutOutcome, CommandError> {
        let prev = self.records.get(&put.key[..]).cloned();
        if (put.ignore_value || put.ignore_lease) && prev.is_none() {
            return Err(CommandError::KeyNotFound);
        }
        self.write(&put.key, &put.value, put.lease, revision);
        Ok(PutOutcome { prev: prev.filter(|_| put.prev_kv) })
    }

    fn execute_delete(&mut self, delete: &DeleteRange, revision: Revision) -> DeleteRangeOutcome {
        let gone = self.delete(&delete.range, revision);
        DeleteRangeOutcome { deleted: gone.len() as i64, prev: if delete.prev_kv { gone } else { vec![] } }
    }
}

/// The newest versions are all there is.
pub(super) struct Kept(std::vec::IntoIter<Record>);

impl KeptVersions for Kept {
    fn advance(
        &mut self,
        max_versions: usize,
        tell: &mut dyn FnMut(KeptVersion<'_>),
    ) -> Result<bool, CommandError> {
        for record in self.0.by_ref().take(max_versions) {
            let fields = record.fields();
            let value_bytes = fields.value.len();
            tell(KeptVersion { key: fields.key, value_bytes, standing: Standing::Live });
        }
        Ok(self.0.len() > 0)
    }
}

impl ReadView for Keyspace {
    type Kept = Kept;

    fn rights(&self) -> Option<&dyn Rights> {
        self.rights.as_deref().map(|users| users as &dyn Rights)
    }

    fn revision(&self) -> Revision {
        self.revision
    }

    fn compact_revision(&self) -> Revision {
        self.compacted
    }

    fn kept_versions(&self, prefix: &[u8]) -> Kept {
        let kept: Vec<_> = self.records.values().filter(|r| r.key().starts_with(prefix)).cloned().collect();
        Kept(kept.into_iter())
    }

    fn range(&self, range: &Range) -> Result<RangeOutcome, CommandError> {
        if range.revision > self.revision {
            return Err(CommandError::FutureRevision);
        }
        if range.revision.0 > 0 && range.revision < self.compacted {
            return Err(CommandError::Compacted);
        }
        let mut records: Vec<_> =
            self.records.values().filter(|r| holds(&range.range, r.key())).cloned().collect();
        let count = records.len() as i64;
        if range.count_only {
            return Ok(RangeOutcome { records: vec![], more: false, count });
        }
        if range.max_create_revision.0 != 0 {
            records.retain(|record| record.fields().create_revision <= range.max_create_revision);
        }
        if range.sort_target == SortTarget::Create {
            records.sort_by_key(|record| record.fields().create_revision);
        }
        if range.sort_order == SortOrder::Descend {
            records.reverse();
        }
        let limit = if range.limit > 0 { range.limit as usize } else { usize::MAX };
        let more = records.len() > limit;
        records.truncate(limit);
        Ok(RangeOutcome { records, more, count })
    }

    fn read_txn(&self, txn: &Txn) -> Result<TxnOutcome, CommandError> {
        self.clone().txn(self, txn, self.revision)
    }
}

struct State {
    keyspace: Mutex<Keyspace>,
    leases: Mutex<BTreeMap<LeaseId, i64>>,
    auth: Mutex<AuthState>,
    logins: Logins,
    alarms: Mutex<Vec<ActiveAlarm>>,
    members: Mutex<Vec<MemberInfo>>,
    revision: watch::Sender<Revision>,
    limits: Limits,
    proposals: Mutex<Vec<Command>>,
    barriers: Mutex<usize>,
    shutdown: CancellationToken,
    leader_lost: CancellationToken,
    serving: CancellationToken,
    tasks: TaskTracker,
    activity: Arc<Activity>,
    timeline: Mutex<Arc<Timeline>>,
    scheduled: Mutex<ScheduledSnapshots>,
    leads: AtomicBool,
    has_leader: AtomicBool,
    is_learner: AtomicBool,
    has_space: AtomicBool,
}

/// The fake member. Its id is 2, its cluster's 1.
#[derive(Clone)]
pub(super) struct Fake(Arc<State>);

pub(super) const OWN: MemberId = MemberId(2);
pub(super) const OTHER: MemberId = MemberId(3);
pub(super) const LEARNER: MemberId = MemberId(4);

impl Fake {
    pub(super) fn new() -> Self {
        let member = |id: MemberId| MemberInfo {
            id,
            name: format!("m{id}"),
            peer_urls: vec![format!("http://127.0.0.1:1{id}")],
            client_urls: vec![],
            is_learner: id == LEARNER,
        };
        let shutdown = CancellationToken::new();
        Self(Arc::new(State {
            keyspace: Mutex::default(),
            leases: Mutex::default(),
            auth: Mutex::default(),
            logins: Logins::new(LoginSettings {
                token_ttl: Duration::from_secs(300),
                client_cert_auth: true,
            }),
            alarms: Mutex::default(),
            members: Mutex::new(vec![member(OWN), member(OTHER), member(LEARNER)]),
            revision: watch::Sender::new(Revision(1)),
            limits: Limits { max_request_bytes: 64 * 1024, max_txn_ops: 8, min_lease_ttl_s: 2 },
            proposals: Mutex::default(),
            barriers: Mutex::default(),
            serving: shutdown.child_token(),
            shutdown,
            leader_lost: CancellationToken::new(),
            tasks: TaskTracker::new(),
            activity: Arc::default(),
            timeline: Mutex::default(),
            scheduled: Mutex::default(),
            leads: AtomicBool::new(true),
            has_leader: AtomicBool::new(true),
            is_learner: AtomicBool::new(false),
            has_space: AtomicBool::new(true),
        }))
    }

    pub(super) fn set_leads(&self, leads: bool) {
        self.0.leads.store(leads, Ordering::SeqCst);
    }

    pub(super) fn lose_leader(&self) {
        self.0.has_leader.store(false, Ordering::SeqCst);
        self.0.leader_lost.cancel();
    }

    pub(super) fn become_corrupt(&self) {
        self.0.serving.cancel();
    }

    pub(super) fn become_learner(&self) {
        self.0.is_learner.store(true, Ordering::SeqCst);
    }

    pub(super) fn set_timeline(&self, timeline: Timeline) {
        *self.0.timeline.lock() = Arc::new(timeline);
    }

    pub(super) fn set_scheduled(&self, scheduled: ScheduledSnapshots) {
        *self.0.scheduled.lock() = scheduled;
    }

    pub(super) fn fill_up(&self) {
        self.0.has_space.store(false, Ordering::SeqCst);
    }

    /// Changes users or roles without asking who does.
    pub(super) fn change_users(&self, change: &AuthCommand) {
        self.0.auth.lock().execute(change).unwrap();
    }

    /// Has a command executed without asking who wants it.
    pub(super) fn propose_now(&self, command: Command) {
        self.execute(command).unwrap();
    }

    /// A token, as the user would get it for its password.
    pub(super) fn token_of(&self, user: &str) -> String {
        let auth = self.0.auth.lock().clone();
        let credentials = auth.user(user).unwrap().credentials;
        self.0.logins.sessions.issue(&auth, credentials).unwrap()
    }

    /// Everything that was proposed so far.
    pub(super) fn proposals(&self) -> Vec<Command> {
        self.0.proposals.lock().clone()
    }

    /// How often a read waited for the leader.
    pub(super) fn barriers(&self) -> usize {
        *self.0.barriers.lock()
    }

    /// Completes when the keyspace satisfies a condition.
    pub(super) async fn when(&self, condition: impl Fn(&Keyspace) -> bool) {
        let mut revision = self.0.revision.subscribe();
        revision.wait_for(|_| condition(&self.0.keyspace.lock())).await.unwrap();
    }

    fn users(&self, keyspace: &Keyspace) -> Users {
        let mut leased: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for record in keyspace.records.values() {
            if let Some(lease) = record.fields().lease {
                leased.entry(lease).or_default().push(record.key().to_vec());
            }
        }
        Users { auth: self.0.auth.lock().clone(), leased }
    }

    fn execute(&self, command: Command) -> Result<Applied, CommandError> {
        let mut keyspace = self.0.keyspace.lock();
        let users = self.users(&keyspace);
        if users.auth.is_enabled() {
            match &command {
                Command::As { caller, command } => Check::new(&users, caller).command(command)?,
                command => check::nobody(command)?,
            }
        }
        let command = command.unsigned().clone();
        let next = keyspace.revision.next();
        let changes = keyspace.events.len();
        let mut leases = self.0.leases.lock();
        let known = |lease: &Option<LeaseId>| lease.is_none_or(|lease| leases.contains_key(&lease));
        let outcome = match command {
            Command::Put(put) if known(&put.lease) => Outcome::Put(keyspace.execute_put(&put, next)?),
            Command::Put(_) => return Err(CommandError::LeaseNotFound),
            Command::DeleteRange(delete) => Outcome::DeleteRange(keyspace.execute_delete(&delete, next)),
            Command::Txn(txn) => {
                let leases_known =
                    txn.success.iter().all(|op| !matches!(op, TxnOp::Put(p) if !known(&p.lease)));
                if !leases_known {
                    return Err(CommandError::LeaseNotFound);
                }
                let before = keyspace.clone();
                Outcome::Txn(keyspace.txn(&before, &txn, next)?)
            }
            Command::Compact { revision } if revision > keyspace.revision => {
                return Err(CommandError::FutureRevision);
            }
            Command::Compact { revision } if revision <= keyspace.compacted => {
                return Err(CommandError::Compacted);
            }
            Command::Compact { revision } => {
                keyspace.compacted = revision;
                Outcome::Done
            }
            Command::LeaseGrant { id, ttl_s } => {
                if leases.contains_key(&id) {
                    return Err(CommandError::LeaseExists);
                }
                leases.insert(id, ttl_s);
                Outcome::Done
            }
            Command::LeaseRevoke { id } => {
                leases.remove(&id).ok_or(CommandError::LeaseNotFound)?;
                keyspace.delete_leased(id);
                Outcome::Done
            }
            Command::Alarm { raise, member, kind } => {
                let alarm = ActiveAlarm { member, kind };
                let mut alarms = self.0.alarms.lock();
                alarms.retain(|active| *active != alarm);
                alarms.extend(raise.then_some(alarm));
                Outcome::Done
            }
            Command::Auth(change) => {
                self.0.auth.lock().execute(&change)?;
                Outcome::Done
            }
            Command::LeaseExpire { .. }
            | Command::LeaseCheckpoint { .. }
            | Command::PublishMember { .. }
            | Command::MarkTime { .. }
            | Command::As { .. } => unreachable!("not a client's command"),
        };
        if keyspace.events.len() > changes {
            keyspace.revision = next;
        }
        let revision = keyspace.revision;
        drop(keyspace);
        self.0.revision.send_replace(revision);
        Ok(Applied { revision, outcome })
    }

    fn find(&self, id: MemberId) -> Result<MemberInfo, StoreError> {
        self.members().into_iter().find(|member| member.id == id).ok_or(StoreError::MemberNotFound)
    }
}

impl Backend for Fake {
    type View = Keyspace;
    type Events = BoxStream<'static, Result<Vec<KeyEvent>, StoreError>>;
    type SnapshotChunks = BoxStream<'static, Result<Bytes, StoreError>>;

    fn identity(&self) -> Identity {
        Identity { cluster: ClusterId(1), member: OWN }
    }

    fn limits(&self) -> &Limits {
        &self.0.limits
    }

    fn raft_term(&self) -> u64 {
        5
    }

    fn leader(&self) -> Option<MemberId> {
        let leader = if self.0.leads.load(Ordering::SeqCst) { OWN } else { OTHER };
        self.0.has_leader.load(Ordering::SeqCst).then_some(leader)
    }

    fn is_corrupt(&self) -> bool {
        self.0.serving.is_cancelled() && !self.0.shutdown.is_cancelled()
    }

    fn is_learner(&self) -> bool {
        self.0.is_learner.load(Ordering::SeqCst)
    }

    fn auth_enabled(&self) -> bool {
        self.0.auth.lock().is_enabled()
    }

    fn rights(&self) -> Arc<dyn Rights> {
        Arc::new(self.users(&self.0.keyspace.lock()))
    }

    fn logins(&self) -> &Logins {
        &self.0.logins
    }

    fn has_space_for(&self, _: u64) -> bool {
        self.0.has_space.load(Ordering::SeqCst)
    }

    async fn propose(&self, command: Command) -> Result<Applied, StoreError> {
        self.0.proposals.lock().push(command.clone());
        Ok(self.execute(command)?)
    }

    async fn read_barrier(&self) -> Result<(), StoreError> {
        *self.0.barriers.lock() += 1;
        self.leader().map(|_| ()).ok_or(StoreError::Timeout)
    }

    fn view(&self) -> Keyspace {
        let mut view = self.0.keyspace.lock().clone();
        view.rights = self.auth_enabled().then(|| Arc::new(self.users(&view)));
        view
    }

    async fn wait_compacted(&self, _: Revision) -> Result<(), StoreError> {
        Ok(())
    }

    async fn watch(&self, range: KeyRange, from: Revision) -> Result<Self::Events, StoreError> {
        let state = (self.clone(), self.0.revision.subscribe(), 0);
        Ok(stream::unfold(state, move |(fake, mut revision, mut seen)| {
            let range = range.clone();
            async move {
                loop {
                    let events = fake.0.keyspace.lock().events[seen..].to_vec();
                    seen += events.len();
                    let wanted: Vec<_> = events
                        .into_iter()
                        .filter(|event| {
                            let (KeyEvent::Put(r) | KeyEvent::Delete(r)) = event;
                            holds(&range, r.key()) && r.mod_revision() >= from
                        })
                        .collect();
                    if !wanted.is_empty() {
                        return Some((Ok(wanted), (fake, revision, seen)));
                    }
                    revision.changed().await.ok()?;
                }
            }
        })
        .boxed())
    }

    async fn lease_keep_alive(&self, ids: Vec<LeaseId>) -> Result<Vec<Option<i64>>, StoreError> {
        let leases = self.0.leases.lock();
        Ok(ids.iter().map(|id| leases.get(id).copied()).collect())
    }

    async fn lease_time_to_live(
        &self,
        id: LeaseId,
        with_keys: bool,
    ) -> Result<Option<LeaseInfo>, StoreError> {
        let Some(ttl_s) = self.0.leases.lock().get(&id).copied() else { return Ok(None) };
        let attached = self.view().records.into_values().filter(|r| r.fields().lease == Some(id));
        let keys = attached.filter(|_| with_keys).map(|r| Bytes::copy_from_slice(r.key())).collect();
        Ok(Some(LeaseInfo { ttl_s: ttl_s - 1, granted_ttl_s: ttl_s, keys }))
    }

    fn leases(&self) -> Vec<LeaseId> {
        self.0.leases.lock().keys().copied().collect()
    }

    fn members(&self) -> Vec<MemberInfo> {
        self.0.members.lock().clone()
    }

    async fn add_member(
        &self,
        peer_urls: Vec<String>,
        is_learner: bool,
    ) -> Result<(MemberInfo, Vec<MemberInfo>), StoreError> {
        if self.members().iter().any(|member| member.peer_urls == peer_urls) {
            return Err(StoreError::PeerUrlExists);
        }
        let member = MemberInfo { id: MemberId(9), peer_urls, is_learner, ..MemberInfo::default() };
        self.0.members.lock().push(member.clone());
        Ok((member, self.members()))
    }

    async fn remove_member(&self, id: MemberId) -> Result<Vec<MemberInfo>, StoreError> {
        self.find(id)?;
        self.0.members.lock().retain(|member| member.id != id);
        Ok(self.members())
    }

    async fn update_member(
        &self,
        id: MemberId,
        peer_urls: Vec<String>,
    ) -> Result<Vec<MemberInfo>, StoreError> {
        self.find(id)?;
        let mut members = self.0.members.lock();
        members.iter_mut().filter(|member| member.id == id).for_each(|m| m.peer_urls.clone_from(&peer_urls));
        Ok(members.clone())
    }

    async fn promote_member(&self, id: MemberId) -> Result<Vec<MemberInfo>, StoreError> {
        if !self.find(id)?.is_learner {
            return Err(StoreError::MemberNotLearner);
        }
        let mut members = self.0.members.lock();
        members.iter_mut().filter(|member| member.id == id).for_each(|member| member.is_learner = false);
        Ok(members.clone())
    }

    fn status(&self) -> MemberStatus {
        MemberStatus {
            raft_index: 20,
            raft_applied_index: 19,
            db_size_bytes: 4096,
            db_size_in_use_bytes: 1024,
            db_size_quota_bytes: 1 << 31,
        }
    }

    fn alarms(&self) -> Vec<ActiveAlarm> {
        self.0.alarms.lock().clone()
    }

    async fn hash(&self) -> Result<KeyspaceHash, StoreError> {
        Ok(KeyspaceHash { hash: 77, revision: self.view().revision })
    }

    async fn hash_kv(&self, revision: Revision) -> Result<HistoryHash, StoreError> {
        let current = self.view().revision;
        if revision > current {
            return Err(CommandError::FutureRevision.into());
        }
        let hash_revision = if revision.0 == 0 { current } else { revision };
        Ok(HistoryHash { hash: 78, revision: current, compact_revision: Revision(-1), hash_revision })
    }

    async fn snapshot(&self, since: Option<Revision>) -> Result<Snapshot<Self::SnapshotChunks>, StoreError> {
        let view = self.view();
        view.range(&Range { revision: since.unwrap_or_default(), ..Range::default() })?;
        let first = u8::from(since.is_none());
        let chunks = stream::iter([Ok(Bytes::from(vec![first; 512])), Ok(Bytes::from(vec![2; 300]))]);
        Ok(Snapshot { size_bytes: 812, revision: view.revision, chunks: chunks.boxed() })
    }

    fn scheduled_snapshots(&self) -> ScheduledSnapshots {
        self.0.scheduled.lock().clone()
    }

    async fn transfer_leadership(&self, _: MemberId) -> Result<(), StoreError> {
        self.set_leads(false);
        Ok(())
    }

    fn activity(&self) -> &Arc<Activity> {
        &self.0.activity
    }

    fn timeline(&self) -> Arc<Timeline> {
        Arc::clone(&self.0.timeline.lock())
    }

    fn serving(&self) -> CancellationToken {
        self.0.serving.clone()
    }

    fn leader_lost(&self) -> impl Future<Output = ()> + Send + 'static {
        self.0.leader_lost.clone().cancelled_owned()
    }

    fn shutdown(&self) -> &CancellationToken {
        &self.0.shutdown
    }

    fn tasks(&self) -> &TaskTracker {
        &self.0.tasks
    }
}
