//! Images of the runtime: whether the one that a container wants is there, and how it comes, with the pod's credentials. Must
//! never pull what a policy forbids.

use std::path::PathBuf;
use std::time::Instant;

use barque_cri::{Client, CriError, v1};
use barque_images::{Credential, Reference};
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Pod;

use super::super::PullError;
use super::super::provisions::Supplies;
use super::super::provisions::pulling::{invalid, keyring, need_not_be_pulled, wanted};
use crate::volumes::ImageLayers;

fn not_pulled(error: &CriError) -> PullError {
    PullError { reason: "ErrImagePull", message: error.to_string() }
}

/// The image of this name, if the runtime has it.
pub(super) async fn find(client: &Client, image: &str) -> Result<Option<v1::Image>, CriError> {
    let spec = v1::ImageSpec { image: image.to_owned(), ..v1::ImageSpec::default() };
    let request = v1::ImageStatusRequest { image: Some(spec), verbose: false };
    Ok(client.image_status(request).await?.image)
}

/// Whether the image of a container is there, and need not be asked for again.
pub(super) async fn is_here(client: &Client, pod: &Pod, container: &str) -> Result<bool, PullError> {
    let (image, policy) = wanted(pod, container);
    image.parse::<Reference>().map_err(|error| invalid(&image, &error))?;
    let found = find(client, &image).await.map_err(|error| not_pulled(&error))?;
    need_not_be_pulled(&image, &policy, found.is_some())
}

/// Pulls the image of a container; each of the pod's credentials is tried.
pub(super) async fn pull(
    client: &Client,
    supplies: &Supplies,
    pod: &Pod,
    container: &str,
) -> Result<String, PullError> {
    let (image, _) = wanted(pod, container);
    let reference: Reference = image.parse().map_err(|error| invalid(&image, &error))?;
    let began = Instant::now();
    let keyring = keyring(&supplies.references, pod, &*supplies.teller).await;
    let mut credentials: Vec<Option<v1::AuthConfig>> =
        keyring.lookup(&reference).iter().map(|credential| Some(auth(credential))).collect();
    if credentials.is_empty() {
        credentials.push(None);
    }
    let mut failed = None;
    for auth in credentials {
        let spec = v1::ImageSpec { image: image.clone(), ..v1::ImageSpec::default() };
        let request = v1::PullImageRequest { image: Some(spec), auth, sandbox_config: None };
        match client.pull_image(request).await {
            Ok(pulled) => {
                let size = find(client, &pulled.image_ref).await.ok().flatten().map_or(0, |image| image.size);
                let seconds = began.elapsed().as_secs_f64();
                return Ok(format!(
                    "Successfully pulled image {image:?} in {seconds:.3}s ({seconds:.3}s including waiting). Image size: {size} bytes."
                ));
            }
            Err(error) => failed = Some(not_pulled(&error)),
        }
    }
    Err(failed.unwrap_or_else(|| PullError { reason: "ErrImagePull", message: String::new() }))
}

/// Images as volumes: a runtime's images are its own, and CRI mounts them for newer runtimes only.
pub(crate) struct NoLayers;

impl ImageLayers for NoLayers {
    fn layers<'a>(
        &'a self,
        _: &'a Pod,
        reference: &'a str,
        _: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Vec<PathBuf>, String>> {
        let told = format!("image {reference:?} as a volume needs an agent with --runtime=embedded");
        Box::pin(std::future::ready(Err(told)))
    }
}

/// As runtimes are told it.
fn auth(credential: &Credential) -> v1::AuthConfig {
    let empty = v1::AuthConfig::default;
    match credential.clone() {
        Credential::Basic { username, password } => v1::AuthConfig { username, password, ..empty() },
        Credential::Identity(identity_token) => v1::AuthConfig { identity_token, ..empty() },
        Credential::Bearer(registry_token) => v1::AuthConfig { registry_token, ..empty() },
    }
}
