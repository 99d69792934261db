//! Sandboxes and containers made, stopped and taken away through the runtime. Every step can be repeated; what is half made is
//! taken away whole.

use std::path::Path;
use std::time::Duration;

use barque_containers::spec::{Phase, SandboxSpec};
use barque_cri::{CriError, v1};
use k8s_openapi::api::core::v1::Pod;

use super::super::provisions::observe::{CRASHES, crashes};
use super::super::provisions::{Gathered, failed, make_last_word, not_configured, not_created};
use super::super::{RuntimeError, SandboxError, StartError};
use super::container_config::{self, container_config};
use super::sandbox_config::{self, namespaces, sandbox_config};
use super::{CriRuntime, PodState, images, list, seconds};
use crate::containers::files::resolver_config;
use crate::containers::mounts::last_word;
use crate::containers::{find, qos, sandbox_spec};
use crate::error_story::story;
use crate::pods::spec;

fn not_made(error: &dyn std::error::Error) -> SandboxError {
    SandboxError::Failed(story(error))
}

/// What is gone has been removed.
fn gone(result: Result<(), CriError>) -> Result<(), RuntimeError> {
    match result {
        Err(error) if !error.is_not_found() => Err(failed(&error)),
        _ => Ok(()),
    }
}

impl CriRuntime {
    /// What the runtime is told of a pod's sandbox.
    fn sandbox_config(&self, pod: &Pod, spec: &SandboxSpec) -> v1::PodSandboxConfig {
        sandbox_config(sandbox_config::Inputs {
            pod,
            spec,
            resolver: resolver_config(pod, &self.provisions.resolver()),
            log_directory: self.provisions.log_directory(pod).to_string_lossy().into_owned(),
            cgroup_root: &self.cgroup_root,
            driver: self.driver,
        })
    }

    /// The pod's control group below the root of each hierarchy.
    pub(super) fn cgroup(&self, pod: &Pod) -> String {
        let root = self.cgroup_root.trim_matches('/');
        let own = qos::cgroup(pod);
        if root.is_empty() { own } else { format!("{root}/{own}") }
    }

    pub(super) async fn make_sandbox(&self, pod: &Pod) -> Result<(), SandboxError> {
        let uid = spec::uid(pod);
        let (_, state) = self.try_look(uid).await.map_err(|error| not_made(&error))?;
        let known = self.known(pod, &state);
        if known.is_whole && known.state.is_some_and(|state| state.ready) {
            return Ok(());
        }
        let problem = self.problem.borrow().clone();
        if let Some(problem) = problem.filter(|_| !spec::uses_host_network(pod)) {
            return Err(SandboxError::NetworkNotReady(problem));
        }
        let spec = sandbox_spec(pod, &self.provisions.supplies.node).map_err(|error| not_made(&error))?;

        // 1. What is left of one that cannot be used.
        self.take_sandbox_away(pod).await.map_err(|error| SandboxError::Failed(error.0))?;
        self.provisions.remember(uid, |memory| memory.is_left = true);

        // 2. Volumes, and the bounds of the pod, which runtimes leave to whoever names the group.
        self.provisions.volumes(pod).await?;
        if let Some(hierarchies) = &self.hierarchies {
            let group = self.cgroup(pod);
            hierarchies.create(Path::new(&group), &spec.resources).map_err(|error| not_made(&error))?;
        }

        // 3. The sandbox, with its network.
        let logs = self.provisions.log_directory(pod);
        tokio::fs::create_dir_all(&logs).await.map_err(|error| not_made(&error))?;
        let request = v1::RunPodSandboxRequest {
            config: Some(self.sandbox_config(pod, &spec)),
            runtime_handler: String::new(),
        };
        self.client.run_pod_sandbox(request).await.map_err(|error| not_made(&error))?;
        Ok(())
    }

    /// Takes away the pod's sandboxes with their networks and containers, of which is kept how they ended.
    pub(super) async fn take_sandbox_away(&self, pod: &Pod) -> Result<(), RuntimeError> {
        let uid = spec::uid(pod);
        let listed = list(&self.client, Some(uid)).await.map_err(|error| failed(&error))?;
        for sandbox in &listed.sandboxes {
            let request = v1::StopPodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            gone(self.client.stop_pod_sandbox(request).await.map(drop))?;
        }
        // Nothing of it runs any more when its end is told.
        let state = self.details(uid, listed.clone()).await.map_err(|error| failed(&error))?;
        if !state.containers.is_empty() {
            self.provisions.keep_ended(uid, self.provisions.with_ended(uid, state.containers))?;
        }
        for container in &listed.containers {
            gone(self.remove(&container.id).await)?;
        }
        for sandbox in &listed.sandboxes {
            let request = v1::RemovePodSandboxRequest { pod_sandbox_id: sandbox.id.clone() };
            gone(self.client.remove_pod_sandbox(request).await.map(drop))?;
        }
        if let Some(hierarchies) = &self.hierarchies {
            hierarchies.remove(Path::new(&self.cgroup(pod))).map_err(|error| failed(&error))?;
        }
        self.provisions.remember(uid, |memory| {
            memory.bounds = None;
            memory.resized.clear();
        });
        self.last.put(uid, PodState::default());
        Ok(())
    }

