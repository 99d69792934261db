//! The fields of built-in kinds that selectors may ask for, beside name and namespace. Must never list one that is not read
//! from stored objects.

use barque_api::kind::GroupResource;

use crate::watch_cache::reader::SelectableField;

const fn field(path: &'static str) -> SelectableField {
    SelectableField { path, default: "" }
}

const fn flag(path: &'static str) -> SelectableField {
    SelectableField { path, default: "false" }
}

const PODS: &[SelectableField] = &[
    field("spec.nodeName"),
    field("spec.restartPolicy"),
    field("spec.schedulerName"),
    field("spec.serviceAccountName"),
    flag("spec.hostNetwork"),
    field("status.phase"),
    field("status.podIP"),
    field("status.nominatedNodeName"),
];
const EVENTS: &[SelectableField] = &[
    field("involvedObject.kind"),
    field("involvedObject.namespace"),
    field("involvedObject.name"),
    field("involvedObject.uid"),
    field("involvedObject.apiVersion"),
    field("involvedObject.resourceVersion"),
    field("involvedObject.fieldPath"),
    field("reason"),
    field("reportingComponent"),
    field("source.component"),
    field("type"),
];
const NODES: &[SelectableField] = &[flag("spec.unschedulable")];
const NAMESPACES: &[SelectableField] = &[field("status.phase")];
const SECRETS: &[SelectableField] = &[field("type")];
const JOBS: &[SelectableField] = &[SelectableField { path: "status.successful", default: "0" }];
const REPLICAS: &[SelectableField] = &[SelectableField { path: "status.replicas", default: "0" }];
const SIGNING: &[SelectableField] = &[field("spec.signerName")];
const SERVICES: &[SelectableField] = &[field("spec.clusterIP"), field("spec.type")];
const ADDRESSES: &[SelectableField] = &[field("spec.parentRef.resource")];
const SLICES: &[SelectableField] = &[field("spec.nodeName"), field("spec.driver")];

/// The selectable fields of a built-in collection.
#[must_use]
pub fn fields(resource: &GroupResource) -> &'static [SelectableField] {
    match (&*resource.group, &*resource.resource) {
        ("", "pods") => PODS,
        ("", "events") => EVENTS,
        ("", "nodes") => NODES,
        ("", "namespaces") => NAMESPACES,
        ("", "secrets") => SECRETS,
        ("", "services") => SERVICES,
        ("", "replicationcontrollers") | ("apps", "replicasets") => REPLICAS,
        ("batch", "jobs") => JOBS,
        ("certificates.k8s.io", "certificatesigningrequests") => SIGNING,
        ("networking.k8s.io", "ipaddresses") => ADDRESSES,
        ("resource.k8s.io", "resourceslices") => SLICES,
        _ => &[],
    }
}

/// The field by which so many clients select that it has an index.
#[must_use]
pub fn indexed(resource: &GroupResource) -> Option<&'static str> {
    (resource == &GroupResource::new("", "pods")).then_some("spec.nodeName")
}

/// What a selector may call a field; events of the group `events.k8s.io` have other names for the same fields.
#[must_use]
pub fn stored_name<'a>(group: &str, resource: &str, path: &'a str) -> &'a str {
    match (group, resource, path) {
        ("", "events", "source") => "source.component",
        ("events.k8s.io", "events", "reportingController") => "reportingComponent",
        ("events.k8s.io", "events", "regarding.kind") => "involvedObject.kind",
        ("events.k8s.io", "events", "regarding.namespace") => "involvedObject.namespace",
        ("events.k8s.io", "events", "regarding.name") => "involvedObject.name",
        ("events.k8s.io", "events", "regarding.uid") => "involvedObject.uid",
        ("events.k8s.io", "events", "regarding.apiVersion") => "involvedObject.apiVersion",
        ("events.k8s.io", "events", "regarding.resourceVersion") => "involvedObject.resourceVersion",
        ("events.k8s.io", "events", "regarding.fieldPath") => "involvedObject.fieldPath",
        _ => path,
    }
}
