//! The segment files: their names, how one is made ahead of its use, and how it is given back.
//!
//! A segment is filled with zeros and synced under a temporary name before it is used, so that a sync of
//! records has no metadata to write. It gets its name only when its header is synced: a file with a
//! segment's name always has a valid header, or it is damaged.
//!
//! Purged segments are deleted oldest first, each deletion synced before the next, so that a crash never
//! leaves a gap between the segments that remain.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::disk::{Disk, DiskFile};
use super::format::SegmentHeader;

const TEMPORARY_SUFFIX: &str = ".tmp";
const SEGMENT_SUFFIX: &str = ".wal";
const PREPARED_NAME: &str = "next.tmp";
/// Zeros are written and synced in pieces of this size, so that a sync of records waits for one at most.
const ZEROS_BYTES: usize = 1 << 20;

/// An open segment.
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) nonce: u64,
    pub(super) file: Box<dyn DiskFile>,
}

pub(super) fn segment_name(sequence: u32) -> String {
    format!("{sequence:08x}{SEGMENT_SUFFIX}")
}

pub(super) fn sequence_of(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT_SUFFIX)?;
    let sequence = u32::from_str_radix(digits, 16).ok()?;
    (segment_name(sequence) == name).then_some(sequence)
}

pub(super) fn is_temporary(name: &str) -> bool {
    name.ends_with(TEMPORARY_SUFFIX)
}

/// Puts a prepared file to use: header, name, directory, each synced.
pub(super) fn activate(
    disk: &dyn Disk,
    file: Box<dyn DiskFile>,
    header: &SegmentHeader,
) -> io::Result<(Segment, u32)> {
    let (bytes, crc) = header.encode();
    file.write_at(&bytes, 0)?;
    file.sync()?;
    disk.rename(PREPARED_NAME, &segment_name(header.sequence))?;
    disk.sync_directory()?;
    Ok((Segment { sequence: header.sequence, nonce: header.nonce, file }, crc))
}

/// Fills a new file with zeros. What a failure leaves is removed, so that it does not take the space that
/// is missing.
fn prepare(disk: &dyn Disk, bytes: u64, stop: &AtomicBool) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.create(PREPARED_NAME)?;
    let zeros = vec![0; ZEROS_BYTES];
    let mut offset = 0;
    while offset < bytes {
        let piece = usize::try_from(bytes - offset).unwrap_or(usize::MAX).min(ZEROS_BYTES);
        let stopped = if stop.load(Ordering::Relaxed) {
            Err(io::Error::new(io::ErrorKind::Interrupted, "the log is being closed"))
        } else {
            Ok(())
        };
        if let Err(error) =
            stopped.and_then(|()| file.write_at(&zeros[..piece], offset)).and_then(|()| file.sync())
        {
            // The first error is the one to tell.
            let _ = disk.remove(PREPARED_NAME);
            return Err(error);
        }
        offset += piece as u64;
    }
    Ok(file)
}

/// A segment to delete, and the bytes that this gives back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Obsolete {
    pub(super) sequence: u32,
    pub(super) bytes: u64,
}

#[derive(Default)]
struct Todo {
    /// A segment is wanted, or being made.
    preparing: bool,
    prepared: Option<io::Result<Box<dyn DiskFile>>>,
    obsolete: VecDeque<Obsolete>,
}

struct Shared {
    disk: Arc<dyn Disk>,
    segment_bytes: u64,
    todo: Mutex<Todo>,
    changed: Condvar,
    stop: AtomicBool,
    size_on_disk: Arc<AtomicU64>,
}

impl Shared {
    fn prepare(&self) -> io::Result<Box<dyn DiskFile>> {
        let file = prepare(&*self.disk, self.segment_bytes, &self.stop)?;
        self.size_on_disk.fetch_add(self.segment_bytes, Ordering::Relaxed);
        Ok(file)
    }

