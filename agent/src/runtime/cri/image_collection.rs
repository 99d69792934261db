//! Images of the runtime that nobody uses, and their removal: runtimes keep all that they ever pulled until somebody says otherwise.
//! Must never remove what a container was made from, or what sandboxes are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use barque_cri::{Client, CriError, v1};
use barque_images::{Candidate, CollectPolicy, Usage, choose};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use tokio::sync::Mutex;

use crate::image_collection::ImageKeeper;
use crate::node_api::stats::machine::file_system;

/// The images of a runtime, and since when the agent knows them.
pub(crate) struct CriImages {
    client: Client,
    records: Mutex<Records>,
}

/// What the agent knows of images beside what the runtime says, by their ids. Another agent begins anew.
#[derive(Debug, Default)]
struct Records {
    seen: BTreeMap<String, Record>,
    /// What was there before the first look is older than any age.
    has_looked: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// When it was seen first, in nanoseconds since 1970.
    detected_ns: i64,
    /// When it was last seen in use; 0 is never.
    used_ns: i64,
}

impl Records {
    /// These images are there, and these names or ids are used. Those that nobody uses.
    fn look(&mut self, images: &[v1::Image], used: &BTreeSet<String>, now_ns: i64) -> Vec<Candidate<String>> {
        let detected_ns = if self.has_looked { now_ns } else { 0 };
        self.has_looked = true;
        self.seen.retain(|id, _| images.iter().any(|image| image.id == *id));
        let mut candidates = Vec::new();
        for image in images {
            let record =
                self.seen.entry(image.id.clone()).or_insert(Record { detected_ns, ..Record::default() });
            let mut names = image.repo_tags.iter().chain(&image.repo_digests).chain([&image.id]);
            if names.any(|name| used.contains(name)) {
                record.used_ns = now_ns;
            } else if !image.pinned {
                candidates.push(Candidate {
                    id: image.id.clone(),
                    size_bytes: image.size,
                    pulled_ns: record.detected_ns,
                    used_ns: record.used_ns,
                });
            }
        }
        candidates
    }
}

/// The image that sandboxes are made from, as containerd tells it; newer runtimes tell that such images are pinned.
fn sandbox_image(status: &v1::StatusResponse) -> Option<String> {
    let config: serde_json::Value = serde_json::from_str(status.info.get("config")?).ok()?;
    Some(config.get("sandboxImage")?.as_str()?.to_owned())
}

impl CriImages {
    /// Those of this runtime.
    pub(crate) fn new(client: Client) -> Self {
        Self { client, records: Mutex::default() }
    }

    /// Where the runtime has its images, if it says so.
    pub(crate) async fn directory(&self) -> Result<Option<PathBuf>, CriError> {
        let told = self.client.image_fs_info(v1::ImageFsInfoRequest {}).await?;
        let first = told.image_filesystems.into_iter().next();
        Ok(first.and_then(|first| first.fs_id).map(|id| id.mountpoint.into()))
    }

    /// What containers that are there were made from, by any of its names.
    async fn used(&self) -> Result<BTreeSet<String>, CriError> {
        let containers = self.client.list_containers(v1::ListContainersRequest { filter: None }).await?;
        let names = |container: v1::Container| {
            let named = container.image.map(|image| image.image);
            named.into_iter().chain([container.image_ref, container.image_id])
        };
        let status = self.client.status(v1::StatusRequest { verbose: true }).await?;
        let used = containers.containers.into_iter().flat_map(names).chain(sandbox_image(&status));
        Ok(used.filter(|name| !name.is_empty()).collect())
    }

    async fn collect(&self, policy: CollectPolicy) -> Result<u64, String> {
        let told = |error: CriError| error.to_string();
        let mut records = self.records.lock().await;
        let directory = self.directory().await.map_err(told)?;
        let directory = directory.ok_or("the container runtime does not tell where its images are")?;
        let images = self.client.list_images(v1::ListImagesRequest { filter: None }).await.map_err(told)?;
        let used = self.used().await.map_err(told)?;
        let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let candidates = records.look(&images.images, &used, now_ns);
        let collection = choose(candidates, usage(&directory, now_ns)?, policy, now_ns);
        let mut failed = Vec::new();
        for (id, reason) in collection.images {
            let spec = Some(v1::ImageSpec { image: id.clone(), ..v1::ImageSpec::default() });
            match self.client.remove_image(v1::RemoveImageRequest { image: spec }).await {
                Ok(_) => tracing::info!("image {id} is collected: {reason:?}"),
                Err(error) => failed.push(error.to_string()),
            }
        }
        if failed.is_empty() { Ok(collection.short_by_bytes) } else { Err(failed.join("; ")) }
    }
}

/// The file system of the images.
fn usage(directory: &Path, now_ns: i64) -> Result<Usage, String> {
    let stats = file_system(directory, now_ns);
    let stats = stats.ok_or_else(|| format!("the file system of {} is not known", directory.display()))?;
    Ok(Usage {
        capacity_bytes: stats.capacity,
        available_bytes: stats.available,
        inodes: stats.inodes,
        inodes_free: stats.inodes_free,
        images_bytes: 0,
    })
}

impl ImageKeeper for CriImages {
    fn collect(&self, policy: CollectPolicy) -> BoxFuture<'_, Result<u64, String>> {
        Self::collect(self, policy).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(id: &str, tag: &str, pinned: bool) -> v1::Image {
        v1::Image {
            id: id.to_owned(),
            repo_tags: vec![tag.to_owned()],
            size: 7,
            pinned,
            ..v1::Image::default()
        }
    }

    #[test]
    fn what_is_used_by_any_name_stays_and_others_are_as_old_as_they_are_known() {
        let mut records = Records::default();
        let all = [
            image("sha256:1", "a:1", false),
            image("sha256:2", "b:1", false),
            image("sha256:3", "c:1", true),
        ];
        let mut look = |images: &[v1::Image], used: &[&str], now| {
            let used = used.iter().map(|name| (*name).to_owned()).collect();
            let candidates = records.look(images, &used, now);
            let told = candidates.into_iter().map(|it| format!("{} {} {}", it.id, it.pulled_ns, it.used_ns));
            told.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(look(&all[1..], &["sha256:2"], 10), "");
        assert_eq!(look(&all, &["a:1"], 20), "sha256:2 0 10");
        assert_eq!(look(&all, &[], 30), "sha256:1 20 20, sha256:2 0 10");
        // One that went and came again is new.
        assert_eq!(look(&all[..1], &[], 40), "sha256:1 20 20");
        assert_eq!(look(&all, &["a:1"], 50), "sha256:2 50 0");
    }

    #[test]
    fn containerd_says_what_sandboxes_are_made_from() {
        let status = |config: &str| v1::StatusResponse {
            info: [("config".to_owned(), config.to_owned())].into(),
            ..v1::StatusResponse::default()
        };
        let told = status(r#"{"sandboxImage":"registry.k8s.io/pause:3.6"}"#);
        assert_eq!(sandbox_image(&told).as_deref(), Some("registry.k8s.io/pause:3.6"));
        assert_eq!(sandbox_image(&status("no config")), None);
        assert_eq!(sandbox_image(&v1::StatusResponse::default()), None);
    }
}
