//! The rules that clients know, one table each: what etcd answers, this answers.

use bytes::Bytes;

use super::event::EventKind;
use super::keyspace::{Config, Keyspace};
use super::txn::is_read_only;
use crate::command::*;
use crate::ids::{LeaseId, Revision};
use crate::lease::table::LeaseTable;

fn keys(key: &'static str, range_end: &'static str) -> KeyRange {
    KeyRange { key: Bytes::from_static(key.as_bytes()), range_end: Bytes::from_static(range_end.as_bytes()) }
}

fn put(key: &'static str, value: &'static str) -> Put {
    let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(value.as_bytes()));
    Put { key, value, ..Put::default() }
}

fn all() -> Range {
    Range { range: keys("\0", "\0"), ..Range::default() }
}

struct Store {
    keyspace: Keyspace,
    leases: LeaseTable,
}

impl Store {
    fn new() -> Self {
        Self { keyspace: Keyspace::new(Config::default(), None), leases: LeaseTable::new() }
    }

    /// Keys `a` to `e`, revisions 2 to 6, values in the opposite order; then `b` is written again, twice.
    fn filled() -> Self {
        let mut store = Self::new();
        for (key, value) in
            [("a", "5"), ("b", "4"), ("c", "3"), ("d", "2"), ("e", "1"), ("b", "9"), ("b", "0")]
        {
            store.put(&put(key, value)).unwrap();
        }
        store
    }

    fn put(&mut self, put: &Put) -> Result<PutOutcome, CommandError> {
        self.keyspace.execute_put(&mut self.leases, put)
    }

    fn delete(&mut self, range: KeyRange) -> i64 {
        let delete = DeleteRange { range, prev_kv: false };
        self.keyspace.execute_delete_range(&mut self.leases, &delete).unwrap().deleted
    }

    fn txn(&mut self, compare: Vec<Compare>, success: Vec<TxnOp>) -> Result<TxnOutcome, CommandError> {
        self.keyspace.execute_txn(&mut self.leases, &Txn { compare, success, failure: Vec::new() })
    }

    fn range(&self, range: &Range) -> Result<(String, bool, i64), CommandError> {
        let outcome = self.keyspace.state().range(range)?;
        let names: Vec<_> =
            outcome.records.iter().map(|r| String::from_utf8(r.key().to_vec()).unwrap()).collect();
        Ok((names.concat(), outcome.more, outcome.count))
    }
}

#[test]
fn a_range_answers_what_was_asked() {
    use SortOrder::{Ascend, Descend, None};
    let store = Store::filled();
    let sorted = |sort_order, sort_target, limit| Range { sort_order, sort_target, limit, ..all() };
    let cases = [
        (all(), "abcde", false, 5),
        (Range { range: keys("b", ""), ..all() }, "b", false, 1),
        (Range { range: keys("x", ""), ..all() }, "", false, 0),
        (Range { range: keys("b", "\0"), ..all() }, "bcde", false, 4),
        (Range { range: keys("b", "d"), ..all() }, "bc", false, 2),
        (Range { range: keys("d", "b"), ..all() }, "", false, 0),
        (Range { limit: 2, ..all() }, "ab", true, 5),
        (Range { limit: 5, ..all() }, "abcde", false, 5),
        (Range { count_only: true, ..all() }, "", false, 5),
        (Range { count_only: true, limit: 1, ..all() }, "", false, 5),
        (sorted(Descend, SortTarget::Key, 2), "ed", true, 5),
        (sorted(Ascend, SortTarget::Value, 0), "bedca", false, 5),
        (sorted(Descend, SortTarget::Value, 2), "ac", true, 5),
        (sorted(Descend, SortTarget::Mod, 1), "b", true, 5),
        (sorted(Ascend, SortTarget::Create, 0), "abcde", false, 5),
        (sorted(Descend, SortTarget::Version, 1), "b", true, 5),
        // Without an order the limit comes first, then what it left is sorted.
        (sorted(None, SortTarget::Value, 2), "bc", true, 5),
        (Range { min_mod_revision: Revision(5), ..all() }, "bde", false, 5),
        (Range { max_mod_revision: Revision(5), limit: 1, ..all() }, "a", true, 5),
        (
            Range { min_create_revision: Revision(3), max_create_revision: Revision(4), ..all() },
            "bc",
            false,
            5,
        ),
        (Range { revision: Revision(4), ..all() }, "abc", false, 3),
        (Range { revision: Revision(4), limit: 1, ..all() }, "a", true, 3),
        (Range { revision: Revision(-7), ..all() }, "abcde", false, 5),
        (Range { revision: Revision(1), ..all() }, "", false, 0),
    ];
    for (range, names, more, count) in cases {
        assert_eq!(store.range(&range).unwrap(), (names.to_owned(), more, count), "{range:?}");
    }
    let outcome = store.keyspace.state().range(&Range { keys_only: true, ..all() }).unwrap();
    assert!(outcome.records.iter().all(|r| r.fields().value.is_empty() && r.fields().version > 0));
}

