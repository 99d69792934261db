//! The checks beyond the baseline: a pod gives up what it does not need. Pure; each looks at one thing.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{has_own_users, those};
use super::checks::{Finding, containers, plural, quoted, setters};
use crate::admission::pod::{all_containers, given, list, text};

const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
const FORBIDDEN_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn is_for_windows(pod: &Value) -> bool {
    text(pod, "/spec/os/name") == "windows"
}

pub(super) fn privilege_escalation(pod: &Value) -> Option<Finding> {
    let forbids = |container: &Value| {
        container.pointer("/securityContext/allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false)
    };
    let bad = those(pod, |container| !forbids(container));
    (!bad.is_empty()).then(|| {
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
        Finding::new("allowPrivilegeEscalation != false", detail)
    })
}

pub(super) fn privilege_escalation_but_windows(pod: &Value) -> Option<Finding> {
    if is_for_windows(pod) { None } else { privilege_escalation(pod) }
}

pub(super) fn capabilities(pod: &Value) -> Option<Finding> {
    let drops_all = |container: &Value| {
        list(container, "/securityContext/capabilities/drop").iter().any(|capability| capability == "ALL")
    };
    let added = |container| {
        let added = list(container, "/securityContext/capabilities/add");
        added.iter().filter_map(Value::as_str).filter(|one| *one != "NET_BIND_SERVICE")
    };
    let keeping = those(pod, |container| !drops_all(container));
    let adding = those(pod, |container| added(container).next().is_some());
    let all: BTreeSet<&str> = all_containers(pod).flat_map(added).collect();
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details
            .push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    if !adding.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            containers(&adding),
            quoted(&all)
        ));
    }
    (!details.is_empty()).then(|| Finding::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn capabilities_but_windows(pod: &Value) -> Option<Finding> {
    if is_for_windows(pod) { None } else { capabilities(pod) }
}

pub(super) fn volumes(pod: &Value) -> Option<Finding> {
    let has = |volume: &Value, source: &str| volume.get(source).is_some_and(|source| !source.is_null());
    let bad: Vec<&Value> = list(pod, "/spec/volumes")
        .iter()
        .filter(|volume| !VOLUMES.iter().any(|source| has(volume, source)))
        .collect();
    let names: Vec<&str> = bad.iter().map(|volume| text(volume, "/name")).collect();
    let kind = |volume: &&Value| {
        FORBIDDEN_VOLUMES.into_iter().find(|source| has(volume, source)).unwrap_or("unknown")
    };
    let kinds: BTreeSet<&str> = bad.iter().map(kind).collect();
    (!bad.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural(names.len(), "volume", "volumes"),
            quoted(&names),
            plural(names.len(), "uses", "use"),
            plural(kinds.len(), "restricted volume type", "restricted volume types"),
            quoted(&kinds)
        );
        Finding::new("restricted volume types", detail)
    })
}

pub(super) fn non_root(pod: &Value) -> Option<Finding> {
    const REASON: &str = "runAsNonRoot != true";
    let says = |object: &Value| object.pointer("/securityContext/runAsNonRoot").and_then(Value::as_bool);
    let of_pod = pod.get("spec").and_then(says);
    let bad = those(pod, |container| says(container) == Some(false));
    if let Some(who) = setters(of_pod == Some(false), &bad) {
        return Some(Finding::new(REASON, format!("{who} must not set securityContext.runAsNonRoot=false")));
    }
    let silent = those(pod, |container| says(container).is_none());
    (of_pod != Some(true) && !silent.is_empty()).then(|| {
        let detail = format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent));
        Finding::new(REASON, detail)
    })
}

pub(super) fn non_root_of_host_users(pod: &Value) -> Option<Finding> {
    if has_own_users(pod) { None } else { non_root(pod) }
}

pub(super) fn run_as_user(pod: &Value) -> Option<Finding> {
    let is_root =
        |object: &Value| object.pointer("/securityContext/runAsUser").and_then(Value::as_i64) == Some(0);
    let who = setters(pod.get("spec").is_some_and(is_root), &those(pod, is_root))?;
    Some(Finding::new("runAsUser=0", format!("{who} must not set runAsUser=0")))
}

