//! Built-in kinds that run nothing themselves: what workloads find around them (networks, volumes, configuration) and what
//! rules over them (roles, quotas, classes, webhooks). Metadata is judged elsewhere; must never panic on a wrong shape.

mod addresses;
mod admission_bindings;
mod admission_policies;
mod amounts;
mod certificates;
mod config;
mod device_taints;
mod devices;
mod endpoints;
mod events;
mod extension;
mod flow;
mod ingress;
mod limits;
mod match_conditions;
mod namespaces;
mod network_policy;
mod node_affinity;
mod nodes;
mod quotas;
mod rbac;
mod schedule;
mod service;
mod service_ips;
mod slices;
mod storage;
mod volume_claims;
mod volumes;
mod webhooks;

use barque_api::field::FieldError;

use super::Subject;
use super::findings::Findings;
use super::part::Part;

/// An object that is created, or becomes another.
struct Change<'a> {
    /// As it is to be.
    new: Part<'a>,
    /// As it is; none when it is created.
    old: Option<Part<'a>>,
    /// Empty for the object itself.
    subresource: &'a str,
    /// The group it is written in: events have two.
    group: &'a str,
}

/// What is wrong with an object; none when its kind is not one of these.
#[must_use]
pub(super) fn validate_surroundings(subject: &Subject<'_>) -> Option<Vec<FieldError>> {
    let check = check_of(subject.group, subject.kind)?;
    let change = Change {
        new: Part::root(subject.new),
        old: subject.old.map(Part::root),
        subresource: subject.subresource,
        group: subject.group,
    };
    let mut findings = Findings::default();
    check(&change, &mut findings);
    Some(findings.into_errors())
}

type Check = fn(&Change<'_>, &mut Findings);

fn check_of(group: &str, kind: &str) -> Option<Check> {
    Some(match (group, kind) {
        ("", "ConfigMap") => config::check_config_map,
        ("", "Secret") => config::check_secret,
        ("", "Endpoints") => endpoints::check_endpoints,
        ("" | "events.k8s.io", "Event") => events::check_event,
        ("", "LimitRange") => limits::check_limit_range,
        ("", "Namespace") => namespaces::check_namespace,
        ("", "Node") => nodes::check_node,
        ("", "PersistentVolume") => volumes::check_volume,
        ("", "PersistentVolumeClaim") => volume_claims::check_claim,
        ("", "ResourceQuota") => quotas::check_quota,
        ("", "Service") => service::check_service,
        ("", "ServiceAccount") => |_, _| {},
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration") => webhooks::check_mutating,
        ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration") => webhooks::check_validating,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => admission_policies::check_validating,
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => admission_policies::check_mutating,
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            admission_bindings::check_validating_binding
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding") => {
            admission_bindings::check_mutating_binding
        }
        ("apiregistration.k8s.io", "APIService") => extension::check_api_service,
        ("certificates.k8s.io", "CertificateSigningRequest") => certificates::check_request,
        ("coordination.k8s.io", "Lease") => schedule::check_lease,
        ("discovery.k8s.io", "EndpointSlice") => endpoints::check_slice,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => flow::check_schema,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => flow::check_level,
        ("networking.k8s.io", "Ingress") => ingress::check_ingress,
        ("networking.k8s.io", "IngressClass") => ingress::check_class,
        ("networking.k8s.io", "NetworkPolicy") => network_policy::check_policy,
        ("networking.k8s.io", "IPAddress") => addresses::check_address,
        ("networking.k8s.io", "ServiceCIDR") => addresses::check_service_cidr,
        ("node.k8s.io", "RuntimeClass") => schedule::check_runtime_class,
        ("rbac.authorization.k8s.io", "Role") => rbac::check_role,
        ("rbac.authorization.k8s.io", "ClusterRole") => rbac::check_cluster_role,
        ("rbac.authorization.k8s.io", "RoleBinding") => rbac::check_binding,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding") => rbac::check_cluster_binding,
        ("resource.k8s.io", "DeviceClass") => devices::check_class,
        ("resource.k8s.io", "DeviceTaintRule") => device_taints::check_rule,
        ("resource.k8s.io", "ResourceClaim") => devices::check_claim,
        ("resource.k8s.io", "ResourceClaimTemplate") => devices::check_template,
        ("resource.k8s.io", "ResourceSlice") => slices::check_slice,
        ("scheduling.k8s.io", "PriorityClass") => schedule::check_priority_class,
        ("storage.k8s.io", "StorageClass") => storage::check_class,
        ("storage.k8s.io", "VolumeAttachment") => storage::check_attachment,
        ("storage.k8s.io", "CSIDriver") => storage::check_driver,
        ("storage.k8s.io", "CSINode") => storage::check_node,
        ("storage.k8s.io", "CSIStorageCapacity") => storage::check_capacity,
        ("storage.k8s.io", "VolumeAttributesClass") => storage::check_attributes_class,
        _ => return None,
    })
}

