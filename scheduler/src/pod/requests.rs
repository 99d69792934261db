//! What a pod asks of a node's resources: the greater of its containers together and each of its init containers, with
//! sidecars counted where they run, plus overhead. Must never look at nodes.

use std::collections::BTreeMap;

use barque_api::quantity::{Quantity, QuantityError};
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

/// What a container that asks for no CPU is scored with, in thousandths of a core.
const UNASKED_CPU_MILLI: i64 = 100;
/// What a container that asks for no memory is scored with, in bytes.
const UNASKED_MEMORY: i64 = 200 * 1024 * 1024;

/// Amounts of resources.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Amounts {
    /// Thousandths of a core.
    pub cpu_milli: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// Pods; only nodes offer some.
    pub pods: i64,
    /// Everything else in whole units, sorted by name.
    pub scalar: Vec<(Box<str>, i64)>,
}

impl Amounts {
    /// From a list of resources of an object.
    ///
    /// # Errors
    /// When an amount is no quantity.
    pub fn of(list: &BTreeMap<String, Text>) -> Result<Self, QuantityError> {
        let mut amounts = Self::default();
        for (name, text) in list {
            let quantity = Quantity::parse(&text.0)?;
            match name.as_str() {
                "cpu" => amounts.cpu_milli = quantity.milli_value(),
                "memory" => amounts.memory = quantity.value(),
                "ephemeral-storage" => amounts.ephemeral_storage = quantity.value(),
                "pods" => amounts.pods = quantity.value(),
                other => amounts.scalar.push((other.into(), quantity.value())),
            }
        }
        Ok(amounts)
    }

    /// The amount of a resource, in its unit.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu_milli,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            "pods" => self.pods,
            other => {
                let at = self.scalar.binary_search_by(|(have, _)| (**have).cmp(other));
                at.map_or(0, |at| self.scalar[at].1)
            }
        }
    }

    /// Whether a resource is none of the usual ones.
    #[must_use]
    pub fn is_scalar(name: &str) -> bool {
        !matches!(name, "cpu" | "memory" | "ephemeral-storage" | "pods")
    }

    fn combine(&mut self, other: &Self, combine: fn(i64, i64) -> i64) {
        self.cpu_milli = combine(self.cpu_milli, other.cpu_milli);
        self.memory = combine(self.memory, other.memory);
        self.ephemeral_storage = combine(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalar {
            match self.scalar.binary_search_by(|(have, _)| have.cmp(name)) {
                Ok(at) => self.scalar[at].1 = combine(self.scalar[at].1, *amount),
                Err(at) => self.scalar.insert(at, (name.clone(), combine(0, *amount))),
            }
        }
    }

    fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    fn raise(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }
}

/// What a pod asks for, and what it is scored with: containers that ask for nothing are not free.
pub(super) fn of_pod(pod: &core::Pod) -> Result<(Amounts, i64, i64), QuantityError> {
    let Some(spec) = &pod.spec else { return Ok(Default::default()) };
    let asked = total(pod, spec, false)?;
    let scored = total(pod, spec, true)?;
    Ok((asked, scored.cpu_milli, scored.memory))
}

fn total(pod: &core::Pod, spec: &core::PodSpec, fill: bool) -> Result<Amounts, QuantityError> {
    let status = pod.status.as_ref();
    let mut sum = Amounts::default();
    for container in &spec.containers {
        sum.add(&container_asks(container, status.and_then(|it| it.container_statuses.as_ref()), fill)?);
    }
    let mut sidecars = Amounts::default();
    let mut init = Amounts::default();
    for container in spec.init_containers.iter().flatten() {
        let statuses = status.and_then(|it| it.init_container_statuses.as_ref());
        let asks = container_asks(container, statuses, fill)?;
        if container.restart_policy.as_deref() == Some("Always") {
            sum.add(&asks);
            sidecars.add(&asks);
            init.raise(&sidecars);
        } else {
            let mut meanwhile = asks;
            meanwhile.add(&sidecars);
            init.raise(&meanwhile);
        }
    }
    sum.raise(&init);
    if let Some(requests) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
        whole_pod(&mut sum, requests)?;
    }
    if let Some(overhead) = &spec.overhead {
        sum.add(&Amounts::of(overhead)?);
    }
    Ok(sum)
}