#[test]
fn revisions_outside_what_is_kept_are_refused() {
    let mut store = Store::filled();
    let at = |revision| Range { revision: Revision(revision), ..all() };
    assert_eq!(store.range(&at(9)), Err(CommandError::FutureRevision));
    assert_eq!(store.keyspace.compact_revision(), Revision(-1));
    store.keyspace.compact(Revision(0)).unwrap();
    assert_eq!(store.keyspace.compact(Revision(0)), Err(CommandError::Compacted));
    assert_eq!(store.keyspace.compact(Revision(9)), Err(CommandError::FutureRevision));
    store.keyspace.compact(Revision(5)).unwrap();
    assert_eq!(store.range(&at(4)), Err(CommandError::Compacted));
    assert_eq!(store.range(&at(5)).unwrap().0, "abcd");
    assert!(matches!(store.keyspace.state().events_from(Revision(4)), Err(CommandError::Compacted)));
    assert_eq!(store.keyspace.state().hash(Revision(4)), Err(CommandError::Compacted));
    assert_eq!(store.keyspace.state().hash(Revision(9)), Err(CommandError::FutureRevision));
    // Alone a negative revision means the current one; in a transaction it is checked as it is.
    assert!(store.range(&at(-2)).is_ok());
    for (revision, error) in
        [(4, CommandError::Compacted), (-2, CommandError::Compacted), (9, CommandError::FutureRevision)]
    {
        let ops = vec![TxnOp::Put(put("a", "x")), TxnOp::Range(at(revision))];
        assert_eq!(store.txn(Vec::new(), ops), Err(error));
    }
    assert_eq!(store.keyspace.revision(), Revision(8));
}

#[test]
fn versions_and_revisions_count_as_clients_expect() {
    let mut store = Store::new();
    assert_eq!(store.keyspace.revision(), Revision(1));
    let seen = |store: &Store| {
        let record = store.keyspace.state().get(b"a").unwrap().clone();
        let fields = record.fields();
        (fields.create_revision.0, fields.mod_revision.0, fields.version)
    };
    store.put(&put("a", "1")).unwrap();
    assert_eq!(seen(&store), (2, 2, 1));
    store.put(&put("a", "1")).unwrap();
    assert_eq!(seen(&store), (2, 3, 2));
    assert_eq!(store.delete(keys("x", "")), 0);
    assert_eq!(store.keyspace.revision(), Revision(3));
    assert_eq!(store.delete(keys("a", "")), 1);
    store.put(&put("a", "1")).unwrap();
    assert_eq!(seen(&store), (5, 5, 1));
}

