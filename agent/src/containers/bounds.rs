//! What a container and its pod may use, as control groups are told. A decision.

use std::collections::BTreeMap;

use barque_api::quantity::Quantity;
use barque_containers::spec::Resources;
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;

use super::NodeFacts;
use super::qos::{Qos, class};
use crate::pods::spec::{self, Kind};

/// The period that quotas are counted in, in microseconds.
const PERIOD_US: i64 = 100_000;
/// The least quota that the kernel takes, in microseconds.
const LEAST_QUOTA_US: i64 = 1000;
/// The least share, for those that ask for nothing.
const LEAST_SHARES: i64 = 2;
/// The greatest share that the kernel takes.
const MOST_SHARES: i64 = 262_144;

/// Which of the two lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// What is asked for.
    Requests,
    /// What is allowed.
    Limits,
}

fn list(resources: Option<&ResourceRequirements>, which: Which) -> Option<&BTreeMap<String, Text>> {
    let resources = resources?;
    match which {
        Which::Requests => resources.requests.as_ref(),
        Which::Limits => resources.limits.as_ref(),
    }
}

/// The amount of a resource: thousandths of processors, whole units of everything else. Nothing when it is not set, or zero.
#[must_use]
pub fn amount(resources: Option<&ResourceRequirements>, which: Which, name: &str) -> Option<i64> {
    of_list(list(resources, which)?, name)
}

fn of_list(list: &BTreeMap<String, Text>, name: &str) -> Option<i64> {
    // The API server has read it before.
    let quantity = Quantity::parse(&list.get(name)?.0).ok()?;
    let amount = if name == "cpu" { quantity.milli_value() } else { quantity.value() };
    Some(amount).filter(|amount| *amount > 0)
}

/// The share for so many thousandths of a processor.
fn shares(milli: i64) -> u64 {
    let shares = milli.saturating_mul(1024) / 1000;
    shares.clamp(LEAST_SHARES, MOST_SHARES).unsigned_abs()
}

/// The time within a period for so many thousandths of a processor, in microseconds.
fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD_US) / 1000).max(LEAST_QUOTA_US)
}

/// `hugepages-2Mi` in bytes as control groups name the size: `2MB`.
fn page_size(resource: &str) -> Option<String> {
    let bytes = Quantity::parse(resource.strip_prefix("hugepages-")?).ok()?.value();
    let (mut size, mut units) = (bytes, ["B", "KB", "MB", "GB", "TB"].iter());
    let mut unit = units.next()?;
    while size >= 1024 && size % 1024 == 0 {
        (size, unit) = (size / 1024, units.next()?);
    }
    Some(format!("{size}{unit}"))
}

fn huge_pages(limits: Option<&BTreeMap<String, Text>>) -> BTreeMap<String, u64> {
    let bounded = limits.into_iter().flatten().filter_map(|(name, text)| {
        let bytes = u64::try_from(Quantity::parse(&text.0).ok()?.value()).ok()?;
        Some((page_size(name)?, bytes))
    });
    bounded.collect()
}

/// What a container may use.
#[must_use]
pub fn of_container(container: &Container) -> Resources {
    let own = container.resources.as_ref();
    let limit = amount(own, Which::Limits, "cpu");
    // Who has a limit and does not ask for less asks for that.
    let request = amount(own, Which::Requests, "cpu").or(limit);
    Resources {
        cpu_shares: Some(shares(request.unwrap_or_default())),
        cpu_quota_us: limit.map(quota),
        cpu_period_us: limit.map(|_| PERIOD_US.unsigned_abs()),
        memory_bytes: amount(own, Which::Limits, "memory"),
        pids: None,
        huge_pages: huge_pages(list(own, Which::Limits)),
    }
}

/// What all containers of a pod may use together, with what the node says.
#[must_use]
pub fn of_pod(pod: &Pod, node: &NodeFacts) -> Resources {
    Resources { pids: node.pod_pids_limit, ..of_whole(pod) }
}

