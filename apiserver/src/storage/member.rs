//! The store in this process behind the narrow waist: no gRPC, no encoding, and the bytes of a value are those that the
//! store itself holds. Must never serve what the member may not serve.

use std::sync::Arc;

use bytes::Bytes;
use futures::future::join_all;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use barque_store::command::{
    AlarmKind, Command, CommandError, Compare, CompareResult, CompareTarget, DeleteRange, KeyRange,
    OpOutcome, Outcome, Put, Range, RangeOutcome, Txn, TxnOp, TxnOutcome,
};
use barque_store::config::TlsFiles;
use barque_store::error::StoreError;
use barque_store::event::{Event, EventKind};
use barque_store::ids::{LeaseId as StoreLease, Revision as StoreRevision};
use barque_store::member::Member;
use barque_store::record::Record;
use barque_store::rpc::VERSION;
use barque_store::rpc::backend::{Backend as _, ReadView as _};
use barque_store::tls::{ClientTls, PeerConnector, TlsError};
use barque_store::watch::History as _;

use super::etcd::members::{PATIENCE, report_of};
use super::members::{MemberReport, StoreMember};
use super::{
    Action, Change, Entry, Expected, Got, LeaseId, Listed, Page, Revision, Storage, StorageError,
    StorageWatch, WatchItem, Write, Written, prefix_end,
};

/// Read from history in one go.
const EVENTS_AT_ONCE: usize = 1024;
const BYTES_AT_ONCE: usize = 4 << 20;
/// What a write costs beside key and value: tags and lengths of a record.
const RECORD_BYTES: u64 = 64;

/// A member of the store. Cloning copies pointers.
#[derive(Clone)]
pub struct MemberStorage {
    member: Member,
    /// How the other members are asked for what they say of themselves.
    connector: PeerConnector,
}

impl MemberStorage {
    /// The member must take part already.
    #[must_use]
    pub fn new(member: Member) -> Self {
        Self { member, connector: PeerConnector::new(None, PATIENCE) }
    }

    /// Shows other members this certificate when they are asked for what they say of themselves.
    ///
    /// # Errors
    /// A file is missing or cannot be used.
    pub fn with_client_certificate(self, files: &TlsFiles) -> Result<Self, TlsError> {
        let tls = Arc::new(ClientTls::load(files)?);
        Ok(Self { connector: PeerConnector::new(Some(tls), PATIENCE), ..self })
    }

    /// What this member says of itself.
    fn report(&self) -> MemberReport {
        let (member, status) = (&self.member, self.member.status());
        let alarms = member.alarms().into_iter().map(|alarm| match alarm.kind {
            AlarmKind::NoSpace => format!("memberID:{} alarm:NOSPACE", alarm.member.0),
            AlarmKind::Corrupt => format!("memberID:{} alarm:CORRUPT", alarm.member.0),
        });
        let no_leader = member.leader().is_none().then(|| "etcdserver: no leader".to_owned());
        MemberReport {
            leader: member.leader().map_or(0, |leader| leader.0),
            term: member.raft_term(),
            revision: Revision::of_wire(member.view().revision().0),
            committed_index: status.raft_index,
            applied_index: status.raft_applied_index,
            size_bytes: u64::try_from(status.db_size_bytes).unwrap_or(0),
            version: VERSION.to_owned(),
            errors: no_leader.into_iter().chain(alarms).collect(),
        }
    }

    /// A member whose data differs from the majority's must not be read.
    fn check_sound(&self) -> Result<(), StorageError> {
        if self.member.is_corrupt() {
            return Err(StorageError::unavailable("this member's data differs from the other members'"));
        }
        Ok(())
    }

    async fn barrier(&self) -> Result<(), StorageError> {
        self.member.read_barrier().await.map_err(|error| read_error(&error, Revision(0)))?;
        self.check_sound()
    }

    fn range(&self, range: &Range) -> Result<(RangeOutcome, Revision), StorageError> {
        let view = self.member.view();
        let wanted = Revision::of_wire(range.revision.0);
        let outcome = view.range(range).map_err(|error| read_error(&error.into(), wanted))?;
        Ok((outcome, Revision::of_wire(view.revision().0)))
    }

    /// What the services for clients check before they propose.
    fn check_size(&self, write: &Write) -> Result<(), StorageError> {
        let Action::Put { value, .. } = &write.action else { return Ok(()) };
        // The guarded transaction names the key three times.
        let request = value.len() + 3 * write.key.len() + 256;
        if request > self.member.limits().max_request_bytes {
            return Err(StorageError::TooLarge);
        }
        if !self.member.has_space_for((write.key.len() + value.len()) as u64 + RECORD_BYTES) {
            return Err(StorageError::NoSpace);
        }
        Ok(())
    }
}

