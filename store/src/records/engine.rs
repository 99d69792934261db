//! Sled, kept in a cage: its panics become errors, its handles are shared between threads, and it is opened
//! and closed only in ways that cannot take the process down.
//!
//! What the pinned version does, and what is done about it:
//! - Its own flusher thread aborts the process when a flush fails. It is given an interval without end, so
//!   that only [`Engine::with`]'s callers flush; as long as one thread does, everything between two flushes
//!   is one atomic piece.
//! - After a failed flush the next one waits for ever, and dropping the last handle flushes. So an engine that
//!   failed is never dropped: its memory and its lock on its directory stay until the process ends.
//! - A leaf that was written is never paged out again while the engine is open. So it is opened anew after
//!   some bytes, see [`super::SledOptions::reopen_bytes`].
//! - Damaged metadata can make opening or reading loop or wait for ever. So what cannot be trusted is opened
//!   and read on a thread that is watched, see [`guarded`].

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::fs::{FlockOperation, flock};

/// Records in a leaf: a leaf is what is read, packed and written in one piece.
pub(super) const LEAF_FANOUT: usize = 256;
/// Packing harder costs more of the CPU than the disk is worth.
const ZSTD_LEVEL: i32 = 1;
/// Handles kept for readers; more are made and dropped when more read at once.
const IDLE_HANDLES: usize = 8;
/// Messages that a guarded thread may be ahead.
const MESSAGES_AHEAD: usize = 8;

pub(super) type Db = sled::Db<LEAF_FANOUT>;

/// An open engine. Call [`Engine::shut`] or [`Engine::abandon`] in the end.
pub(super) struct Engine {
    /// A handle holds 20 KiB of its own and is not `Sync`, so each use borrows one.
    template: Mutex<Box<Db>>,
    idle: Mutex<Vec<Box<Db>>>,
}

impl Engine {
    /// Opens the engine in a directory that it may create.
    pub(super) fn open(dir: &Path, cache_bytes: usize) -> Result<Self, String> {
        let config = sled::Config {
            path: dir.to_owned(),
            cache_capacity_bytes: cache_bytes,
            flush_every_ms: Some(usize::MAX / 2),
            zstd_compression_level: ZSTD_LEVEL,
            ..sled::Config::default()
        };
        wait_for_locks(dir).map_err(|e| e.to_string())?;
        let db = contained(|| config.open().map(Box::new).map_err(|e| e.to_string()))?;
        Ok(Self { template: Mutex::new(db), idle: Mutex::default() })
    }

    /// Uses the engine. A panic inside becomes an error.
    pub(super) fn with<T>(&self, work: impl FnOnce(&Db) -> Result<T, String>) -> Result<T, String> {
        let idle = self.idle.lock().pop();
        let db = idle.unwrap_or_else(|| self.template.lock().clone());
        let result = contained(|| work(&db));
        let mut idle = self.idle.lock();
        if result.is_ok() && idle.len() < IDLE_HANDLES {
            idle.push(db);
        }
        result
    }

    /// Closes an engine that works and has been flushed; its files change no more then.
    pub(super) fn shut(self) -> Result<(), String> {
        contained(|| {
            drop(self);
            Ok(())
        })
    }

    /// Gives up an engine that failed, without touching it.
    pub(super) fn abandon(self) {
        std::mem::forget(self);
    }
}

/// Waits until the locks of an engine that was shut are really gone: a child process that another thread is
/// just starting holds a copy of every open file, and with it the lock, until it runs its own program. To be
/// called only where no engine is open on this directory, which the lock of [`super::SledRecords`] sees to.
fn wait_for_locks(dir: &Path) -> io::Result<()> {
    for path in [dir.to_owned(), dir.join("metadata")] {
        match File::open(path) {
            Ok(file) => {
                flock(&file, FlockOperation::LockExclusive)?;
                flock(&file, FlockOperation::Unlock)?;
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn contained<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason given");
        Err(format!("the engine panicked: {text}"))
    })
}

/// Runs work that damaged files could make endless on a thread of its own, hands what it sends to `each` on
/// this one, and gives up when nothing came for `stall`.
///
/// A thread that is given up is first made to fail: the data files of `dir` are emptied, which ends its
/// loop at the next read (the directory is thrown away anyway). Should it still not end, it is left behind,
/// which only the process's end mends: the one thread in this crate that can outlive its owner.
pub(super) fn guarded<M: Send + 'static, T: Send + 'static>(
    dir: &Path,
    stall: Duration,
    work: impl FnOnce(&(dyn Fn(M) + Sync)) -> Result<T, String> + Send + 'static,
    mut each: impl FnMut(M),
) -> Result<T, String> {
    let (sender, receiver) = sync_channel(MESSAGES_AHEAD);
    let worker = thread::Builder::new().name("records-check".to_owned());
    let worker = worker.spawn(move || {
        // Nobody listens when it was given up.
        let result = contained(|| work(&|message| drop(sender.send(Message::Part(message)))));
        let _ = sender.send(Message::End(result));
    });
    let worker = worker.map_err(|e| format!("cannot start a thread: {e}"))?;
    loop {
        match receiver.recv_timeout(stall) {
            Ok(Message::Part(message)) => each(message),
            Ok(Message::End(result)) => {
                // It has nothing more to do, and `contained` left it no panic.
                let _ = worker.join();
                return result;
            }
            Err(RecvTimeoutError::Disconnected) => return Err("the checking thread ended".to_owned()),
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    empty_data_files(dir);
    let ends = || {
        while let Ok(message) = receiver.recv_timeout(stall) {
            if matches!(message, Message::End(_)) {
                return true;
            }
        }
        false
    };
    if ends() {
        let _ = worker.join();
    } else {
        tracing::error!(dir = %dir.display(), "a check of damaged records does not end; restart the member soon");
    }
    Err("reading it does not end".to_owned())
}

enum Message<M, T> {
    Part(M),
    End(Result<T, String>),
}

/// Takes the content from an engine's files, and with it their space, though somebody may hold them open.
pub(super) fn empty_data_files(db_dir: &Path) {
    let Ok(entries) = fs::read_dir(db_dir.join("slabs")) else { return };
    for entry in entries.flatten() {
        // Best effort: what stays is a thread that runs on, or space until the process ends.
        let _ = File::options().write(true).open(entry.path()).and_then(|f| f.set_len(0));
    }
}
