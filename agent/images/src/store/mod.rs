//! The images of a machine, in a directory that several processes may use at once: the agent pulls and collects while an
//! administrator lists, loads or removes. Must never take away what an operation under way or somebody who holds an image needs.

pub(crate) mod directory;
mod flights;
pub(crate) mod record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use self::directory::{Directory, Work};
use self::flights::Flights;
use self::record::{Entry, Record, Removed};
use crate::collect::{CollectPolicy, Usage, collect};
use crate::digest::Digest;
use crate::download::Retries;
use crate::error::{Error, Result};
use crate::image::{Image, ImageId};
use crate::platform::Platform;
use crate::reference::Reference;
use crate::registries::Registries;
use crate::registry::Registry;

/// How a store works.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where registries are.
    pub registries: Registries,
    /// Compressed layers stay beside the unpacked ones, so that images can be saved as they came; it costs about a third more disk.
    pub keep_blobs: bool,
    /// Layers of one image at a time.
    pub parallel_downloads: usize,
    /// How often a broken download of a layer is tried at each registry.
    pub attempts: u32,
    /// How long to wait before the second attempt; the time doubles.
    pub retry_delay: Duration,
    /// Which manifest of an index is taken.
    pub platform: Platform,
    /// What was unpacked is on the disk before the image is there. Without it a power cut can empty files of an image.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            registries: Registries::default(),
            keep_blobs: true,
            parallel_downloads: 3,
            attempts: 6,
            retry_delay: Duration::from_millis(500),
            platform: Platform::of_this_machine(),
            sync: true,
        }
    }
}

impl Options {
    pub(crate) fn retries(&self) -> Retries {
        Retries { attempts: self.attempts.max(1), delay: self.retry_delay }
    }
}

/// What was collected.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// What is gone.
    pub removed: Removed,
    /// What is still missing to the low threshold, in bytes.
    pub short_by_bytes: u64,
}

/// The images of a machine. Cheap to clone. All methods but [`ImageStore::pull`] block for the disk, and for as long as another
/// process writes the record.
#[derive(Clone)]
pub struct ImageStore {
    inner: Arc<Inner>,
}

struct Inner {
    directory: Directory,
    options: Options,
    registry: Registry,
    flights: Flights,
}

impl std::fmt::Debug for ImageStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageStore").field("root", &self.inner.directory.root()).finish_non_exhaustive()
    }
}

impl ImageStore {
    /// Opens the store in a directory, which is made if need be. Removes what processes left that were killed.
    ///
    /// # Errors
    /// When the directory cannot be used.
    pub fn open(root: &Path, options: Options) -> Result<Self> {
        let directory = Directory::open(root)?;
        let inner = Inner { directory, options, registry: Registry::new(), flights: Flights::default() };
        let store = Self { inner: Arc::new(inner) };
        store.sweep()?;
        Ok(store)
    }

