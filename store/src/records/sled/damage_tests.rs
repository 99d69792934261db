//! Damaged files: found, or harmless; never wrong data, never a panic, never an end without end.

use proptest::prelude::*;

use super::*;
use crate::ids::Revision;
use crate::snapshot::testing::{state, version};

const FLUSHES: u64 = 12;

fn options() -> SledOptions {
    SledOptions { stall: Duration::from_secs(1), ..SledOptions::default() }
}

/// What the store holds after flush number `n`, and the batch that made it.
fn batch(n: u64) -> RecordBatch {
    let from = 2 + n as i64 * 100;
    let put = (from..from + 100).map(|m| version(m, 0, &[m as u8; 60])).collect();
    let remove = (from - 300..from - 220).map(|m| SubRevision { main: Revision(m), sub: 0 }).collect();
    RecordBatch { put, remove, meta: Some(state(n)) }
}

fn model(upto: u64) -> Vec<StoredVersion> {
    let model = super::super::memory::MemoryRecords::default();
    (0..=upto).for_each(|n| model.apply(batch(n)).unwrap());
    all(&model).unwrap()
}

fn all(store: &dyn RecordStore) -> Result<Vec<StoredVersion>, RecordsError> {
    let mut found = vec![];
    store.load(&mut |v| found.push(v)).map(|()| found)
}

fn write(dir: &Path, close: bool) {
    let store = SledRecords::open(dir, options(), &mut |_| {}).unwrap().0;
    for n in 0..FLUSHES {
        store.apply(batch(n)).unwrap();
        store.flush().unwrap();
    }
    if close {
        store.close().unwrap();
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    // Only what holds something can be damaged.
    found.retain(|p| fs::metadata(p).unwrap().len() > 0);
    found.sort_unstable();
    found
}

/// Opens what was damaged: it must be thrown away, refused, or exactly the state after one of the flushes.
fn open_damaged(dir: &Path) -> Result<(), TestCaseError> {
    let mut handed_out = vec![];
    let (store, opened) = SledRecords::open(dir, options(), &mut |v| handed_out.push(v)).unwrap();
    let meta = store.meta().unwrap();
    match opened {
        Opened::Clean | Opened::Unclean => {
            let found = all(&store).unwrap();
            prop_assert!(handed_out == found);
            match meta {
                Some(meta) => {
                    prop_assert!(meta.applied_index < FLUSHES);
                    prop_assert_eq!(&meta, &state(meta.applied_index));
                    prop_assert!(found == model(meta.applied_index), "wrong data");
                }
                None => prop_assert!(found.is_empty()),
            }
            prop_assert!(
                opened == Opened::Unclean || found == model(FLUSHES - 1),
                "a clean one lost something"
            );
        }
        Opened::New | Opened::Discarded { .. } => {
            prop_assert_eq!(meta, None);
            prop_assert!(all(&store).unwrap().is_empty());
        }
    }
    // It can be used again at once.
    store.clear().unwrap();
    store.apply(batch(0)).unwrap();
    store.flush().unwrap();
    prop_assert_eq!(all(&store).unwrap(), model(0));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, max_shrink_iters: 0, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_byte_is_found_or_harmless(
        close: bool, file: prop::sample::Index, at: prop::sample::Index, change in 1u8..,
    ) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), close);
        let files = files(dir.path());
        let path = file.get(&files);
        let mut bytes = fs::read(path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        fs::write(path, bytes).unwrap();
        open_damaged(dir.path())?;
    }

    #[test]
    fn a_cut_file_is_found_or_harmless(close: bool, file: prop::sample::Index, at: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), close);
        let files = files(dir.path());
        let path = file.get(&files);
        let len = fs::metadata(path).unwrap().len() as usize;
        File::options().write(true).open(path).unwrap().set_len(at.index(len) as u64).unwrap();
        open_damaged(dir.path())?;
    }

    #[test]
    fn a_lost_file_is_found_or_harmless(close: bool, file: prop::sample::Index) {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), close);
        let files = files(dir.path());
        fs::remove_file(file.get(&files)).unwrap();
        open_damaged(dir.path())?;
    }
}

/// Metadata of an earlier time over data of a later one: sled itself runs in circles on this.
#[test]
fn rolled_back_metadata_is_found() {
    for upto in [1, 3, 8] {
        let dir = tempfile::tempdir().unwrap();
        let saved = tempfile::tempdir().unwrap();
        let store = SledRecords::open(dir.path(), options(), &mut |_| {}).unwrap().0;
        let metadata = generation_path(dir.path(), 1).join("metadata");
        for n in 0..FLUSHES {
            store.apply(batch(n)).unwrap();
            store.flush().unwrap();
            if n == upto {
                for path in files(&metadata) {
                    fs::copy(&path, saved.path().join(path.file_name().unwrap())).unwrap();
                }
            }
        }
        drop(store);
        files(&metadata).iter().for_each(|p| fs::remove_file(p).unwrap());
        for path in files(saved.path()) {
            fs::copy(&path, metadata.join(path.file_name().unwrap())).unwrap();
        }
        open_damaged(dir.path()).unwrap();
    }
}

#[test]
fn an_opening_that_did_not_end_is_not_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), false);
    Marker::Opening(1).write(dir.path()).unwrap();
    let (store, opened) = SledRecords::open(dir.path(), options(), &mut |_| {}).unwrap();
    assert_eq!(opened, Opened::Discarded { why: "the last attempt to open it did not end".to_owned() });
    assert_eq!(store.meta().unwrap(), None);
}

#[test]
fn leftovers_of_a_clear_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), false);
    fs::create_dir(generation_path(dir.path(), 7)).unwrap();
    let (_store, opened) = SledRecords::open(dir.path(), options(), &mut |_| {}).unwrap();
    assert_eq!(opened, Opened::Unclean);
    assert!(!generation_path(dir.path(), 7).exists());
}

#[test]
fn a_second_user_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = SledRecords::open(dir.path(), options(), &mut |_| {}).unwrap();
    store.apply(batch(0)).unwrap();
    store.flush().unwrap();
    let second = SledRecords::open(dir.path(), options(), &mut |_| {});
    assert!(matches!(second, Err(RecordsError::Failed { what, .. }) if what.contains("another process")));
    assert_eq!(all(&store).unwrap(), model(0));
}
