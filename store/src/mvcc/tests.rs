//! The keyspace against the model: random commands on two members of which one collects garbage and sends
//! history to disk at random times, and the other never does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;

use super::builder::KeyspaceBuilder;
use super::event::{ColdHistory, EventKind, StoredVersion};
use super::keyspace::{Config, Keyspace};
use super::model::Model;
use super::txn::is_read_only;
use super::view::View;
use crate::command::*;
use crate::ids::{LeaseId, Revision, SubRevision};
use crate::lease::table::LeaseTable;
use crate::record::Record;

#[derive(Default)]
struct Disk(Mutex<BTreeMap<SubRevision, StoredVersion>>);

impl ColdHistory for Disk {
    fn scan(&self, from: SubRevision, limit: usize) -> Result<Vec<StoredVersion>, String> {
        Ok(self.0.lock().unwrap().range(from..).take(limit).map(|(_, stored)| stored.clone()).collect())
    }

    fn get(&self, at: SubRevision) -> Result<Option<Record>, String> {
        Ok(self.0.lock().unwrap().get(&at).map(|stored| stored.record.clone()))
    }
}

struct Member {
    keyspace: Keyspace,
    leases: LeaseTable,
}

impl Member {
    fn execute(&mut self, command: &Command) -> Result<Outcome, CommandError> {
        let Self { keyspace, leases } = self;
        match command {
            Command::Put(put) => keyspace.execute_put(leases, put).map(Outcome::Put),
            Command::DeleteRange(delete) => {
                keyspace.execute_delete_range(leases, delete).map(Outcome::DeleteRange)
            }
            Command::Txn(txn) if is_read_only(txn) => {
                let on_view = keyspace.view().read_txn(txn);
                let executed = keyspace.execute_txn(leases, txn);
                assert_eq!(on_view, executed);
                executed.map(Outcome::Txn)
            }
            Command::Txn(txn) => keyspace.execute_txn(leases, txn).map(Outcome::Txn),
            Command::Compact { revision } => keyspace.compact(*revision).map(|()| Outcome::Done),
            Command::LeaseGrant { id, ttl_s } => leases.grant(*id, *ttl_s).map(|()| Outcome::Done),
            Command::LeaseRevoke { id } => {
                let keys = leases.revoke(*id).ok_or(CommandError::LeaseNotFound)?;
                assert_eq!(keyspace.delete_keys(leases, &keys), keys.len() as i64);
                Ok(Outcome::Done)
            }
            other => panic!("no affair of the keyspace: {other:?}"),
        }
    }
}

const KEYS: [&str; 14] =
    ["a", "b", "b/1", "b/2", "b/2/x", "c", "c/1", "c/2", "c/3", "d", "e", "\0", "\u{1}", "zz"];

fn key() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(&KEYS[..]).prop_map(|key| Bytes::from_static(key.as_bytes()))
}

fn key_range() -> impl Strategy<Value = KeyRange> {
    let end = prop_oneof![4 => Just(Bytes::new()), 1 => Just(Bytes::from_static(b"\0")), 3 => key()];
    (key(), end).prop_map(|(key, range_end)| KeyRange { key, range_end })
}

fn value() -> impl Strategy<Value = Bytes> {
    proptest::sample::select(&["", "x", "yy", "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz"][..])
        .prop_map(|value| Bytes::from_static(value.as_bytes()))
}

fn lease() -> impl Strategy<Value = Option<LeaseId>> {
    prop_oneof![4 => Just(None), 2 => Just(Some(LeaseId(1))), 1 => Just(Some(LeaseId(2))), 1 => Just(Some(LeaseId(3)))]
}

fn put() -> impl Strategy<Value = Put> {
    (key(), value(), lease(), any::<bool>(), 0..8u8).prop_map(|(key, value, lease, prev_kv, ignore)| {
        let (ignore_value, ignore_lease) = (ignore == 0 || ignore == 2, ignore == 1 || ignore == 2);
        let lease = lease.filter(|_| !ignore_lease);
        Put {
            key,
            value: if ignore_value { Bytes::new() } else { value },
            lease,
            prev_kv,
            ignore_value,
            ignore_lease,
        }
    })
}

fn delete() -> impl Strategy<Value = DeleteRange> {
    (key_range(), any::<bool>()).prop_map(|(range, prev_kv)| DeleteRange { range, prev_kv })
}

