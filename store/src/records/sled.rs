//! Records in sled. Opening reads everything, which the state machine needs anyway, checks all of it, and
//! throws away what does not hold.

use std::fs::{self, File};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustix::fs::{FlockOperation, flock};

use super::engine::{Db, Engine, LEAF_FANOUT, guarded};
use super::marker::{Marker, fingerprint, generation_path, remove_generations_but};
use super::value::{
    KEY_LEN, META_KEY, Meta, Totals, decode, decode_meta, encode_key, encode_meta, encode_value,
};
use super::{RecordBatch, RecordStore, RecordsError};
use crate::ids::{Revision, SubRevision};
use crate::stored::{StateMeta, StoredVersion};

/// Cache while opening: nearly none, so that every leaf is read from disk each time. That is what lets a
/// reader that runs in circles be stopped.
const OPENING_CACHE_BYTES: usize = 4096;
/// Records that are handed from a reading thread to the opening one in one piece.
const CHUNK: usize = 512;
/// Threads that read and check while opening.
const READERS: usize = 2;
/// Stretches of history that they take in turns, so that both end at about the same time.
const STRETCHES: i64 = 32;

/// How the engine is used.
#[derive(Clone, Copy, Debug)]
pub struct SledOptions {
    /// Leaves kept in memory for reading.
    pub cache_bytes: usize,
    /// What was written stays in memory until the engine is opened anew, which happens when about so many bytes
    /// stay, and makes reads wait for some ten milliseconds.
    pub reopen_bytes: u64,
    /// Opening is given up when no further record is found for so long.
    pub stall: Duration,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self { cache_bytes: 32 << 20, reopen_bytes: 64 << 20, stall: Duration::from_secs(20) }
    }
}

/// What opening found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing; the store is new.
    New,
    /// A store that was closed.
    Clean,
    /// A store that was not closed, and is as it was after one of its flushes.
    Unclean,
    /// A store that cannot be trusted. It was thrown away, this one is empty.
    Discarded {
        /// What was wrong with it.
        why: String,
    },
}

/// A [`RecordStore`] in a directory of its own.
pub struct SledRecords {
    dir: PathBuf,
    options: SledOptions,
    state: RwLock<State>,
    /// Held by whoever writes.
    writing: Mutex<Writing>,
    /// Keeps other processes out. Sled has a lock too, but one that it would take a refusal from for damage.
    lock: File,
}

enum State {
    Working(Engine),
    Failed(String),
    Closed,
}

struct Writing {
    generation: u64,
    totals: Totals,
    /// About what the engine keeps in memory of what was written since it was opened.
    kept_bytes: u64,
    /// Removals since the last flush, and the bytes they removed.
    removed: (u64, u64),
}

impl Writing {
    fn new(generation: u64, totals: Totals) -> Self {
        Self { generation, totals, kept_bytes: 0, removed: (0, 0) }
    }

    /// A removal keeps its whole leaf in memory: at most one for each removal, and for each leaf flushed.
    fn count_removals(&mut self, leaves_flushed: u64) {
        let (records, bytes) = std::mem::take(&mut self.removed);
        let leaf_bytes = bytes / records.max(1) * LEAF_FANOUT as u64;
        self.kept_bytes += records.min(leaves_flushed) * leaf_bytes;
    }
}

impl SledRecords {
    /// Opens or creates a store and hands out everything in it, in order, once it was read and checked.
    /// What was handed out must be thrown away unless the answer is `Clean` or `Unclean`.
    ///
    /// # Errors
    /// When the disk fails or another process uses the directory. Damage is no error, see
    /// [`Opened::Discarded`].
    pub fn open(
        dir: &Path,
        options: SledOptions,
        visit: &mut dyn FnMut(StoredVersion),
    ) -> Result<(Self, Opened), RecordsError> {
        let failed = |e: io::Error| failed(dir, e.to_string());
        fs::create_dir_all(dir).map_err(failed)?;
        let lock = File::create(dir.join("lock")).map_err(failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| failed(io::Error::other("another process uses it")))?;
        let marker = Marker::read(dir).map_err(failed)?;
        let marked = marker.as_ref().map(Marker::generation);
        let found = remove_generations_but(dir, marked).map_err(failed)?;
        let Trusted { generation, engine, totals, opened } =
            match trusted(dir, marker, &found, options, visit)? {
                Ok(trusted) => trusted,
                Err(why) => {
                    remove_generations_but(dir, None).map_err(failed)?;
                    let generation = found.iter().copied().chain(marked).max().unwrap_or(0) + 1;
                    let engine = begin(dir, generation, options)?;
                    let opened = if found.is_empty() { Opened::New } else { Opened::Discarded { why } };
                    Trusted { generation, engine, totals: Totals::default(), opened }
                }
            };
        let store = Self {
            dir: dir.to_owned(),
            options,
            state: RwLock::new(State::Working(engine)),
            writing: Mutex::new(Writing::new(generation, totals)),
            lock,
        };
        Ok((store, opened))
    }