/// What all containers of a pod may use together. It is bounded where each of them is, or where the pod says so itself.
#[must_use]
pub fn of_whole(pod: &Pod) -> Resources {
    let mut resources = Resources::default();
    let Some(spec) = spec::spec(pod) else { return resources };
    let of_overhead = |name: &str| spec.overhead.as_ref().and_then(|list| of_list(list, name));
    let limit = |name: &str| {
        let own = amount(spec.resources.as_ref(), Which::Limits, name);
        let limit = own.or_else(|| all_bounded(spec, name).then(|| total(pod, Which::Limits, name)))?;
        Some(limit.saturating_add(of_overhead(name).unwrap_or_default()))
    };
    let cpu = limit("cpu");
    let asked = amount(spec.resources.as_ref(), Which::Requests, "cpu")
        .unwrap_or_else(|| total(pod, Which::Requests, "cpu"))
        .saturating_add(of_overhead("cpu").unwrap_or_default());
    let qos = class(pod);
    resources.cpu_shares = Some(match qos {
        Qos::BestEffort => LEAST_SHARES.unsigned_abs(),
        // Who has a limit and asks for nothing asks for that.
        Qos::Burstable | Qos::Guaranteed if asked == 0 => shares(cpu.unwrap_or_default()),
        Qos::Burstable | Qos::Guaranteed => shares(asked),
    });
    if qos != Qos::BestEffort {
        resources.cpu_quota_us = cpu.map(quota);
        resources.cpu_period_us = cpu.map(|_| PERIOD_US.unsigned_abs());
        resources.memory_bytes = limit("memory");
    }
    resources.huge_pages = pod_huge_pages(pod);
    resources
}

/// Whether processors and memory, which a pod may be given more or less of while it runs, are bounded alike.
#[must_use]
pub fn same(one: &Resources, other: &Resources) -> bool {
    same_cpu(one, other) && one.memory_bytes == other.memory_bytes
}

/// Whether processors are bounded alike.
#[must_use]
pub fn same_cpu(one: &Resources, other: &Resources) -> bool {
    (one.cpu_shares, one.cpu_quota_us) == (other.cpu_shares, other.cpu_quota_us)
}

/// What is wanted, but nothing less than there is.
#[must_use]
pub fn raised(now: &Resources, wanted: &Resources) -> Resources {
    // No bound is the widest.
    fn wider<T: Ord + Copy>(now: Option<T>, wanted: Option<T>) -> Option<T> {
        Some(now?.max(wanted?))
    }
    Resources {
        cpu_shares: now.cpu_shares.max(wanted.cpu_shares),
        cpu_quota_us: wider(now.cpu_quota_us, wanted.cpu_quota_us),
        cpu_period_us: now.cpu_period_us.and(wanted.cpu_period_us),
        memory_bytes: wider(now.memory_bytes, wanted.memory_bytes),
        ..wanted.clone()
    }
}

/// Thousandths of a processor for a share; what [`of_container`] makes this share of.
#[must_use]
pub fn milli_of_shares(shares: u64) -> i64 {
    i64::try_from(shares.saturating_mul(1000).div_ceil(1024)).unwrap_or(i64::MAX)
}

/// Thousandths of a processor for a time within a period.
#[must_use]
pub fn milli_of_quota(quota_us: i64, period_us: u64) -> i64 {
    let period = i64::try_from(period_us).unwrap_or(i64::MAX).max(1);
    quota_us.saturating_mul(1000) / period
}

/// Whether each container has a limit, so that all together have one.
fn all_bounded(spec: &PodSpec, name: &str) -> bool {
    let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.all(|container| amount(container.resources.as_ref(), Which::Limits, name).is_some())
}

/// Of all containers: those that run together, or the init container that needs more with the sidecars before it.
fn total(pod: &Pod, which: Which, name: &str) -> i64 {
    let of = |container: &Container| {
        let own = amount(container.resources.as_ref(), which, name);
        // A limit without a request is one.
        let own = own.or_else(|| amount(container.resources.as_ref(), Which::Limits, name));
        own.unwrap_or_default()
    };
    let (mut sidecars, mut most) = (0_i64, 0_i64);
    for container in spec::init_containers(pod) {
        let Some(own) = container.container.map(of) else { continue };
        if container.kind == Kind::Sidecar {
            sidecars = sidecars.saturating_add(own);
            most = most.max(sidecars);
        } else {
            most = most.max(sidecars.saturating_add(own));
        }
    }
    let main = spec::main_containers(pod).filter_map(|container| container.container).map(of);
    main.fold(sidecars, i64::saturating_add).max(most)
}

