//! What every record store must do, run against each.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ids::Revision;
use crate::snapshot::testing::{state, version};

fn at(main: i64, sub: u32) -> SubRevision {
    SubRevision { main: Revision(main), sub }
}

fn all(store: &dyn RecordStore) -> Vec<StoredVersion> {
    let mut found = vec![];
    store.load(&mut |v| found.push(v)).unwrap();
    found
}

fn some(store: &dyn RecordStore, from: SubRevision, limit: usize) -> Vec<StoredVersion> {
    let mut found = vec![];
    let visit = &mut |v| {
        found.push(v);
        if found.len() == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    };
    store.scan(from, visit).unwrap();
    found
}

fn stores() -> Vec<(tempfile::TempDir, Box<dyn RecordStore>)> {
    let dir = tempfile::tempdir().unwrap();
    let sled = SledRecords::open(dir.path(), SledOptions::default(), &mut |_| {}).unwrap().0;
    vec![(dir, Box::new(sled)), (tempfile::tempdir().unwrap(), Box::new(MemoryRecords::default()))]
}

fn put(mains: std::ops::Range<i64>, index: u64) -> RecordBatch {
    let put = mains.flat_map(|m| [version(m, 0, b"value"), version(m, 1, b"")]).collect();
    RecordBatch { put, remove: vec![], meta: Some(state(index)) }
}

#[test]
fn what_was_put_is_read_in_order() {
    for (_dir, store) in stores() {
        assert_eq!(store.meta().unwrap(), None);
        assert!(all(&*store).is_empty());
        store.apply(put(2..1000, 1)).unwrap();
        store.flush().unwrap();
        store.apply(put(1000..2000, 2)).unwrap();
        store.flush().unwrap();
        assert_eq!(store.meta().unwrap(), Some(state(2)));
        assert_eq!(all(&*store), put(2..2000, 0).put);
        assert_eq!(some(&*store, at(500, 1), 3), put(500..502, 0).put[1..]);
        assert_eq!(some(&*store, at(1999, 0), 9), put(1999..2000, 0).put);
        assert_eq!(store.get(at(7, 1)).unwrap(), Some(version(7, 1, b"")));
        assert_eq!(store.get(at(7, 2)).unwrap(), None);
        assert!(store.size_on_disk().is_ok());
        store.close().unwrap();
        assert!(matches!(store.get(at(7, 1)), Err(RecordsError::Closed)));
        assert!(matches!(store.clear(), Err(RecordsError::Closed)));
    }
}

#[test]
fn removed_records_are_gone() {
    for (_dir, store) in stores() {
        store.apply(put(2..1000, 1)).unwrap();
        let remove = (2..990).flat_map(|m| [at(m, 0), at(m, 1), at(m, 2)]).collect();
        store.apply(RecordBatch { put: vec![], remove, meta: Some(state(2)) }).unwrap();
        store.flush().unwrap();
        assert_eq!(all(&*store), put(990..1000, 0).put);
        // Put and removed in one batch.
        let mut both = put(1000..1002, 3);
        both.remove.push(at(1001, 0));
        store.apply(both).unwrap();
        assert_eq!(store.get(at(1001, 0)).unwrap(), None);
        assert!(store.get(at(1001, 1)).unwrap().is_some());
    }
}

#[test]
fn writing_the_same_again_changes_nothing() {
    for (_dir, store) in stores() {
        store.apply(put(2..50, 1)).unwrap();
        store.apply(put(20..60, 2)).unwrap();
        store.flush().unwrap();
        assert_eq!(all(&*store), put(2..60, 0).put);
    }
}

#[test]
fn a_store_that_is_being_filled_has_no_state() {
    for (_dir, store) in stores() {
        store.apply(put(2..50, 1)).unwrap();
        store.apply(RecordBatch { meta: None, ..put(50..60, 0) }).unwrap();
        store.flush().unwrap();
        assert_eq!(store.meta().unwrap(), None);
        store.apply(put(60..61, 3)).unwrap();
        assert_eq!(store.meta().unwrap(), Some(state(3)));
    }
}

