//! The disk of one simulated machine, under a log: it forgets what was not synced, tears, refuses, fills up, lies and
//! rots, as it is told. Decides nothing by itself; every choice is drawn from the chance it was given.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use barque_store::wal::disk::{Disk, DiskFile};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const SECTOR_BYTES: usize = 512;

#[derive(Clone, Debug, Default)]
struct Inode {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// Written since the last sync, successful or not: what a failed one left is never written unless it is written again,
    /// though readers find it in memory.
    dirty: Vec<Range<usize>>,
    /// Said to be synced, and written with the next sync.
    late: Vec<Range<usize>>,
    /// Bits that turned over since they were written: where, and which.
    rot: Vec<(usize, u8)>,
}

/// What a disk makes of a sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Honesty {
    /// What it says.
    #[default]
    Honest,
    /// It says that it is done, and does nothing.
    Lies,
    /// It says that it is done, and does it with the next sync of the file.
    Late,
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

/// What a disk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskCounts {
    /// Writes, syncs and changes of names.
    pub steps: u64,
    /// Syncs.
    pub syncs: u64,
    /// Sectors that a loss of power kept from the disk.
    pub sectors_lost: u64,
    /// Bits that were turned over.
    pub bits_flipped: u64,
}

#[derive(Debug)]
struct Content {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending: Vec<NameChange>,
    counts: DiskCounts,
    /// The power fails at this step.
    power_fails_at: Option<u64>,
    /// This sync fails.
    sync_fails_at: Option<u64>,
    off: bool,
    capacity_bytes: Option<usize>,
    honesty: Honesty,
    /// Counts the times at which something durable became another thing.
    upheavals: u64,
    sync_ms: Range<u64>,
    chance: StdRng,
}

/// The disk of one machine. Outlives the processes on it; clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<Content>>);

struct SimFile {
    disk: SimDisk,
    inode: u64,
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Content {
            inodes: BTreeMap::new(),
            next_inode: 1,
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            pending: Vec::new(),
            counts: DiskCounts::default(),
            power_fails_at: None,
            sync_fails_at: None,
            off: false,
            capacity_bytes: None,
            honesty: Honesty::Honest,
            upheavals: 0,
            sync_ms: 0..2,
            chance: StdRng::seed_from_u64(seed),
        })))
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it did so far.
    #[must_use]
    pub fn counts(&self) -> DiskCounts {
        self.content().counts
    }

    /// The power will fail at the `steps`th step from now.
    pub fn fail_power_after(&self, steps: u64) {
        let mut content = self.content();
        content.power_fails_at = Some(content.counts.steps + steps);
    }

    /// The `syncs`th sync from now will fail.
    pub fn fail_sync_after(&self, syncs: u64) {
        let mut content = self.content();
        content.sync_fails_at = Some(content.counts.syncs + syncs);
    }

    /// Room for so many bytes more than there are; `None` for no limit.
    pub fn set_room(&self, bytes: Option<usize>) {
        let mut content = self.content();
        content.capacity_bytes = bytes.map(|bytes| content.used() + bytes);
    }

    /// What it makes of syncs from now on; all but the first are controls that show that somebody notices.
    pub fn set_honesty(&self, honesty: Honesty) {
        self.content().honesty = honesty;
    }

    /// A new, empty disk in the place of this one.
    pub fn replace(&self) {
        let mut content = self.content();
        content.inodes.clear();
        content.names.clear();
        content.durable_names.clear();
        content.pending.clear();
        content.upheavals += 1;
    }

    /// What would be there for certain if the power failed now: shows each file to `look`, in the order of their names.
    /// Bits that turned over are shown as they were written. Whether something changed that was shown before, other than by
    /// getting longer, is seen from the number.
    pub fn look_at_durable(&self, mut look: impl FnMut(&str, &[u8])) -> u64 {
        let content = self.content();
        for (name, id) in &content.durable_names {
            match content.inodes.get(id) {
                Some(inode) if inode.rot.is_empty() => look(name, &inode.durable),
                Some(inode) => {
                    let mut written = inode.durable.clone();
                    inode.rot.iter().for_each(|(at, bit)| written[*at] ^= bit);
                    look(name, &written);
                }
                None => {}
            }
        }
        content.upheavals
    }

    /// A sync of a file that is on this disk beside the log: whether it is really done.
    ///
    /// # Errors
    /// When the power is off or fails in it, or the sync fails.
    pub fn sync_elsewhere(&self) -> io::Result<bool> {
        let mut content = self.content();
        content.counts.syncs += 1;
        content.step().1?;
        if content.sync_fails_at == Some(content.counts.syncs) {
            return Err(io::Error::other("input/output error"));
        }
        Ok(content.honesty == Honesty::Honest)
    }

    /// See [`SimDisk::look_at_durable`].
    #[must_use]
    pub fn upheavals(&self) -> u64 {
        self.content().upheavals
    }

    /// How long syncs take from now on.
    pub fn set_sync_ms(&self, sync_ms: Range<u64>) {
        self.content().sync_ms = sync_ms;
    }

    /// How long the next sync takes.
    #[must_use]
    pub fn draw_sync_time(&self) -> Duration {
        let mut content = self.content();
        let range = content.sync_ms.clone();
        let ms = if range.is_empty() { range.start } else { content.chance.random_range(range) };
        Duration::from_millis(ms)
    }

    /// Whether the power failed in the midst of a step.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.content().off
    }

    /// The process ended, the machine goes on: everything that was written is still there, synced or not.
    pub fn process_ended(&self) {
        let mut content = self.content();
        content.power_fails_at = None;
        content.sync_fails_at = None;
    }

    /// The power fails: of what was not synced, any mixture of sectors and names may be there afterwards.
    pub fn power_lost(&self) {
        let mut content = self.content();
        let content = &mut *content;
        content.upheavals += 1;
        for inode in content.inodes.values_mut() {
            let rot = std::mem::take(&mut inode.rot);
            let mut written = std::mem::take(&mut inode.late);
            written.append(&mut inode.dirty);
            let mut found = inode.durable.clone();
            let longest = written.iter().map(|range| range.end).max().unwrap_or(0);
            if longest > found.len() && content.chance.random_bool(0.5) {
                found.resize(longest, 0);
            }
            for range in written {
                for sector in range.start / SECTOR_BYTES..range.end.div_ceil(SECTOR_BYTES) {
                    let start = range.start.max(sector * SECTOR_BYTES);
                    let end = range.end.min((sector + 1) * SECTOR_BYTES).min(found.len());
                    if start < end && content.chance.random_bool(0.5) {
                        found[start..end].copy_from_slice(&inode.current[start..end]);
                    } else {
                        content.counts.sectors_lost += 1;
                    }
                }
            }
            *inode = Inode { durable: found.clone(), current: found, rot, ..Inode::default() };
        }
        // Creations and renames become durable in order, removals in any.
        let mut names = content.durable_names.clone();
        let mut in_order = true;
        for change in content.pending.drain(..) {
            in_order &= content.chance.random_bool(0.5);
            if in_order || (matches!(change, NameChange::Remove(_)) && content.chance.random_bool(0.5)) {
                change.apply(&mut names);
            }
        }
        content.names.clone_from(&names);
        content.durable_names = names;
        content.power_fails_at = None;
        content.sync_fails_at = None;
        content.off = false;
    }

    /// Turns one bit over, in a file that holds something; whether there was one.
    pub fn flip_a_bit(&self) -> bool {
        let mut content = self.content();
        let content = &mut *content;
        let ids: Vec<u64> = content.durable_names.values().copied().collect();
        let Some(id) = (!ids.is_empty()).then(|| ids[content.chance.random_range(0..ids.len())]) else {
            return false;
        };
        let Some(inode) = content.inodes.get_mut(&id) else { return false };
        // Zeros behind the last record are not damage.
        let used = inode.durable.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        if used == 0 {
            return false;
        }
        let at = content.chance.random_range(0..used);
        let bit = 1 << content.chance.random_range(0..8);
        inode.durable[at] ^= bit;
        if let Some(byte) = inode.current.get_mut(at) {
            *byte ^= bit;
        }
        inode.rot.push((at, bit));
        content.counts.bits_flipped += 1;
        true
    }
}

