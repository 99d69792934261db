//! A disk in memory that forgets, tears and refuses: what is not synced may survive a crash in any mixture
//! of sectors.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::{Disk, DiskFile};

const SECTOR_BYTES: usize = 512;

/// What happens at a step. Steps are counted over everything that changes the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The power fails: the step may have happened or not, and nothing works any more.
    Crash,
    /// The step fails once. After a sync that failed, nobody knows what is on disk, and the next one succeeds.
    Error,
}

#[derive(Clone, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync, successful or not: what a failed one left is never written unless it is written again.
    dirty: Vec<Range<usize>>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Create(String, u64),
    Rename(String, String),
    Remove(String),
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, inode) => {
                names.insert(name.clone(), *inode);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(from) {
                    names.insert(to.clone(), inode);
                }
            }
            Self::Remove(name) => {
                names.remove(name);
            }
        }
    }
}

#[derive(Default)]
struct Inner {
    inodes: HashMap<u64, Inode>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
    steps: u64,
    syncs: u64,
    fault: Option<(u64, Fault)>,
    down: bool,
    capacity_bytes: Option<usize>,
    syncs_do_nothing: bool,
    /// Syncs wait while this is set.
    syncs_held: bool,
    syncs_waiting: u64,
}

#[derive(Clone, Default)]
pub(super) struct SimDisk {
    inner: Arc<(Mutex<Inner>, Condvar)>,
}

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimDisk {
    fn lock(&self) -> parking_lot::MutexGuard<'_, Inner> {
        self.inner.0.lock()
    }

    pub(super) fn steps(&self) -> u64 {
        self.lock().steps
    }

    pub(super) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// Sets what happens at the `after`th step from now.
    pub(super) fn fail_after(&self, after: u64, fault: Fault) {
        let mut inner = self.lock();
        inner.fault = Some((inner.steps + after, fault));
    }

    pub(super) fn set_capacity(&self, bytes: Option<usize>) {
        self.lock().capacity_bytes = bytes;
    }

    /// A disk that lies: the control that shows that the tests notice.
    pub(super) fn make_syncs_do_nothing(&self) {
        self.lock().syncs_do_nothing = true;
    }

    pub(super) fn hold_syncs(&self) {
        self.lock().syncs_held = true;
    }

    pub(super) fn release_syncs(&self) {
        self.lock().syncs_held = false;
        self.inner.1.notify_all();
    }

    /// Returns when a sync is held.
    pub(super) fn wait_for_held_sync(&self) {
        let mut inner = self.lock();
        while inner.syncs_waiting == 0 {
            self.inner.1.wait(&mut inner);
        }
    }

    /// What a restart finds. `seed` 0: everything that was written, still unsynced (the process was killed); 1: what was synced
    /// alone; others: each unsynced sector or name may be there or not.
    pub(super) fn restart(&self, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut pick = |what: bool| match seed {
            0 => true,
            1 => false,
            _ => what && random.random_bool(0.5),
        };
        let old = self.lock();
        let mut inner = Inner {
            syncs_do_nothing: old.syncs_do_nothing,
            capacity_bytes: old.capacity_bytes,
            ..Inner::default()
        };
        let mut ids: Vec<_> = old.inodes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let inode = &old.inodes[&id];
            let mut content = inode.durable.clone();
            if inode.current.len() > content.len() && pick(true) {
                content.resize(inode.current.len(), 0);
            }
            for start in (0..content.len()).step_by(SECTOR_BYTES) {
                let end = (start + SECTOR_BYTES).min(content.len());
                let written = start..end.min(inode.current.len());
                if !written.is_empty()
                    && content[written.clone()] != inode.current[written.clone()]
                    && pick(true)
                {
                    content[written.clone()].copy_from_slice(&inode.current[written]);
                }
            }
            let (durable, dirty) = match seed {
                0 => (inode.durable.clone(), inode.dirty.clone()),
                _ => (content.clone(), Vec::new()),
            };
            inner.inodes.insert(id, Inode { current: content, durable, dirty });
        }
        let mut names = old.durable_names.clone();
        // Creations and renames become durable in order, removals in any.
        let mut in_order = true;
        for change in &old.pending {
            in_order &= pick(true);
            if in_order || (matches!(change, NameChange::Remove(_)) && pick(true)) {
                change.apply(&mut names);
            }
        }
        inner.names = names.clone();
        if seed == 0 {
            inner.pending = old.pending.clone();
            inner.durable_names = old.durable_names.clone();
        } else {
            inner.durable_names = names;
        }
        Self { inner: Arc::new((Mutex::new(inner), Condvar::new())) }
    }

    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let inner = self.lock();
        inner.inodes[&inner.names[name]].current.clone()
    }

    /// Changes a byte behind the back of the log.
    pub(super) fn corrupt(&self, name: &str, at: usize, mask: u8) {
        let mut inner = self.lock();
        let id = inner.names[name];
        let inode = inner.inodes.get_mut(&id).unwrap();
        inode.current[at] ^= mask;
        inode.durable[at] ^= mask;
    }

    /// Deletes a file behind the back of the log.
    pub(super) fn lose(&self, name: &str) {
        let mut inner = self.lock();
        inner.names.remove(name).unwrap();
        inner.durable_names.remove(name);
    }

    pub(super) fn segment_names(&self) -> Vec<String> {
        self.lock().names.keys().filter(|name| name.ends_with(".wal")).cloned().collect()
    }
}

