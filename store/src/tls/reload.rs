//! A configuration made of files that follows the files.

use std::fmt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::TlsError;
use super::files::Material;
use crate::config::TlsFiles;

/// A file that was written this recently may be written again without its times telling: clocks of file systems
/// are coarse. Its contents are compared instead.
const UNSETTLED: Duration = Duration::from_secs(2);

/// How one file looks from outside; symbolic links are followed, as Kubernetes replaces them.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified_s: i64,
    modified_ns: i64,
    changed_s: i64,
    changed_ns: i64,
}

impl Stamp {
    fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let written_s = u64::try_from(self.modified_s.max(self.changed_s)).unwrap_or(0);
        now > Duration::from_secs(written_s) + UNSETTLED
    }
}

/// `None` for a file that is not there.
type Stamps = [Option<Stamp>; 3];

struct Seen {
    stamps: Stamps,
    settled: bool,
    /// `None` if the files could not even be read.
    material: Option<Material>,
}

/// What makes a value of files.
type Make<T> = Box<dyn Fn(&TlsFiles, &Material) -> Result<T, TlsError> + Send + Sync>;

/// The value that a function makes of files, made again when they change.
pub(super) struct Reloading<T> {
    files: TlsFiles,
    make: Make<T>,
    current: ArcSwap<T>,
    seen: Mutex<Seen>,
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T> Reloading<T> {
    pub(super) fn load(
        files: TlsFiles,
        make: impl Fn(&TlsFiles, &Material) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        // Before reading: a change in between is seen as one at the next look.
        let (stamps, settled) = look(&files);
        let material = Material::read(&files)?;
        let current = ArcSwap::from_pointee(make(&files, &material)?);
        Ok(Self {
            files,
            make: Box::new(make),
            current,
            seen: Mutex::new(Seen { stamps, settled, material: Some(material) }),
        })
    }

    /// The value of the current files, or of the last ones that could be used. Looks at the files unless
    /// somebody else is just doing so.
    pub(super) fn current(&self) -> Arc<T> {
        if let Some(mut seen) = self.seen.try_lock() {
            self.follow(&mut seen);
        }
        self.current.load_full()
    }

    fn follow(&self, seen: &mut Seen) {
        let (stamps, settled) = look(&self.files);
        if stamps == seen.stamps && seen.settled {
            return;
        }
        let same_stamps = stamps == seen.stamps;
        seen.stamps = stamps;
        seen.settled = settled;
        let made = match Material::read(&self.files) {
            Ok(material) if seen.material.as_ref() == Some(&material) => return,
            Ok(material) => {
                let made = (self.make)(&self.files, &material);
                seen.material = Some(material);
                made
            }
            // Said once for each state of the files, not at each handshake.
            Err(_) if same_stamps && seen.material.is_none() => return,
            Err(error) => {
                seen.material = None;
                Err(error)
            }
        };
        match made {
            Ok(made) => {
                self.current.store(Arc::new(made));
                tracing::info!(cert_file = %shown(&self.files.cert_file), "certificates were replaced");
            }
            Err(error) => {
                let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
                tracing::error!(
                    "changed certificate files cannot be used, the old ones stay: {error}{}",
                    source.unwrap_or_default()
                );
            }
        }
    }
}

fn shown(file: &Option<PathBuf>) -> String {
    file.as_ref().map(|file| file.display().to_string()).unwrap_or_default()
}

fn look(files: &TlsFiles) -> (Stamps, bool) {
    let stamps = [&files.cert_file, &files.key_file, &files.trusted_ca_file].map(|file| {
        let metadata = std::fs::metadata(file.as_ref()?).ok()?;
        Some(Stamp {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
            changed_s: metadata.ctime(),
            changed_ns: metadata.ctime_nsec(),
        })
    });
    let now = SystemTime::now();
    (stamps, stamps.iter().flatten().all(|stamp| stamp.settled(now)))
}
