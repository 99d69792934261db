//! What a node has granted the containers of a pod: processors and memory may be asked for anew while the pod runs, and what
//! was granted holds until that is granted, too. Vocabulary, with the file that it is kept in; must never decide what is granted.

use std::collections::{BTreeMap, HashSet};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use barque_api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, ContainerStatus, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::{Deserialize, Serialize};

/// What may change while a container runs.
pub const RESIZABLE: [&str; 2] = ["cpu", "memory"];

/// What the containers of a pod were granted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Allocation {
    /// The generation of the pod that asked for it.
    pub generation: Option<i64>,
    /// What the pod was granted as a whole.
    pub pod: Option<ResourceRequirements>,
    /// What containers and init containers were granted, by name.
    pub containers: BTreeMap<String, ResourceRequirements>,
}

impl Allocation {
    /// All that a pod asks for.
    #[must_use]
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let of =
            |container: &Container| (container.name.clone(), container.resources.clone().unwrap_or_default());
        Self {
            generation: pod.metadata.generation,
            pod: spec.resources.clone(),
            containers: all(spec).map(of).collect(),
        }
    }

    /// What a pod had been granted by what was told of it; nothing where that is what it asks for.
    #[must_use]
    pub fn told(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let mut told = Self::of(pod);
        let lists = [&status.init_container_statuses, &status.container_statuses];
        for one in lists.into_iter().flatten().flatten() {
            if let Some(granted) = told.containers.get_mut(&one.name) {
                take_over(granted, one);
            }
        }
        told.generation = None;
        (!told.is_of(pod)).then_some(told)
    }

    /// Whether it is what the pod asks for.
    #[must_use]
    pub fn is_of(&self, pod: &Pod) -> bool {
        let Some(spec) = &pod.spec else { return true };
        same(self.pod.as_ref(), spec.resources.as_ref())
            && all(spec)
                .all(|container| same(self.containers.get(&container.name), container.resources.as_ref()))
    }

    /// The pod as if it asked for this.
    #[must_use]
    pub fn applied(&self, pod: &Arc<Pod>) -> Arc<Pod> {
        if self.is_of(pod) {
            return pod.clone();
        }
        let mut pod = Pod::clone(pod);
        if let Some(spec) = &mut pod.spec {
            spec.resources.clone_from(&self.pod);
            for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
                if let Some(granted) = self.containers.get(&container.name) {
                    container.resources = Some(granted.clone());
                }
            }
        }
        Arc::new(pod)
    }
}

