//! Bounds of pods and containers change while they run: containers by the runtime, pods by whoever made their groups. In which order
//! is decided elsewhere.

use std::path::Path;

use barque_containers::spec::{Phase, Resources};
use barque_cri::v1;
use k8s_openapi::api::core::v1::Pod;

use super::super::RuntimeError;
use super::super::provisions::failed;
use super::super::provisions::resize::Bounded;
use super::container_config::resources;
use super::{CriRuntime, bounds_of_sandbox};
use crate::containers::{bounds, find, qos};
use crate::pods::spec;

impl Bounded for CriRuntime {
    fn pod_bounds(&self, pod: &Pod) -> Resources {
        bounds::of_pod(pod, &self.provisions.supplies.node)
    }

    async fn bounds_of_pod(&self, pod: &Pod) -> Option<Resources> {
        let uid = spec::uid(pod);
        bounds_of_sandbox(self.provisions.recall(uid).bounds, &self.look(uid).await)
    }

    async fn bounds_of(&self, pod: &Pod, container: &str) -> Option<(String, Resources)> {
        let newest = self.newest(pod, container).await?;
        let runs = matches!(newest.phase, Phase::Running { .. });
        runs.then_some((newest.spec.id, newest.spec.resources))
    }

    async fn bound_pod(&self, pod: &Pod, to: Resources) -> Result<(), RuntimeError> {
        if let Some(hierarchies) = &self.hierarchies {
            hierarchies.bound(Path::new(&self.cgroup(pod)), &to).map_err(|error| failed(&error))?;
        }
        self.provisions.remember(spec::uid(pod), |memory| memory.bounds = Some(to));
        Ok(())
    }

    async fn bound(&self, pod: &Pod, container: &str, id: &str, to: Resources) -> Result<(), RuntimeError> {
        let Some(wanted) = find(pod, container) else { return Ok(()) };
        let score = qos::oom_score_adj(pod, &wanted, self.provisions.supplies.node.memory_capacity);
        let request = v1::UpdateContainerResourcesRequest {
            container_id: id.to_owned(),
            linux: Some(resources(&to, score)),
        };
        self.client.update_container_resources(request).await.map_err(|error| failed(&error))?;
        self.provisions.remember(spec::uid(pod), |memory| memory.resized.insert(id.to_owned(), to));
        Ok(())
    }

    async fn memory_used(&self, pod: &Pod) -> (Option<u64>, Vec<(String, u64)>) {
        let Some(used) = self.usage(pod).await else { return (None, Vec::new()) };
        let of = |container: crate::node_api::stats::ContainerStats| {
            Some((container.name, container.memory?.usage))
        };
        (used.memory.map(|memory| memory.usage), used.containers.into_iter().filter_map(of).collect())
    }
}