/// Revisions are counted back from the present one when the question is put, so that most are readable.
fn range() -> impl Strategy<Value = Range> {
    let order = proptest::sample::select(&[SortOrder::None, SortOrder::Ascend, SortOrder::Descend][..]);
    let target = proptest::sample::select(
        &[
            SortTarget::Key,
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ][..],
    );
    let bound = || prop_oneof![6 => Just(0), 1 => 1..60i64].prop_map(Revision);
    let range = prop_oneof![
        2 => key_range(),
        2 => Just(KeyRange { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0") })
    ];
    let revision = prop_oneof![2 => Just(0i64), 4 => 1..80i64, 1 => -3..0i64];
    (range, 0..6i64, revision, order, target, (0..6u8, 0..6u8), (bound(), bound(), bound(), bound()))
        .prop_map(|(range, limit, revision, sort_order, sort_target, (keys, count), bounds)| Range {
            range,
            limit,
            revision: Revision(revision),
            sort_order,
            sort_target,
            keys_only: keys == 0,
            count_only: count == 0,
            min_mod_revision: bounds.0,
            max_mod_revision: bounds.1,
            min_create_revision: bounds.2,
            max_create_revision: bounds.3,
        })
}

fn compare() -> impl Strategy<Value = Compare> {
    use CompareResult::*;
    let target = prop_oneof![
        (0..3i64).prop_map(CompareTarget::Version),
        (0..30i64).prop_map(|r| CompareTarget::Create(Revision(r))),
        (0..30i64).prop_map(|r| CompareTarget::Mod(Revision(r))),
        value().prop_map(CompareTarget::Value),
        (0..3i64).prop_map(|id| CompareTarget::Lease(LeaseId(id))),
    ];
    (key_range(), proptest::sample::select(&[Equal, Greater, Less, NotEqual][..]), target)
        .prop_map(|(range, result, target)| Compare { range, result, target })
}

fn txn() -> impl Strategy<Value = Txn> {
    let compares = || proptest::collection::vec(compare(), 0..2);
    let op = prop_oneof![
        2 => range().prop_map(TxnOp::Range),
        4 => put().prop_map(TxnOp::Put),
        2 => delete().prop_map(TxnOp::DeleteRange),
    ];
    let flat = (compares(), proptest::collection::vec(op.clone(), 0..4), proptest::collection::vec(op, 0..3))
        .prop_map(|(compare, success, failure)| Txn { compare, success, failure });
    let nested = flat.prop_recursive(2, 12, 3, move |inner| {
        let op = prop_oneof![
            1 => range().prop_map(TxnOp::Range),
            2 => put().prop_map(TxnOp::Put),
            1 => delete().prop_map(TxnOp::DeleteRange),
            3 => inner.prop_map(TxnOp::Txn),
        ];
        (compares(), proptest::collection::vec(op.clone(), 0..4), proptest::collection::vec(op, 0..3))
            .prop_map(|(compare, success, failure)| Txn { compare, success, failure })
    });
    nested.prop_map(|mut txn| {
        distinct(&mut txn, &mut Vec::new(), &mut Vec::new());
        txn
    })
}

fn within(range: &KeyRange, key: &[u8]) -> bool {
    match &*range.range_end {
        [] => range.key == key,
        [0] => *range.key <= *key,
        end => *range.key <= *key && key < end,
    }
}

/// The front refuses transactions that touch a key twice; so these operations are left out here.
fn distinct(txn: &mut Txn, puts: &mut Vec<Bytes>, deletes: &mut Vec<KeyRange>) {
    for ops in [&mut txn.success, &mut txn.failure] {
        ops.retain_mut(|op| match op {
            TxnOp::Range(_) => true,
            TxnOp::Put(put) => {
                let fresh = !puts.contains(&put.key) && !deletes.iter().any(|range| within(range, &put.key));
                puts.push(put.key.clone());
                fresh
            }
            TxnOp::DeleteRange(delete) => {
                let fresh = !puts.iter().any(|key| within(&delete.range, key));
                if fresh {
                    deletes.push(delete.range.clone());
                }
                fresh
            }
            TxnOp::Txn(inner) => {
                distinct(inner, puts, deletes);
                true
            }
        });
    }
}

#[derive(Clone, Debug)]
enum Step {
    Execute(Command),
    /// Compact to so many revisions before the present one.
    Compact(i64),
    Range(Range),
    Events {
        back: i64,
        batch: usize,
    },
    /// On the second member only.
    Collect(usize),
    Persist,
    Hash {
        back: i64,
    },
    Hold,
    Rebuild,
    RebuildFromDisk,
}

fn step() -> impl Strategy<Value = Step> {
    let granted = (1..3i64).prop_map(|id| Command::LeaseGrant { id: LeaseId(id), ttl_s: 10 });
    let revoked = (1..3i64).prop_map(|id| Command::LeaseRevoke { id: LeaseId(id) });
    prop_oneof![
        20 => put().prop_map(|put| Step::Execute(Command::Put(put))),
        4 => delete().prop_map(|delete| Step::Execute(Command::DeleteRange(delete))),
        8 => txn().prop_map(|txn| Step::Execute(Command::Txn(txn))),
        2 => granted.prop_map(Step::Execute),
        1 => revoked.prop_map(Step::Execute),
        2 => (-1..40i64).prop_map(Step::Compact),
        10 => range().prop_map(Step::Range),
        2 => ((-1..60i64), 1..40usize).prop_map(|(back, batch)| Step::Events { back, batch }),
        4 => (1..40usize).prop_map(Step::Collect),
        4 => Just(Step::Persist),
        1 => (0..30i64).prop_map(|back| Step::Hash { back }),
        1 => Just(Step::Hold),
        1 => Just(Step::Rebuild),
        1 => Just(Step::RebuildFromDisk),
    ]
}

/// A view whose model moved on may say that what it needs from disk was compacted since.
fn agree<T: std::fmt::Debug + PartialEq>(
    found: Result<T, CommandError>,
    expected: Result<T, CommandError>,
    stale: bool,
) {
    if !(stale && found == Err(CommandError::Compacted)) {
        assert_eq!(found, expected);
    }
}

fn check_range(view: &View, model: &Model, range: &Range, stale: bool) {
    let back = Range { revision: Revision(model.revision - range.revision.0), ..range.clone() };
    for range in [range, &back] {
        agree(view.range(range), model.range(range), stale);
    }
}

fn check_events(view: &View, model: &Model, from: i64, batch: usize, stale: bool) {
    let expected =
        if from < model.compact { Err(CommandError::Compacted) } else { Ok(model.events_from(from)) };
    let found = view.events_from(Revision(from)).and_then(|mut cursor| {
        let mut found = Vec::new();
        loop {
            let events = cursor.next_batch(batch, true)?;
            if events.is_empty() {
                return Ok(found);
            }
            let last = found.last().map(|(at, ..): &(SubRevision, bool, Record, _)| at.main);
            assert_ne!(last, Some(events[0].at.main), "a revision is split");
            found.extend(
                events.into_iter().map(|e| (e.at, e.kind == EventKind::Delete, e.record, e.previous)),
            );
        }
    });
    agree(found, expected, stale);
}

fn check_sums(member: &Member, model: &Model) {
    let state = model.state(model.revision);
    let view = member.keyspace.state();
    assert_eq!(view.revision(), Revision(model.revision));
    assert_eq!(view.compact_revision(), Revision(model.compact));
    assert_eq!(view.live_keys(), state.len());
    let bytes: usize = state.values().map(|r| r.fields().key.len() + r.fields().value.len()).sum();
    assert_eq!(view.live_bytes(), bytes as u64);
    assert_eq!(member.leases.len(), model.leases.len());
    for (id, keys) in &model.leases {
        assert!(member.leases.keys(*id).eq(keys.iter().map(|key| &**key)));
    }
}

fn check_items(view: &View, model: &Model) {
    let items: Vec<_> =
        view.items().map(|item| item.unwrap()).map(|i| (i.at, i.tombstone, i.record)).collect();
    assert_eq!(items, model.items());
    for since in model.compact.max(0)..=model.revision {
        let later = view.items_since(Revision(since)).unwrap().map(|item| item.unwrap());
        let expected = items.iter().filter(|(at, ..)| at.main.0 > since).cloned();
        assert!(later.map(|i| (i.at, i.tombstone, i.record)).eq(expected), "since {since}");
    }
    let refused = |since| view.items_since(Revision(since)).err();
    assert_eq!(refused(model.revision + 1), Some(CommandError::FutureRevision));
    assert_eq!(refused(model.compact - 1), Some(CommandError::Compacted));
}

fn check_all(view: &View, model: &Model) {
    check_items(view, model);
    for from in model.compact.max(0)..=model.revision + 1 {
        check_events(view, model, from, 7, false);
        let all = KeyRange { key: Bytes::from_static(b"\0"), range_end: Bytes::from_static(b"\0") };
        let range = Range { range: all, revision: Revision(from), ..Range::default() };
        assert_eq!(view.range(&range), model.range(&range));
    }
}

fn rebuild(items: impl Iterator<Item = StoredVersion>, of: &Keyspace, disk: Option<&Arc<Disk>>) -> Keyspace {
    let cold = disk.map(|disk| Arc::clone(disk) as Arc<dyn ColdHistory>);
    let config = Config { history_budget_bytes: 2000 };
    let mut builder = KeyspaceBuilder::new(of.revision(), of.compact_revision(), config, cold);
    items.for_each(|item| builder.push(item));
    let mut built = builder.finish();
    assert!(built.take_events().is_empty());
    if disk.is_some() {
        built.set_persisted(built.revision());
    }
    built
}

/// Applies the second member's new events to its disk, as a write-behind does.
fn persist(member: &mut Member, disk: &Disk) {
    let events = member.keyspace.take_events();
    let mut stored = disk.0.lock().unwrap();
    stored.extend(events.iter().map(|event| (event.at, StoredVersion::from(event.clone()))));
    drop(stored);
    member.keyspace.set_persisted(member.keyspace.revision());
}

fn run(steps: Vec<Step>) {
    let disk = Arc::new(Disk::default());
    let mut model = Model::new();
    let mut plain = Member { keyspace: Keyspace::new(Config::default(), None), leases: LeaseTable::new() };
    let config = Config { history_budget_bytes: 2000 };
    let mut busy = Member {
        keyspace: Keyspace::new(config, Some(Arc::clone(&disk) as Arc<dyn ColdHistory>)),
        leases: LeaseTable::new(),
    };
    let mut held: Vec<(View, View, Model)> = Vec::new();
    for step in steps {
        let command = match step {
            Step::Execute(command) => command,
            Step::Compact(back) => Command::Compact { revision: Revision(model.revision - back) },
            Step::Range(range) => {
                check_range(plain.keyspace.state(), &model, &range, false);
                check_range(busy.keyspace.state(), &model, &range, false);
                continue;
            }
            Step::Events { back, batch } => {
                check_events(plain.keyspace.state(), &model, model.revision - back, batch, false);
                check_events(busy.keyspace.state(), &model, model.revision - back, batch, false);
                continue;
            }
            Step::Collect(max) => {
                persist(&mut busy, &disk);
                let garbage = busy.keyspace.collect_garbage(max);
                let mut stored = disk.0.lock().unwrap();
                for at in &garbage.removed {
                    assert!(stored.remove(at).is_some(), "{at:?} was removed before");
                }
                busy.keyspace.check(garbage.finished);
                if garbage.finished {
                    assert!(stored.values().map(|s| (s.at, s.tombstone, s.record.clone())).eq(model.items()));
                }
                continue;
            }
            Step::Persist => {
                persist(&mut busy, &disk);
                continue;
            }
            Step::Hash { back } => {
                let revision = Revision((model.revision - back).max(0));
                let hash = plain.keyspace.state().hash(revision);
                assert_eq!(hash, busy.keyspace.state().hash(revision));
                continue;
            }
            Step::Hold => {
                held.push((plain.keyspace.view(), busy.keyspace.view(), model.clone()));
                continue;
            }
            Step::Rebuild => {
                let items: Vec<_> = busy.keyspace.state().items().map(|item| item.unwrap()).collect();
                let before = plain.keyspace.state().hash(Revision(0));
                plain.keyspace.take_events();
                plain.keyspace = rebuild(items.into_iter(), &busy.keyspace, None);
                assert_eq!(plain.keyspace.state().hash(Revision(0)), before);
                check_sums(&plain, &model);
                continue;
            }
            Step::RebuildFromDisk => {
                persist(&mut busy, &disk);
                let stored: Vec<_> = disk.0.lock().unwrap().values().cloned().collect();
                busy.keyspace = rebuild(stored.into_iter(), &busy.keyspace, Some(&disk));
                check_sums(&busy, &model);
                continue;
            }
        };
        let expected = model.execute(&command);
        assert_eq!(plain.execute(&command), expected, "{command:?}");
        assert_eq!(busy.execute(&command), expected, "{command:?}");
        check_sums(&plain, &model);
        check_sums(&busy, &model);
    }
    plain.keyspace.check(false);
    busy.keyspace.check(false);
    check_all(plain.keyspace.state(), &model);
    check_all(busy.keyspace.state(), &model);
    assert_eq!(plain.keyspace.state().hash(Revision(0)), busy.keyspace.state().hash(Revision(0)));
    let now = plain.keyspace;
    for (plain, busy, model) in held {
        check_all(&plain, &model);
        // A picture and what came after it are what came of it.
        if let Ok(later) = now.state().items_since(plain.revision()) {
            let items = plain.items().chain(later).map(|item| item.unwrap());
            assert_eq!(rebuild(items, &now, None).state().hash(Revision(0)), now.state().hash(Revision(0)));
        }
        for back in [0, 1, 3, 10, 30] {
            check_events(&busy, &model, model.revision - back, 5, true);
            check_range(
                &busy,
                &model,
                &Range {
                    range: KeyRange { key: Bytes::from_static(b"a"), range_end: Bytes::from_static(b"\0") },
                    revision: Revision(back),
                    ..Range::default()
                },
                true,
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn members_and_model_agree(steps in proptest::collection::vec(step(), 1..300)) {
        run(steps);
    }
}