/// A read, or a write that Raft never saw.
fn read_error(error: &StoreError, wanted: Revision) -> StorageError {
    match error {
        StoreError::Command(CommandError::Compacted) => StorageError::Compacted { wanted },
        StoreError::Command(CommandError::FutureRevision) => StorageError::Future { wanted },
        StoreError::Command(CommandError::NoSpace) => StorageError::NoSpace,
        StoreError::Command(CommandError::LeaseNotFound) => StorageError::LeaseNotFound,
        StoreError::Command(error) => StorageError::internal(error.to_string()),
        error => StorageError::unavailable(error.to_string()),
    }
}

/// A command that was proposed: without an answer, nobody knows.
fn write_error(error: &StoreError) -> StorageError {
    match error {
        StoreError::Timeout
        | StoreError::TimeoutDueToLeaderFail
        | StoreError::TimeoutDueToConnectionLost
        | StoreError::Stopped => StorageError::unknown(error.to_string()),
        error => read_error(error, Revision(0)),
    }
}

/// A record's key and value, in the record's own memory.
fn shared(record: Record) -> Entry {
    let (key, value, revision) = {
        let (fields, start) = (record.fields(), record.encoded().as_ptr() as usize);
        let span = |part: &[u8]| {
            // An empty field stands nowhere.
            let from = if part.is_empty() { 0 } else { part.as_ptr() as usize - start };
            from..from + part.len()
        };
        (span(fields.key), span(fields.value), Revision::of_wire(fields.mod_revision.0))
    };
    let bytes = Bytes::from_owner(record);
    Entry { key: bytes.slice(key), value: bytes.slice(value), revision }
}

fn first(outcome: RangeOutcome) -> Option<Entry> {
    outcome.records.into_iter().next().map(shared)
}

fn one(key: &Bytes) -> KeyRange {
    KeyRange { key: key.clone(), range_end: Bytes::new() }
}

/// The guarded write as a transaction: when the guard fails, it reads what stands there.
fn transaction(write: &Write) -> Txn {
    let target = match write.expected {
        Expected::Absent => CompareTarget::Create(StoreRevision(0)),
        Expected::At(revision) => CompareTarget::Mod(StoreRevision(revision.to_wire())),
    };
    let action = match &write.action {
        Action::Put { value, lease } => TxnOp::Put(Put {
            key: write.key.clone(),
            value: value.clone(),
            lease: lease.map(|lease| StoreLease(lease.0)),
            ..Put::default()
        }),
        Action::Delete => TxnOp::DeleteRange(DeleteRange { range: one(&write.key), prev_kv: false }),
    };
    Txn {
        compare: vec![Compare { range: one(&write.key), result: CompareResult::Equal, target }],
        success: vec![action],
        failure: vec![TxnOp::Range(Range { range: one(&write.key), ..Range::default() })],
    }
}

fn written(outcome: TxnOutcome, revision: Revision) -> Result<Written, StorageError> {
    if outcome.succeeded {
        return Ok(Written::Done(revision));
    }
    match outcome.responses.into_iter().next() {
        Some(OpOutcome::Range(found)) => Ok(Written::Differs(first(found))),
        _ => Err(StorageError::internal("a guarded write was answered with something else")),
    }
}

impl Storage for MemberStorage {
    type Watch = MemberWatch;

    async fn get(&self, key: &Bytes) -> Result<Got, StorageError> {
        self.barrier().await?;
        let (found, revision) = self.range(&Range { range: one(key), ..Range::default() })?;
        Ok(Got { entry: first(found), revision })
    }

    async fn list(&self, page: &Page) -> Result<Listed, StorageError> {
        self.barrier().await?;
        let end = prefix_end(&page.prefix);
        let range = Range {
            range: KeyRange {
                key: page.start.clone().max(page.prefix.clone()),
                range_end: if end.is_empty() { Bytes::from_static(&[0]) } else { end },
            },
            limit: i64::try_from(page.limit).unwrap_or(i64::MAX),
            revision: StoreRevision(page.revision.map_or(0, Revision::to_wire)),
            ..Range::default()
        };
        let (found, current) = self.range(&range)?;
        let remaining = u64::try_from(found.count).unwrap_or(0).saturating_sub(found.records.len() as u64);
        Ok(Listed {
            entries: found.records.into_iter().map(shared).collect(),
            revision: page.revision.unwrap_or(current),
            remaining,
        })
    }

    async fn write(&self, write: &Write) -> Result<Written, StorageError> {
        self.check_size(write)?;
        let applied = self.member.propose(Command::Txn(transaction(write))).await;
        let applied = applied.map_err(|error| write_error(&error))?;
        match applied.outcome {
            Outcome::Txn(outcome) => written(outcome, Revision::of_wire(applied.revision.0)),
            _ => Err(StorageError::internal("a transaction was answered with something else")),
        }
    }

