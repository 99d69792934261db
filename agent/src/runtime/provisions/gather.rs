//! What a container is made from, asked for where it is known: its environment, its pod's volumes, the parts of them that it
//! wants. Must never decide what follows from it.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Service};

use super::super::StartError;
use super::Provisions;
use crate::containers::env::{self, Environment, Sources, environment};
use crate::containers::mounts::{MountedVolume, sub_paths};
use crate::containers::{ContainerError, namespace};
use crate::error_story::story;
use crate::pods::spec;
use crate::tell::{about_container, warning};
use crate::volumes::layout::PodLayout;

/// Who may write a last word: anybody who runs in the container.
const WRITABLE: u32 = 0o666;

/// What a container is made from, beside its image.
pub(in super::super) struct Gathered {
    /// Its environment.
    pub(in super::super) environment: Environment,
    /// Its pod's volumes by their names.
    pub(in super::super) volumes: BTreeMap<String, MountedVolume>,
    /// The parts of them that it wants, by the index of the mount.
    pub(in super::super) sub_paths: BTreeMap<usize, PathBuf>,
    /// Its pod's directories.
    pub(in super::super) layout: PodLayout,
}

/// What it names is not there or does not fit.
pub(in super::super) fn not_configured(message: impl Into<String>) -> StartError {
    StartError { reason: "CreateContainerConfigError", message: message.into() }
}

/// It cannot be put together.
pub(in super::super) fn not_created(message: impl Into<String>) -> StartError {
    StartError { reason: "CreateContainerError", message: message.into() }
}

impl From<ContainerError> for StartError {
    fn from(error: ContainerError) -> Self {
        Self { reason: error.reason(), message: error.to_string() }
    }
}

impl Provisions {
    /// Everything for a container of a pod that has these addresses.
    pub(in super::super) async fn gather(
        &self,
        pod: &Pod,
        container: &Container,
        addresses: &[IpAddr],
    ) -> Result<Gathered, StartError> {
        let (uid, supplies) = (spec::uid(pod), &self.supplies);
        let environment = self.environment(pod, container, addresses).await?;
        let volumes = supplies.volumes.ready(pod, &supplies.node).await;
        let volumes = volumes.map_err(|error| not_created(story(&error)))?;
        let parts = sub_paths(container, &environment)?;
        let parts = supplies.volumes.sub_paths(uid, &container.name, &volumes, parts).await;
        let sub_paths = parts.map_err(|error| not_configured(story(&error)))?;
        let layout = supplies.volumes.layout(uid).map_err(|error| not_created(error.to_string()))?;
        Ok(Gathered { environment, volumes, sub_paths, layout })
    }

    async fn environment(
        &self,
        pod: &Pod,
        container: &Container,
        addresses: &[IpAddr],
    ) -> Result<Environment, StartError> {
        let (mut secrets, mut config_maps) = (BTreeMap::new(), BTreeMap::new());
        let references = &self.supplies.references;
        let unknown = |error: crate::references::ReferenceError| not_configured(error.to_string());
        for name in env::secrets(container) {
            if let Some(found) = references.secret(namespace(pod), name).await.map_err(unknown)? {
                secrets.insert(name.to_owned(), found);
            }
        }
        for name in env::config_maps(container) {
            if let Some(found) = references.config_map(namespace(pod), name).await.map_err(unknown)? {
                config_maps.insert(name.to_owned(), found);
            }
        }
        let seen = |service: &Arc<Service>| {
            let place = service.metadata.namespace.as_deref();
            place == Some(namespace(pod)) || place == Some("default")
        };
        let services = self.supplies.services.state().into_iter().filter(seen).collect();
        let sources = Sources { secrets, config_maps, services };
        let made = environment(pod, container, &sources, &self.supplies.node, addresses)?;
        for skipped in &made.skipped {
            let note = warning("InvalidEnvironmentVariableNames", skipped.as_str());
            self.supplies.teller.tell(about_container(pod, &container.name), note);
        }
        Ok(made)
    }
}

/// Makes the empty file that a container writes its last word to.
pub(in super::super) fn make_last_word(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, "")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(WRITABLE))
}
