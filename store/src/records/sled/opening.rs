//! Opening what is there: what the marker speaks of is read whole and checked on threads that are watched, and
//! nothing is believed that does not hold.

use std::ops::Bound;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::super::RecordsError;
use super::super::engine::{Db, Engine, guarded};
use super::super::marker::{Marker, fingerprint, generation_path};
use super::super::value::{KEY_LEN, META_KEY, Meta, Totals, decode, decode_meta, encode_key, stored_bytes};
use super::ledger::Ledger;
use super::{Fault, Opened, SledOptions, damage, failed, io_fault, what};
use crate::ids::{Revision, SubRevision};
use crate::stored::StoredVersion;

/// Cache while opening: nearly none, so that every leaf is read from disk each time. That is what lets a
/// reader that runs in circles be stopped.
const OPENING_CACHE_BYTES: usize = 4096;
/// Records that are handed from a reading thread to the opening one in one piece.
const CHUNK: usize = 512;
/// Threads that read and check while opening.
const READERS: usize = 2;
/// Stretches of history that they take in turns, so that both end at about the same time.
const STRETCHES: i64 = 32;

/// A store that was found and holds.
pub(super) struct Trusted {
    pub(super) generation: u64,
    pub(super) engine: Engine,
    pub(super) ledger: Ledger,
    pub(super) opened: Opened,
}

/// The store that the marker speaks of, or why it cannot be used.
pub(super) fn trusted(
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
    let engine = read.and_then(|ledger| Ok((Engine::open(&path, options.cache_bytes)?, ledger)));
    if engine.is_ok() {
        write(Marker::Open(generation))?;
    }
    Ok(engine.map(|(engine, ledger)| Trusted { generation, engine, ledger, opened }))
}

fn read_guarded(
    path: &Path,
    stall: Duration,
    visit: &mut dyn FnMut(StoredVersion),
) -> Result<Ledger, String> {
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
    let mut bytes = 0;
    for version in read.into_iter().flatten().flatten() {
        bytes += stored_bytes(&version);
        visit(version);
    }
    Ok(Ledger::new(meta.totals, bytes))
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

pub(super) fn read_meta(db: &Db) -> Result<Option<Meta>, Fault> {
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
pub(super) fn read_stretch(
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
pub(super) fn nothing_is_missing(meta: &Meta, read: &Totals) -> Result<(), Fault> {
    if meta.totals.same_records(read) {
        return Ok(());
    }
    let (here, should) = (read.count, meta.totals.count);
    Err(Fault::Damage(format!("it holds {here} records, and not the {should} that it should")))
}

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
