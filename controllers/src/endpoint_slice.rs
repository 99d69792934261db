//! The pods behind services, as slices that proxies read. Must never touch slices that another manages, and must write as few as
//! it can: every proxy hears of every write.

mod desired;
mod hints;
mod pack;
mod plan;
#[cfg(test)]
mod tests;
mod zones;

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::{Caches, Change};
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::Plan;
use crate::pods;
use crate::services;
use crate::services::trigger_time::TriggerTimes;
pub(crate) use pack::{Ports, identity, ports_key};
use zones::Capacity;

/// Who manages the slices.
const MANAGER: &str = "endpointslice-controller.k8s.io";
/// The label that says who manages a slice.
pub(crate) const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// The label that names a slice's service.
pub(crate) const SERVICE: &str = "kubernetes.io/service-name";
/// The index of slices by their service.
pub(crate) const BY_SERVICE: &str = "service";
/// The index of services that want to be served in their zones as zones' capacities say.
const WITH_HINTS: &str = "topology-mode";

/// The controller.
pub(crate) struct EndpointSlices {
    /// How many endpoints a slice has at most.
    max: usize,
    triggers: Mutex<TriggerTimes>,
}

/// A service with what stands behind it.
pub(crate) struct View {
    service: Arc<Service>,
    pods: Vec<Arc<Pod>>,
    /// The nodes of the pods; those that are not there are missing.
    nodes: BTreeMap<String, Arc<Node>>,
    /// Its slices, in order of their names.
    slices: Vec<Arc<EndpointSlice>>,
    trigger: Option<Timestamp>,
    /// Read only when the service asks for it.
    capacity: Option<Capacity>,
    max: usize,
}

impl EndpointSlices {
    /// With so many endpoints in a slice at most.
    pub(crate) fn new(max: usize) -> Self {
        Self { max, triggers: Mutex::default() }
    }
}

/// The values under which slices are found: where their service is.
pub(crate) fn by_service(slice: &EndpointSlice) -> Vec<String> {
    service_of(slice).map(|key| key.to_string()).into_iter().collect()
}

/// A slice's service.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<Key> {
    Some(Key::new(&slice.key().namespace, slice.label(SERVICE).filter(|name| !name.is_empty())?))
}

/// The services of slices that somebody manages, or did before the change.
pub(crate) fn of_slice(change: &Change<EndpointSlice>, manager: &str) -> Vec<Key> {
    let managed = change.both().filter(|slice| slice.label(MANAGED_BY) == Some(manager));
    let mut keys: Vec<_> = managed.filter_map(|slice| service_of(slice)).collect();
    keys.dedup();
    keys
}

/// The services of pods on a node that came, went or moved, and those that follow the capacity of zones.
fn of_node(change: &Change<Node>, caches: &Caches) -> Vec<Key> {
    let zone = |node: &Arc<Node>| zones::zone(node).map(str::to_owned);
    let mut keys = Vec::new();
    if change.old.as_ref().map(zone) != change.new.as_ref().map(zone) {
        let all = caches.of::<Service>();
        for pod in caches.of::<Pod>().with(pods::BY_NODE, &change.latest().key().name) {
            let services = all.in_namespace(&pod.key().namespace);
            keys.extend(services.iter().filter(|it| services::selects(it, &pod)).map(|it| it.key()));
        }
    }
    let counted = |node: &Arc<Node>| zones::counted(node);
    if change.old.as_ref().map(counted) != change.new.as_ref().map(counted) {
        keys.extend(caches.of::<Service>().with(WITH_HINTS, "").iter().map(|service| service.key()));
    }
    keys.sort();
    keys.dedup();
    keys
}

impl Controller for EndpointSlices {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Service>();
        watches.index::<Service>(WITH_HINTS, |service| {
            hints::follows_zones(service).then(String::new).into_iter().collect()
        });
        watches.mapped::<Pod>(services::of_pod);
        watches.index::<Pod>(pods::BY_NODE, pods::by_node);
        watches.mapped::<EndpointSlice>(|change, _| of_slice(change, MANAGER));
        watches.index::<EndpointSlice>(BY_SERVICE, by_service);
        watches.mapped::<Node>(of_node);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let Some(service) = caches.of::<Service>().get(key) else {
            self.triggers.lock().forget(key);
            return None;
        };
        if !services::selects_pods(&service) {
            return None;
        }
        let all = caches.of::<Pod>().in_namespace(&key.namespace);
        let pods: Vec<_> = all.into_iter().filter(|pod| services::selects(&service, pod)).collect();
        let nodes = caches.of::<Node>();
        let of = |pod: &Arc<Pod>| nodes.get(&Key::new("", pods::node(pod)));
        let slices = caches.of::<EndpointSlice>().with(BY_SERVICE, &key.to_string());
        let mine =
            |slice: &Arc<EndpointSlice>| slice.label(MANAGED_BY) == Some(MANAGER) && !slice.is_deleting();
        Some(View {
            nodes: pods.iter().filter_map(of).map(|node| (node.key().name, node)).collect(),
            slices: slices.into_iter().filter(mine).collect(),
            trigger: self.triggers.lock().of(&service, &pods),
            capacity: hints::follows_zones(&service).then(|| zones::capacity(&nodes.all())),
            max: self.max,
            service,
            pods,
        })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        plan::plan(view)
    }
}