    fn remove(&self, obsolete: Obsolete) -> io::Result<()> {
        match self.disk.remove(&segment_name(obsolete.sequence)) {
            // An attempt before this one got that far.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            other => other?,
        }
        self.disk.sync_directory()?;
        self.size_on_disk.fetch_sub(obsolete.bytes, Ordering::Relaxed);
        Ok(())
    }
}

/// Makes segments ahead of their use and deletes old ones, on a thread of its own.
pub(super) struct Housekeeper {
    shared: Arc<Shared>,
    /// `None`: everything is done by the caller at once, in a fixed order, for tests that crash at each step.
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        segment_bytes: u64,
        size_on_disk: Arc<AtomicU64>,
        in_background: bool,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            disk,
            segment_bytes,
            todo: Mutex::default(),
            changed: Condvar::new(),
            stop: AtomicBool::new(false),
            size_on_disk,
        });
        let thread = if in_background {
            let shared = shared.clone();
            let run = move || run(&shared);
            Some(std::thread::Builder::new().name("wal-segments".into()).spawn(run)?)
        } else {
            None
        };
        Ok(Self { shared, thread })
    }

    /// Asks for a segment that will be needed later.
    pub(super) fn want_segment(&self) {
        if self.thread.is_some() {
            self.shared.todo.lock().preparing = true;
            self.shared.changed.notify_all();
        }
    }

    /// The prepared file; waits for it, and makes it here when it was not asked for or could not be made
    /// (a full disk may have space again).
    pub(super) fn take_segment(&self) -> io::Result<Box<dyn DiskFile>> {
        let mut todo = self.shared.todo.lock();
        while todo.preparing {
            self.shared.changed.wait(&mut todo);
        }
        let prepared = todo.prepared.take();
        drop(todo);
        match prepared {
            Some(Ok(file)) => Ok(file),
            Some(Err(_)) | None => self.shared.prepare(),
        }
    }

    /// Has segments deleted, in this order. Failures are logged and tried again with the next ones.
    pub(super) fn remove(&self, obsolete: impl IntoIterator<Item = Obsolete>) {
        let mut todo = self.shared.todo.lock();
        todo.obsolete.extend(obsolete);
        if self.thread.is_some() {
            self.shared.changed.notify_all();
            return;
        }
        while let Some(next) = todo.obsolete.front().copied() {
            if !removed(&self.shared, next) {
                break;
            }
            todo.obsolete.pop_front();
        }
    }
}

fn removed(shared: &Shared, obsolete: Obsolete) -> bool {
    let result = shared.remove(obsolete);
    if let Err(error) = &result {
        let path = shared.disk.path_of(&segment_name(obsolete.sequence));
        tracing::warn!(path = %path.display(), %error, "a purged log segment could not be deleted");
    }
    result.is_ok()
}

fn run(shared: &Shared) {
    let mut todo = shared.todo.lock();
    // A deletion that failed is not tried again before there is something new to do.
    let mut failed = 0;
    loop {
        let stopping = shared.stop.load(Ordering::Relaxed);
        if todo.preparing && !stopping {
            drop(todo);
            let prepared = shared.prepare();
            if let Err(error) = &prepared
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::warn!(%error, "the next log segment could not be prepared; it is tried again when needed");
            }
            todo = shared.todo.lock();
            todo.prepared = Some(prepared);
            todo.preparing = false;
            shared.changed.notify_all();
        } else if todo.obsolete.len() > failed {
            failed = 0;
            let next = todo.obsolete[0];
            drop(todo);
            let done = removed(shared, next);
            todo = shared.todo.lock();
            if done {
                todo.obsolete.pop_front();
            } else {
                failed = todo.obsolete.len();
            }
        } else if stopping {
            return;
        } else {
            shared.changed.wait(&mut todo);
        }
    }
}

impl Drop for Housekeeper {
    fn drop(&mut self) {
        {
            let _todo = self.shared.todo.lock();
            self.shared.stop.store(true, Ordering::Relaxed);
            self.shared.changed.notify_all();
        }
        if let Some(thread) = self.thread.take() {
            // A panic in it was reported by the panic hook.
            let _ = thread.join();
        }
    }
}