#[cfg(test)]
fn told(group: &str, kind: &str, new: &serde_json::Value, old: Option<&serde_json::Value>) -> Vec<String> {
    told_below(group, kind, "", new, old)
}

#[cfg(test)]
fn told_below(
    group: &str,
    kind: &str,
    subresource: &str,
    new: &serde_json::Value,
    old: Option<&serde_json::Value>,
) -> Vec<String> {
    let errors = validate_surroundings(&Subject { group, kind, subresource, new, old });
    errors.unwrap().iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use barque_api::resources::{Builtin, Verb};
    use serde_json::{Value, json};

    use super::*;

    /// Kinds whose objects are stored and judged elsewhere.
    const ELSEWHERE: [(&str, &str); 12] = [
        ("", "Pod"),
        ("", "PodTemplate"),
        ("", "ReplicationController"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("apps", "ControllerRevision"),
        ("apps", "DaemonSet"),
        ("apps", "Deployment"),
        ("apps", "ReplicaSet"),
        ("apps", "StatefulSet"),
        ("autoscaling", "HorizontalPodAutoscaler"),
        ("batch", "CronJob"),
        ("batch", "Job"),
    ];

    fn stored() -> impl Iterator<Item = (String, String)> {
        let kept = Builtin::table().all().iter().filter(|one| one.can(Verb::Update));
        kept.map(|one| (one.group_version_kind().group.to_string(), one.kind.to_string()))
    }

    #[test]
    fn every_kind_that_is_stored_is_judged_here_or_elsewhere() {
        let missing: Vec<_> = stored()
            .filter(|(group, kind)| check_of(group, kind).is_none())
            .filter(|(group, kind)| !ELSEWHERE.contains(&(group, kind)))
            .filter(|(_, kind)| kind != "PodDisruptionBudget")
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }

    #[test]
    fn wrong_shapes_do_no_harm() {
        let fields = [
            "spec",
            "status",
            "metadata",
            "data",
            "rules",
            "subjects",
            "roleRef",
            "webhooks",
            "subsets",
            "endpoints",
            "ports",
            "value",
            "handler",
            "parameters",
            "capacity",
            "overhead",
            "scheduling",
        ];
        let inner =
            [json!(null), json!(1), json!("x"), json!([1, null, "x", {}]), json!({"a": [1], "limits": 3})];
        let mut shapes = inner.to_vec();
        for value in &inner {
            shapes.push(Value::Object(
                fields.iter().map(|field| ((*field).to_owned(), value.clone())).collect(),
            ));
        }
        for (group, kind) in stored() {
            for new in &shapes {
                for old in shapes.iter().map(Some).chain([None]) {
                    for subresource in ["", "status", "approval", "finalize"] {
                        let subject = Subject { group: &group, kind: &kind, subresource, new, old };
                        let told = validate_surroundings(&subject);
                        assert_eq!(told.is_some(), check_of(&group, &kind).is_some());
                    }
                }
            }
        }
    }
}
