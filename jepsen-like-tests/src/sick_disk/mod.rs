//! Disks that forget what was not synced, and are sick when told to: a file system of our own under a member's data.
//!
//! Everything is in this process's memory, and so is bounded by what the members of a test write. Needs root and
//! `/dev/fuse`. Must never leave a mount behind.
//!
//! - [`loss`]: what a power cut leaves; [`tree`]: files and directories, as they are seen and as they are on the disk
//! - [`sickness`]: the switches
//! - `shell`: what the kernel sees; `guard`: unmounts when this process is killed

mod guard;
pub mod loss;
mod shell;
pub mod sickness;
pub mod tree;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use fuser::{BackgroundSession, Config, MountOption};
use rand::Rng;
use rustix::mount::{UnmountFlags, unmount};

use guard::UnmountGuard;
use loss::Loss;
pub use shell::Counts;
use shell::{Shared, Shell, WAITING_SYNCS};
use sickness::Sickness;

/// Where the kernel takes file systems from.
const DEVICE: &str = "/dev/fuse";

/// Why there can be no such disks here; `None` when there can be.
#[must_use]
pub fn missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root to mount a disk of our own".to_owned());
    }
    match std::fs::File::options().read(true).write(true).open(DEVICE) {
        Ok(_) => None,
        Err(why) => Some(format!("needs {DEVICE} ({why})")),
    }
}

/// A disk, mounted. Dropping it takes it away with all that is on it; nothing should run on it then.
pub struct SickDisk {
    shared: Arc<Shared>,
    path: PathBuf,
    // In this order: the file system goes, its slow syncs end, and only then nothing has to watch over it.
    session: Option<BackgroundSession>,
    slow_syncs: Option<JoinHandle<()>>,
    _guard: UnmountGuard,
}

impl std::fmt::Debug for SickDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SickDisk").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SickDisk {
    /// Mounts an empty disk that is well.
    ///
    /// # Errors
    /// When it cannot be mounted; see [`missing`].
    pub fn mount() -> io::Result<Self> {
        // Removed by the guard.
        let path = tempfile::Builder::new().prefix("sick-disk-").tempdir()?.keep();
        let guard = UnmountGuard::over(&path)?;
        let shared = Arc::new(Shared::new());
        let (slow, waiting) = sync_channel(WAITING_SYNCS);
        let disk = Arc::clone(&shared);
        let slow_syncs = std::thread::Builder::new()
            .name("slow-syncs".to_owned())
            .spawn(move || disk.sync_slowly(&waiting))?;
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("sick-disk".to_owned()), MountOption::NoAtime];
        let session = fuser::spawn_mount(Shell { shared: Arc::clone(&shared), slow }, &path, &config)?;
        Ok(Self { shared, path, session: Some(session), slow_syncs: Some(slow_syncs), _guard: guard })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it sick, or well again. Syncs that hang or take long go on at once, in their new way.
    pub fn set(&self, sickness: Sickness) {
        self.shared.change(|state| state.sickness = sickness);
    }

    /// From here on nothing is done any more: everything fails, syncs that are under way too.
    pub fn power_off(&self) {
        self.shared.change(|state| state.power = false);
    }

    /// What was not synced is lost, and the disk works again, with new numbers for everything. Whoever used it before must
    /// be gone.
    pub fn power_on(&self, loss: Loss, rng: &mut impl Rng) {
        self.shared.change(|state| {
            state.tree.power_cut(loss, rng);
            state.power = true;
        });
    }

    /// Makes everything durable that was written so far, as the machine does by itself after some time.
    pub fn write_back(&self) {
        self.shared.lock().tree.write_back();
    }

    /// What it was asked for.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.lock().counts
    }
}

impl Drop for SickDisk {
    fn drop(&mut self) {
        // Whoever still waits for a sync gets an answer, without which it could not be ended.
        self.power_off();
        if let Err(why) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("{} cannot be unmounted: {why}", self.path.display());
        }
        drop(self.session.take());
        // It ends with the file system, which a process that still runs on it keeps alive.
        if !std::thread::panicking()
            && let Some(slow_syncs) = self.slow_syncs.take()
        {
            // A panic in it was reported by the panic hook.
            let _ = slow_syncs.join();
        }
    }
}

/// A disk for each member.
#[derive(Debug, Default)]
pub struct Disks {
    of: Mutex<BTreeMap<String, Arc<SickDisk>>>,
}

impl Disks {
    /// A new one for the member of that name.
    ///
    /// # Errors
    /// See [`SickDisk::mount`].
    pub fn add(&self, name: &str) -> io::Result<Arc<SickDisk>> {
        let disk = Arc::new(SickDisk::mount()?);
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        of.insert(name.to_owned(), Arc::clone(&disk));
        Ok(disk)
    }

    /// That of the member of that name.
    #[must_use]
    pub fn of(&self, name: &str) -> Option<Arc<SickDisk>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }
}