#[test]
fn a_put_keeps_what_it_is_told_to_keep() {
    let mut store = Store::new();
    let (one, two) = (LeaseId(1), LeaseId(2));
    let leased = |lease| Put { lease: Some(lease), ..put("a", "1") };
    assert_eq!(store.put(&leased(one)), Err(CommandError::LeaseNotFound));
    let ignore_value = Put { ignore_value: true, prev_kv: true, ..put("a", "") };
    let ignore_lease = Put { ignore_lease: true, ..put("a", "2") };
    assert_eq!(store.put(&ignore_value), Err(CommandError::KeyNotFound));
    assert_eq!(store.put(&ignore_lease), Err(CommandError::KeyNotFound));
    assert_eq!(store.keyspace.revision(), Revision(1));

    store.leases.grant(one, 10).unwrap();
    store.leases.grant(two, 10).unwrap();
    store.put(&leased(one)).unwrap();
    store.put(&ignore_lease).unwrap();
    let record = store.keyspace.state().get(b"a").unwrap().clone();
    assert_eq!((record.fields().value, record.fields().lease), (&b"2"[..], Some(one)));
    // Keeping the value moves the key to no lease, and the answer tells what was before.
    assert_eq!(store.put(&ignore_value).unwrap().prev, Some(record));
    let record = store.keyspace.state().get(b"a").unwrap().clone();
    assert_eq!((record.fields().value, record.fields().lease), (&b"2"[..], None));
    assert_eq!(store.leases.keys(one).count(), 0);
    store.put(&leased(two)).unwrap();
    assert_eq!(store.leases.keys(two).collect::<Vec<_>>(), [b"a"]);
    store.delete(keys("a", ""));
    assert_eq!(store.leases.keys(two).count(), 0);
}

#[test]
fn revoking_deletes_all_keys_as_one_revision() {
    let mut store = Store::new();
    store.leases.grant(LeaseId(1), 10).unwrap();
    for key in ["c", "a", "b"] {
        store.put(&Put { lease: Some(LeaseId(1)), ..put(key, "") }).unwrap();
    }
    store.keyspace.take_events();
    let revoked = store.leases.revoke(LeaseId(1)).unwrap();
    assert_eq!(store.keyspace.delete_keys(&mut store.leases, &revoked), 3);
    let events = store.keyspace.take_events();
    let seen: Vec<_> = events.iter().map(|e| (e.at.main.0, e.at.sub, e.record.key(), e.kind)).collect();
    let deleted = EventKind::Delete;
    assert_eq!(seen, [(5, 0, &b"a"[..], deleted), (5, 1, b"b", deleted), (5, 2, b"c", deleted)]);
    assert_eq!(store.keyspace.delete_keys(&mut store.leases, &revoked), 0);
    assert_eq!(store.keyspace.revision(), Revision(5));
}

#[test]
fn compares_follow_the_rules_for_missing_keys_and_ranges() {
    use CompareResult::{Equal, Greater, Less, NotEqual};
    let store = Store::filled();
    let value = |v: &'static str| CompareTarget::Value(Bytes::from_static(v.as_bytes()));
    let cases = [
        (keys("a", ""), Equal, CompareTarget::Mod(Revision(2)), true),
        (keys("a", ""), NotEqual, CompareTarget::Mod(Revision(2)), false),
        (keys("b", ""), Greater, CompareTarget::Version(2), true),
        (keys("b", ""), Less, CompareTarget::Version(3), false),
        (keys("b", ""), Equal, CompareTarget::Create(Revision(3)), true),
        (keys("b", ""), Equal, CompareTarget::Lease(LeaseId(0)), true),
        (keys("b", ""), Equal, value("0"), true),
        // A missing key is all zeros, but has no value to compare.
        (keys("x", ""), Equal, CompareTarget::Version(0), true),
        (keys("x", ""), Equal, CompareTarget::Mod(Revision(0)), true),
        (keys("x", ""), Less, CompareTarget::Create(Revision(1)), true),
        (keys("x", ""), Greater, CompareTarget::Lease(LeaseId(0)), false),
        (keys("x", ""), Equal, value(""), false),
        (keys("x", ""), NotEqual, value("q"), false),
        // Every key of a range must satisfy; an empty range is one missing key.
        (keys("a", "c"), Greater, CompareTarget::Version(0), true),
        (keys("a", "c"), Equal, CompareTarget::Version(1), false),
        (keys("c", "\0"), Equal, CompareTarget::Version(1), true),
        (keys("x", "z"), Equal, CompareTarget::Version(0), true),
        (keys("x", "z"), NotEqual, value("q"), false),
    ];
    for (range, result, target, holds) in cases {
        let compare = Compare { range, result, target };
        let txn = Txn { compare: vec![compare.clone()], ..Txn::default() };
        assert!(is_read_only(&txn));
        assert_eq!(store.keyspace.state().read_txn(&txn).unwrap().succeeded, holds, "{compare:?}");
    }
}

