//! A rewrite gives space back, loses nothing whenever it is interrupted, and leaves nothing behind when it fails.

use std::collections::BTreeMap;

use rand::RngCore as _;

use super::*;
use crate::ids::Revision;
use crate::snapshot::testing::{state, version};

const VALUE_BYTES: usize = 8 << 10;
/// Records at first; of so many neighbours one stays.
const FILLED: i64 = 1200;
const STAYS: i64 = 4;

fn options() -> SledOptions {
    let rewrite = RewriteRule {
        worth_bytes: 1 << 20,
        reserve_bytes: 0,
        // Multiplied, since a leaf holds more.
        step_bytes: VALUE_BYTES as u64,
        retry_after: Duration::from_secs(3600),
    };
    // The copy too is opened anew in the middle.
    SledOptions { rewrite, reopen_bytes: 30 * VALUE_BYTES as u64, ..SledOptions::default() }
}

fn at(main: i64) -> SubRevision {
    SubRevision { main: Revision(main), sub: 0 }
}

/// One that no compression makes smaller.
fn random(main: i64) -> StoredVersion {
    let mut value = vec![0; VALUE_BYTES];
    rand::rng().fill_bytes(&mut value);
    version(main, 0, &value)
}

/// A store and what must be in it.
struct Tested {
    dir: tempfile::TempDir,
    store: SledRecords,
    model: BTreeMap<SubRevision, StoredVersion>,
    index: u64,
}

impl Tested {
    /// Full at first, nearly empty then.
    fn new(options: SledOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let filling = SledOptions { reopen_bytes: u64::MAX, ..options };
        let store = SledRecords::open(dir.path(), filling, &mut |_| {}).unwrap().0;
        let mut tested = Self { dir, store, model: BTreeMap::new(), index: 0 };
        for from in (2..FILLED).step_by(400) {
            tested.write((from..from + 400).map(random).collect(), vec![]);
        }
        tested.write(vec![], (2..FILLED + 2).filter(|main| main % STAYS != 0).map(at).collect());
        tested.store.options = options;
        tested
    }

    fn write(&mut self, put: Vec<StoredVersion>, remove: Vec<SubRevision>) {
        self.index += 1;
        self.model.extend(put.iter().map(|v| (v.at, v.clone())));
        remove.iter().for_each(|at| drop(self.model.remove(at)));
        self.store.apply(RecordBatch { put, remove, meta: Some(state(self.index)) }).unwrap();
        self.store.flush().unwrap();
    }

    fn expected(&self) -> Vec<StoredVersion> {
        self.model.values().cloned().collect()
    }

    fn check(&self) {
        let mut found = vec![];
        self.store.load(&mut |v| found.push(v)).unwrap();
        assert!(found == self.expected(), "{} records instead of {}", found.len(), self.model.len());
        assert_eq!(self.store.meta().unwrap(), Some(state(self.index)));
    }

    /// The directory as a crash would leave it now.
    fn crashed(&self) -> tempfile::TempDir {
        let image = tempfile::tempdir().unwrap();
        copy(self.dir.path(), image.path());
        image
    }

    /// What a start finds in a crashed directory.
    fn check_crashed(&self, image: &Path, generation: u64) {
        let mut found = vec![];
        let (store, opened) = SledRecords::open(image, options(), &mut |v| found.push(v)).unwrap();
        assert_eq!(opened, Opened::Unclean);
        assert!(found == self.expected(), "{} records instead of {}", found.len(), self.model.len());
        assert_eq!(store.meta().unwrap(), Some(state(self.index)));
        assert_eq!(generations(image), [generation]);
    }