pub(super) fn run_as_user_of_host_users(pod: &Value) -> Option<Finding> {
    if has_own_users(pod) { None } else { run_as_user(pod) }
}

pub(super) fn seccomp(pod: &Value) -> Option<Finding> {
    if let Some(finding) = super::baseline::seccomp(pod) {
        return Some(finding);
    }
    let says = |object: &Value| given(object, "/securityContext/seccompProfile").is_some();
    let silent = those(pod, |container| !says(container));
    (!pod.get("spec").is_some_and(says) && !silent.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        );
        Finding::new("seccompProfile", detail)
    })
}

pub(super) fn seccomp_but_windows(pod: &Value) -> Option<Finding> {
    if is_for_windows(pod) { None } else { seccomp(pod) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::pod_security::checks::{Check, details};

    #[test]
    fn a_pod_gives_up_what_it_does_not_need() {
        let with = |pod: Value, a: Value, b: Value| {
            json!({"spec": {"securityContext": pod, "containers": [
                {"name": "a", "securityContext": a}, {"name": "b", "securityContext": b}]}})
        };
        let none = json!({});
        let table: [(Check, Value, &str); 12] = [
            (
                privilege_escalation,
                with(
                    none.clone(),
                    json!({"allowPrivilegeEscalation": false}),
                    json!({"allowPrivilegeEscalation": true}),
                ),
                "allowPrivilegeEscalation != false (container \"b\" must set securityContext.allowPrivilegeEscalation=false)",
            ),
            (
                capabilities,
                with(
                    none.clone(),
                    json!({"capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE", "X"]}}),
                    none.clone(),
                ),
                "unrestricted capabilities (container \"b\" must set securityContext.capabilities.drop=[\"ALL\"]; container \
                 \"a\" must not include \"X\" in securityContext.capabilities.add)",
            ),
            (
                volumes,
                json!({"spec": {"volumes": [{"name": "h", "hostPath": {}}, {"name": "n", "nfs": {}}, {"name": "e", "emptyDir": {}}]}}),
                "restricted volume types (volumes \"h\", \"n\" use restricted volume types \"hostPath\", \"nfs\")",
            ),
            (
                non_root,
                with(
                    json!({"runAsNonRoot": false}),
                    json!({"runAsNonRoot": false}),
                    json!({"runAsNonRoot": true}),
                ),
                "runAsNonRoot != true (pod and container \"a\" must not set securityContext.runAsNonRoot=false)",
            ),
            (
                non_root,
                with(none.clone(), json!({"runAsNonRoot": true}), none.clone()),
                "runAsNonRoot != true (pod or container \"b\" must set securityContext.runAsNonRoot=true)",
            ),
            (non_root, with(json!({"runAsNonRoot": true}), none.clone(), none.clone()), ""),
            (
                non_root_of_host_users,
                json!({"spec": {"hostUsers": false, "containers": [{"name": "a"}]}}),
                "",
            ),
            (
                run_as_user,
                with(json!({"runAsUser": 0}), json!({"runAsUser": 1}), json!({"runAsUser": 0})),
                "runAsUser=0 (pod and container \"b\" must not set runAsUser=0)",
            ),
            (
                seccomp,
                with(none.clone(), json!({"seccompProfile": {"type": "RuntimeDefault"}}), none.clone()),
                "seccompProfile (pod or container \"b\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
                 \"Localhost\")",
            ),
            (seccomp, with(json!({"seccompProfile": {"type": "Localhost"}}), none.clone(), none.clone()), ""),
            (
                seccomp,
                with(json!({"seccompProfile": {"type": "Unconfined"}}), none.clone(), none),
                "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ),
            (
                privilege_escalation_but_windows,
                json!({"spec": {"os": {"name": "windows"}, "containers": [{"name": "a"}]}}),
                "",
            ),
        ];
        for (check, pod, expected) in table {
            assert_eq!(details(check(&pod).as_slice()), expected, "{pod}");
        }
    }
}