    async fn current_revision(&self) -> Result<Revision, StorageError> {
        self.barrier().await?;
        Ok(Revision::of_wire(self.member.view().revision().0))
    }

    async fn tells_progress(&self) -> bool {
        true
    }

    async fn watch(&self, prefix: &Bytes, from: Revision) -> Result<MemberWatch, StorageError> {
        self.check_sound()?;
        Ok(MemberWatch {
            applied: self.member.published().applied(),
            serving: self.member.serving(),
            member: self.member.clone(),
            prefix: prefix.clone(),
            next: from,
            told: None,
        })
    }

    async fn compact(&self, revision: Revision) -> Result<(), StorageError> {
        let command = Command::Compact { revision: StoreRevision(revision.to_wire()) };
        let compacted = self.member.propose(command).await;
        compacted.map(|_| ()).map_err(|error| match &error {
            StoreError::Command(_) => read_error(&error, revision),
            error => write_error(error),
        })
    }

    async fn grant_lease(&self, ttl_s: u64) -> Result<LeaseId, StorageError> {
        let id = StoreLease(rand::random_range(1..=i64::MAX));
        let ttl_s = i64::try_from(ttl_s).unwrap_or(i64::MAX).max(self.member.limits().min_lease_ttl_s);
        let granted = self.member.propose(Command::LeaseGrant { id, ttl_s }).await;
        // A lease that nobody knows of ends by itself.
        granted.map(|_| LeaseId(id.0)).map_err(|error| read_error(&error, Revision(0)))
    }

    async fn members(&self) -> Result<Vec<StoreMember>, StorageError> {
        let own = self.member.identity().member;
        let asked = self.member.members().into_iter().map(|info| async move {
            let report = if info.id == own {
                Ok(self.report())
            } else {
                report_of(info.id.0, &info.client_urls, &self.connector).await
            };
            StoreMember {
                id: info.id.0,
                name: info.name,
                client_urls: info.client_urls,
                is_learner: info.is_learner,
                report,
            }
        });
        Ok(join_all(asked).await)
    }
}

/// Changes as the member applies them.
pub struct MemberWatch {
    member: Member,
    applied: watch::Receiver<u64>,
    /// Cancelled when what the member holds may not be served any more.
    serving: CancellationToken,
    prefix: Bytes,
    /// The first revision that was not told.
    next: Revision,
    /// The last progress that was told.
    told: Option<Revision>,
}

impl MemberWatch {
    async fn read(&self) -> Result<(Vec<Event>, Revision), StorageError> {
        let published = self.member.published();
        // Before the events are read: whatever is read is not older.
        let revision = published.revision();
        let from = StoreRevision(self.next.to_wire());
        let events = if published.is_cold(from) {
            let published = Arc::clone(published);
            let read =
                tokio::task::spawn_blocking(move || published.read(from, EVENTS_AT_ONCE, BYTES_AT_ONCE));
            read.await.map_err(|_| StorageError::unavailable("the member stops"))?
        } else {
            published.read(from, EVENTS_AT_ONCE, BYTES_AT_ONCE)
        };
        let events = events.map_err(|error| read_error(&error.into(), self.next))?;
        Ok((events, Revision::of_wire(revision.0)))
    }
}

fn change(event: Event) -> Change {
    let Entry { key, value, revision } = shared(event.record);
    let value = (event.kind == EventKind::Put).then_some(value);
    Change { key, revision, value, previous: event.previous.map(shared) }
}

impl StorageWatch for MemberWatch {
    async fn next(&mut self) -> Result<WatchItem, StorageError> {
        loop {
            self.applied.mark_unchanged();
            if self.serving.is_cancelled() {
                return Err(StorageError::unavailable("the member stops, or its data may not be served"));
            }
            let (events, revision) = self.read().await?;
            if let Some(last) = events.last() {
                self.next = Revision::of_wire(last.at.main.0).next();
                let wanted = |event: &Event| event.record.key().starts_with(&self.prefix);
                let changes: Vec<_> = events.into_iter().filter(wanted).map(change).collect();
                if !changes.is_empty() {
                    return Ok(WatchItem::Changes(changes));
                }
                // A long history of other keys must not hold up this thread's other tasks.
                tokio::task::yield_now().await;
                continue;
            }
            // Everything there was is told; a watch may begin in the future.
            if self.next <= revision.next() {
                self.next = revision.next();
                if self.told.is_none_or(|before| before < revision) {
                    self.told = Some(revision);
                    return Ok(WatchItem::Progress(revision));
                }
            }
            tokio::select! {
                () = self.serving.cancelled() => {}
                changed = self.applied.changed() => {
                    changed.map_err(|_| StorageError::unavailable("the member stops"))?;
                }
            }
        }
    }

    async fn request_progress(&mut self) {
        // Progress is told by itself; whoever asks wants to hear it again.
        self.told = None;
    }
}