    async fn remove(&self, container: &str) -> Result<(), CriError> {
        let request = v1::RemoveContainerRequest { container_id: container.to_owned() };
        self.client.remove_container(request).await.map(drop)
    }

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
        let (listed, state) = self.try_look(uid).await.map_err(|error| not_created(story(&error)))?;
        let Some(sandbox) = listed.sandboxes.first() else {
            return Err(not_created("the pod has no sandbox"));
        };
        let told = self.provisions.with_ended(uid, state.containers.clone());
        let before: Vec<_> = told.into_iter().filter(|it| it.spec.name == name).collect();
        let newest = before.iter().max_by_key(|state| state.spec.attempt);

        // 1. What it is made of.
        let named = container.image.as_deref().unwrap_or_default();
        let image = images::find(&self.client, named).await.map_err(|error| not_created(story(&error)))?;
        let image = image.ok_or_else(|| not_created(format!("image {named:?} is not here any more")))?;
        let addresses = self.addresses_of(pod, &state);
        let Gathered { environment, volumes, sub_paths, layout } =
            self.provisions.gather(pod, &container, &addresses).await?;
        let written = self.provisions.write_hosts(pod, &layout, &addresses);
        written.map_err(|error| not_created(error.to_string()))?;
        let spec = sandbox_spec(pod, node)?;
        let word = last_word(pod, name, attempt, node);
        let made = container_config(container_config::Inputs {
            pod,
            container: &container,
            attempt,
            crashes: (CRASHES, newest.map_or(0, crashes)),
            image: &image,
            environment: &environment,
            node,
            volumes: &volumes,
            sub_paths: &sub_paths,
            hosts: &layout.hosts(),
            last_word: &word,
            namespaces: &namespaces(&spec),
            target: self.target(pod, name, &state).as_deref(),
        })?;
        make_last_word(&word).map_err(|error| not_created(error.to_string()))?;

        // 2. Of its forerunners only the last one is kept. One that was made and never ran gives way to this one, and so does one
        // that the runtime has lost track of.
        let lost = |id: &str| {
            let listed = listed.containers.iter().find(|container| container.id == id);
            listed.is_some_and(|container| container.state() == v1::ContainerState::ContainerUnknown)
        };
        for old in &before {
            let id = &old.spec.id;
            let removed = match (lost(id), old.spec.attempt + 1 < attempt || old.spec.attempt == attempt) {
                (true, _) => self.end(id, Duration::ZERO).await.map(drop),
                (false, true) => gone(self.remove(id).await),
                (false, false) => Ok(()),
            };
            if let Err(error) = removed {
                tracing::warn!(container = id, %error, "an old container is not removed");
            }
        }
        self.provisions.remove_outlived_logs(pod, name, attempt).await;

        // 3. Made, and started.
        let request = v1::CreateContainerRequest {
            pod_sandbox_id: sandbox.id.clone(),
            config: Some(made),
            sandbox_config: Some(self.sandbox_config(pod, &spec)),
        };
        let created =
            self.client.create_container(request).await.map_err(|error| not_created(story(&error)))?;
        let request = v1::StartContainerRequest { container_id: created.container_id };
        self.client
            .start_container(request)
            .await
            .map(drop)
            .map_err(|error| StartError { reason: "RunContainerError", message: story(&error) })
    }

    /// The container whose processes an ephemeral one wants to see.
    fn target(&self, pod: &Pod, name: &str, state: &PodState) -> Option<String> {
        let ephemeral = spec::spec(pod)?.ephemeral_containers.iter().flatten();
        let own = ephemeral.into_iter().find(|container| container.name == name)?;
        let wanted = own.target_container_name.as_deref().filter(|target| !target.is_empty())?;
        let all = state.containers.iter().filter(|state| state.spec.name == wanted);
        all.max_by_key(|state| state.spec.attempt).map(|state| state.spec.id.clone())
    }

    pub(super) async fn stop_container(
        &self,
        pod: &Pod,
        name: &str,
        grace: Duration,
    ) -> Result<(), RuntimeError> {
        let uid = spec::uid(pod);
        let (_, state) = self.try_look(uid).await.map_err(|error| failed(&error))?;
        let all = state.containers.iter().filter(|state| state.spec.name == name);
        let Some(newest) = all.max_by_key(|state| state.spec.attempt) else { return Ok(()) };
        let id = &newest.spec.id;
        match newest.phase {
            Phase::Exited(_) => Ok(()),
            Phase::Created => {
                // Nothing of it runs, and runtimes leave it as it is: it has ended when it is gone.
                self.provisions.keep_ended(uid, self.provisions.with_ended(uid, state.containers.clone()))?;
                gone(self.remove(id).await)
            }
            Phase::Running { .. } => {
                self.provisions.stops(pod, id, grace);
                self.end(id, grace).await
            }
        }
    }

    /// Asks a container to stop, and ends it when the grace is over, even if nobody waits for that: the runtime keeps to the grace
    /// only while it is asked. When the agent ends, the next one asks again.
    async fn end(&self, id: &str, grace: Duration) -> Result<(), RuntimeError> {
        let request = v1::StopContainerRequest { container_id: id.to_owned(), timeout: seconds(grace) };
        let (client, stop) = (self.client.clone(), self.stop.clone());
        let asked = self.tasks.spawn(async move {
            let asked = stop.run_until_cancelled_owned(client.stop_container(request)).await;
            asked.unwrap_or(Ok(v1::StopContainerResponse {}))
        });
        match asked.await {
            Ok(stopped) => gone(stopped.map(drop)),
            Err(error) => Err(failed(&error)),
        }
    }
}