    /// Reads or writes with the engine. A failure is for good.
    fn with<T>(&self, work: impl FnOnce(&Db) -> Result<T, Fault>) -> Result<T, RecordsError> {
        let result = {
            let state = self.state.read();
            let engine = match &*state {
                State::Working(engine) => engine,
                State::Failed(what) => return Err(failed(&self.dir, what.clone())),
                State::Closed => return Err(RecordsError::Closed),
            };
            let mut damage = None;
            let result = engine.with(|db| match work(db) {
                Ok(value) => Ok(Some(value)),
                Err(Fault::Damage(what)) => {
                    damage = Some(what);
                    Ok(None)
                }
                Err(Fault::Engine(e)) => Err(e),
            });
            result.map(|value| value.ok_or_else(|| damage.unwrap_or_default()))
        };
        match result {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(what)) => Err(RecordsError::Damaged { dir: self.dir.display().to_string(), what }),
            Err(what) => Err(self.fail(what)),
        }
    }

    fn fail(&self, what: String) -> RecordsError {
        let mut state = self.state.write();
        if let State::Working(engine) = std::mem::replace(&mut *state, State::Failed(what.clone())) {
            engine.abandon();
        }
        failed(&self.dir, what)
    }

    /// Drops what the engine holds in memory. Everything must be flushed.
    fn reopen(&self, writing: &mut MutexGuard<'_, Writing>) -> Result<(), RecordsError> {
        let path = generation_path(&self.dir, writing.generation);
        let what = {
            let mut state = self.state.write();
            let State::Working(engine) = std::mem::replace(&mut *state, State::Closed) else {
                return Err(RecordsError::Closed);
            };
            match engine.shut().and_then(|()| Engine::open(&path, self.options.cache_bytes)) {
                Ok(engine) => {
                    *state = State::Working(engine);
                    writing.kept_bytes = 0;
                    return Ok(());
                }
                Err(what) => what,
            }
        };
        Err(self.fail(what))
    }
}

impl RecordStore for SledRecords {
    fn apply(&self, mut batch: RecordBatch) -> Result<(), RecordsError> {
        batch.cancel_out();
        let mut writing = self.writing.lock();
        let mut totals = writing.totals;
        let mut bytes = 0;
        let mut removed = writing.removed;
        self.with(|db| {
            // Removed one by one, since a batch leaves emptied leaves behind for ever. Still atomic with the
            // batch: nobody else flushes in between.
            for at in &batch.remove {
                if let Some(value) = db.remove(encode_key(*at)).map_err(io_fault)? {
                    totals.remove(*at);
                    removed = (removed.0 + 1, removed.1 + (KEY_LEN + value.len()) as u64);
                }
            }
            let mut engine_batch = ::sled::Batch::default();
            let mut value = vec![];
            for version in &batch.put {
                let key = encode_key(version.at);
                if version.at > totals.high || !db.contains_key(key).map_err(io_fault)? {
                    totals.add(version.at);
                }
                encode_value(&key, version, &mut value);
                bytes += (KEY_LEN + value.len()) as u64;
                engine_batch.insert(&key[..], &value[..]);
            }
            let meta = encode_meta(&Meta { totals, state: batch.meta }).map_err(Fault::Engine)?;
            engine_batch.insert(&META_KEY[..], meta);
            db.apply_batch(engine_batch).map_err(io_fault)
        })?;
        writing.totals = totals;
        writing.removed = removed;
        writing.kept_bytes += bytes;
        Ok(())
    }

