//! The rules of the keyspace written down a second time, as plainly as possible, to test against.
//!
//! It keeps every version of every key for ever and answers each question by looking at all of them. It shares
//! no code with what it judges.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::*;
use crate::ids::{LeaseId, Revision, SubRevision};
use crate::record::{Fields, Record};

#[derive(Clone)]
pub(super) struct Model {
    pub(super) revision: i64,
    pub(super) compact: i64,
    /// Every version ever: place, key, and the record unless it is a deletion.
    log: Vec<(SubRevision, Vec<u8>, Option<Record>)>,
    pub(super) leases: BTreeMap<LeaseId, BTreeSet<Vec<u8>>>,
    changes: u32,
}

type State = BTreeMap<Vec<u8>, Record>;

fn inside(range: &KeyRange, key: &[u8]) -> bool {
    if range.range_end.is_empty() {
        return *key == range.key;
    }
    *key >= *range.key && (*range.range_end == [0] || *key < *range.range_end)
}

impl Model {
    pub(super) fn new() -> Self {
        Self { revision: 1, compact: -1, log: Vec::new(), leases: BTreeMap::new(), changes: 0 }
    }

    pub(super) fn state(&self, revision: i64) -> State {
        let mut state = State::new();
        for (at, key, record) in &self.log {
            if at.main.0 <= revision {
                match record {
                    Some(record) => state.insert(key.clone(), record.clone()),
                    None => state.remove(key),
                };
            }
        }
        state
    }

    pub(super) fn range(&self, range: &Range) -> Result<RangeOutcome, CommandError> {
        let mut revision = range.revision.0;
        if revision > self.revision {
            return Err(CommandError::FutureRevision);
        }
        if revision <= 0 {
            revision = self.revision;
        }
        if revision < self.compact {
            return Err(CommandError::Compacted);
        }
        let mut all: Vec<Record> = self
            .state(revision)
            .into_iter()
            .filter(|(key, _)| inside(&range.range, key))
            .map(|(_, r)| r)
            .collect();
        let count = all.len() as i64;
        if range.count_only {
            return Ok(RangeOutcome { records: Vec::new(), more: false, count });
        }
        let bounds = [
            range.max_mod_revision,
            range.min_mod_revision,
            range.max_create_revision,
            range.min_create_revision,
        ];
        let filtered = bounds.iter().any(|bound| bound.0 != 0);
        let natural = range.sort_order == SortOrder::None
            || (range.sort_order == SortOrder::Ascend && range.sort_target == SortTarget::Key);
        if natural && !filtered && range.limit > 0 {
            all.truncate(range.limit as usize + 1);
        }
        all.retain(|record| {
            let fields = record.fields();
            let (created, modified) = (fields.create_revision, fields.mod_revision);
            (bounds[0].0 == 0 || modified <= bounds[0])
                && (bounds[1].0 == 0 || modified >= bounds[1])
                && (bounds[2].0 == 0 || created <= bounds[2])
                && (bounds[3].0 == 0 || created >= bounds[3])
        });
        let rank = |record: &Record| -> (i64, Vec<u8>) {
            let fields = record.fields();
            match range.sort_target {
                SortTarget::Key => (0, fields.key.to_vec()),
                SortTarget::Version => (fields.version, Vec::new()),
                SortTarget::Create => (fields.create_revision.0, Vec::new()),
                SortTarget::Mod => (fields.mod_revision.0, Vec::new()),
                SortTarget::Value => (0, fields.value.to_vec()),
            }
        };
        if range.sort_order == SortOrder::Descend {
            all.sort_by_key(|record| std::cmp::Reverse(rank(record)));
        } else {
            all.sort_by_key(rank);
        }
        let more = range.limit > 0 && all.len() as i64 > range.limit;
        if more {
            all.truncate(range.limit as usize);
        }
        if range.keys_only {
            all = all.iter().map(|r| Record::new(&Fields { value: b"", ..r.fields() })).collect();
        }
        Ok(RangeOutcome { records: all, more, count })
    }

    fn current(&self) -> State {
        self.state(i64::MAX)
    }

    fn place(&mut self) -> SubRevision {
        if self.changes == 0 {
            self.revision += 1;
        }
        self.changes += 1;
        SubRevision { main: Revision(self.revision), sub: self.changes - 1 }
    }

