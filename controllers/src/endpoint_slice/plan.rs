//! From the endpoints that a service is to have to the slices that are written. A decision.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::desired::desired;
use super::pack::{Packed, Slice, endpoints, pack};
use super::{MANAGED_BY, MANAGER, SERVICE, View, hints};
use crate::kind::Object as _;
use crate::plan::{Action, Order, Plan, Planned, Told};
use crate::pods;
use crate::services::{self, Family, trigger_time};

/// The label of slices of a service without an address of its own.
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) fn plan(view: &View) -> Plan {
    let mut plan = Plan::nothing();
    let families = services::families(&view.service);
    let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    for family in &families {
        of_family(view, *family, &mut plan, (&mut creates, &mut updates, &mut deletes));
    }
    let other =
        |slice: &&Arc<EndpointSlice>| families.iter().all(|family| family.name() != slice.address_type);
    for slice in view.slices.iter().filter(other) {
        let gone = Action::delete_as_it_says(&**slice).because("the service has no such addresses");
        deletes.push(explained(gone, view, "delete", &slice.key().name));
    }
    if !view.service.is_deleting() {
        plan.step(Order::Parallel, creates);
    }
    plan.step(Order::Parallel, updates);
    plan.step(Order::Parallel, deletes);
    plan
}

type Writes<'a> = (&'a mut Vec<Planned>, &'a mut Vec<Planned>, &'a mut Vec<Planned>);

fn of_family(view: &View, family: Family, plan: &mut Plan, (creates, updates, deletes): Writes<'_>) {
    let of_family = view.slices.iter().filter(|slice| slice.address_type == family.name());
    // A slice of a service that had the same name is the garbage collector's.
    let (mine, foreign): (Vec<_>, Vec<_>) = of_family.cloned().partition(|slice| is_owned(slice, view));
    let (groups, lost) = desired(view, family);
    for pod in lost {
        let (service, pod, node) = (view.service.key(), pod.key().name, pods::node(pod));
        let why = format!("skipping Pod {pod} for Service {service}: Node {node} Not Found");
        plan.notes.push(failure(view, &why));
    }
    let mut packed = pack(groups, &mine, view.max);
    keep_one(&mut packed);
    let had_hints = mine.iter().flat_map(|slice| endpoints(slice)).any(|endpoint| endpoint.hints.is_some());
    let told = hinted(view, &mut packed, had_hints);
    for slice in &packed.slices {
        let Some((after, before)) = written(slice, view, family) else { continue };
        match before {
            Some(before) => {
                if let Some(update) = Action::update(&*before, &after) {
                    let update = update.because("its endpoints are others");
                    updates.push(explained(update, view, "update", &before.key().name));
                }
            }
            None => {
                let create = Action::create(&after).because("endpoints have no slice");
                creates.push(explained(create, view, "create", ""));
            }
        }
    }
    for slice in packed.surplus.iter().chain(&foreign) {
        let gone = Action::delete_as_it_says(&**slice).because("it has no endpoints any more");
        deletes.push(explained(gone, view, "delete", &slice.key().name));
    }
    let writes = !(creates.is_empty() && updates.is_empty() && deletes.is_empty());
    if let Some((gravity, reason, text)) = told.filter(|_| writes) {
        let text = format!("{text}, addressType: {}", family.name());
        plan.notes.push(Told { regarding: view.service.reference(), gravity, reason, text });
    }
}

fn is_owned(slice: &EndpointSlice, view: &View) -> bool {
    let owners = slice.metadata.owner_references.iter().flatten();
    let uid = view.service.uid();
    owners.into_iter().any(|owner| owner.uid == uid && owner.kind == "Service" && owner.api_version == "v1")
}

/// A service without endpoints has one slice that says so.
fn keep_one(packed: &mut Packed) {
    if packed.slices.is_empty() {
        let existing = packed.surplus.pop();
        packed.slices.push(Slice { existing, ports: Vec::new(), endpoints: Vec::new(), changed: true });
    }
}

type Sentence = (Gravity, &'static str, String);

/// Endpoints have the hints that the service asks for; what people are told of it.
fn hinted(view: &View, packed: &mut Packed, had_hints: bool) -> Option<Sentence> {
    let slices = &mut packed.slices;
    let disabled = |why| Some((Gravity::Warning, "TopologyAwareHintsDisabled", why));
    match (&view.capacity, hints::nearby(&view.service)) {
        (Some(capacity), _) => match hints::by_zones(slices, capacity) {
            Err(why) => disabled(why),
            Ok(()) if had_hints => None,
            Ok(()) => {
                let text = "Topology Aware Hints has been enabled".to_owned();
                Some((Gravity::Normal, "TopologyAwareHintsEnabled", text))
            }
        },
        (None, Some(same_node)) => {
            hints::near(slices, same_node);
            None
        }
        (None, None) => {
            hints::none(slices);
            had_hints.then(|| disabled("Topology Aware Hints has been disabled".to_owned())).flatten()
        }
    }
}

/// A slice as it is written, and as it is; nothing when it need not be.
fn written(
    slice: &Slice,
    view: &View,
    family: Family,
) -> Option<(EndpointSlice, Option<Arc<EndpointSlice>>)> {
    let labels = labels(view);
    let Some(before) = &slice.existing else {
        let service = &view.service;
        let mut after = EndpointSlice {
            address_type: family.name().to_owned(),
            endpoints: Some(slice.endpoints.clone()),
            ports: Some(slice.ports.clone()),
            metadata: ObjectMeta {
                namespace: service.metadata.namespace.clone(),
                generate_name: Some(format!("{}-", service.key().name)),
                labels: Some(labels),
                owner_references: Some(vec![service.as_controller()]),
                ..ObjectMeta::default()
            },
        };
        trigger(&mut after, view);
        return Some((after, None));
    };
    let mut after = (**before).clone();
    if endpoints(before) != slice.endpoints {
        after.endpoints = Some(slice.endpoints.clone());
    }
    if before.ports.as_deref().unwrap_or_default() != slice.ports {
        after.ports = Some(slice.ports.clone());
    }
    after.metadata.labels = Some(labels);
    if after == **before {
        return None;
    }
    trigger(&mut after, view);
    Some((after, Some(before.clone())))
}

/// What made the endpoints change is told with each write.
fn trigger(slice: &mut EndpointSlice, view: &View) {
    match view.trigger {
        Some(time) => {
            let annotations = slice.metadata.annotations.get_or_insert_default();
            annotations.insert(trigger_time::ANNOTATION.to_owned(), trigger_time::text(time));
        }
        None => {
            if let Some(annotations) = &mut slice.metadata.annotations {
                annotations.remove(trigger_time::ANNOTATION);
            }
        }
    }
}

/// The service's labels and those that say whose a slice is.
fn labels(view: &View) -> BTreeMap<String, String> {
    let mut labels = view.service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if services::is_headless(&view.service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE.to_owned(), view.service.key().name);
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    labels
}

fn failure(view: &View, why: &str) -> Told {
    Told {
        regarding: view.service.reference(),
        gravity: Gravity::Warning,
        reason: "FailedToUpdateEndpointSlices",
        text: format!("Error updating Endpoint Slices for Service {}: {why}", view.service.key()),
    }
}

fn explained(mut planned: Planned, view: &View, verb: &str, name: &str) -> Planned {
    let service = view.service.key();
    let what = if name.is_empty() { "EndpointSlice".to_owned() } else { format!("{name} EndpointSlice") };
    planned.failed =
        Some(failure(view, &format!("failed to {verb} {what} for Service {service}: {{error}}")));
    planned
}