    /// All images, by their ids.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn list(&self) -> Result<Vec<Image>> {
        let record = self.directory().read()?;
        Ok(record.images.iter().map(|(id, entry)| self.image(id, entry)).collect())
    }

    /// An image by a name, a name with a digest, its id or an unambiguous beginning of its id.
    ///
    /// # Errors
    /// When the text is no name, or the record cannot be read.
    pub fn find(&self, text: &str) -> Result<Option<Image>> {
        let record = self.directory().read()?;
        let id = record.find(text)?;
        Ok(id.and_then(|id| record.images.get(&id).map(|entry| self.image(&id, entry))))
    }

    /// Gives an image another name; whoever had it loses it.
    ///
    /// # Errors
    /// When there is no such image, or the name has a digest.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<()> {
        self.change(|record| {
            let id = record.find(image)?.ok_or_else(|| Error::NotFound(image.to_owned()))?;
            record.tag(&id, name)
        })
    }

    /// Says whether an image may be collected.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn pin(&self, image: &str, pinned: bool) -> Result<()> {
        self.change(|record| {
            let id = record.find(image)?.ok_or_else(|| Error::NotFound(image.to_owned()))?;
            if let Some(entry) = record.images.get_mut(&id) {
                entry.pinned = pinned;
            }
            Ok(())
        })
    }

    /// Somebody, as a container, needs an image until [`ImageStore::release`], also over restarts: it is neither removed nor
    /// collected, and counts as used now. Holding again under the same name takes the place of what was held.
    ///
    /// # Errors
    /// When there is no such image.
    pub fn hold(&self, name: &str, image: &ImageId) -> Result<()> {
        self.change(|record| {
            let entry = record.images.get_mut(image).ok_or_else(|| Error::NotFound(image.to_string()))?;
            entry.used_ns = now_ns();
            record.holds.insert(name.to_owned(), image.clone());
            Ok(())
        })
    }

    /// Somebody does not need the image any more that was held under this name; nothing held is fine.
    ///
    /// # Errors
    /// When the record cannot be changed.
    pub fn release(&self, name: &str) -> Result<()> {
        if !self.directory().read()?.holds.contains_key(name) {
            return Ok(());
        }
        self.change(|record| {
            if let Some(entry) = record.holds.remove(name).and_then(|id| record.images.get_mut(&id)) {
                entry.used_ns = now_ns();
            }
            Ok(())
        })
    }

    /// Who holds which image.
    ///
    /// # Errors
    /// When the record cannot be read.
    pub fn holds(&self) -> Result<BTreeMap<String, ImageId>> {
        Ok(self.directory().read()?.holds)
    }

    /// By a name: takes the name away, and with the last one the image. By an id: takes the image away with all its names.
    ///
    /// # Errors
    /// [`Error::NotFound`], and [`Error::InUse`] when somebody holds it.
    pub fn remove(&self, image: &str) -> Result<Removed> {
        let removed = self.change(|record| record.remove(image))?;
        self.sweep()?;
        Ok(removed)
    }

    /// Removes all images that are not pinned, not held and not in `in_use`.
    ///
    /// # Errors
    /// When the record cannot be changed.
    pub fn prune(&self, in_use: &BTreeSet<ImageId>) -> Result<Removed> {
        let removed = self.change(|record| {
            let unused = record.images.iter().filter(|(id, entry)| !entry.pinned && !in_use.contains(id));
            let unused: Vec<ImageId> = unused.map(|(id, _)| id.clone()).collect();
            Ok(delete_unheld(record, unused))
        })?;
        self.sweep()?;
        Ok(removed)
    }

    /// Removes images as [`collect`] plans it for the disk as it is.
    ///
    /// # Errors
    /// When the record cannot be changed.
    pub fn collect(&self, in_use: &BTreeSet<ImageId>, policy: CollectPolicy) -> Result<Collected> {
        let usage = self.usage()?;
        let record = self.directory().read()?;
        let images: Vec<Image> = record.images.iter().map(|(id, entry)| self.image(id, entry)).collect();
        let needed: BTreeSet<ImageId> = in_use.union(&record.held()).cloned().collect();
        let collection = collect(&images, &needed, usage, policy, now_ns());
        let mut collected = Collected { short_by_bytes: collection.short_by_bytes, ..Collected::default() };
        if !collection.images.is_empty() {
            for (id, reason) in &collection.images {
                tracing::info!("image {id} is collected: {reason:?}");
            }
            let ids = collection.images.into_iter().map(|(id, _)| id).collect();
            collected.removed = self.change(|record| Ok(delete_unheld(record, ids)))?;
            self.sweep()?;
        }
        Ok(collected)
    }

    /// The file system of the images, and what they take of it.
    ///
    /// # Errors
    /// When the file system does not tell.
    pub fn usage(&self) -> Result<Usage> {
        let root = self.directory().root();
        let stat = rustix::fs::statvfs(root).map_err(|error| {
            Error::io(format!("asking for the space of {}", root.display()))(error.into())
        })?;
        Ok(Usage {
            capacity_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            inodes: stat.f_files,
            inodes_free: stat.f_ffree,
            images_bytes: self.directory().read()?.bytes(),
        })
    }

    /// The directory of the store.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory().root()
    }

    pub(crate) fn options(&self) -> &Options {
        &self.inner.options
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.inner.directory
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub(crate) fn flights(&self) -> &Flights {
        &self.inner.flights
    }

    /// Runs what blocks where it may.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        run: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.clone();
        let ran = tokio::task::spawn_blocking(move || run(&store)).await;
        ran.map_err(|error| Error::io("working on images")(std::io::Error::other(error)))?
    }

    /// Begins an operation that needs these digests to stay.
    pub(crate) fn work_that_needs(&self, digests: &[Digest]) -> Result<Work> {
        let lock = self.directory().lock()?;
        let work = self.directory().work(&lock)?;
        work.need(&lock, digests.iter())?;
        Ok(work)
    }

    /// Enters an image whose parts are all in place.
    pub(crate) fn enter(&self, id: ImageId, entry: Entry) -> Result<Image> {
        if self.options().sync {
            self.directory().sync()?;
        }
        let entered = id.clone();
        let entry = self.change(|record| {
            record.add(id.clone(), entry);
            record.images.get(&id).cloned().ok_or_else(|| Error::NotFound(id.to_string()))
        })?;
        Ok(self.image(&entered, &entry))
    }

    pub(crate) fn image(&self, id: &ImageId, entry: &Entry) -> Image {
        entry.image(id, |layer| self.directory().layer_files(layer))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Record) -> Result<T>) -> Result<T> {
        let directory = self.directory();
        let lock = directory.lock()?;
        let mut record = directory.read()?;
        let before = record.clone();
        let changed = change(&mut record)?;
        if record != before {
            directory.write(&lock, &record)?;
        }
        Ok(changed)
    }

    /// Removes the content that neither the record nor an operation under way needs.
    fn sweep(&self) -> Result<()> {
        let directory = self.directory();
        let lock = directory.lock()?;
        let record = directory.read()?;
        let (left, needed) = directory.leftovers(&lock)?;
        let bin = directory.work(&lock)?;
        let with = |own: BTreeSet<Digest>| own.union(&needed).cloned().collect::<BTreeSet<_>>();
        directory.discard(&lock, &bin, &with(record.layers()), &with(record.blobs()))?;
        // What is in the bin takes its time to go.
        drop(lock);
        drop(bin);
        drop(left);
        Ok(())
    }
}

/// Those that somebody holds meanwhile stay.
fn delete_unheld(record: &mut Record, ids: Vec<ImageId>) -> Removed {
    let mut removed = Removed::default();
    for id in ids {
        if let Ok(gone) = record.delete(&id) {
            removed.untagged.extend(gone.untagged);
            removed.deleted.extend(gone.deleted);
        }
    }
    removed
}

/// Nanoseconds since 1970.
pub(crate) fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
