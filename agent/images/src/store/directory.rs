//! The directory of a store, shared by processes: the lock, the record, content by digest, and work in progress.
//!
//! ```text
//! lock          held (flock) while the record changes, and no longer
//! images.json   the record, replaced whole
//! blobs/        manifests, configurations and compressed layers by digest
//! layers/       unpacked layers: HEX/diff is what overlayfs stacks, HEX/layer.json tells its size
//! work/         a directory for each operation under way, held (flock) by it, with the digests that it needs
//! ```
//!
//! Content appears whole by a rename and before the record names it. Nothing goes that the record or an operation under way needs;
//! what goes is renamed into `work` first. What a killed process left there is not held, and goes when the next one opens the store.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::digest::Digest;
use crate::error::{Error, Result};

const RECORD: &str = "images.json";
const NEEDS: &str = "needs";

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    root: PathBuf,
}

/// The lock of a store, held.
pub(crate) struct Lock {
    /// Its lock ends with it.
    _file: File,
}

/// An operation under way: a directory of its own, and what must not go meanwhile. Its directory goes with it.
pub(crate) struct Work {
    path: PathBuf,
    /// Its lock ends with it.
    _held: File,
}

/// What is known of an unpacked layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerFile {
    pub(crate) diff_id: Digest,
    pub(crate) bytes: u64,
}

