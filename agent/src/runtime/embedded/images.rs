//! Images for containers: whether the one that a container wants is here, and how it comes, with the pod's credentials. Must
//! never pull what a policy forbids.

use std::sync::Arc;
use std::time::Instant;

use barque_images::{Error, Image, ImageStore, LogProgress, PullOptions, Reference};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;

use super::super::PullError;
use super::super::provisions::pulling::{invalid, keyring, need_not_be_pulled, never, wanted};
use crate::containers::ImageFacts;
use crate::references::References;
use crate::tell::Teller;
use crate::volumes::ImageLayers;

/// The images of the node, for its pods.
#[derive(Clone)]
pub(crate) struct Images {
    store: ImageStore,
    references: References,
}

fn not_pulled(error: &Error) -> PullError {
    PullError { reason: "ErrImagePull", message: error.message() }
}

/// Looks at the disk on a thread that may.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> barque_images::Result<T> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| error.message()),
        Err(error) => Err(error.to_string()),
    }
}

impl Images {
    pub(crate) fn new(store: ImageStore, references: References) -> Self {
        Self { store, references }
    }

    /// Where they are.
    pub(super) fn store(&self) -> &ImageStore {
        &self.store
    }

    /// The image of this name, if it is here.
    pub(super) async fn find(&self, image: &str) -> Result<Option<Image>, String> {
        let (store, name) = (self.store.clone(), image.to_owned());
        on_disk(move || store.find(&name)).await
    }

    /// As containers are made from it.
    pub(super) async fn facts(&self, image: &str) -> Result<(Image, ImageFacts), String> {
        let found = self.find(image).await?.ok_or_else(|| format!("image {image:?} is not here any more"))?;
        let facts = ImageFacts {
            id: found.repo_digests.first().cloned().unwrap_or_else(|| found.id.to_string()),
            layers: found.layers.clone(),
            entrypoint: found.config.entrypoint.clone(),
            cmd: found.config.cmd.clone(),
            env: found.config.env.clone(),
            working_dir: found.config.working_dir.clone(),
            user: found.config.user.clone(),
            stop_signal: found.config.stop_signal.clone(),
            volumes: found.config.volumes.clone(),
        };
        Ok((found, facts))
    }

    /// Somebody uses it, under this name.
    pub(super) async fn hold(&self, name: &str, image: &Image) -> Result<(), String> {
        let (store, name, id) = (self.store.clone(), name.to_owned(), image.id.clone());
        on_disk(move || store.hold(&name, &id)).await
    }

    /// Nobody of these names uses an image any more.
    pub(super) async fn release(&self, names: Vec<String>) {
        let store = self.store.clone();
        let released = on_disk(move || names.iter().try_for_each(|name| store.release(name))).await;
        if let Err(error) = released {
            tracing::warn!(error, "an image stays held");
        }
    }

    /// Whether the image of a container is here, and need not be asked for again.
    pub(super) async fn is_here(&self, pod: &Pod, container: &str) -> Result<bool, PullError> {
        let (image, policy) = wanted(pod, container);
        image.parse::<Reference>().map_err(|error| invalid(&image, &error))?;
        let found = self.find(&image).await;
        let found = found.map_err(|message| PullError { reason: "ErrImagePull", message })?;
        need_not_be_pulled(&image, &policy, found.is_some())
    }

    /// Pulls the image of a container.
    pub(super) async fn pull(
        &self,
        pod: &Pod,
        container: &str,
        teller: &dyn Teller,
    ) -> Result<String, PullError> {
        let (image, _) = wanted(pod, container);
        let began = Instant::now();
        let pulled = self.pull_as(pod, &image, teller).await?;
        let seconds = began.elapsed().as_secs_f64();
        Ok(format!(
            "Successfully pulled image {image:?} in {seconds:.3}s ({seconds:.3}s including waiting). Image size: {} bytes.",
            pulled.size_bytes
        ))
    }

    async fn pull_as(&self, pod: &Pod, image: &str, teller: &dyn Teller) -> Result<Image, PullError> {
        let reference: Reference = image.parse().map_err(|error| invalid(image, &error))?;
        let keyring = keyring(&self.references, pod, teller).await;
        let credentials = keyring.lookup(&reference);
        let progress = Arc::new(LogProgress { image: image.to_owned() });
        let pulled = self.store.pull(&reference, &credentials, &PullOptions::default(), progress).await;
        pulled.map_err(|error| not_pulled(&error))
    }
}

/// Images as volumes.
pub(crate) struct VolumeImages {
    pub(crate) images: Images,
    pub(crate) teller: Arc<dyn Teller>,
}

impl ImageLayers for VolumeImages {
    fn layers<'a>(
        &'a self,
        pod: &'a Pod,
        reference: &'a str,
        policy: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<std::path::PathBuf>, String>> {
        Box::pin(async move {
            let found = self.images.find(reference).await?;
            let image = match (policy, found) {
                (Some("Never"), None) => return Err(never(reference).message),
                (Some("Always"), _) | (_, None) => {
                    let pulled = self.images.pull_as(pod, reference, &*self.teller).await;
                    pulled.map_err(|error| error.message)?
                }
                (_, Some(found)) => found,
            };
            Ok(image.layers)
        })
    }
}