/// Requests of the pod as a whole stand for those of its containers (`spec.resources`).
fn whole_pod(sum: &mut Amounts, requests: &BTreeMap<String, Text>) -> Result<(), QuantityError> {
    let whole = Amounts::of(requests)?;
    if requests.contains_key("cpu") {
        sum.cpu_milli = whole.cpu_milli;
    }
    if requests.contains_key("memory") {
        sum.memory = whole.memory;
    }
    for (name, amount) in whole.scalar.iter().filter(|(name, _)| name.starts_with("hugepages-")) {
        match sum.scalar.binary_search_by(|(have, _)| have.cmp(name)) {
            Ok(at) => sum.scalar[at].1 = *amount,
            Err(at) => sum.scalar.insert(at, (name.clone(), *amount)),
        }
    }
    Ok(())
}

/// While a container is resized, the greatest of what it should have, was promised and has counts.
fn container_asks(
    container: &core::Container,
    statuses: Option<&Vec<core::ContainerStatus>>,
    fill: bool,
) -> Result<Amounts, QuantityError> {
    let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let mut asks = requests.map_or_else(|| Ok(Amounts::default()), Amounts::of)?;
    let status = statuses.into_iter().flatten().find(|status| status.name == container.name);
    if let Some(status) = status {
        let actual = status.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        for list in status.allocated_resources.iter().chain(actual) {
            asks.raise(&Amounts::of(list)?);
        }
    }
    if fill {
        let asked = |name| requests.is_some_and(|requests| requests.contains_key(name));
        if !asked("cpu") {
            asks.cpu_milli = asks.cpu_milli.max(UNASKED_CPU_MILLI);
        }
        if !asked("memory") {
            asks.memory = asks.memory.max(UNASKED_MEMORY);
        }
    }
    Ok(asks)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(spec: serde_json::Value) -> core::Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    fn container(cpu: &str, memory: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn init_containers_run_before_and_sidecars_beside() {
        let sidecar = |cpu: &str| {
            let mut one = container(cpu, "1Gi");
            one["restartPolicy"] = json!("Always");
            one
        };
        let table = [
            // Together 3; the init container asks for less.
            (
                json!({"containers": [container("1", "1Gi"), container("2", "1Gi")],
                    "initContainers": [container("2", "1Gi")]}),
                3000,
            ),
            // The init container asks for more.
            (json!({"containers": [container("1", "1Gi")], "initContainers": [container("2", "3Gi")]}), 2000),
            // A sidecar runs beside the init container that comes after it, and beside the containers.
            (
                json!({"containers": [container("1", "1Gi")],
                    "initContainers": [sidecar("1"), container("2", "1Gi")]}),
                3000,
            ),
            // It does not run yet while the one before it does.
            (
                json!({"containers": [container("1", "1Gi")],
                    "initContainers": [container("2", "1Gi"), sidecar("1")]}),
                2000,
            ),
            // Overhead comes on top, requests of the whole pod in place of the containers'.
            (json!({"containers": [container("1", "1Gi")], "overhead": {"cpu": "250m"}}), 1250),
            (
                json!({"containers": [container("1", "1Gi")], "resources": {"requests": {"cpu": "4"}},
                    "overhead": {"cpu": "250m"}}),
                4250,
            ),
        ];
        for (spec, cpu) in table {
            assert_eq!(of_pod(&pod(spec.clone())).unwrap().0.cpu_milli, cpu, "{spec}");
        }
    }

    #[test]
    fn containers_that_ask_for_nothing_are_scored_with_something() {
        let spec = json!({"containers": [{"name": "a"}, container("1", "1Gi")]});
        let (asked, cpu, memory) = of_pod(&pod(spec)).unwrap();
        assert_eq!((asked.cpu_milli, cpu), (1000, 1100));
        assert_eq!(memory - asked.memory, UNASKED_MEMORY);
    }

    #[test]
    fn a_resize_counts_the_greatest() {
        let mut pod = pod(json!({"containers": [container("1", "1Gi")]}));
        pod.status = serde_json::from_value(json!({"containerStatuses": [{
            "name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0,
            "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "1500m"}},
        }]}))
        .unwrap();
        assert_eq!(of_pod(&pod).unwrap().0.cpu_milli, 2000);
    }

    #[test]
    fn scalars_are_sorted_and_add_up() {
        let asks =
            |value: &str| json!({"name": "c", "resources": {"requests": {"b.c/x": value, "a.b/y": "1"}}});
        let (asked, ..) = of_pod(&pod(json!({"containers": [asks("1"), asks("2")]}))).unwrap();
        assert_eq!(asked.scalar, [("a.b/y".into(), 2), ("b.c/x".into(), 3)]);
        assert_eq!(asked.get("b.c/x"), 3);
    }
}