impl Inner {
    /// Counts a step. Whether it still happens, and what it answers.
    fn step(&mut self) -> (bool, io::Result<()>) {
        if self.down {
            return (false, Err(io::Error::other("the power is off")));
        }
        self.steps += 1;
        match self.fault {
            Some((at, Fault::Crash)) if at == self.steps => {
                self.down = true;
                (true, Err(io::Error::other("the power fails")))
            }
            Some((at, Fault::Error)) if at == self.steps => {
                (false, Err(io::Error::other("input/output error")))
            }
            _ => (true, Ok(())),
        }
    }

    fn change_names(&mut self, change: NameChange) -> io::Result<()> {
        let (happens, result) = self.step();
        if happens {
            change.apply(&mut self.names);
            self.pending.push(change);
        }
        result
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut inner = self.lock();
        let inode = inner.inodes.len() as u64 + 1;
        inner.inodes.insert(inode, Inode::default());
        inner.change_names(NameChange::Create(name.to_owned(), inode))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.lock().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.lock().change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        if !inner.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        inner.change_names(NameChange::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut inner = self.lock();
        let (_, result) = inner.step();
        if result.is_ok() && !inner.syncs_do_nothing {
            inner.pending.clear();
            inner.durable_names = inner.names.clone();
        }
        result
    }

    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("/wal").join(name)
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.lock().inodes[&self.inode].current.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let inner = self.disk.lock();
        let start = offset as usize;
        let found = inner.inodes[&self.inode].current.get(start..start + bytes.len());
        bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let (happens, mut result) = inner.step();
        if !happens {
            return result;
        }
        let (start, mut bytes) = (offset as usize, bytes);
        let live: Vec<u64> = inner.names.values().copied().collect();
        let used: usize = live.iter().map(|id| inner.inodes[id].current.len()).sum();
        let own = inner.inodes[&self.inode].current.len();
        if let Some(capacity) = inner.capacity_bytes
            && used + (start + bytes.len()).saturating_sub(own) > capacity
        {
            let fits = own.max(start) + capacity.saturating_sub(used) - start;
            bytes = &bytes[..fits.min(bytes.len())];
            result = Err(io::ErrorKind::StorageFull.into());
        }
        let inode = inner.inodes.get_mut(&self.inode).unwrap();
        let end = start + bytes.len();
        inode.dirty.push(start..end);
        let content = &mut inode.current;
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(bytes);
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.syncs_waiting += 1;
        self.disk.inner.1.notify_all();
        while inner.syncs_held {
            self.disk.inner.1.wait(&mut inner);
        }
        inner.syncs_waiting -= 1;
        inner.syncs += 1;
        let (_, result) = inner.step();
        let nothing = inner.syncs_do_nothing;
        let failed = result.is_err() && !inner.down;
        let inode = inner.inodes.get_mut(&self.inode).unwrap();
        if failed {
            inode.dirty.clear();
        }
        if result.is_ok() && !nothing {
            for range in std::mem::take(&mut inode.dirty) {
                if inode.durable.len() < range.end {
                    inode.durable.resize(range.end, 0);
                }
                inode.durable[range.clone()].copy_from_slice(&inode.current[range]);
            }
        }
        result
    }
}