#[test]
fn a_transaction_decides_before_it_writes_and_sees_what_it_wrote() {
    let mut store = Store::new();
    let absent =
        Compare { range: keys("a", ""), result: CompareResult::Equal, target: CompareTarget::Version(0) };
    let inner = Txn {
        compare: vec![absent.clone()],
        success: vec![TxnOp::Put(put("b", "inner")), TxnOp::Range(Range { revision: Revision(1), ..all() })],
        failure: Vec::new(),
    };
    let read = Txn { compare: Vec::new(), success: vec![TxnOp::Range(all())], failure: Vec::new() };
    assert!(!is_read_only(&inner) && is_read_only(&read));
    assert!(!is_read_only(&Txn { success: vec![TxnOp::Txn(read)], ..Txn::default() }));
    let ops = vec![
        TxnOp::Put(put("a", "outer")),
        TxnOp::Txn(inner),
        TxnOp::Range(all()),
        TxnOp::DeleteRange(DeleteRange { range: keys("c", "\0"), prev_kv: true }),
    ];
    let outcome = store.txn(vec![absent], ops).unwrap();
    let OpOutcome::Txn(inner) = &outcome.responses[1] else { panic!("{outcome:?}") };
    assert!(inner.succeeded, "the nested compare sees the state before");
    let OpOutcome::Range(before) = &inner.responses[1] else { panic!("{inner:?}") };
    assert_eq!(before.count, 0);
    let OpOutcome::Range(now) = &outcome.responses[2] else { panic!("{outcome:?}") };
    assert_eq!(now.count, 2);
    assert_eq!(store.keyspace.revision(), Revision(2));
    let events = store.keyspace.take_events();
    assert_eq!(events.iter().map(|e| (e.at.main.0, e.at.sub)).collect::<Vec<_>>(), [(2, 0), (2, 1)]);

    // One failing check anywhere on the way and nothing is written.
    let late =
        Txn { success: vec![TxnOp::Put(Put { lease: Some(LeaseId(9)), ..put("z", "") })], ..Txn::default() };
    let ops = vec![TxnOp::Put(put("y", "")), TxnOp::Txn(late)];
    assert_eq!(store.txn(Vec::new(), ops), Err(CommandError::LeaseNotFound));
    assert_eq!(store.keyspace.revision(), Revision(2));
    assert!(store.keyspace.take_events().is_empty());
}

#[test]
fn a_deletion_at_the_compact_revision_stays_visible_to_watches() {
    let mut store = Store::filled();
    assert_eq!(store.delete(keys("c", "")), 1);
    store.put(&put("c", "again")).unwrap();
    store.keyspace.compact(Revision(9)).unwrap();
    let garbage = store.keyspace.collect_garbage(1000);
    assert!(garbage.finished);
    let removed: Vec<_> = garbage.removed.iter().map(|at| at.main.0).collect();
    assert_eq!(removed, [3, 7, 4], "superseded versions of b and c");
    let events = store.keyspace.state().events_from(Revision(9)).unwrap().next_batch(10, true).unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!((events[0].kind, &events[0].previous), (EventKind::Delete, &None));
    store.keyspace.compact(Revision(10)).unwrap();
    let garbage = store.keyspace.collect_garbage(1000);
    assert_eq!(garbage.removed.iter().map(|at| at.main.0).collect::<Vec<_>>(), [9], "the tombstone");
}

#[test]
fn a_hash_tells_keyspaces_apart() {
    let hash = |fill: &dyn Fn(&mut Store)| {
        let mut store = Store::filled();
        fill(&mut store);
        store.keyspace.state().hash(Revision(0)).unwrap().hash
    };
    let same = hash(&|_| {});
    assert_eq!(same, hash(&|_| {}));
    let hashes = [
        same,
        hash(&|store| drop(store.put(&put("a", "1")))),
        hash(&|store| drop(store.put(&put("a", "2")))),
        hash(&|store| drop(store.put(&put("b", "1")))),
        hash(&|store| assert_eq!(store.delete(keys("a", "")), 1)),
    ];
    assert!(hashes.iter().enumerate().all(|(at, hash)| !hashes[..at].contains(hash)));
}