    fn flush(&self) -> Result<(), RecordsError> {
        let mut writing = self.writing.lock();
        let leaves = self.with(|db| db.flush().map(|stats| stats.objects_flushed).map_err(io_fault))?;
        writing.count_removals(leaves);
        if writing.kept_bytes >= self.options.reopen_bytes { self.reopen(&mut writing) } else { Ok(()) }
    }

    fn load(&self, visit: &mut dyn FnMut(StoredVersion)) -> Result<(), RecordsError> {
        self.with(|db| {
            let meta = read_meta(db)?.unwrap_or_default();
            let read = read_stretch(db, &(None, None), visit)?;
            nothing_is_missing(&meta, &read)
        })
    }

    fn scan(
        &self,
        from: SubRevision,
        visit: &mut dyn FnMut(StoredVersion) -> ControlFlow<()>,
    ) -> Result<(), RecordsError> {
        self.with(|db| {
            for entry in db.range::<[u8; KEY_LEN], _>((Bound::Included(encode_key(from)), Bound::Unbounded)) {
                let (key, value) = entry.map_err(io_fault)?;
                if visit(decode(&key, &value).map_err(damage)?).is_break() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn get(&self, at: SubRevision) -> Result<Option<StoredVersion>, RecordsError> {
        let key = encode_key(at);
        self.with(|db| {
            let value = db.get(key).map_err(io_fault)?;
            value.map(|value| decode(&key, &value)).transpose().map_err(damage)
        })
    }

    fn meta(&self) -> Result<Option<StateMeta>, RecordsError> {
        self.with(|db| Ok(read_meta(db)?.and_then(|meta| meta.state)))
    }

    fn clear(&self) -> Result<(), RecordsError> {
        let mut writing = self.writing.lock();
        let mut state = self.state.write();
        let next = writing.generation + 1;
        match std::mem::replace(&mut *state, State::Failed("it could not be cleared".to_owned())) {
            // Its files are removed next: whether closing it worked does not matter.
            State::Working(engine) => drop(engine.shut()),
            State::Failed(_) => {}
            State::Closed => {
                *state = State::Closed;
                return Err(RecordsError::Closed);
            }
        }
        remove_generations_but(&self.dir, None).map_err(|e| failed(&self.dir, e.to_string()))?;
        *state = State::Working(begin(&self.dir, next, self.options)?);
        *writing = Writing::new(next, Totals::default());
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, RecordsError> {
        allocated_bytes(&self.dir).map_err(|e| failed(&self.dir, e.to_string()))
    }

    fn close(&self) -> Result<(), RecordsError> {
        self.flush()?;
        let writing = self.writing.lock();
        let mut state = self.state.write();
        let State::Working(engine) = std::mem::replace(&mut *state, State::Closed) else {
            return Err(RecordsError::Closed);
        };
        engine.shut().map_err(|what| failed(&self.dir, what))?;
        fingerprint(&generation_path(&self.dir, writing.generation))
            .and_then(|print| Marker::Clean(writing.generation, print).write(&self.dir))
            .map_err(|e| failed(&self.dir, e.to_string()))
    }
}

impl Drop for SledRecords {
    /// Without [`RecordStore::close`] the next start checks everything.
    fn drop(&mut self) {
        if let State::Working(engine) = std::mem::replace(self.state.get_mut(), State::Closed) {
            match engine.with(|db| db.flush().map_err(|e| e.to_string())) {
                Ok(_) => drop(engine.shut()),
                Err(_) => engine.abandon(),
            }
        }
        // Not left to closing the file: a child process that is just being started may hold a copy of it.
        let _ = flock(&self.lock, FlockOperation::Unlock);
    }
}

enum Fault {
    /// The engine works, but what it holds is wrong.
    Damage(String),
    /// The engine does not work.
    Engine(String),
}

fn what(fault: Fault) -> String {
    match fault {
        Fault::Damage(what) | Fault::Engine(what) => what,
    }
}

fn io_fault(error: io::Error) -> Fault {
    Fault::Engine(error.to_string())
}

fn damage(what: &'static str) -> Fault {
    Fault::Damage(what.to_owned())
}

fn failed(dir: &Path, what: String) -> RecordsError {
    RecordsError::Failed { dir: dir.display().to_string(), what }
}

struct Trusted {
    generation: u64,
    engine: Engine,
    totals: Totals,
    opened: Opened,
}

/// The store that the marker speaks of, or why it cannot be used.
fn trusted(
    dir: &Path,
    marker: Option<Marker>,
    found: &[u64],
    options: SledOptions,
    visit: &mut dyn FnMut(StoredVersion),
) -> Result<Result<Trusted, String>, RecordsError> {
    let write = |marker: Marker| marker.write(dir).map_err(|e| failed(dir, e.to_string()));
    let Some(marker) = marker else { return Ok(Err("it has no marker".to_owned())) };
    let generation = marker.generation();
    if !found.contains(&generation) {
        return Ok(Err("its files are gone".to_owned()));
    }
    let path = generation_path(dir, generation);
    let opened = match marker {
        Marker::Clean(_, print) if fingerprint(&path).ok().as_ref() == Some(&print) => Opened::Clean,
        Marker::Clean(..) => {
            return Ok(Err("its files are not those that were left at the last stop".to_owned()));
        }
        Marker::Open(_) => Opened::Unclean,
        Marker::Opening(_) => return Ok(Err("the last attempt to open it did not end".to_owned())),
    };
    write(Marker::Opening(generation))?;
    let read = read_guarded(&path, options.stall, visit);
    let engine = read.and_then(|meta| Ok((Engine::open(&path, options.cache_bytes)?, meta.totals)));
    if engine.is_ok() {
        write(Marker::Open(generation))?;
    }
    Ok(engine.map(|(engine, totals)| Trusted { generation, engine, totals, opened }))
}

fn read_guarded(path: &Path, stall: Duration, visit: &mut dyn FnMut(StoredVersion)) -> Result<Meta, String> {
    let dir = path.to_owned();
    let work = move |send: &(dyn Fn((usize, Vec<StoredVersion>)) + Sync)| {
        let engine = Engine::open(&dir, OPENING_CACHE_BYTES)?;
        match read_everything(&engine, send) {
            Ok(meta) => engine.shut().map(|()| meta),
            Err(what) => {
                engine.abandon();
                Err(what)
            }
        }
    };
    let mut read: Vec<Vec<Vec<StoredVersion>>> = Vec::new();
    let meta = guarded(path, stall, work, |(stretch, chunk)| {
        if read.len() <= stretch {
            read.resize_with(stretch + 1, Vec::new);
        }
        read[stretch].push(chunk);
    })?;
    read.into_iter().flatten().flatten().for_each(visit);
    Ok(meta)
}

/// Reads all records on several threads, compares them with the totals, and sends them with the number of their
/// stretch of history; those of one stretch come in order.
fn read_everything(
    engine: &Engine,
    send: &(dyn Fn((usize, Vec<StoredVersion>)) + Sync),
) -> Result<Meta, String> {
    let (meta, stretches) = engine.with(|db| {
        let meta = read_meta(db).map_err(what)?.unwrap_or_default();
        let first = first_place(db).map_err(what)?.unwrap_or_default();
        let stretches = stretches(first.main.0, meta.totals.high.main.0);
        Ok((meta, stretches))
    })?;
    let next = AtomicUsize::new(0);
    let read = || {
        let mut totals = Totals::default();
        let mut chunk = Vec::with_capacity(CHUNK);
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(stretch) = stretches.get(number) else { return Ok::<_, String>(totals) };
            let collect = &mut |version| {
                chunk.push(version);
                if chunk.len() == CHUNK {
                    send((number, std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK))));
                }
            };
            let part = engine.with(|db| read_stretch(db, stretch, collect).map_err(what));
            // The other threads need not go on for nothing.
            let part = part.inspect_err(|_| next.store(stretches.len(), Ordering::Relaxed))?;
            totals.add_all(&part);
            send((number, std::mem::take(&mut chunk)));
        }
    };
    let parts: Vec<Result<Totals, String>> = thread::scope(|scope| {
        let helpers: Vec<_> = (1..READERS)
            .map(|_| thread::Builder::new().name("records-check".to_owned()).spawn_scoped(scope, read))
            .collect();
        let own = read();
        // A thread that could not be started leaves its work to the others, and a panic is an error already.
        let helped = helpers
            .into_iter()
            .flatten()
            .map(|helper| helper.join().unwrap_or_else(|_| Err("a checking thread panicked".to_owned())));
        helped.chain([own]).collect()
    });
    let mut totals = Totals::default();
    for part in parts {
        totals.add_all(&part?);
    }
    nothing_is_missing(&meta, &totals).map_err(what)?;
    Ok(meta)
}

/// A new, empty generation.
fn begin(dir: &Path, generation: u64, options: SledOptions) -> Result<Engine, RecordsError> {
    Marker::Open(generation).write(dir).map_err(|e| failed(dir, e.to_string()))?;
    Engine::open(&generation_path(dir, generation), options.cache_bytes).map_err(|what| failed(dir, what))
}

fn read_meta(db: &Db) -> Result<Option<Meta>, Fault> {
    let value = db.get(META_KEY).map_err(io_fault)?;
    value.map(|value| decode_meta(&value)).transpose().map_err(Fault::Damage)
}

/// A part of history: from the first revision on, up to before the second one. Nothing means no bound.
type Stretch = (Option<i64>, Option<i64>);

/// Cuts history between two revisions into stretches that leave no place out, whatever is there.
fn stretches(first: i64, last: i64) -> Vec<Stretch> {
    let step = (last.saturating_sub(first) / STRETCHES).max(1);
    let cuts = (1..STRETCHES).map(|n| first.saturating_add(n * step)).take_while(|cut| *cut <= last);
    let bounds: Vec<Option<i64>> = [None].into_iter().chain(cuts.map(Some)).chain([None]).collect();
    bounds.windows(2).map(|pair| (pair[0], pair[1])).collect()
}

fn start_of(main: i64) -> [u8; KEY_LEN] {
    encode_key(SubRevision { main: Revision(main), sub: 0 })
}

/// The place of the first record.
fn first_place(db: &Db) -> Result<Option<SubRevision>, Fault> {
    let after_meta = (Bound::Excluded(&META_KEY[..]), Bound::Unbounded);
    let Some(first) = db.range::<&[u8], _>(after_meta).next() else { return Ok(None) };
    let (key, value) = first.map_err(io_fault)?;
    Ok(Some(decode(&key, &value).map_err(damage)?.at))
}

/// Reads the records of a stretch, in order.
fn read_stretch(
    db: &Db,
    (from, upto): &Stretch,
    visit: &mut dyn FnMut(StoredVersion),
) -> Result<Totals, Fault> {
    let from = from.map_or(Bound::Unbounded, |main| Bound::Included(start_of(main)));
    let upto = upto.map(start_of);
    let mut totals = Totals::default();
    let mut last = None;
    // The engine does not stop at an upper bound, but reads all that is behind it.
    for entry in db.range::<[u8; KEY_LEN], _>((from, Bound::Unbounded)) {
        let (key, value) = entry.map_err(io_fault)?;
        if upto.is_some_and(|upto| key[..] >= upto[..]) {
            break;
        }
        if key[..] == META_KEY {
            continue;
        }
        let version = decode(&key, &value).map_err(damage)?;
        if last.is_some_and(|last| last >= version.at) {
            return Err(damage("records are out of order"));
        }
        last = Some(version.at);
        totals.add(version.at);
        visit(version);
    }
    Ok(totals)
}

/// Compares what was read with what should be there.
fn nothing_is_missing(meta: &Meta, read: &Totals) -> Result<(), Fault> {
    if meta.totals.same_records(read) {
        return Ok(());
    }
    let (here, should) = (read.count, meta.totals.count);
    Err(Fault::Damage(format!("it holds {here} records, and not the {should} that it should")))
}

fn allocated_bytes(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes += allocated_bytes(&entry.path())?,
            Ok(metadata) => bytes += metadata.blocks() * 512,
            // The engine replaces its small files at any time.
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod damage_tests;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_leave_no_place_out() {
        for (first, last) in [(0, 0), (1, 1), (5, 6), (1, 1_000_003), (0, i64::MAX), (7, 3)] {
            let stretches = stretches(first, last);
            assert!(stretches.len() <= STRETCHES as usize);
            assert_eq!((stretches[0].0, stretches[stretches.len() - 1].1), (None, None));
            assert!(stretches.windows(2).all(|pair| pair[0].1.is_some() && pair[0].1 == pair[1].0));
            assert!(stretches.iter().all(|(from, upto)| from.is_none() || upto.is_none() || from < upto));
        }
    }
}
