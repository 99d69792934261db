//! Bounds of pods and containers change while they run. In which order is decided elsewhere.

use barque_containers::spec::{Phase, Resources};
use k8s_openapi::api::core::v1::Pod;

use super::super::RuntimeError;
use super::super::provisions::failed;
use super::super::provisions::resize::Bounded;
use super::EmbeddedRuntime;
use crate::containers::bounds;
use crate::pods::spec;

impl Bounded for EmbeddedRuntime {
    fn pod_bounds(&self, pod: &Pod) -> Resources {
        bounds::of_pod(pod, &self.provisions.supplies.node)
    }

    async fn bounds_of_pod(&self, pod: &Pod) -> Option<Resources> {
        Some(self.containers.sandbox(spec::uid(pod)).ok()?.spec.resources)
    }

    async fn bounds_of(&self, pod: &Pod, container: &str) -> Option<(String, Resources)> {
        let newest = self.newest(pod, container)?;
        let ended = matches!(newest.phase, Phase::Exited(_));
        (!ended).then_some((newest.spec.id, newest.spec.resources))
    }

    async fn bound_pod(&self, pod: &Pod, to: Resources) -> Result<(), RuntimeError> {
        self.containers.update_sandbox(spec::uid(pod), to).await.map_err(|error| failed(&error))
    }

    async fn bound(&self, _: &Pod, _: &str, id: &str, to: Resources) -> Result<(), RuntimeError> {
        self.containers.update_resources(id, to).await.map_err(|error| failed(&error))
    }

    async fn memory_used(&self, pod: &Pod) -> (Option<u64>, Vec<(String, u64)>) {
        let used = |stats: Option<barque_containers::Stats>| stats.map(|stats| stats.memory_usage);
        let whole = self.containers.sandbox_stats(spec::uid(pod)).ok().flatten();
        let of = |container: &spec::ContainerSpec<'_>| {
            let newest = self.newest(pod, container.name)?;
            Some((container.name.to_owned(), used(self.containers.stats(&newest.spec.id).ok()?)?))
        };
        (used(whole), spec::containers(pod).filter_map(|container| of(&container)).collect())
    }
}
