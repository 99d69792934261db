//! A container's start: what it is made of is gathered, it is made, and it runs. What it is made of is decided elsewhere.

use k8s_openapi::api::core::v1::Pod;

use super::super::StartError;
use super::super::provisions::observe::{CRASHES, crashes};
use super::super::provisions::{Gathered, make_last_word, not_configured, not_created};
use super::EmbeddedRuntime;
use crate::containers::identity::Accounts;
use crate::containers::mounts::{PodFiles, last_word};
use crate::containers::{Inputs, container_spec, find};
use crate::error_story::story;
use crate::pods::spec;

impl EmbeddedRuntime {
    pub(super) async fn start_container(
        &self,
        pod: &Pod,
        name: &str,
        attempt: u32,
    ) -> Result<(), StartError> {
        let Some(container) = find(pod, name) else {
            return Err(not_configured(format!("the pod has no container {name:?}")));
        };
        let (uid, node) = (spec::uid(pod), &*self.provisions.supplies.node);
        let before: Vec<_> = self.states(pod).into_iter().filter(|it| it.spec.name == name).collect();
        let newest = before.iter().max_by_key(|state| state.spec.attempt);

        // 1. What it is made of.
        let (image, facts) =
            self.images.facts(container.image.as_deref().unwrap_or_default()).await.map_err(not_created)?;
        let addresses = self.addresses(pod);
        let Gathered { environment, volumes, sub_paths, layout } =
            self.provisions.gather(pod, &container, &addresses).await?;
        let in_host_ipc = spec::spec(pod).is_some_and(|spec| spec.host_ipc == Some(true));
        let files = PodFiles {
            hosts: Some(layout.hosts()),
            resolv_conf: Some(layout.resolv_conf()),
            hostname: Some(layout.hostname()),
            shm: (!in_host_ipc).then(|| layout.shm()),
        };
        let layers = facts.layers.clone();
        let accounts = tokio::task::spawn_blocking(move || barque_images::account_files(&layers)).await;
        let (passwd, group) = accounts
            .map_err(|error| not_created(error.to_string()))?
            .map_err(|error| not_created(story(&error)))?;
        let mut made = container_spec(Inputs {
            pod,
            container: &container,
            attempt,
            image: &facts,
            accounts: &Accounts::parse(&passwd, &group),
            environment: &environment,
            node,
            volumes: &volumes,
            sub_paths: &sub_paths,
            files: &files,
        })?;
        made.annotations.insert(CRASHES.to_owned(), newest.map_or(0, crashes).to_string());
        make_last_word(&last_word(pod, name, attempt, node))
            .map_err(|error| not_created(error.to_string()))?;

        // 2. Of its forerunners only the last one is kept. One that was made and never ran gives way to this one.
        for old in before.iter().filter(|old| old.spec.attempt + 1 < attempt || old.spec.attempt == attempt) {
            if let Err(error) = self.containers.remove(&old.spec.id).await {
                tracing::warn!(container = old.spec.id, %error, "an old container is not removed");
            }
            self.images.release(vec![old.spec.id.clone()]).await;
        }
        self.provisions.remove_outlived_logs(pod, name, attempt).await;

        // 3. Made, and started.
        let id = made.id.clone();
        self.images.hold(&id, &image).await.map_err(not_created)?;
        if let Err(error) = self.containers.create(uid, made).await {
            self.images.release(vec![id]).await;
            return Err(not_created(story(&error)));
        }
        self.containers
            .start(&id)
            .await
            .map_err(|error| StartError { reason: "RunContainerError", message: story(&error) })
    }
}