#[test]
fn clear_removes_everything() {
    for (_dir, store) in stores() {
        store.apply(put(2..50, 1)).unwrap();
        store.flush().unwrap();
        store.clear().unwrap();
        assert_eq!(store.meta().unwrap(), None);
        assert!(all(&*store).is_empty());
        store.apply(put(7..9, 2)).unwrap();
        store.flush().unwrap();
        assert_eq!(all(&*store), put(7..9, 0).put);
    }
}

#[test]
fn readers_run_beside_the_writer() {
    for (_dir, store) in stores() {
        let store: Arc<dyn RecordStore> = store.into();
        store.apply(put(2..300, 1)).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for main in 2..300 {
                        assert_eq!(store.get(at(main, 0)).unwrap(), Some(version(main, 0, b"value")));
                        let two = some(&*store, at(main, 0), 2);
                        assert_eq!(two, put(main..main + 1, 0).put);
                    }
                });
            }
            for n in 0..20 {
                store.apply(put(300 + n * 10..310 + n * 10, 2)).unwrap();
                store.flush().unwrap();
            }
        });
        assert_eq!(all(&*store), put(2..500, 0).put);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Remove(u8, u8),
    Flush,
    Close,
    Drop,
    Clear,
    Shrink(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u8..).prop_map(Step::Put),
        4 => (0u8.., 1u8..).prop_map(|(from, len)| Step::Remove(from, len)),
        4 => Just(Step::Flush),
        1 => Just(Step::Close),
        1 => Just(Step::Drop),
        1 => Just(Step::Clear),
        4 => (1u8..6).prop_map(Step::Shrink),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any history of writes, restarts and clears reads as the model does.
    #[test]
    fn sled_does_what_a_map_does(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        // Opened anew after nearly every flush, written anew for next to nothing.
        let rewrite = RewriteRule { worth_bytes: 0, reserve_bytes: 0, step_bytes: 5_000, ..RewriteRule::default() };
        let options = SledOptions { reopen_bytes: 20_000, rewrite, ..SledOptions::default() };
        let (mut store, opened) = SledRecords::open(dir.path(), options, &mut |_| {}).unwrap();
        prop_assert_eq!(opened, Opened::New);
        let mut model = BTreeMap::new();
        let mut meta = None;
        let mut main = 2;
        for (index, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(count) => {
                    let batch = put(main..main + i64::from(count), index as u64);
                    main += i64::from(count);
                    model.extend(batch.put.iter().map(|v| (v.at, v.clone())));
                    meta = batch.meta.clone();
                    store.apply(batch).unwrap();
                }
                Step::Remove(from, len) => {
                    let from = main * i64::from(from) / 256;
                    let remove: Vec<_> = (from..from + i64::from(len)).map(|m| at(m, 0)).collect();
                    remove.iter().for_each(|at| { model.remove(at); });
                    meta = Some(state(index as u64));
                    store.apply(RecordBatch { put: vec![], remove, meta: meta.clone() }).unwrap();
                }
                Step::Flush => store.flush().unwrap(),
                Step::Close | Step::Drop => {
                    let expected = if matches!(step, Step::Close) { Opened::Clean } else { Opened::Unclean };
                    if matches!(step, Step::Close) {
                        store.close().unwrap();
                    }
                    drop(store);
                    let mut found = vec![];
                    let visit = &mut |v| found.push(v);
                    let (again, opened) = SledRecords::open(dir.path(), options, visit).unwrap();
                    prop_assert_eq!(opened, expected);
                    prop_assert_eq!(found, model.values().cloned().collect::<Vec<_>>());
                    store = again;
                }
                Step::Shrink(parts) => {
                    for _ in 0..parts {
                        let shrink = store.shrink().unwrap();
                        prop_assert!(!matches!(shrink, Shrink::GaveUp { .. }), "{:?}", shrink);
                    }
                }
                Step::Clear => {
                    store.clear().unwrap();
                    model.clear();
                    meta = None;
                }
            }
            prop_assert_eq!(store.meta().unwrap(), meta.clone());
        }
        prop_assert_eq!(all(&store), model.into_values().collect::<Vec<_>>());
    }
}
