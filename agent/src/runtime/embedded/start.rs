//! A container's start: what it is made of is gathered, it is made, and it runs. What it is made of is decided elsewhere.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod, Service};

use super::super::StartError;
use super::observe::{CRASHES, crashes};
use super::{EmbeddedRuntime, story};
use crate::containers::env::{self, Environment, Sources, environment};
use crate::containers::identity::Accounts;
use crate::containers::mounts::{PodFiles, last_word, sub_paths};
use crate::containers::{ContainerError, Inputs, container_spec, find, namespace};
use crate::pods::spec;
use crate::tell::{about_container, warning};

/// Who may write a last word: anybody who runs in the container.
const WRITABLE: u32 = 0o666;

fn config(message: impl Into<String>) -> StartError {
    StartError { reason: "CreateContainerConfigError", message: message.into() }
}

fn create(message: impl Into<String>) -> StartError {
    StartError { reason: "CreateContainerError", message: message.into() }
}

impl From<ContainerError> for StartError {
    fn from(error: ContainerError) -> Self {
        Self { reason: error.reason(), message: error.to_string() }
    }
}

impl EmbeddedRuntime {
    pub(super) async fn start_container(
        &self,
        pod: &Pod,
        name: &str,
        attempt: u32,
    ) -> Result<(), StartError> {
        let Some(container) = find(pod, name) else {
            return Err(config(format!("the pod has no container {name:?}")));
        };
        let (uid, node) = (spec::uid(pod), &*self.parts.node);
        let before: Vec<_> = self.states(pod).into_iter().filter(|it| it.spec.name == name).collect();
        let newest = before.iter().max_by_key(|state| state.spec.attempt);

        // 1. What it is made of.
        let (image, facts) =
            self.images.facts(container.image.as_deref().unwrap_or_default()).await.map_err(create)?;
        let variables = self.environment(pod, &container).await?;
        let volumes = self.parts.volumes.ready(pod, node).await.map_err(|error| create(story(&error)))?;
        let parts = sub_paths(&container, &variables)?;
        let parts = self.parts.volumes.sub_paths(uid, name, &volumes, parts).await;
        let parts = parts.map_err(|error| config(story(&error)))?;
        let layout = self.parts.volumes.layout(uid).map_err(|error| create(error.to_string()))?;
        let in_host_ipc = spec::spec(pod).is_some_and(|spec| spec.host_ipc == Some(true));
        let files = PodFiles {
            hosts: Some(layout.hosts()),
            resolv_conf: Some(layout.resolv_conf()),
            hostname: Some(layout.hostname()),
            shm: (!in_host_ipc).then(|| layout.shm()),
        };
        let layers = facts.layers.clone();
        let accounts = tokio::task::spawn_blocking(move || barque_images::account_files(&layers)).await;
        let (passwd, group) =
            accounts.map_err(|error| create(error.to_string()))?.map_err(|error| create(story(&error)))?;
        let mut made = container_spec(Inputs {
            pod,
            container: &container,
            attempt,
            image: &facts,
            accounts: &Accounts::parse(&passwd, &group),
            environment: &variables,
            node,
            volumes: &volumes,
            sub_paths: &parts,
            files: &files,
        })?;
        made.annotations.insert(CRASHES.to_owned(), newest.map_or(0, crashes).to_string());
        make_last_word(&last_word(pod, name, attempt, node)).map_err(|error| create(error.to_string()))?;

        // 2. Of its forerunners only the last one is kept. One that was made and never ran gives way to this one.
        for old in before.iter().filter(|old| old.spec.attempt + 1 < attempt || old.spec.attempt == attempt) {
            if let Err(error) = self.parts.containers.remove(&old.spec.id).await {
                tracing::warn!(container = old.spec.id, %error, "an old container is not removed");
            }
            self.images.release(vec![old.spec.id.clone()]).await;
        }

        // 3. Made, and started.
        let id = made.id.clone();
        self.images.hold(&id, &image).await.map_err(create)?;
        if let Err(error) = self.parts.containers.create(uid, made).await {
            self.images.release(vec![id]).await;
            return Err(create(story(&error)));
        }
        self.parts
            .containers
            .start(&id)
            .await
            .map_err(|error| StartError { reason: "RunContainerError", message: story(&error) })
    }

    async fn environment(&self, pod: &Pod, container: &Container) -> Result<Environment, StartError> {
        let (mut secrets, mut config_maps) = (BTreeMap::new(), BTreeMap::new());
        let unknown = |error: crate::references::ReferenceError| config(error.to_string());
        for name in env::secrets(container) {
            if let Some(found) = self.parts.references.secret(namespace(pod), name).await.map_err(unknown)? {
                secrets.insert(name.to_owned(), found);
            }
        }
        for name in env::config_maps(container) {
            if let Some(found) =
                self.parts.references.config_map(namespace(pod), name).await.map_err(unknown)?
            {
                config_maps.insert(name.to_owned(), found);
            }
        }
        let seen = |service: &Arc<Service>| {
            let place = service.metadata.namespace.as_deref();
            place == Some(namespace(pod)) || place == Some("default")
        };
        let services = self.parts.services.state().into_iter().filter(seen).collect();
        let sources = Sources { secrets, config_maps, services };
        let addresses = self.addresses(pod);
        let made = environment(pod, container, &sources, &self.parts.node, &addresses)?;
        for skipped in &made.skipped {
            let note = warning("InvalidEnvironmentVariableNames", skipped.as_str());
            self.parts.teller.tell(about_container(pod, &container.name), note);
        }
        Ok(made)
    }
}

fn make_last_word(path: &Path) -> std::io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, "")?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(WRITABLE))
}
