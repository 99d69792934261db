//! Gives the file system space back: what an engine holds is copied into the next generation's directory, step by step
//! while batches go on, and the marker then moves there. Until that moment the old generation is the only one that
//! counts, and it is not touched; a copy that fails is thrown away.

use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::super::engine::{Db, Engine, LEAF_FANOUT, empty_data_files};
use super::super::marker::{Marker, generation_path};
use super::super::rewrite_rule::{LastCopy, Occupancy, Verdict};
use super::super::value::{META_KEY, Meta, decode, encode_key, encode_meta, stored_bytes};
use super::super::{RecordBatch, RecordsError, Shrink};
use super::ledger::Ledger;
use super::opening::read_meta;
use super::{Fault, SledOptions, SledRecords, State, Writing, allocated_bytes, damage, io_fault, what};
use crate::ids::SubRevision;
use crate::stored::StoredVersion;

/// The next generation while it is being filled.
pub(super) struct Rewrite {
    generation: u64,
    path: PathBuf,
    engine: Engine,
    ledger: Ledger,
    options: SledOptions,
    before_bytes: u64,
    /// Up to here everything was copied, and is kept up to date.
    copied: Option<SubRevision>,
    /// Bytes that were added behind that since the last step: the next one copies as many more, so that it comes to an
    /// end whatever is written.
    owed_bytes: u64,
}

/// A leaf takes another slot in the engine's files whenever it grows, so parts are whole leaves, unless those are so
/// many times as large as a part should be.
const LARGEST_PART: u64 = 8;

/// A part of the old generation.
struct Part {
    versions: Vec<StoredVersion>,
    /// There is nothing behind it; the state that belongs to everything.
    end: Option<Meta>,
}

impl Rewrite {
    fn begin(dir: &Path, generation: u64, options: SledOptions, before_bytes: u64) -> Result<Self, String> {
        let path = generation_path(dir, generation);
        remove_dir(&path).map_err(|e| e.to_string())?;
        let engine = Engine::open(&path, options.cache_bytes).inspect_err(|_| throw_away(&path))?;
        Ok(Self {
            generation,
            path,
            engine,
            ledger: Ledger::default(),
            options,
            before_bytes,
            copied: None,
            owed_bytes: 0,
        })
    }

    /// Does to what was copied what a batch did to the old generation.
    fn follow(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let copied = |at: SubRevision| self.copied.is_some_and(|upto| at <= upto);
        let behind = batch.put.iter().filter(|version| !copied(version.at));
        let owed_bytes: u64 = behind.map(stored_bytes).sum();
        let ledger = &mut self.ledger;
        self.engine.with(|db| {
            ledger.remove(db, batch.remove.iter().copied().filter(|at| copied(*at))).map_err(what)?;
            let put = ledger.put(db, batch.put.iter().filter(|version| copied(version.at))).map_err(what)?;
            db.apply_batch(put).map_err(|e| e.to_string())
        })?;
        self.owed_bytes += owed_bytes;
        Ok(())
    }

    /// Adds a part, and returns when it is on disk. With the last one the copy is whole.
    fn add(mut self, part: &Part) -> Result<Self, String> {
        let ledger = &mut self.ledger;
        let added = self.engine.with(|db| {
            let mut batch = ledger.put(db, part.versions.iter()).map_err(what)?;
            if let Some(meta) = &part.end {
                if !ledger.totals.same_records(&meta.totals) {
                    let (here, should) = (ledger.totals.count, meta.totals.count);
                    return Err(format!(
                        "the copy holds {here} records, and not the {should} that it should"
                    ));
                }
                ledger.totals.high = meta.totals.high;
                batch.insert(&META_KEY[..], encode_meta(meta)?);
            }
            db.apply_batch(batch).map_err(|e| e.to_string())?;
            db.flush().map(|stats| stats.objects_flushed).map_err(|e| e.to_string())
        });
        let kept_bytes = match added {
            Ok(leaves) => self.ledger.flushed(leaves),
            Err(what) => {
                self.abandon();
                return Err(what);
            }
        };
        self.copied = part.versions.last().map_or(self.copied, |version| Some(version.at));
        self.owed_bytes = 0;
        if kept_bytes < self.options.reopen_bytes {
            return Ok(self);
        }
        let Self { path, engine, .. } = self;
        match engine.shut().and_then(|()| Engine::open(&path, self.options.cache_bytes)) {
            Ok(engine) => {
                self.ledger.nothing_is_kept();
                Ok(Self { path, engine, ..self })
            }
            Err(what) => {
                throw_away(&path);
                Err(what)
            }
        }
    }