    fn size(&self) -> u64 {
        self.store.size_on_disk().unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(&to).unwrap();
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn generations(dir: &Path) -> Vec<u64> {
    let names = fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<u64> = names.filter_map(|n| n.strip_prefix("records-")?.parse().ok()).collect();
    found.sort_unstable();
    found
}

#[test]
fn space_comes_back_while_batches_go_on() {
    let mut tested = Tested::new(options());
    let full = tested.size();
    let mut main = FILLED + 1000;
    let mut parts = 0;
    let after = loop {
        match tested.store.shrink().unwrap() {
            Shrink::More => parts += 1,
            Shrink::Done { before_bytes, after_bytes } => {
                assert!(
                    before_bytes <= full && after_bytes + (1 << 20) < before_bytes,
                    "{after_bytes} of {full}"
                );
                break after_bytes;
            }
            other => panic!("{other:?}"),
        }
        // In each batch something at the end and among what was copied already and what was not.
        let again = tested.model.values().nth(parts as usize).cloned();
        let put = (main..main + 3).map(random).chain(again).chain([random(parts * STAYS + 1)]);
        tested
            .write(put.collect(), vec![at(main - 2), at(main - 5), at((2 * parts + 5) * STAYS), at(FILLED)]);
        main += 3;
        tested.check();
    };
    assert!(parts > 5, "{parts} parts");
    tested.check();
    // Beside the lock and the marker.
    assert!(tested.size() - after < 64 << 10, "{} of {full}", tested.size());
    assert_eq!(generations(tested.dir.path()), [2]);

    tested.write(vec![random(main)], vec![]);
    tested.check_crashed(tested.crashed().path(), 2);
    tested.store.close().unwrap();
    let Tested { dir, store, model, index } = tested;
    drop(store);
    let (store, opened) = SledRecords::open(dir.path(), options(), &mut |_| {}).unwrap();
    assert_eq!(opened, Opened::Clean);
    Tested { dir, store, model, index }.check();
}

#[test]
fn a_crash_at_any_step_leaves_one_whole_generation() {
    let mut tested = Tested::new(options());
    let mut main = FILLED + 1000;
    let mut before = tested.crashed();
    while tested.store.shrink().unwrap() == Shrink::More {
        before = tested.crashed();
        tested.check_crashed(before.path(), 1);
        tested.write((main..main + 2).map(random).collect(), vec![at((main - FILLED) * STAYS / 8)]);
        main += 2;
        // The copy has not been flushed since it followed.
        before = tested.crashed();
        tested.check_crashed(tested.crashed().path(), 1);
    }
    let after = tested.crashed();
    tested.check_crashed(tested.crashed().path(), 2);

    // Between the steps of the switch: the copy is whole, and the marker has moved or not; the old one is there.
    for (marked, name) in [(1, "before"), (2, "behind")] {
        println!("{name} the marker");
        let image = tempfile::tempdir().unwrap();
        copy(after.path(), image.path());
        let old = generation_path(image.path(), 1);
        fs::create_dir(&old).unwrap();
        copy(&generation_path(before.path(), 1), &old);
        Marker::Open(marked).write(image.path()).unwrap();
        tested.check_crashed(image.path(), marked);
    }
}

#[test]
fn a_damaged_record_ends_the_rewrite_and_nothing_else() {
    let mut tested = Tested::new(options());
    let last = encode_key(at(FILLED - STAYS));
    let whole = tested.store.with(|db| db.insert(last, b"rubbish").map_err(io_fault)).unwrap().unwrap();
    let mut ended = tested.store.shrink().unwrap();
    assert_eq!(ended, Shrink::More);
    while ended == Shrink::More {
        ended = tested.store.shrink().unwrap();
    }
    assert!(matches!(&ended, Shrink::GaveUp { why } if why.contains("damaged")), "{ended:?}");
    assert_eq!(generations(tested.dir.path()), [1]);
    tested.store.with(|db| db.insert(last, whole).map_err(io_fault)).unwrap();
    tested.write(vec![random(FILLED + 1000)], vec![]);
    tested.check();
    assert_eq!(tested.store.shrink().unwrap(), Shrink::Idle, "not again at once");
    tested.store.options.rewrite.retry_after = Duration::ZERO;
    while tested.store.shrink().unwrap() == Shrink::More {}
    assert_eq!(generations(tested.dir.path()), [2]);
    tested.check();
}

/// From some moment on, every file of the copy is one to which nothing can be written.
#[test]
fn a_disk_that_fails_the_copy_leaves_the_old_records_in_use() {
    let mut tested = Tested::new(options());
    for _ in 0..3 {
        assert_eq!(tested.store.shrink().unwrap(), Shrink::More);
    }
    // They are opened anew every few parts.
    for entry in fs::read_dir(generation_path(tested.dir.path(), 2).join("slabs")).unwrap() {
        let path = entry.unwrap().path();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    }
    let mut ended = Shrink::More;
    while ended == Shrink::More {
        ended = tested.store.shrink().unwrap();
    }
    assert!(matches!(ended, Shrink::GaveUp { .. }), "{ended:?}");
    assert_eq!(generations(tested.dir.path()), [1]);
    tested.write((FILLED + 1000..FILLED + 1020).map(random).collect(), vec![at(STAYS)]);
    tested.check();
    tested.check_crashed(tested.crashed().path(), 1);
    tested.store.options.rewrite.retry_after = Duration::ZERO;
    while tested.store.shrink().unwrap() == Shrink::More {}
    assert_eq!(generations(tested.dir.path()), [2]);
    tested.check();
}

#[test]
fn a_copy_that_cannot_be_begun_or_has_no_room_is_given_up() {
    let mut tested = Tested::new(options());
    tested.store.options.rewrite.reserve_bytes = u64::MAX;
    assert_eq!(tested.store.shrink().unwrap(), Shrink::Idle);
    tested.store.options.rewrite.reserve_bytes = 0;

    let in_the_way = generation_path(tested.dir.path(), 2);
    fs::write(&in_the_way, "").unwrap();
    assert!(matches!(tested.store.shrink().unwrap(), Shrink::GaveUp { .. }));
    assert_eq!(tested.store.shrink().unwrap(), Shrink::Idle, "not again at once");
    fs::remove_file(in_the_way).unwrap();

    tested.store.options.rewrite.retry_after = Duration::ZERO;
    assert_eq!(tested.store.shrink().unwrap(), Shrink::More);
    assert_eq!(tested.store.shrink().unwrap(), Shrink::More);
    tested.store.options.rewrite.reserve_bytes = u64::MAX;
    let ended = tested.store.shrink().unwrap();
    assert!(matches!(&ended, Shrink::GaveUp { why } if why.contains("left")), "{ended:?}");
    assert_eq!(generations(tested.dir.path()), [1]);
    tested.check();
}

#[test]
fn a_copy_is_given_up_by_clear_close_and_drop() {
    let begun = || {
        let tested = Tested::new(options());
        assert_eq!(tested.store.shrink().unwrap(), Shrink::More);
        assert_eq!(tested.store.shrink().unwrap(), Shrink::More);
        assert_eq!(generations(tested.dir.path()), [1, 2]);
        tested
    };
    let tested = begun();
    tested.store.close().unwrap();
    assert_eq!(generations(tested.dir.path()), [1]);
    assert!(matches!(tested.store.shrink(), Err(RecordsError::Closed)));

    let Tested { dir, store, .. } = begun();
    drop(store);
    assert_eq!(generations(dir.path()), [1]);

    let mut tested = begun();
    tested.store.clear().unwrap();
    tested.model.clear();
    assert_eq!(generations(tested.dir.path()), [2]);
    tested.write((2..30).map(random).collect(), vec![]);
    tested.check();
    assert_eq!(tested.store.shrink().unwrap(), Shrink::Idle);
}

#[test]
fn readers_notice_nothing() {
    let tested = Tested::new(options());
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::SeqCst) {
                    for (at, expected) in &tested.model {
                        assert_eq!(tested.store.get(*at).unwrap().as_ref(), Some(expected));
                        let mut next = None;
                        let visit = &mut |version| {
                            next = Some(version);
                            ControlFlow::Break(())
                        };
                        tested.store.scan(*at, visit).unwrap();
                        assert_eq!(next.as_ref(), Some(expected));
                    }
                }
            });
        }
        while tested.store.shrink().unwrap() == Shrink::More {}
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert_eq!(generations(tested.dir.path()), [2]);
    tested.check();
    assert_eq!(tested.store.shrink().unwrap(), Shrink::Idle, "nothing is left to give back");
}