    fn detach(&mut self, key: &[u8]) {
        for keys in self.leases.values_mut() {
            keys.remove(key);
        }
    }

    fn check_lease(&self, put: &Put) -> Result<(), CommandError> {
        let unknown = put.lease.is_some_and(|id| !self.leases.contains_key(&id));
        if unknown { Err(CommandError::LeaseNotFound) } else { Ok(()) }
    }

    fn check_present(&self, put: &Put) -> Result<(), CommandError> {
        let absent = (put.ignore_lease || put.ignore_value) && !self.current().contains_key(&*put.key);
        if absent { Err(CommandError::KeyNotFound) } else { Ok(()) }
    }

    fn put(&mut self, put: &Put) -> PutOutcome {
        let old = self.current().remove(&*put.key);
        let at = self.place();
        let (create, version, value, lease) = match &old {
            Some(old) => {
                let old = old.fields();
                (old.create_revision, old.version, old.value, old.lease)
            }
            None => (at.main, 0, &b""[..], None),
        };
        let lease = if put.ignore_lease { lease } else { put.lease };
        let record = Record::new(&Fields {
            key: &put.key,
            create_revision: create,
            mod_revision: at.main,
            version: version + 1,
            value: if put.ignore_value { value } else { &put.value },
            lease,
        });
        self.detach(&put.key);
        if let Some(keys) = lease.and_then(|id| self.leases.get_mut(&id)) {
            keys.insert(put.key.to_vec());
        }
        self.log.push((at, put.key.to_vec(), Some(record)));
        PutOutcome { prev: if put.prev_kv { old } else { None } }
    }

    fn delete_range(&mut self, delete: &DeleteRange) -> DeleteRangeOutcome {
        let doomed: Vec<_> =
            self.current().into_iter().filter(|(key, _)| inside(&delete.range, key)).collect();
        for (key, _) in &doomed {
            let at = self.place();
            self.detach(key);
            self.log.push((at, key.clone(), None));
        }
        let deleted = doomed.len() as i64;
        let prev =
            if delete.prev_kv { doomed.into_iter().map(|(_, record)| record).collect() } else { Vec::new() };
        DeleteRangeOutcome { deleted, prev }
    }

    fn compare(&self, before: &State, compare: &Compare) -> bool {
        let judge = |record: Option<&Record>| {
            let zero = Fields {
                key: b"",
                create_revision: Revision(0),
                mod_revision: Revision(0),
                version: 0,
                value: b"",
                lease: None,
            };
            let fields = record.map_or(zero, Record::fields);
            let order = match &compare.target {
                CompareTarget::Version(v) => fields.version.cmp(v),
                CompareTarget::Create(v) => fields.create_revision.cmp(v),
                CompareTarget::Mod(v) => fields.mod_revision.cmp(v),
                CompareTarget::Lease(v) => fields.lease.unwrap_or(LeaseId(0)).cmp(v),
                CompareTarget::Value(_) if record.is_none() => return false,
                CompareTarget::Value(v) => fields.value.cmp(v),
            };
            match compare.result {
                CompareResult::Equal => order.is_eq(),
                CompareResult::Greater => order.is_gt(),
                CompareResult::Less => order.is_lt(),
                CompareResult::NotEqual => !order.is_eq(),
            }
        };
        let found: Vec<_> = before.iter().filter(|(key, _)| inside(&compare.range, key)).collect();
        if found.is_empty() { judge(None) } else { found.iter().all(|(_, record)| judge(Some(record))) }
    }