    /// Gives up a copy that is not wanted any more.
    pub(super) fn discard(self) {
        // An engine that cannot be flushed must not be dropped.
        match self.engine.with(|db| db.flush().map_err(|e| e.to_string())) {
            Ok(_) => drop(self.engine.shut()),
            Err(_) => self.engine.abandon(),
        }
        throw_away(&self.path);
    }

    /// Gives up a copy whose engine failed.
    fn abandon(self) {
        self.engine.abandon();
        throw_away(&self.path);
    }
}

impl SledRecords {
    /// Keeps the copy up to date.
    pub(super) fn follow(&self, writing: &mut Writing, batch: &RecordBatch) {
        let Some(mut rewrite) = writing.rewrite.take() else { return };
        match rewrite.follow(batch) {
            Ok(()) => writing.rewrite = Some(rewrite),
            Err(what) => {
                rewrite.abandon();
                writing.failed_at = Some(Instant::now());
                tracing::warn!(error = what, "the records could not be written anew; they stay as they are");
            }
        }
    }

    pub(super) fn begin_rewriting(&self, writing: &mut Writing) -> Result<Shrink, RecordsError> {
        self.with(|_| Ok(()))?;
        let current = generation_path(&self.dir, writing.generation);
        let (disk_bytes, free_bytes) = match (allocated_bytes(&current), free_bytes(&self.dir)) {
            (Ok(disk_bytes), Ok(free_bytes)) => (disk_bytes, free_bytes),
            (Err(error), _) | (_, Err(error)) => return Ok(gave_up(writing, error.to_string())),
        };
        let live_bytes = writing.ledger.live_bytes();
        let now = Occupancy {
            disk_bytes,
            live_bytes,
            peak_bytes: writing.ledger.peak_bytes(),
            free_bytes,
            last_copy: writing.last_copy,
            since_failure: writing.failed_at.map(|at| at.elapsed()),
        };
        match self.options.rewrite.decide(&now) {
            Verdict::NotWorth | Verdict::TooSoon => return Ok(Shrink::Idle),
            Verdict::NoRoom { needed_bytes } => {
                tracing::warn!(
                    disk_bytes,
                    live_bytes,
                    free_bytes,
                    needed_bytes,
                    "the records could give space back, but there is no room to write them anew"
                );
                return Ok(Shrink::Idle);
            }
            Verdict::Worth => {}
        }
        tracing::info!(disk_bytes, live_bytes, "the records are written anew to give space back");
        match Rewrite::begin(&self.dir, writing.generation + 1, self.options, disk_bytes) {
            Ok(rewrite) => {
                writing.rewrite = Some(rewrite);
                Ok(Shrink::More)
            }
            Err(why) => Ok(gave_up(writing, why)),
        }
    }