impl Directory {
    /// Makes what is missing and removes what killed processes left.
    pub(crate) fn open(root: &Path) -> Result<Self> {
        // Paths of layers are what overlayfs is told: they must not depend on where anybody is.
        let make = |path: &Path, mode: u32| {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(path)
                .map_err(Error::io(format!("making {}", path.display())))
        };
        make(root, 0o711)?;
        let root = root.canonicalize().map_err(Error::io(format!("opening {}", root.display())))?;
        let directory = Self { root };
        for (name, mode) in [("blobs", 0o700), ("layers", 0o711), ("work", 0o700)] {
            make(&directory.root.join(name), mode)?;
        }
        Ok(directory)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.hex())
    }

    /// What overlayfs stacks.
    pub(crate) fn layer_files(&self, directory: &Digest) -> PathBuf {
        self.root.join("layers").join(directory.hex()).join("diff")
    }

    /// A layer that is here.
    pub(crate) fn layer(&self, directory: &Digest) -> Result<Option<LayerFile>> {
        let path = self.root.join("layers").join(directory.hex()).join("layer.json");
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map(Some)
                .map_err(|error| Error::invalid(path.display().to_string(), error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("reading {}", path.display()))(error)),
        }
    }

    /// Moves an unpacked layer (a directory with `diff` in it) to where it stays. Whoever comes second finds it there.
    pub(crate) fn keep_layer(&self, made: &Path, directory: &Digest, file: &LayerFile) -> Result<()> {
        let keep = || -> io::Result<()> {
            fs::write(made.join("layer.json"), serde_json::to_vec(file)?)?;
            match fs::rename(made, self.root.join("layers").join(directory.hex())) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    ) =>
                {
                    Ok(())
                }
                renamed => renamed,
            }
        };
        keep().map_err(Error::io(format!("keeping layer {directory}")))
    }

    /// Moves a blob whose digest was checked to where it stays.
    pub(crate) fn keep_blob(&self, made: &Path, digest: &Digest) -> Result<()> {
        fs::rename(made, self.blob(digest)).map_err(Error::io(format!("keeping {digest}")))
    }

    /// Waits until layers and blobs are on the disk, so that the record never names what a power cut takes.
    pub(crate) fn sync(&self) -> Result<()> {
        let layers = File::open(self.root.join("layers")).map_err(Error::io("syncing layers"))?;
        rustix::fs::syncfs(&layers).map_err(|error| Error::io("syncing layers")(error.into()))
    }

    /// Waits for whoever holds the lock; nobody does for longer than it takes to write the record.
    pub(crate) fn lock(&self) -> Result<Lock> {
        let lock = || -> io::Result<File> {
            let file =
                File::options().create(true).truncate(false).write(true).open(self.root.join("lock"))?;
            loop {
                match flock(&file, FlockOperation::LockExclusive) {
                    Err(Errno::INTR) => {}
                    locked => return locked.map(|()| file).map_err(Into::into),
                }
            }
        };
        let file = lock().map_err(Error::io(format!("locking {}", self.root.display())))?;
        Ok(Lock { _file: file })
    }

    /// The record as it is; it needs no lock, because it is replaced whole.
    pub(crate) fn read(&self) -> Result<Record> {
        let path = self.root.join(RECORD);
        match fs::read(&path) {
            Ok(bytes) => Record::parse(&path, &bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Record::default()),
            Err(error) => Err(Error::io(format!("reading {}", path.display()))(error)),
        }
    }

    /// Replaces the record.
    pub(crate) fn write(&self, _: &Lock, record: &Record) -> Result<()> {
        let (path, new) = (self.root.join(RECORD), self.root.join("images.json.new"));
        let write = || -> io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(&serde_json::to_vec(record)?)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            File::open(&self.root)?.sync_all()
        };
        write().map_err(Error::io(format!("writing {}", path.display())))
    }

    /// Begins an operation.
    pub(crate) fn work(&self, _: &Lock) -> Result<Work> {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let begin = || -> io::Result<Work> {
            loop {
                let number = COUNTER.fetch_add(1, Ordering::Relaxed);
                let path = self.root.join("work").join(format!("{}-{number}", std::process::id()));
                match fs::DirBuilder::new().mode(0o700).create(&path) {
                    // Of a process before us that had our number.
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                    made => made?,
                }
                let held = File::open(&path)?;
                flock(&held, FlockOperation::NonBlockingLockExclusive)?;
                return Ok(Work { path, _held: held });
            }
        };
        begin().map_err(Error::io(format!("working in {}", self.root.join("work").display())))
    }

    /// What nobody holds any more in `work`, and what all others need. What is not held is held now, until it is removed.
    pub(crate) fn leftovers(&self, _: &Lock) -> Result<(Vec<Work>, BTreeSet<Digest>)> {
        let look = || -> io::Result<(Vec<Work>, BTreeSet<Digest>)> {
            let (mut left, mut needed) = (Vec::new(), BTreeSet::new());
            for entry in fs::read_dir(self.root.join("work"))? {
                let path = entry?.path();
                let held = match rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
                    Ok(held) => File::from(held),
                    Err(Errno::NOENT) => continue,
                    Err(error) => return Err(error.into()),
                };
                match flock(&held, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => left.push(Work { path, _held: held }),
                    Err(Errno::WOULDBLOCK) => needed.extend(needs(&path)?),
                    Err(error) => return Err(error.into()),
                }
            }
            Ok((left, needed))
        };
        look().map_err(Error::io(format!("looking into {}", self.root.join("work").display())))
    }

    /// Moves what is not in `layers` and `blobs` into `bin`.
    pub(crate) fn discard(
        &self,
        _: &Lock,
        bin: &Work,
        layers: &BTreeSet<Digest>,
        blobs: &BTreeSet<Digest>,
    ) -> Result<()> {
        let discard = |name: &str, keep: &BTreeSet<Digest>| -> io::Result<()> {
            let keep: BTreeSet<&str> = keep.iter().map(Digest::hex).collect();
            for entry in fs::read_dir(self.root.join(name))? {
                let entry = entry?;
                let file = entry.file_name();
                if !file.to_str().is_some_and(|file| keep.contains(file)) {
                    fs::rename(entry.path(), bin.path.join(format!("{name}-{}", file.display())))?;
                }
            }
            Ok(())
        };
        discard("layers", layers)
            .and_then(|()| discard("blobs", blobs))
            .map_err(Error::io("discarding what no image needs"))
    }
}

impl Work {
    /// A place for a file or directory of the operation.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// From now on nobody discards these, whether they are there or not.
    pub(crate) fn need<'a>(&self, _: &Lock, digests: impl Iterator<Item = &'a Digest>) -> Result<()> {
        let mut text = String::new();
        for digest in digests {
            text.push_str(digest.as_str());
            text.push('\n');
        }
        let write = || -> io::Result<()> {
            let mut file = File::options().create(true).append(true).open(self.place(NEEDS))?;
            file.write_all(text.as_bytes())
        };
        write().map_err(Error::io(format!("writing {}", self.place(NEEDS).display())))
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!("{} is not removed: {error}", self.path.display());
        }
    }
}

fn needs(work: &Path) -> io::Result<Vec<Digest>> {
    match fs::read_to_string(work.join(NEEDS)) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}
