//! The writer: executes commands on the keyspace, one after the other.
//!
//! There is one execution path: a put alone and a put in a transaction run the same function. A command either
//! fails before it changed anything, or takes effect whole, as one revision. What is visible afterwards depends
//! on the commands alone, never on when garbage was collected, what is cold, or which views are held.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::{ColdHistory, Event, EventKind, Version};
use super::history::{History, Superseded};
use super::range::Span;
use super::txn;
use super::view::{Cold, View};
use crate::command::{CommandError, DeleteRange, DeleteRangeOutcome, Put, PutOutcome, Txn, TxnOutcome};
use crate::ids::{Revision, SubRevision};
use crate::lease::table::LeaseTable;
use crate::record::{Fields, Record};
use crate::tree::Tree;

/// The compact revision of a store that was never compacted: `compact(0)` passes once.
pub const NEVER_COMPACTED: Revision = Revision(-1);

/// What may differ between members.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of history to keep in memory. What is above leaves it once disk has it, if there is a disk.
    pub history_budget_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { history_budget_bytes: 64 << 20 }
    }
}

/// What a step of garbage collection found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Garbage {
    /// Places of stored versions that disk may delete.
    pub removed: Vec<SubRevision>,
    /// Whether nothing is left for the present compact revision.
    pub finished: bool,
}

/// See the module's description. It is to be dropped before what stands behind its [`ColdHistory`] is replaced.
pub struct Keyspace {
    pub(super) view: View,
    pub(super) config: Config,
    /// The tombstones in `view.graves`, by place.
    pub(super) graves_by_place: BTreeMap<SubRevision, Record>,
    /// Places of useless versions that a rebuild was given.
    pub(super) leftover: Vec<SubRevision>,
    events: Vec<Event>,
    persisted: Revision,
    /// Changes of the command that is being executed.
    changes: u32,
}

impl Keyspace {
    /// An empty keyspace at revision 1. `cold` is where persisted history can be read back.
    #[must_use]
    pub fn new(config: Config, cold: Option<Arc<dyn ColdHistory>>) -> Self {
        Self::with(Revision::EMPTY, NEVER_COMPACTED, config, cold)
    }

    pub(super) fn with(
        revision: Revision,
        compact_revision: Revision,
        config: Config,
        cold: Option<Arc<dyn ColdHistory>>,
    ) -> Self {
        let view = View {
            live: Tree::new(),
            graves: Tree::new(),
            history: History::new(),
            revision,
            compact_revision,
            live_bytes: 0,
            cold: Cold::new(cold, compact_revision),
        };
        Self {
            view,
            config,
            graves_by_place: BTreeMap::new(),
            leftover: Vec::new(),
            events: Vec::new(),
            persisted: Revision(0),
            changes: 0,
        }
    }

