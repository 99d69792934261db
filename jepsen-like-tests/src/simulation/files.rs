//! The files of simulated machines that are on the real file system (identity, snapshots): which of them would be there
//! for certain if the power failed, and what is left of them when it does.
//!
//! The members write them as ever. A simulating program hands each sync of a file or directory to [`sync`] instead of to
//! the kernel; what was not synced may be gone, old or torn after a loss of power, by chance. Between two syncs nothing is
//! known of the order of writes, so a directory is afterwards as it was synced or as it was last, whole files apart.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{DirEntryExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::disk::SimDisk;

const SECTOR_BYTES: usize = 512;
/// Holds no data.
const LOCK: &str = "lock";

/// What is durable below one directory, by inode.
#[derive(Debug)]
struct Durable {
    root: PathBuf,
    disk: SimDisk,
    contents: BTreeMap<u64, Vec<u8>>,
    names: BTreeMap<PathBuf, BTreeMap<String, u64>>,
    bits_flipped: u64,
    losses: u64,
    chance: StdRng,
}

/// The files of one machine. Clones share them.
#[derive(Clone, Debug)]
pub struct Files(Arc<Mutex<Durable>>);

/// All machines of this program.
static MACHINES: Mutex<Vec<Files>> = Mutex::new(Vec::new());

/// A sync of a file or a directory; `None` when it belongs to no simulated machine.
#[must_use]
pub fn sync(of: BorrowedFd<'_>) -> Option<io::Result<()>> {
    let machines = MACHINES.lock().unwrap_or_else(PoisonError::into_inner);
    if machines.is_empty() {
        return None;
    }
    let path = std::fs::read_link(format!("/proc/self/fd/{}", of.as_raw_fd())).ok()?;
    let machine = machines.iter().find(|machine| path.starts_with(&machine.durable().root))?;
    Some(machine.synced(&path))
}

impl Files {
    /// Those below `root`, on the machine with this disk: when it is off, or its sync fails, nothing is synced here either.
    #[must_use]
    pub fn new(root: &Path, disk: &SimDisk, seed: u64) -> Self {
        let files = Self(Arc::new(Mutex::new(Durable {
            root: root.to_owned(),
            disk: disk.clone(),
            contents: BTreeMap::new(),
            names: BTreeMap::new(),
            bits_flipped: 0,
            losses: 0,
            chance: StdRng::seed_from_u64(seed ^ 0xf11e),
        })));
        MACHINES.lock().unwrap_or_else(PoisonError::into_inner).push(files.clone());
        files
    }

    fn durable(&self) -> MutexGuard<'_, Durable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file or directory was synced, if the disk does it.
    ///
    /// # Errors
    /// When the power is off or the disk refuses.
    fn synced(&self, path: &Path) -> io::Result<()> {
        let mut durable = self.durable();
        if !durable.disk.sync_elsewhere()? {
            return Ok(());
        }
        // What has no name any more is nobody's loss.
        let Ok(metadata) = std::fs::metadata(path) else { return Ok(()) };
        if metadata.is_dir() {
            let names = names_in(path)?;
            durable.names.insert(path.to_owned(), names);
        } else {
            let content = std::fs::read(path)?;
            durable.contents.insert(metadata.ino(), content);
        }
        Ok(())
    }

    /// The power fails. No process may run.
    pub fn power_lost(&self) {
        let mut durable = self.durable();
        let root = durable.root.clone();
        // A machine whose files cannot be changed is a machine that lost nothing.
        let _ = durable.lose(&root);
    }

    /// Deletes all of them, as an administrator does.
    pub fn wipe(&self) {
        let mut durable = self.durable();
        durable.contents.clear();
        durable.names.clear();
        let _ = std::fs::remove_dir_all(&durable.root);
    }

    /// Turns one bit of a file over; whether there was a file.
    pub fn flip_a_bit(&self) -> bool {
        let mut durable = self.durable();
        let names = durable.names.clone();
        let files = names.iter().flat_map(|(dir, names)| names.keys().map(move |name| dir.join(name)));
        let files: Vec<PathBuf> = files.filter(|path| path.is_file() && !path.ends_with(LOCK)).collect();
        if files.is_empty() {
            return false;
        }
        let path = &files[durable.chance.random_range(0..files.len())];
        let Ok(mut content) = std::fs::read(path) else { return false };
        if content.is_empty() {
            return false;
        }
        let at = durable.chance.random_range(0..content.len());
        content[at] ^= 1 << durable.chance.random_range(0..8);
        durable.bits_flipped += 1;
        durable.write(path, content).is_ok()
    }

    /// How often a file was not what it had been after a loss of power.
    #[must_use]
    pub fn losses(&self) -> u64 {
        self.durable().losses
    }

    /// How many bits were turned over.
    #[must_use]
    pub fn bits_flipped(&self) -> u64 {
        self.durable().bits_flipped
    }
}

impl Durable {
    /// Writes a file in its place, durably.
    fn write(&mut self, path: &Path, content: Vec<u8>) -> io::Result<()> {
        std::fs::write(path, &content)?;
        self.contents.insert(std::fs::metadata(path)?.ino(), content);
        Ok(())
    }

