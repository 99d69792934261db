//! Images over CRI: those that the agent has for its own containers.

use std::sync::Arc;
use std::time::SystemTime;

use barque_cri::v1;
use barque_cri::v1::image_service_server::ImageService;
use barque_images::{Credential, Image, ImageStore, LogProgress, PullOptions, Reference};
use tonic::{Request, Response, Status};

use super::{Service, refuse, tell};

type Answer<T> = Result<Response<T>, Status>;

/// The name in a request.
fn named(spec: Option<v1::ImageSpec>) -> Result<String, Status> {
    let name = spec.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() { Err(Status::invalid_argument("image.image: names no image")) } else { Ok(name) }
}

/// The credentials in a request, as far as there are some.
fn credentials(auth: Option<v1::AuthConfig>) -> Vec<Credential> {
    let Some(auth) = auth else { return Vec::new() };
    if !auth.registry_token.is_empty() {
        vec![Credential::Bearer(auth.registry_token)]
    } else if !auth.identity_token.is_empty() {
        vec![Credential::Identity(auth.identity_token)]
    } else if !auth.username.is_empty() {
        vec![Credential::Basic { username: auth.username, password: auth.password }]
    } else {
        Credential::from_auth(&auth.auth).into_iter().collect()
    }
}

impl Service {
    fn store(&self) -> ImageStore {
        self.runtime.images.store().clone()
    }

    /// Looks at the disk on a thread that may.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&ImageStore) -> barque_images::Result<T> + Send + 'static,
    ) -> Result<T, Status> {
        let store = self.store();
        match tokio::task::spawn_blocking(move || work(&store)).await {
            Ok(done) => done.map_err(|error| refuse::of_images(&error)),
            Err(error) => Err(Status::internal(error.to_string())),
        }
    }

    async fn find(&self, name: String) -> Result<Option<Image>, Status> {
        self.on_disk(move |store| store.find(&name)).await
    }
}

#[tonic::async_trait]
impl ImageService for Service {
    async fn list_images(&self, request: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        let filter = request.into_inner().filter.and_then(|filter| filter.image);
        let all = match filter.map(|spec| spec.image).filter(|name| !name.is_empty()) {
            Some(name) => self.find(name).await?.into_iter().collect(),
            None => self.on_disk(ImageStore::list).await?,
        };
        Ok(Response::new(v1::ListImagesResponse { images: all.iter().map(tell::image).collect() }))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let found = self.find(named(request.into_inner().image)?).await?;
        let image = found.as_ref().map(tell::image);
        Ok(Response::new(v1::ImageStatusResponse { image, ..v1::ImageStatusResponse::default() }))
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let request = request.into_inner();
        let name = named(request.image)?;
        let reference: Reference = name
            .parse()
            .map_err(|error| Status::invalid_argument(format!("image.image: {name:?}: {error}")))?;
        let progress = Arc::new(LogProgress { image: name });
        let credentials = credentials(request.auth);
        let pulled = self.store().pull(&reference, &credentials, &PullOptions::default(), progress).await;
        let pulled = pulled.map_err(|error| refuse::of_images(&error))?;
        Ok(Response::new(v1::PullImageResponse { image_ref: pulled.id.to_string() }))
    }

    async fn remove_image(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Answer<v1::RemoveImageResponse> {
        let name = named(request.into_inner().image)?;
        let removed = self.on_disk(move |store| match store.remove(&name) {
            // One that is not there is removed.
            Err(barque_images::Error::NotFound { .. }) => Ok(()),
            removed => removed.map(drop),
        });
        removed.await?;
        Ok(Response::new(v1::RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        let usage = self.on_disk(ImageStore::usage).await?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let images = v1::FilesystemUsage {
            timestamp: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            fs_id: Some(v1::FilesystemIdentifier {
                mountpoint: self.store().root().to_string_lossy().into_owned(),
            }),
            used_bytes: Some(v1::UInt64Value { value: usage.images_bytes }),
            inodes_used: None,
        };
        Ok(Response::new(v1::ImageFsInfoResponse {
            image_filesystems: vec![images],
            container_filesystems: Vec::new(),
        }))
    }
}