fn pod_huge_pages(pod: &Pod) -> BTreeMap<String, u64> {
    let Some(spec) = spec::spec(pod) else { return BTreeMap::new() };
    let own = list(spec.resources.as_ref(), Which::Limits);
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let lists = containers.filter_map(|container| list(container.resources.as_ref(), Which::Limits));
    let names: Vec<&String> = lists.flat_map(BTreeMap::keys).filter(|it| page_size(it).is_some()).collect();
    let sums = names
        .into_iter()
        .filter_map(|name| Some((page_size(name)?, total(pod, Which::Limits, name).unsigned_abs())));
    sums.chain(huge_pages(own)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn container(requests: Value, limits: Value) -> Value {
        json!({"name": "c", "resources": {"requests": requests, "limits": limits}})
    }

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"spec": spec})).unwrap()
    }

    #[test]
    fn a_container_is_bounded_by_its_own_words() {
        let table = [
            (json!({}), json!({}), (2, None, None)),
            (json!({"cpu": "1"}), json!({}), (1024, None, None)),
            (json!({"cpu": "100m"}), json!({"cpu": "500m"}), (102, Some(50_000), None)),
            (json!({}), json!({"cpu": "2"}), (2048, Some(200_000), None)),
            (json!({"cpu": "1m"}), json!({"cpu": "1m"}), (2, Some(1000), None)),
            (json!({"cpu": "1000"}), json!({}), (262_144, None, None)),
            (json!({}), json!({"memory": "64Mi"}), (2, None, Some(64 << 20))),
            (json!({"memory": "64Mi"}), json!({}), (2, None, None)),
        ];
        for (requests, limits, expected) in table {
            let told = format!("{requests} {limits}");
            let container: Container = serde_json::from_value(container(requests, limits)).unwrap();
            let got = of_container(&container);
            assert_eq!((got.cpu_shares.unwrap(), got.cpu_quota_us, got.memory_bytes), expected, "{told}");
            assert_eq!(got.cpu_period_us, got.cpu_quota_us.map(|_| 100_000), "{told}");
        }
        let pages = json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi", "hugepages-64Ki": "64Ki"});
        let container: Container = serde_json::from_value(container(json!({}), pages)).unwrap();
        let expected = [("1GB", 1 << 30), ("2MB", 4 << 20), ("64KB", 64 << 10)];
        let expected = expected.map(|(name, bytes)| (name.to_owned(), bytes));
        assert_eq!(of_container(&container).huge_pages, expected.into());
    }

    #[test]
    fn a_pod_is_bounded_where_all_its_containers_are_or_by_its_own_word() {
        let half = || json!({"cpu": "500m", "memory": "1Mi"});
        let node = NodeFacts { pod_pids_limit: Some(100), ..NodeFacts::default() };
        let table = [
            (json!({"containers": [container(json!({}), json!({}))]}), (2, None, None)),
            (
                json!({"containers": [container(half(), half()), container(half(), half())]}),
                (1024, Some(100_000), Some(2 << 20)),
            ),
            (
                json!({"containers": [container(half(), half()), container(half(), json!({}))]}),
                (1024, None, None),
            ),
            (
                json!({"containers": [container(half(), json!({"memory": "2Mi"}))]}),
                (512, None, Some(2 << 20)),
            ),
            (
                json!({"containers": [container(half(), half())],
                    "initContainers": [container(json!({"cpu": "2"}), json!({"cpu": "2", "memory": "8Mi"}))]}),
                (2048, Some(200_000), Some(8 << 20)),
            ),
            (
                json!({"containers": [container(half(), json!({}))],
                    "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "3", "memory": "9Mi"}}}),
                (1024, Some(300_000), Some(9 << 20)),
            ),
            (
                json!({"containers": [container(half(), half())], "overhead": {"cpu": "500m", "memory": "1Mi"}}),
                (1024, Some(100_000), Some(2 << 20)),
            ),
        ];
        for (spec, expected) in table {
            let told = spec.to_string();
            let got = of_pod(&pod(spec), &node);
            assert_eq!((got.cpu_shares.unwrap(), got.cpu_quota_us, got.memory_bytes), expected, "{told}");
            assert_eq!(got.pids, Some(100));
        }
        let pages = || json!({"hugepages-2Mi": "4Mi"});
        let two = json!({"containers": [container(json!({}), pages()), container(json!({}), pages())]});
        assert_eq!(of_pod(&pod(two), &node).huge_pages, [("2MB".to_owned(), 8 << 20)].into());
    }
}