    fn lose(&mut self, dir: &Path) -> io::Result<()> {
        if !dir.is_dir() {
            return Ok(());
        }
        let last = names_in(dir)?;
        let synced = self.names.get(dir).cloned().unwrap_or_default();
        if last != synced && self.chance.random_bool(0.5) {
            self.losses += 1;
            for name in last.keys().filter(|name| last.get(*name) != synced.get(*name)) {
                std::fs::remove_file(dir.join(name))?;
            }
            for (name, inode) in synced.iter().filter(|(name, inode)| last.get(*name) != Some(*inode)) {
                let content = self.contents.get(inode).cloned().unwrap_or_default();
                self.write(&dir.join(name), content)?;
            }
        }
        for name in names_in(dir)?.into_keys() {
            self.tear(&dir.join(name))?;
        }
        let left = names_in(dir)?;
        self.names.insert(dir.to_owned(), left);
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.lose(&entry.path())?;
            }
        }
        Ok(())
    }

    /// What is left of a file: what was synced, and sectors of what was written since.
    fn tear(&mut self, path: &Path) -> io::Result<()> {
        let last = std::fs::read(path)?;
        let synced = self.contents.get(&std::fs::metadata(path)?.ino()).cloned().unwrap_or_default();
        if last == synced {
            return Ok(());
        }
        let mut left = synced;
        if self.chance.random_bool(0.5) {
            left.resize(last.len(), 0);
        }
        let common = left.len().min(last.len());
        for start in (0..common).step_by(SECTOR_BYTES) {
            let sector = start..(start + SECTOR_BYTES).min(common);
            if self.chance.random_bool(0.5) {
                left[sector.clone()].copy_from_slice(&last[sector]);
            }
        }
        self.losses += u64::from(left != last);
        self.write(path, left)
    }
}

/// The files in a directory, with their inodes.
fn names_in(dir: &Path) -> io::Result<BTreeMap<String, u64>> {
    let mut names = BTreeMap::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file()
            && let Ok(name) = entry.file_name().into_string()
            && name != LOCK
        {
            names.insert(name, entry.ino());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::disk::Honesty;

    /// How a program makes a file appear, with its syncs where they belong or not.
    fn publish(files: &Files, dir: &Path, content: &[u8], syncs_file: bool, syncs_dir: bool) {
        let (writing, done) = (dir.join("a.writing"), dir.join("a"));
        std::fs::write(&writing, content).unwrap();
        if syncs_file {
            files.synced(&writing).unwrap();
        }
        std::fs::rename(&writing, &done).unwrap();
        if syncs_dir {
            files.synced(dir).unwrap();
        }
    }

    /// What is found as `a` after a loss of power, over many machines.
    fn found(syncs_file: bool, syncs_dir: bool) -> Vec<Option<Vec<u8>>> {
        let one = |seed| {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::new(dir.path(), &SimDisk::new(seed), seed);
            publish(&files, dir.path(), &[7; 2000], syncs_file, syncs_dir);
            files.power_lost();
            std::fs::read(dir.path().join("a")).ok()
        };
        (0..40).map(one).collect()
    }

    #[test]
    fn what_was_synced_is_there_and_nothing_else_is_sure() {
        let whole = Some(vec![7; 2000]);
        assert!(found(true, true).iter().all(|found| *found == whole));
        let unnamed = found(true, false);
        assert!(unnamed.contains(&whole) && unnamed.contains(&None));
        assert!(unnamed.iter().all(|found| found.is_none() || *found == whole), "never torn");
        let torn = found(false, true);
        assert!(torn.iter().any(|found| *found != whole), "a name without content");
        assert!(torn.iter().all(Option::is_some));
    }

    #[test]
    fn a_file_in_the_place_of_another_is_one_of_the_two() {
        let mut seen = [false; 2];
        for seed in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let files = Files::new(dir.path(), &SimDisk::new(seed), seed);
            publish(&files, dir.path(), b"old", true, true);
            publish(&files, dir.path(), b"new", true, false);
            files.power_lost();
            match &std::fs::read(dir.path().join("a")).unwrap()[..] {
                b"old" => seen[0] = true,
                b"new" => seen[1] = true,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(seen, [true, true]);
    }

    #[test]
    fn a_disk_that_is_off_or_lies_syncs_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(1);
        let files = Files::new(dir.path(), &disk, 1);
        disk.fail_power_after(1);
        assert!(files.synced(dir.path()).is_err() && disk.is_off());
        assert!(files.synced(dir.path()).is_err());
        disk.power_lost();
        disk.fail_sync_after(1);
        assert!(files.synced(dir.path()).is_err());
        assert!(files.synced(dir.path()).is_ok());
        disk.set_honesty(Honesty::Lies);
        std::fs::write(dir.path().join("a"), "1").unwrap();
        files.synced(dir.path()).unwrap();
        assert!(files.durable().names.values().all(BTreeMap::is_empty));
    }
}
