//! Endpoints that users made for services without a selector, as slices. Must never mirror what a controller made, nor leader
//! elections.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::endpoint_slice::{
    BY_SERVICE, MANAGED_BY, Ports, SERVICE, by_service, identity, of_slice, ports_key,
};
use crate::endpoints::subsets::repack;
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Order, Plan, Told};
use crate::services::{Family, address, trigger_time};

const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Annotations that are of the endpoints alone.
const NOT_MIRRORED: [&str; 2] =
    [trigger_time::ANNOTATION, "kubectl.kubernetes.io/last-applied-configuration"];

/// The controller.
pub(crate) struct Mirror {
    /// How many addresses of each subset are mirrored.
    max: usize,
}

/// Endpoints and their mirror.
pub(crate) struct View {
    /// Nothing when they are not to be mirrored.
    endpoints: Option<Arc<Endpoints>>,
    slices: Vec<Arc<EndpointSlice>>,
}

impl Mirror {
    /// With so many addresses of each subset.
    pub(crate) fn new(max: usize) -> Self {
        Self { max }
    }
}

/// Whether endpoints are such as are mirrored.
fn is_mirrored(endpoints: &Endpoints) -> bool {
    endpoints.label("endpointslice.kubernetes.io/skip-mirror") != Some("true")
        && endpoints.annotation("control-plane.alpha.kubernetes.io/leader").is_none()
}

fn has_no_selector(service: &Service) -> bool {
    service.spec.as_ref().is_none_or(|spec| spec.selector.is_none())
}

impl Controller for Mirror {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<Endpoints>();
        watches.mapped::<Service>(|change, _| {
            let of = |service: &Arc<Service>| has_no_selector(service);
            let changed = change.old.as_ref().map(of) != change.new.as_ref().map(of);
            changed.then(|| change.latest().key()).into_iter().collect()
        });
        watches.mapped::<EndpointSlice>(|change, _| of_slice(change, MANAGER));
        watches.index::<EndpointSlice>(BY_SERVICE, by_service);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let endpoints = caches.of::<Endpoints>().get(key).filter(|endpoints| is_mirrored(endpoints));
        let service = caches.of::<Service>().get(key);
        let endpoints = endpoints.filter(|_| service.is_some_and(|service| has_no_selector(&service)));
        let slices = caches.of::<EndpointSlice>().with(BY_SERVICE, &key.to_string());
        let mine =
            |slice: &Arc<EndpointSlice>| slice.label(MANAGED_BY) == Some(MANAGER) && !slice.is_deleting();
        let slices: Vec<_> = slices.into_iter().filter(mine).collect();
        (endpoints.is_some() || !slices.is_empty()).then_some(View { endpoints, slices })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let mut surplus = view.slices.clone();
        if let Some(endpoints) = &view.endpoints {
            mirror(endpoints, &mut surplus, self.max, &mut plan);
        }
        let gone =
            surplus.iter().map(|slice| Action::delete_as_it_says(&**slice).because("it mirrors nothing"));
        plan.step(Order::Parallel, gone);
        plan
    }
}

/// The endpoints of a family with the same ports.
#[derive(Default)]
struct Group {
    ports: Ports,
    endpoints: Vec<Endpoint>,
}

/// Slices as the endpoints say; those that are needed for that are taken from `existing`.
fn mirror(endpoints: &Endpoints, existing: &mut Vec<Arc<EndpointSlice>>, max: usize, plan: &mut Plan) {
    let groups = desired(endpoints, max, plan);
    let mut fresh = Vec::new();
    let mut kept = Vec::new();
    for ((family, key), group) in groups {
        let same = |slice: &Arc<EndpointSlice>| {
            slice.address_type == family.name()
                && ports_key(slice.ports.as_deref().unwrap_or_default()) == key
        };
        match existing.iter().position(same) {
            Some(at) => kept.push((Some(existing.remove(at)), family, group)),
            None => fresh.push((family, group)),
        }
    }
    for (family, group) in fresh {
        // One that is not needed any more becomes the new one: one write in place of two.
        let at = existing.iter().position(|slice| slice.address_type == family.name());
        kept.push((at.map(|at| existing.remove(at)), family, group));
    }
    let (mut creates, mut updates) = (Vec::new(), Vec::new());
    for (before, family, group) in kept {
        match before {
            Some(before) => {
                let after = of(endpoints, family, group, (*before).clone());
                updates.extend(
                    Action::update(&*before, &after).map(|it| it.because("the endpoints are others")),
                );
            }
            None if endpoints.is_deleting() => {}
            None => {
                let namespace = endpoints.metadata.namespace.clone();
                let generate_name = Some(format!("{}-", endpoints.key().name));
                let metadata = ObjectMeta { namespace, generate_name, ..ObjectMeta::default() };
                let empty = EndpointSlice { metadata, ..EndpointSlice::default() };
                let create = Action::create(&of(endpoints, family, group, empty));
                creates.push(create.because("the endpoints have no mirror"));
            }
        }
    }
    plan.step(Order::Parallel, creates);
    plan.step(Order::Parallel, updates);
}