impl Content {
    fn used(&self) -> usize {
        self.names.values().filter_map(|id| self.inodes.get(id)).map(|inode| inode.current.len()).sum()
    }

    /// Counts a step: whether it still happens, and what it answers.
    fn step(&mut self) -> (bool, io::Result<()>) {
        if self.off {
            return (false, Err(io::Error::other("the power is off")));
        }
        self.counts.steps += 1;
        if self.power_fails_at == Some(self.counts.steps) {
            self.off = true;
            return (true, Err(io::Error::other("the power fails")));
        }
        (true, Ok(()))
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
        Ok(self.content().names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut content = self.content();
        let inode = content.next_inode;
        content.next_inode += 1;
        content.inodes.insert(inode, Inode::default());
        content.change_names(NameChange::Create(name.to_owned(), inode))?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = *self.content().names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.content().change_names(NameChange::Rename(from.to_owned(), to.to_owned()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut content = self.content();
        if !content.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        content.change_names(NameChange::Remove(name.to_owned()))
    }

    fn sync_directory(&self) -> io::Result<()> {
        let mut content = self.content();
        let (_, result) = content.step();
        if result.is_ok() && content.honesty != Honesty::Lies {
            content.pending.clear();
            content.durable_names = content.names.clone();
        }
        result
    }

    fn path_of(&self, name: &str) -> PathBuf {
        PathBuf::from("/simulated/wal").join(name)
    }
}

impl SimFile {
    fn with<T>(&self, look: impl FnOnce(&Inode) -> io::Result<T>) -> io::Result<T> {
        let content = self.disk.content();
        look(content.inodes.get(&self.inode).ok_or(io::ErrorKind::NotFound)?)
    }
}

impl DiskFile for SimFile {
    fn length(&self) -> io::Result<u64> {
        self.with(|inode| Ok(inode.current.len() as u64))
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        self.with(|inode| {
            let found = inode.current.get(start..start + bytes.len());
            bytes.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let mut content = self.disk.content();
        let (happens, mut result) = content.step();
        if !happens {
            return result;
        }
        let used = content.used();
        let capacity_bytes = content.capacity_bytes;
        let inode = content.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        let own = inode.current.len();
        let mut bytes = bytes;
        if let Some(capacity) = capacity_bytes
            && used + (start + bytes.len()).saturating_sub(own) > capacity
        {
            let fits = (own.max(start) + capacity.saturating_sub(used)).saturating_sub(start);
            bytes = &bytes[..fits.min(bytes.len())];
            result = Err(io::ErrorKind::StorageFull.into());
        }
        let end = start + bytes.len();
        if inode.current.len() < end {
            inode.current.resize(end, 0);
        }
        inode.current[start..end].copy_from_slice(bytes);
        inode.dirty.push(start..end);
        result
    }

    fn sync(&self) -> io::Result<()> {
        let mut content = self.disk.content();
        content.counts.syncs += 1;
        let (_, mut result) = content.step();
        let fails = content.sync_fails_at == Some(content.counts.syncs);
        let (honesty, off) = (content.honesty, content.off);
        let content = &mut *content;
        let inode = content.inodes.get_mut(&self.inode).ok_or(io::ErrorKind::NotFound)?;
        if fails && !off {
            inode.dirty.clear();
            result = Err(io::Error::other("input/output error"));
        }
        if result.is_ok() && honesty != Honesty::Lies {
            let mut due = std::mem::take(&mut inode.dirty);
            if honesty == Honesty::Late {
                due = std::mem::replace(&mut inode.late, due);
            }
            for range in due {
                if inode.durable.len() < range.end {
                    inode.durable.resize(range.end, 0);
                }
                inode.rot.retain(|(at, _)| !range.contains(at));
                let durable = &mut inode.durable[range.clone()];
                let written = &inode.current[range];
                // Files of a log are full of zeros before they are written.
                if durable.iter().zip(written).any(|(before, now)| *before != 0 && before != now) {
                    content.upheavals += 1;
                }
                durable.copy_from_slice(written);
            }
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_of(disk: &SimDisk, name: &str, bytes: usize) -> io::Result<Vec<u8>> {
        let mut found = vec![0; bytes];
        disk.open(name)?.read_at(&mut found, 0).map(|()| found)
    }

    #[test]
    fn what_was_synced_is_there_after_any_end() {
        for seed in 0..50 {
            let disk = SimDisk::new(seed);
            let file = disk.create("a").unwrap();
            file.write_at(&[7; 2000], 0).unwrap();
            file.sync().unwrap();
            disk.sync_directory().unwrap();
            file.write_at(&[8; 1000], 0).unwrap();
            disk.power_lost();
            let found = content_of(&disk, "a", 2000).unwrap();
            assert!(found[1000..].iter().all(|byte| *byte == 7));
            // Sector by sector, not byte by byte.
            assert!(found[..512].iter().all(|byte| *byte == found[0]));
        }
    }

    #[test]
    fn what_was_not_synced_can_be_lost_and_can_be_there() {
        let outcomes = (0..50).map(|seed| {
            let disk = SimDisk::new(seed);
            let file = disk.create("a").unwrap();
            disk.sync_directory().unwrap();
            file.write_at(&[7; 512], 0).unwrap();
            disk.power_lost();
            content_of(&disk, "a", 512).is_ok_and(|found| found[0] == 7)
        });
        let there: Vec<bool> = outcomes.collect();
        assert!(there.contains(&true) && there.contains(&false));
    }

    #[test]
    fn what_is_durable_is_what_was_synced_and_late_disks_are_one_sync_behind() {
        let durable = |disk: &SimDisk| {
            let mut found = Vec::new();
            disk.look_at_durable(|name, bytes| found.push((name.to_owned(), bytes.to_vec())));
            found
        };
        for (honesty, first, second) in
            [(Honesty::Honest, &[7][..], &[7, 8][..]), (Honesty::Late, &[], &[7]), (Honesty::Lies, &[], &[])]
        {
            let disk = SimDisk::new(1);
            let file = disk.create("a").unwrap();
            disk.sync_directory().unwrap();
            disk.set_honesty(honesty);
            for (offset, value, expected) in [(0, 7, first), (1, 8, second)] {
                file.write_at(&[value], offset).unwrap();
                file.sync().unwrap();
                assert_eq!(durable(&disk), [("a".to_owned(), expected.to_vec())], "{honesty:?}");
            }
            let before = disk.upheavals();
            disk.replace();
            assert!(durable(&disk).is_empty() && disk.upheavals() > before);
        }
    }

    #[test]
    fn a_failed_sync_loses_what_was_dirty_though_the_next_one_succeeds() {
        let disk = SimDisk::new(1);
        let file = disk.create("a").unwrap();
        disk.sync_directory().unwrap();
        disk.fail_sync_after(1);
        file.write_at(&[7; 512], 0).unwrap();
        assert!(file.sync().is_err());
        assert!(file.sync().is_ok());
        disk.power_lost();
        assert!(content_of(&disk, "a", 512).is_err());
    }
}