    fn taken<'a>(&self, before: &State, txn: &'a Txn) -> (bool, &'a [TxnOp]) {
        let holds = txn.compare.iter().all(|compare| self.compare(before, compare));
        (holds, if holds { &txn.success } else { &txn.failure })
    }

    /// All puts before all ranges; in a transaction the key is looked at before the lease.
    fn check_txn(&self, before: &State, txn: &Txn) -> Result<(), CommandError> {
        self.check_puts(before, txn)?;
        self.check_ranges(before, txn)
    }

    fn check_puts(&self, before: &State, txn: &Txn) -> Result<(), CommandError> {
        for op in self.taken(before, txn).1 {
            match op {
                TxnOp::Put(put) => {
                    self.check_present(put)?;
                    self.check_lease(put)?;
                }
                TxnOp::Txn(inner) => self.check_puts(before, inner)?,
                TxnOp::Range(_) | TxnOp::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn check_ranges(&self, before: &State, txn: &Txn) -> Result<(), CommandError> {
        for op in self.taken(before, txn).1 {
            match op {
                TxnOp::Range(range) if range.revision.0 > self.revision => {
                    return Err(CommandError::FutureRevision);
                }
                TxnOp::Range(range) if range.revision.0 != 0 && range.revision.0 < self.compact => {
                    return Err(CommandError::Compacted);
                }
                TxnOp::Txn(inner) => self.check_ranges(before, inner)?,
                TxnOp::Range(_) | TxnOp::Put(_) | TxnOp::DeleteRange(_) => {}
            }
        }
        Ok(())
    }

    fn run(&mut self, before: &State, txn: &Txn) -> TxnOutcome {
        let (succeeded, ops) = self.taken(before, txn);
        let responses = ops
            .iter()
            .map(|op| match op {
                TxnOp::Range(range) => OpOutcome::Range(self.range(range).unwrap()),
                TxnOp::Put(put) => OpOutcome::Put(self.put(put)),
                TxnOp::DeleteRange(delete) => OpOutcome::DeleteRange(self.delete_range(delete)),
                TxnOp::Txn(inner) => OpOutcome::Txn(self.run(before, inner)),
            })
            .collect();
        TxnOutcome { succeeded, responses }
    }

    pub(super) fn execute(&mut self, command: &Command) -> Result<Outcome, CommandError> {
        self.changes = 0;
        match command {
            Command::Put(put) => {
                self.check_lease(put)?;
                self.check_present(put)?;
                Ok(Outcome::Put(self.put(put)))
            }
            Command::DeleteRange(delete) => Ok(Outcome::DeleteRange(self.delete_range(delete))),
            Command::Txn(txn) => {
                let before = self.current();
                self.check_txn(&before, txn)?;
                Ok(Outcome::Txn(self.run(&before, txn)))
            }
            Command::Compact { revision } => {
                if revision.0 <= self.compact {
                    return Err(CommandError::Compacted);
                }
                if revision.0 > self.revision {
                    return Err(CommandError::FutureRevision);
                }
                self.compact = revision.0;
                Ok(Outcome::Done)
            }
            Command::LeaseGrant { id, .. } => {
                if self.leases.contains_key(id) {
                    return Err(CommandError::LeaseExists);
                }
                self.leases.insert(*id, BTreeSet::new());
                Ok(Outcome::Done)
            }
            Command::LeaseRevoke { id } => {
                let keys = self.leases.remove(id).ok_or(CommandError::LeaseNotFound)?;
                for key in keys {
                    let at = self.place();
                    self.log.push((at, key, None));
                }
                Ok(Outcome::Done)
            }
            other => panic!("no affair of the keyspace: {other:?}"),
        }
    }

    /// Place, whether it is a deletion, the record, and what was there before if that may still be told.
    pub(super) fn events_from(&self, from: i64) -> Vec<(SubRevision, bool, Record, Option<Record>)> {
        let mut state = State::new();
        let mut events = Vec::new();
        for (at, key, record) in &self.log {
            let before = match record {
                Some(record) => state.insert(key.clone(), record.clone()),
                None => state.remove(key),
            };
            if at.main.0 < from {
                continue;
            }
            let written = record.clone().unwrap_or_else(|| Record::tombstone(key, at.main));
            events.push((*at, record.is_none(), written, before.filter(|_| at.main.0 > self.compact)));
        }
        events
    }

    /// What a snapshot holds: place, whether it is a deletion, record.
    pub(super) fn items(&self) -> Vec<(SubRevision, bool, Record)> {
        let visible = self.state(self.compact);
        self.log
            .iter()
            .filter(|(at, key, record)| match record {
                _ if at.main.0 > self.compact => true,
                Some(record) => visible.get(key) == Some(record),
                None => at.main.0 == self.compact,
            })
            .map(|(at, key, record)| {
                (*at, record.is_none(), record.clone().unwrap_or_else(|| Record::tombstone(key, at.main)))
            })
            .collect()
    }
}
