//! Records in sled. Opening reads everything, which the state machine needs anyway, checks all of it, and
//! throws away what does not hold.

use std::fs::{self, File};
use std::io;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustix::fs::{FlockOperation, flock};

use self::ledger::Ledger;
use self::opening::{Trusted, nothing_is_missing, read_meta, read_stretch, trusted};
use self::rewrite::Rewrite;
use super::engine::{Db, Engine};
use super::marker::{Marker, fingerprint, generation_path, remove_generations_but};
use super::rewrite_rule::{LastCopy, RewriteRule};
use super::value::{KEY_LEN, META_KEY, Meta, decode, encode_key, encode_meta};
use super::{RecordBatch, RecordStore, RecordsError, Shrink};
use crate::ids::SubRevision;
use crate::stored::{StateMeta, StoredVersion};

mod ledger;
mod opening;
mod rewrite;

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
    /// When the engine's files are written anew because they hold little, see [`RecordStore::shrink`].
    pub rewrite: RewriteRule,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 32 << 20,
            reopen_bytes: 64 << 20,
            stall: Duration::from_secs(20),
            rewrite: RewriteRule::default(),
        }
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
    ledger: Ledger,
    /// The next generation, while it is being filled from this one.
    rewrite: Option<Rewrite>,
    /// What the rewrite made that began this generation.
    last_copy: Option<LastCopy>,
    /// When a rewrite failed.
    failed_at: Option<Instant>,
}

impl Writing {
    fn new(generation: u64, ledger: Ledger) -> Self {
        Self { generation, ledger, rewrite: None, last_copy: None, failed_at: None }
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
        let Trusted { generation, engine, ledger, opened } =
            match trusted(dir, marker, &found, options, visit)? {
                Ok(trusted) => trusted,
                Err(why) => {
                    remove_generations_but(dir, None).map_err(failed)?;
                    let generation = found.iter().copied().chain(marked).max().unwrap_or(0) + 1;
                    let engine = begin(dir, generation, options)?;
                    let opened = if found.is_empty() { Opened::New } else { Opened::Discarded { why } };
                    Trusted { generation, engine, ledger: Ledger::default(), opened }
                }
            };
        let store = Self {
            dir: dir.to_owned(),
            options,
            state: RwLock::new(State::Working(engine)),
            writing: Mutex::new(Writing::new(generation, ledger)),
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
                    writing.ledger.nothing_is_kept();
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
        let ledger = &mut writing.ledger;
        self.with(|db| {
            // Still atomic: nobody else flushes in between.
            ledger.remove(db, batch.remove.iter().copied())?;
            let mut engine_batch = ledger.put(db, batch.put.iter())?;
            let meta = Meta { totals: ledger.totals, state: batch.meta.clone() };
            engine_batch.insert(&META_KEY[..], encode_meta(&meta).map_err(Fault::Engine)?);
            db.apply_batch(engine_batch).map_err(io_fault)
        })?;
        self.follow(&mut writing, &batch);
        Ok(())
    }

    fn flush(&self) -> Result<(), RecordsError> {
        let mut writing = self.writing.lock();
        let leaves = self.with(|db| db.flush().map(|stats| stats.objects_flushed).map_err(io_fault))?;
        let kept_bytes = writing.ledger.flushed(leaves);
        if kept_bytes >= self.options.reopen_bytes { self.reopen(&mut writing) } else { Ok(()) }
    }

    fn shrink(&self) -> Result<Shrink, RecordsError> {
        let mut writing = self.writing.lock();
        match writing.rewrite.take() {
            Some(rewrite) => self.go_on_rewriting(&mut writing, rewrite),
            None => self.begin_rewriting(&mut writing),
        }
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
        if let Some(rewrite) = writing.rewrite.take() {
            rewrite.discard();
        }
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
        *writing = Writing::new(next, Ledger::default());
        Ok(())
    }

    fn size_on_disk(&self) -> Result<u64, RecordsError> {
        allocated_bytes(&self.dir).map_err(|e| failed(&self.dir, e.to_string()))
    }

    fn close(&self) -> Result<(), RecordsError> {
        self.flush()?;
        let mut writing = self.writing.lock();
        if let Some(rewrite) = writing.rewrite.take() {
            rewrite.discard();
        }
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
        if let Some(rewrite) = self.writing.get_mut().rewrite.take() {
            rewrite.discard();
        }
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

/// A new, empty generation.
fn begin(dir: &Path, generation: u64, options: SledOptions) -> Result<Engine, RecordsError> {
    Marker::Open(generation).write(dir).map_err(|e| failed(dir, e.to_string()))?;
    Engine::open(&generation_path(dir, generation), options.cache_bytes).map_err(|what| failed(dir, what))
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
mod rewrite_tests;