fn all(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

fn take_over(granted: &mut ResourceRequirements, told: &ContainerStatus) {
    // An agent that did not tell it granted what was asked for.
    let Some(resources) = &told.resources else { return };
    for name in RESIZABLE {
        let of = |list: Option<&BTreeMap<String, Text>>| list.and_then(|list| list.get(name)).cloned();
        let request = of(told.allocated_resources.as_ref()).or_else(|| of(resources.requests.as_ref()));
        put(&mut granted.requests, name, request);
        put(&mut granted.limits, name, of(resources.limits.as_ref()));
    }
}

pub(super) fn put(list: &mut Option<BTreeMap<String, Text>>, name: &str, amount: Option<Text>) {
    match amount {
        Some(amount) => drop(list.get_or_insert_default().insert(name.to_owned(), amount)),
        None => drop(list.as_mut().and_then(|list| list.remove(name))),
    }
}

fn same(one: Option<&ResourceRequirements>, other: Option<&ResourceRequirements>) -> bool {
    if one == other {
        return true;
    }
    let amount = |of: Option<&ResourceRequirements>, limits: bool, name: &str| {
        let of = of?;
        let list = if limits { of.limits.as_ref() } else { of.requests.as_ref() };
        // The API server has read it before.
        Quantity::parse(&list?.get(name)?.0).ok()
    };
    [false, true].into_iter().all(|limits| {
        RESIZABLE.into_iter().all(|name| amount(one, limits, name) == amount(other, limits, name))
    })
}

/// Whether two states of a pod ask for the same.
#[must_use]
pub fn asks_the_same(one: &Pod, other: &Pod) -> bool {
    let (Some(one), Some(other)) = (&one.spec, &other.spec) else { return true };
    let mut both = all(one).zip(all(other));
    same(one.resources.as_ref(), other.resources.as_ref())
        && both.all(|(one, other)| same(one.resources.as_ref(), other.resources.as_ref()))
}

/// The files of what was granted anew: a file for each pod that asked for something else while it ran, so that an agent that comes
/// back does not take what is asked for as granted.
#[derive(Debug, Clone, Default)]
pub struct Allocations {
    /// Nothing where pods do not outlive the process either.
    directory: Option<PathBuf>,
}

impl Allocations {
    /// Makes the directory.
    ///
    /// # Errors
    /// When that cannot be.
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory: Some(directory) })
    }

    fn path(&self, uid: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(format!("{uid}.json")))
    }

    /// What a pod was granted last, if that was while it ran.
    #[must_use]
    pub fn of(&self, uid: &str) -> Option<Allocation> {
        let text = std::fs::read(self.path(uid)?).ok()?;
        let read = serde_json::from_slice(&text);
        read.inspect_err(|error| tracing::warn!(uid, %error, "what is written of a resize cannot be read"))
            .ok()
    }

    /// Writes down what a pod was granted.
    ///
    /// # Errors
    /// When it is not written.
    pub fn keep(&self, uid: &str, allocation: &Allocation) -> io::Result<()> {
        let Some(path) = self.path(uid) else { return Ok(()) };
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(allocation)?)?;
        std::fs::rename(new, path)
    }

    /// Of a pod that is gone.
    pub fn forget(&self, uid: &str) {
        let Some(path) = self.path(uid) else { return };
        if let Err(error) = std::fs::remove_file(path)
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(uid, %error, "what was written of a resize is not removed");
        }
    }

    /// Of all pods but these.
    pub fn keep_only(&self, uids: &HashSet<&str>) {
        let Some(Ok(entries)) = self.directory.as_ref().map(std::fs::read_dir) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            if let Some(uid) = name.to_str().and_then(|name| name.strip_suffix(".json"))
                && !uids.contains(uid)
            {
                self.forget(uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(resources: Value, status: Value) -> Arc<Pod> {
        let value = json!({"metadata": {"generation": 7}, "status": {"containerStatuses": [status]},
            "spec": {"containers": [{"name": "c", "resources": resources}]}});
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn status(resources: Value) -> Value {
        json!({"name": "c", "image": "", "imageID": "", "ready": true, "restartCount": 0, "resources": resources})
    }

    #[test]
    fn what_was_granted_stands_in_for_what_is_asked_for() {
        let small =
            json!({"requests": {"cpu": "100m", "hugepages-2Mi": "2Mi"}, "limits": {"memory": "64Mi"}});
        let large = json!({"requests": {"cpu": "1", "hugepages-2Mi": "2Mi"}, "limits": {"memory": "64Mi"}});
        let granted = Allocation::of(&pod(small.clone(), status(json!({}))));
        assert_eq!(granted.generation, Some(7));
        let asking = pod(large, status(json!({})));
        assert!(!granted.is_of(&asking));
        assert_eq!(granted.applied(&asking).spec, pod(small, status(json!({}))).spec);
        let alike = json!({"requests": {"cpu": "0.1"}, "limits": {"memory": "67108864"}});
        assert!(granted.is_of(&pod(alike, status(json!({})))), "amounts, not their words");
    }

    #[test]
    fn what_was_told_is_granted_to_who_asks_for_more() {
        let asks = json!({"requests": {"cpu": "2"}, "limits": {"memory": "2Gi"}});
        let told = |status: Value| Allocation::told(&pod(asks.clone(), status));
        assert_eq!(told(status(json!({"requests": {"cpu": "2000m"}, "limits": {"memory": "2Gi"}}))), None);
        let mut silent = status(json!({}));
        silent.as_object_mut().unwrap().remove("resources");
        assert_eq!(told(silent), None, "an agent that told nothing granted all");
        let mut half = status(json!({"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi"}}));
        half["allocatedResources"] = json!({"cpu": "1"});
        let found = told(half).unwrap();
        let expected = json!({"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}});
        assert_eq!(json!(found.containers["c"]), expected);
    }

    #[test]
    fn a_file_tells_what_was_granted_until_the_pod_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let files = Allocations::open(directory.path().join("allocated")).unwrap();
        let granted = Allocation::of(&pod(json!({"limits": {"cpu": "1"}}), status(json!({}))));
        files.keep("u", &granted).unwrap();
        files.keep("v", &granted).unwrap();
        assert_eq!(files.of("u"), Some(granted));
        files.keep_only(&["u"].into());
        assert!(files.of("u").is_some() && files.of("v").is_none());
        files.forget("u");
        assert_eq!(files.of("u"), None);
    }
}