fn of(endpoints: &Endpoints, family: Family, group: Group, mut slice: EndpointSlice) -> EndpointSlice {
    slice.address_type = family.name().to_owned();
    let before = slice.endpoints.as_deref().unwrap_or_default();
    // Their order says nothing.
    let sorted = |all: &[Endpoint]| {
        let mut all = all.to_vec();
        all.sort_by_cached_key(identity);
        all
    };
    if slice.endpoints.is_none() || sorted(before) != sorted(&group.endpoints) {
        slice.endpoints = Some(group.endpoints);
    }
    if ports_key(slice.ports.as_deref().unwrap_or_default()) != ports_key(&group.ports)
        || slice.ports.is_none()
    {
        slice.ports = Some(group.ports);
    }
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE.to_owned(), endpoints.key().name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    slice.metadata.labels = Some(labels);
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !NOT_MIRRORED.contains(&name.as_str()));
    slice.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    let owners = slice.metadata.owner_references.get_or_insert_default();
    if !owners.iter().any(|owner| owner.uid == endpoints.uid()) {
        *owners = vec![endpoints.as_controller()];
    }
    slice
}

fn desired(endpoints: &Endpoints, max: usize, plan: &mut Plan) -> BTreeMap<(Family, String), Group> {
    let mut groups: BTreeMap<(Family, String), Group> = BTreeMap::new();
    let (mut invalid, mut skipped) = (0, 0);
    for subset in repack(endpoints.subsets.as_deref().unwrap_or_default()) {
        let ports = ports(&subset);
        let key = ports_key(&ports);
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let other = subset.not_ready_addresses.iter().flatten().map(|address| (address, false));
        let mut added = 0;
        for (told, ready) in ready.chain(other) {
            if added >= max {
                skipped += 1;
                continue;
            }
            let Some(ip) = address(&told.ip) else {
                invalid += 1;
                continue;
            };
            added += 1;
            let group = groups.entry((Family::of(ip), key.clone())).or_default();
            group.ports.clone_from(&ports);
            group.endpoints.push(endpoint(told, ip.to_string(), ready));
        }
    }
    let mut warn = |reason, text| {
        plan.notes.push(Told { regarding: endpoints.reference(), gravity: Gravity::Warning, reason, text });
    };
    if invalid > 0 {
        let text = format!("Skipped {invalid} invalid IP addresses when mirroring to EndpointSlices");
        warn("InvalidIPAddress", text);
    }
    if skipped > 0 {
        let all = skipped + invalid;
        let text = format!(
            "A max of {max} addresses can be mirrored to EndpointSlices per Endpoints subset. {all} addresses were skipped"
        );
        warn("TooManyAddressesToMirror", text);
    }
    groups
}

fn ports(subset: &EndpointSubset) -> Ports {
    let of = |port: &k8s_openapi::api::core::v1::EndpointPort| EndpointPort {
        name: Some(port.name.clone().unwrap_or_default()),
        port: Some(port.port),
        protocol: port.protocol.clone(),
        app_protocol: port.app_protocol.clone(),
    };
    subset.ports.iter().flatten().map(of).collect()
}

fn endpoint(told: &EndpointAddress, ip: String, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip],
        conditions: Some(EndpointConditions { ready: Some(ready), serving: None, terminating: None }),
        hostname: told.hostname.clone().filter(|name| !name.is_empty()),
        node_name: told.node_name.clone(),
        target_ref: told.target_ref.clone(),
        ..Endpoint::default()
    }
}