    /// The newest revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.view.revision
    }

    /// The oldest revision that can be read; -1 when nothing was ever compacted.
    #[must_use]
    pub fn compact_revision(&self) -> Revision {
        self.view.compact_revision
    }

    /// The present state, to read from in place.
    #[must_use]
    pub fn state(&self) -> &View {
        &self.view
    }

    /// The present state, to keep: it never changes. Best taken once for a batch of commands, since the first
    /// write to each node after it copies that node.
    #[must_use]
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// `KV.Put`.
    ///
    /// # Errors
    /// `LeaseNotFound`; `KeyNotFound` when the value or lease of an absent key is to be kept.
    pub fn execute_put(&mut self, leases: &mut LeaseTable, put: &Put) -> Result<PutOutcome, CommandError> {
        self.changes = 0;
        txn::check_put(&self.view, leases, put)?;
        Ok(self.put(leases, put))
    }

    /// `KV.DeleteRange`. Deleting nothing makes no revision.
    ///
    /// # Errors
    /// None today; the same shape as its siblings.
    pub fn execute_delete_range(
        &mut self,
        leases: &mut LeaseTable,
        delete: &DeleteRange,
    ) -> Result<DeleteRangeOutcome, CommandError> {
        self.changes = 0;
        Ok(self.delete_range(leases, delete))
    }

    /// `KV.Txn`.
    ///
    /// # Errors
    /// Those of puts and ranges in the branches taken, found before the first write. `History` when disk fails:
    /// then the transaction may have been executed in part, and the member must stop.
    pub fn execute_txn(&mut self, leases: &mut LeaseTable, txn: &Txn) -> Result<TxnOutcome, CommandError> {
        self.changes = 0;
        txn::execute(self, leases, txn)
    }

    /// Deletes the keys of a revoked lease, in the order given (ascending), as one revision, or none when none
    /// of them exists. Answers how many there were.
    pub fn delete_keys(&mut self, leases: &mut LeaseTable, keys: &[Arc<[u8]>]) -> i64 {
        self.changes = 0;
        let mut deleted = 0;
        for key in keys {
            if let Some(version) = self.view.live.get(key).cloned() {
                self.delete(leases, &version);
                deleted += 1;
            }
        }
        deleted
    }

    /// `KV.Compact`: moves the compact revision at once. [`Keyspace::collect_garbage`] gives the memory back.
    ///
    /// # Errors
    /// `Compacted` when it is there already, `FutureRevision`.
    pub fn compact(&mut self, revision: Revision) -> Result<(), CommandError> {
        if revision <= self.view.compact_revision {
            return Err(CommandError::Compacted);
        }
        if revision > self.view.revision {
            return Err(CommandError::FutureRevision);
        }
        self.view.cold.compacted_to(revision);
        self.view.compact_revision = revision;
        Ok(())
    }

    /// Drops up to about `max_events` events that compaction made invisible, and says what disk may delete.
    /// Nothing that can be read changes.
    pub fn collect_garbage(&mut self, max_events: usize) -> Garbage {
        if !self.leftover.is_empty() {
            let rest = self.leftover.split_off(self.leftover.len().min(max_events.max(1)));
            return Garbage { removed: std::mem::replace(&mut self.leftover, rest), finished: false };
        }
        let dropped = self.view.history.drop_below(self.view.compact_revision, max_events);
        for at in &dropped.tombstones {
            if let Some(record) = self.graves_by_place.remove(at) {
                self.view.graves.remove(record.key());
            }
        }
        Garbage { removed: dropped.versions, finished: dropped.finished }
    }

    /// Takes the events since the last call, in order.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Says that disk has every event up to a revision, so that these may leave memory.
    pub fn set_persisted(&mut self, upto: Revision) {
        self.persisted = self.persisted.max(upto);
        self.cool();
    }

    fn cool(&mut self) {
        if self.view.cold.is_there() {
            self.view.history.cool(self.config.history_budget_bytes, self.persisted);
        }
    }

    /// The place of the next change. The first one of a command opens a new revision.
    fn next_place(&mut self) -> SubRevision {
        if self.changes == 0 {
            self.view.revision = self.view.revision.next();
            self.cool();
        }
        let sub = self.changes;
        self.changes += 1;
        SubRevision { main: self.view.revision, sub }
    }

    /// Executes a put that was checked.
    pub(super) fn put(&mut self, leases: &mut LeaseTable, put: &Put) -> PutOutcome {
        let at = self.next_place();
        let old = self.view.live.get(&put.key).cloned();
        let before = old.as_ref().map(|version| version.record.fields());
        let lease_before = before.and_then(|fields| fields.lease);
        let lease = if put.ignore_lease { lease_before } else { put.lease };
        let kept = before.filter(|_| put.ignore_value).map(|fields| fields.value);
        let record = Record::new(&Fields {
            key: &put.key,
            create_revision: before.map_or(at.main, |fields| fields.create_revision),
            mod_revision: at.main,
            version: before.map_or(1, |fields| fields.version + 1),
            value: kept.unwrap_or(if put.ignore_value { &[] } else { &put.value }),
            lease,
        });
        leases.attach(&put.key, lease_before, lease);
        let value_len = |record: &Record| record.fields().value.len() as u64;
        self.view.live_bytes += value_len(&record);
        let grave = match &old {
            Some(old) => {
                self.view.live_bytes -= value_len(&old.record);
                None
            }
            None => {
                self.view.live_bytes += put.key.len() as u64;
                self.view.graves.remove(&put.key)
            }
        };
        if let Some(grave) = &grave {
            self.graves_by_place.remove(&grave.at());
        }
        let event = self.view.history.next_event();
        self.view.live.insert(Version { record: record.clone(), sub: at.sub, event });
        let superseded = match (&old, &grave) {
            (Some(old), _) => Superseded::Version(old),
            (None, Some(grave)) => Superseded::Tombstone(grave),
            (None, None) => Superseded::Nothing,
        };
        self.view.history.append(at, false, record.clone(), &superseded);
        let previous = old.map(|version| version.record);
        self.events.push(Event { at, kind: EventKind::Put, record, previous: previous.clone() });
        PutOutcome { prev: previous.filter(|_| put.prev_kv) }
    }

    /// Executes a deletion of a range.
    pub(super) fn delete_range(
        &mut self,
        leases: &mut LeaseTable,
        delete: &DeleteRange,
    ) -> DeleteRangeOutcome {
        let doomed: Vec<Version> = self.view.current_in(Span::of(&delete.range)).cloned().collect();
        for version in &doomed {
            self.delete(leases, version);
        }
        let deleted = doomed.len() as i64;
        let prev = doomed.into_iter().filter(|_| delete.prev_kv).map(|version| version.record).collect();
        DeleteRangeOutcome { deleted, prev }
    }

    fn delete(&mut self, leases: &mut LeaseTable, version: &Version) {
        let at = self.next_place();
        let fields = version.record.fields();
        leases.attach(fields.key, fields.lease, None);
        self.view.live_bytes -= (fields.key.len() + fields.value.len()) as u64;
        let record = Record::tombstone(fields.key, at.main);
        self.view.live.remove(fields.key);
        let event = self.view.history.next_event();
        self.view.graves.insert(Version { record: record.clone(), sub: at.sub, event });
        self.graves_by_place.insert(at, record.clone());
        self.view.history.append(at, true, record.clone(), &Superseded::Version(version));
        let previous = Some(version.record.clone());
        self.events.push(Event { at, kind: EventKind::Delete, record, previous });
    }
}

/// Views that outlive their keyspace may miss what its successor deletes from disk: to them it is compacted.
impl Drop for Keyspace {
    fn drop(&mut self) {
        self.view.cold.compacted_to(Revision(i64::MAX));
    }
}

#[cfg(test)]
impl Keyspace {
    /// Checks what the fields promise each other.
    pub(super) fn check(&self, finished: bool) {
        let compact = self.view.compact_revision;
        self.view.history.check(finished.then_some(compact));
        assert!(
            self.view.graves.iter().all(|grave| self.graves_by_place.get(&grave.at()) == Some(&grave.record))
        );
        assert_eq!(self.view.graves.len(), self.graves_by_place.len());
        assert!(!finished || self.graves_by_place.keys().all(|at| at.main >= compact));
    }
}
