//! When and with which credentials the images of a pod are pulled. Must never pull one.

use barque_images::Keyring;
use k8s_openapi::api::core::v1::{Pod, Secret};

use super::super::PullError;
use crate::containers::{find, namespace};
use crate::pods::spec;
use crate::references::References;
use crate::tell::{Teller, about_pod, warning};

/// A policy forbids to pull the image, and it is not here.
pub(in super::super) fn never(image: &str) -> PullError {
    PullError {
        reason: "ErrImageNeverPull",
        message: format!("Container image {image:?} is not present with pull policy of Never"),
    }
}

/// The image has a name that none can have.
pub(in super::super) fn invalid(image: &str, error: &dyn std::fmt::Display) -> PullError {
    PullError {
        reason: "InvalidImageName",
        message: format!(
            "Failed to apply default image tag {image:?}: couldn't parse image name {image:?}: {error}"
        ),
    }
}

/// The image that a container wants, and when it is pulled.
pub(in super::super) fn wanted(pod: &Pod, container: &str) -> (String, String) {
    let container = find(pod, container).unwrap_or_default();
    let policy = container.image_pull_policy.unwrap_or_else(|| "IfNotPresent".to_owned());
    (container.image.unwrap_or_default(), policy)
}

/// Whether an image need not be pulled, as its policy says.
pub(in super::super) fn need_not_be_pulled(
    image: &str,
    policy: &str,
    is_here: bool,
) -> Result<bool, PullError> {
    match (policy, is_here) {
        ("Always", _) => Ok(false),
        (_, true) => Ok(true),
        ("Never", false) => Err(never(image)),
        (_, false) => Ok(false),
    }
}

/// The credentials that the pod brings. What cannot be had is told; the pull is tried without it.
pub(in super::super) async fn keyring(references: &References, pod: &Pod, teller: &dyn Teller) -> Keyring {
    let mut keyring = Keyring::default();
    let names = spec::spec(pod).and_then(|spec| spec.image_pull_secrets.as_deref()).unwrap_or_default();
    let mut missing = Vec::new();
    for name in names {
        let secret = references.secret(namespace(pod), &name.name).await.ok().flatten();
        if !secret.is_some_and(|secret| add(&mut keyring, &secret)) {
            missing.push(name.name.as_str());
        }
    }
    if !missing.is_empty() {
        let text = format!(
            "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
            missing.join(", ")
        );
        teller.tell(about_pod(pod), warning("FailedToRetrieveImagePullSecret", text));
    }
    keyring
}

fn add(keyring: &mut Keyring, secret: &Secret) -> bool {
    let data = |key: &str| secret.data.as_ref().and_then(|data| data.get(key));
    if let Some(config) = data(".dockerconfigjson") {
        return keyring.add_docker_config(&config.0).is_ok();
    }
    data(".dockercfg").is_some_and(|config| keyring.add_legacy_docker_config(&config.0).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_decides_whether_an_image_is_pulled() {
        let reason =
            |policy: &str, is_here| need_not_be_pulled("i", policy, is_here).map_err(|error| error.reason);
        assert_eq!((reason("Always", true), reason("Always", false)), (Ok(false), Ok(false)));
        assert_eq!((reason("IfNotPresent", true), reason("IfNotPresent", false)), (Ok(true), Ok(false)));
        assert_eq!((reason("Never", true), reason("Never", false)), (Ok(true), Err("ErrImageNeverPull")));
    }
}