    pub(super) fn go_on_rewriting(
        &self,
        writing: &mut Writing,
        rewrite: Rewrite,
    ) -> Result<Shrink, RecordsError> {
        let reserve_bytes = self.options.rewrite.reserve_bytes;
        match free_bytes(&self.dir) {
            Ok(free_bytes) if free_bytes >= reserve_bytes => {}
            Ok(free_bytes) => {
                rewrite.discard();
                return Ok(gave_up(writing, format!("the disk has only {free_bytes} bytes left")));
            }
            Err(error) => {
                rewrite.discard();
                return Ok(gave_up(writing, error.to_string()));
            }
        }
        let bytes = self.options.rewrite.step_bytes.saturating_add(rewrite.owed_bytes);
        let part = match self.with(|db| part(db, rewrite.copied, bytes)) {
            Ok(part) => part,
            Err(error) => {
                rewrite.discard();
                return match error {
                    RecordsError::Damaged { .. } => Ok(gave_up(writing, error.to_string())),
                    _ => Err(error),
                };
            }
        };
        match rewrite.add(&part) {
            Ok(rewrite) if part.end.is_some() => Ok(self.switch_to(writing, rewrite)),
            Ok(rewrite) => {
                writing.rewrite = Some(rewrite);
                Ok(Shrink::More)
            }
            Err(why) => Ok(gave_up(writing, why)),
        }
    }

    /// Makes a whole copy the one that counts, and removes the old one.
    fn switch_to(&self, writing: &mut Writing, rewrite: Rewrite) -> Shrink {
        let mark = || {
            let after_bytes = allocated_bytes(&rewrite.path)?;
            sync_directories(&rewrite.path)?;
            Marker::Open(rewrite.generation).write(&self.dir)?;
            Ok::<_, io::Error>(after_bytes)
        };
        let after_bytes = match mark() {
            Ok(after_bytes) => after_bytes,
            Err(error) => {
                // Perhaps it has moved already. Should this fail too, a start may find a marker without files, and
                // begins anew from snapshot and log.
                let _ = Marker::Open(writing.generation).write(&self.dir);
                rewrite.discard();
                return gave_up(writing, error.to_string());
            }
        };
        let Rewrite { generation, engine, ledger, before_bytes, .. } = rewrite;
        // Waits for those who read; who comes later reads the copy.
        let old = std::mem::replace(&mut *self.state.write(), State::Working(engine));
        if let State::Working(old) = old {
            // Its files are removed next: whether closing it worked does not matter.
            let _ = old.shut();
        }
        throw_away(&generation_path(&self.dir, writing.generation));
        *writing = Writing::new(generation, ledger);
        writing.last_copy =
            Some(LastCopy { live_bytes: writing.ledger.live_bytes(), disk_bytes: after_bytes });
        Shrink::Done { before_bytes, after_bytes }
    }
}

fn gave_up(writing: &mut Writing, why: String) -> Shrink {
    writing.failed_at = Some(Instant::now());
    Shrink::GaveUp { why }
}

/// Reads about `bytes` of what comes after a place.
fn part(db: &Db, after: Option<SubRevision>, bytes: u64) -> Result<Part, Fault> {
    let mut versions: Vec<StoredVersion> = vec![];
    let mut read_bytes = 0;
    let after = after.map_or(META_KEY.to_vec(), |at| encode_key(at).to_vec());
    for entry in db.range::<Vec<u8>, _>((Bound::Excluded(after), Bound::Unbounded)) {
        let at_leaf = versions.len().is_multiple_of(LEAF_FANOUT);
        if read_bytes >= bytes && (at_leaf || read_bytes >= bytes.saturating_mul(LARGEST_PART)) {
            return Ok(Part { versions, end: None });
        }
        let (key, value) = entry.map_err(io_fault)?;
        let version = decode(&key, &value).map_err(damage)?;
        read_bytes += stored_bytes(&version);
        versions.push(version);
    }
    let meta = read_meta(db)?.unwrap_or_default();
    Ok(Part { versions, end: Some(meta) })
}

/// What others than root may still write.
fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Some of these the engine leaves to chance.
fn sync_directories(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        File::open(entry?.path())?.sync_all()?;
    }
    File::open(path)?.sync_all()
}

/// Removes a generation that does not count. Whatever is left of it, the next start removes.
fn throw_away(path: &Path) {
    // An engine that was given up holds its files open, and would hold their space.
    empty_data_files(path);
    if let Err(error) = remove_dir(path) {
        tracing::warn!(%error, path = %path.display(), "records that are not used could not be removed");
    }
}

fn remove_dir(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
