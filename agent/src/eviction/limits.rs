//! Pods that hold more on the disk than they may: directories that began empty, containers, and pods as a whole. A decision.

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod};

use super::signals::Resource;
use super::usage::PodUsage;
use crate::node::admission;
use crate::pods::spec;
use crate::volumes::plan::size_limits;

/// The resource by its name in pods.
const STORAGE: &str = "ephemeral-storage";

/// A bound that was exceeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exceeded {
    /// As metrics name it.
    pub signal: &'static str,
    /// The kubelet's story.
    pub message: String,
}

fn limit(container: &Container) -> Option<Quantity> {
    let text = container.resources.as_ref()?.limits.as_ref()?.get(STORAGE)?;
    Quantity::parse(&text.0).ok().filter(|limit| !limit.is_zero())
}

/// Whether anything of the pod has such a bound, so that its use has to be measured.
#[must_use]
pub fn has_any(pod: &Pod) -> bool {
    !size_limits(pod).is_empty() || admission::bound(pod, STORAGE).is_some()
}

/// The first bound that the pod exceeds.
#[must_use]
pub fn exceeded(pod: &Pod, usage: &PodUsage) -> Option<Exceeded> {
    volume(pod, usage).or_else(|| whole(pod, usage)).or_else(|| container(pod, usage))
}

fn volume(pod: &Pod, usage: &PodUsage) -> Option<Exceeded> {
    let limits = size_limits(pod);
    let volumes = spec::spec(pod)?.volumes.as_ref()?;
    volumes.iter().find_map(|volume| {
        let limit = u64::try_from(*limits.get(&volume.name)?).ok()?;
        let written = volume.empty_dir.as_ref()?.size_limit.as_ref()?;
        let used = usage.volumes.get(&volume.name)?.bytes;
        (used > limit).then(|| Exceeded {
            signal: "emptydirfs.limit",
            message: format!(
                "Usage of EmptyDir volume {:?} exceeds the limit {:?}. ",
                volume.name, written.0
            ),
        })
    })
}

fn whole(pod: &Pod, usage: &PodUsage) -> Option<Exceeded> {
    let limit = u64::try_from(admission::bound(pod, STORAGE)?).ok()?;
    let told = Resource::EphemeralStorage.quantity(limit);
    (usage.disk().bytes > limit).then(|| Exceeded {
        signal: "ephemeralpodfs.limit",
        message: format!("Pod ephemeral local storage usage exceeds the total limit of containers {told}. "),
    })
}

fn container(pod: &Pod, usage: &PodUsage) -> Option<Exceeded> {
    spec::spec(pod)?.containers.iter().find_map(|container| {
        let limit = limit(container)?;
        let used = usage.containers.get(&container.name)?;
        let used = Resource::EphemeralStorage.quantity(used.root.plus(used.logs).bytes);
        let name = &container.name;
        (used > limit).then(|| Exceeded {
            signal: "ephemeralcontainerfs.limit",
            message: format!(
                "Container {name} exceeded its local ephemeral storage limit {:?}. ",
                limit.to_string()
            ),
        })
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::usage::ContainerUsage;
    use super::*;
    use crate::volumes::Usage;

    fn bytes(bytes: u64) -> Usage {
        Usage { bytes, inodes: 1 }
    }

    fn check(limits: [Option<&str>; 2], volume: Option<&str>, used: [u64; 3], expected: Option<&str>) {
        let container = |name: &str, limit: Option<&str>| match limit {
            Some(limit) => json!({"name": name, "resources": {"limits": {STORAGE: limit}}}),
            None => json!({"name": name}),
        };
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "containers": [container("a", limits[0]), container("b", limits[1])],
            "volumes": [{"name": "v", "emptyDir": {"sizeLimit": volume}}],
        }}))
        .unwrap();
        let of = |root: u64| ContainerUsage { root: bytes(root), logs: bytes(1), memory: None };
        let usage = PodUsage {
            containers: [("a".to_owned(), of(used[0])), ("b".to_owned(), of(used[1]))].into(),
            volumes: [("v".to_owned(), bytes(used[2]))].into(),
            ..PodUsage::default()
        };
        let found = exceeded(&pod, &usage).map(|it| format!("{}: {}", it.signal, it.message));
        assert_eq!(found.as_deref(), expected);
        assert!(has_any(&pod) || expected.is_none());
    }

    #[test]
    fn what_is_above_its_bound_is_told_in_the_kubelets_words() {
        check([None, None], None, [5000, 5000, 5000], None);
        check([None, None], Some("1Ki"), [0, 0, 1024], None);
        check(
            [None, None],
            Some("1Ki"),
            [0, 0, 1025],
            Some("emptydirfs.limit: Usage of EmptyDir volume \"v\" exceeds the limit \"1Ki\". "),
        );
        check([Some("1Ki"), Some("1Ki")], None, [1023, 1023, 0], None);
        check(
            [Some("1Ki"), Some("3Ki")],
            None,
            [1024, 0, 0],
            Some(
                "ephemeralcontainerfs.limit: Container a exceeded its local ephemeral storage limit \"1Ki\". ",
            ),
        );
        check(
            [Some("1Ki"), Some("3Ki")],
            None,
            [0, 0, 5000],
            Some(
                "ephemeralpodfs.limit: Pod ephemeral local storage usage exceeds the total limit of containers 4Ki. ",
            ),
        );
    }
}
