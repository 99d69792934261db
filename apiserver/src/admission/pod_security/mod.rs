//! PodSecurity: pods are held to the standard that their namespace names, and who writes what makes pods is told in time. Must
//! never change a pod.

mod baseline;
mod checks;
mod policy;
mod restricted;

use std::collections::{BTreeMap, HashSet};

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::Value;

use self::checks::{details, findings, reasons};
use self::policy::{Level, Policy, Standard, of_labels};
use super::pod::{list, text};
use super::{Admission, Attributes, Operation, Told};
use crate::storage::Storage;

/// What hangs below a pod and does not change what it runs.
const OTHER_PARTS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];
/// What keys of the audit log begin with.
const AUDITED: &str = "pod-security.kubernetes.io/";
/// How many pods of a namespace are looked at when its standard changes.
const PODS_MAX: usize = 3000;

impl<S: Storage> Admission<S> {
    /// Whether a pod may be as it is; tells what is wrong with templates, labels and what is there already.
    pub(super) async fn check_pod_security(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        told: &mut Told,
    ) -> Result<(), Status> {
        if !matches!(attributes.operation, Operation::Create | Operation::Update) {
            return Ok(());
        }
        if attributes.is_plainly("", "namespaces") {
            if let Some(standard) = judge_labels(attributes, object)? {
                let pods = GroupResource::new("", "pods");
                let pods = self.collections.objects(&pods, attributes.name).await?;
                told.warnings.extend(warn_of_pods(attributes.name, standard, &pods));
            }
            return Ok(());
        }
        let (pod, enforced) = if attributes.is_about("", "pods") {
            if OTHER_PARTS.contains(&attributes.subresource) || !is_significant(object, attributes.old) {
                return Ok(());
            }
            (object, true)
        } else if let (true, Some(template)) =
            (attributes.subresource.is_empty(), template(attributes, object))
        {
            (template, false)
        } else {
            return Ok(());
        };
        let Some(namespace) = self.found("", "namespaces", "", attributes.namespace).await? else {
            if enforced {
                let name = attributes.namespace;
                return Err(Status::internal(format!("failed to lookup namespace {name:?}")));
            }
            told.annotate(
                format!("{AUDITED}error"),
                format!("failed to lookup namespace {:?}", attributes.namespace),
            );
            return Ok(());
        };
        let (policy, errors) = of_labels(Metadata::of(&namespace).labels());
        if !errors.is_empty() {
            let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
            let errors = match errors.as_slice() {
                [one] => one.clone(),
                several => format!("[{}]", several.join(", ")),
            };
            told.annotate(format!("{AUDITED}error"), format!("Failed to parse policy: {errors}"));
        } else if !enforced && policy.tells_nobody() {
            return Ok(());
        }
        judge(policy, pod, enforced, told).map_err(|why| attributes.forbidden(why))
    }
}

/// Where objects have the pods that they make.
fn template<'a>(attributes: &Attributes<'_>, object: &'a Value) -> Option<&'a Value> {
    let pointer = match (&*attributes.resource.group, &*attributes.resource.resource) {
        ("", "podtemplates") => "/template",
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => "/spec/template",
        ("batch", "cronjobs") => "/spec/jobTemplate/spec/template",
        _ => return None,
    };
    object.pointer(pointer).filter(|template| template.is_object())
}

/// Tells what is to be told of a pod, or answers the sentence that refuses it.
fn judge(policy: Policy, pod: &Value, enforced: bool, told: &mut Told) -> Result<(), String> {
    let violation = |standard: Standard| {
        let found = findings(standard, pod);
        (!found.is_empty()).then(|| format!("PodSecurity {:?}: {}", standard.to_string(), details(&found)))
    };
    let refused = if enforced { violation(policy.enforce) } else { None };
    if enforced {
        told.annotate(format!("{AUDITED}enforce-policy"), policy.enforce.to_string());
    }
    if let Some(found) = violation(policy.audit) {
        told.annotate(format!("{AUDITED}audit-violations"), format!("would violate {found}"));
    }
    if let Some(found) = refused {
        return Err(format!("violates {found}"));
    }
    if let Some(found) = violation(policy.warn) {
        told.warn(format!("would violate {found}"));
    }
    Ok(())
}

/// Whether a change of a pod changes what it runs: its containers or their images.
fn is_significant(pod: &Value, old: Option<&Value>) -> bool {
    let Some(old) = old else { return true };
    for pointer in ["/spec/containers", "/spec/initContainers"] {
        let (new, old) = (list(pod, pointer), list(old, pointer));
        if new.len() != old.len()
            || new.iter().zip(old).any(|(new, old)| text(new, "/image") != text(old, "/image"))
        {
            return true;
        }
    }
    let before = list(old, "/spec/ephemeralContainers");
    list(pod, "/spec/ephemeralContainers").iter().any(|new| {
        let old = before.iter().find(|old| text(old, "/name") == text(new, "/name"));
        old.is_none_or(|old| text(old, "/image") != text(new, "/image"))
    })
}

/// What pods that are there are held to from now on, if that is more than before.
fn judge_labels(attributes: &Attributes<'_>, namespace: &Value) -> Result<Option<Standard>, Status> {
    let (policy, errors) = of_labels(Metadata::of(namespace).labels());
    let old = attributes.old.map(|old| of_labels(Metadata::of(old).labels()));
    let told_before = old.as_ref().is_some_and(|(_, before)| *before == errors);
    if !errors.is_empty() && !told_before {
        return Err(Status::invalid(attributes.kind, attributes.name, &errors));
    }
    let (new, Some((old, _))) = (policy.enforce, old) else { return Ok(None) };
    let old = old.enforce;
    let milder = new.version == old.version && new.level <= old.level;
    Ok((new.level != Level::Privileged && !milder).then_some(new))
}

/// What is told of pods that are beneath a new standard: each way of that once, with one pod.
fn warn_of_pods(namespace: &str, standard: Standard, pods: &[Value]) -> Vec<String> {
    // One pod of each owner first: the others are alike.
    let (mut first, mut others) = (Vec::new(), Vec::new());
    let mut owners = HashSet::new();
    for pod in pods {
        let is_new = Metadata::of(pod).controller().is_none_or(|owner| owners.insert(owner.uid()));
        if is_new { &mut first } else { &mut others }.push(pod);
    }
    first.extend(others);
    let mut told: BTreeMap<String, (usize, &str)> = BTreeMap::new();
    for pod in first.iter().take(PODS_MAX) {
        let found = findings(standard, pod);
        if !found.is_empty() {
            let name = Metadata::of(pod).name();
            let (count, least) = told.entry(reasons(&found)).or_insert((0, name));
            *count += 1;
            *least = name.min(*least);
        }
    }
    let mut warnings = Vec::new();
    if pods.len() > PODS_MAX {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {PODS_MAX} of {} existing pods",
            pods.len()
        ));
    }
    if told.is_empty() {
        return warnings;
    }
    warnings.push(format!(
        "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level {:?}",
        standard.to_string()
    ));
    let mut lines: Vec<String> = told
        .into_iter()
        .map(|(why, (count, name))| match count {
            1 => format!("{name}: {why}"),
            2 => format!("{name} (and 1 other pod): {why}"),
            _ => format!("{name} (and {} other pods): {why}", count - 1),
        })
        .collect();
    lines.sort_unstable();
    warnings.append(&mut lines);
    warnings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn namespace(name: &str, labels: Value) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    }

    fn privileged() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"hostNetwork": true, "containers": [
            {"name": "c", "image": "i", "securityContext": {"privileged": true}}]}})
    }

    const WRONG: &str = "host namespaces (hostNetwork=true), privileged (container \"c\" must not set \
                         securityContext.privileged=true)";

    #[tokio::test]
    async fn pods_are_refused_and_templates_warned_of() {
        let cluster = Cluster::with(&[
            namespace("free", json!({})),
            namespace("strict", json!({"pod-security.kubernetes.io/enforce": "baseline"})),
            namespace(
                "warns",
                json!({"pod-security.kubernetes.io/warn": "baseline",
                "pod-security.kubernetes.io/warn-version": "v1.30"}),
            ),
        ])
        .await;
        let check = async |asked: Asked, object: Value| {
            let mut told = Told::default();
            let answer = cluster.admission.check_pod_security(&asked.attributes(), &object, &mut told).await;
            (answer.err().map(|status| status.message).unwrap_or_default(), told.warnings.join("; "))
        };
        let nothing = (String::new(), String::new());
        let pods = |namespace: &str| Asked::pod().within(namespace);
        assert_eq!(check(pods("free"), privileged()).await, nothing);
        assert_eq!(
            check(pods("strict"), privileged()).await.0,
            format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {WRONG}")
        );
        let warning = |standard: &str| format!("would violate PodSecurity \"{standard}\": {WRONG}");
        assert_eq!(check(pods("warns"), privileged()).await, (String::new(), warning("baseline:v1.30")));

        let deployment = json!({"spec": {"template": privileged()}});
        let deployments = Asked::create("apps", "deployments", "Deployment").within("strict").named("d");
        assert_eq!(
            check(deployments.clone(), deployment.clone()).await,
            (String::new(), warning("baseline:latest"))
        );
        assert_eq!(check(deployments.below("status"), deployment).await, nothing);

        let mut labelled = privileged();
        labelled["metadata"]["labels"] = json!({"a": "b"});
        assert_eq!(check(pods("strict").over(privileged()), labelled).await, nothing);
        let mut other = privileged();
        other["spec"]["containers"][0]["image"] = json!("j");
        assert!(!check(pods("strict").over(privileged()), other.clone()).await.0.is_empty());
        assert_eq!(check(pods("strict").over(privileged()).below("status"), other).await, nothing);
    }

    #[tokio::test]
    async fn the_audit_log_is_told_of_standards_and_violations() {
        let audit = json!({"pod-security.kubernetes.io/audit": "baseline"});
        let wrong = json!({"pod-security.kubernetes.io/audit": "x"});
        let strict = json!({"pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/audit": "baseline"});
        let cluster = Cluster::with(&[
            namespace("free", json!({})),
            namespace("audited", audit),
            namespace("wrong", wrong),
            namespace("strict", strict),
        ])
        .await;
        let deployment = json!({"spec": {"template": privileged()}});
        let deployments = |namespace| Asked::create("apps", "deployments", "Deployment").within(namespace);
        let violation = format!("would violate PodSecurity \"baseline:latest\": {WRONG}");
        let error = "Failed to parse policy: metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: \"x\": \
                     must be one of privileged, baseline, restricted";
        let open = ("enforce-policy", "privileged:latest");
        let table = [
            (Asked::pod().within("free"), privileged(), vec![open]),
            (Asked::pod().within("audited"), privileged(), vec![open, ("audit-violations", &violation)]),
            (Asked::pod().within("wrong"), privileged(), vec![("error", error), open]),
            (
                Asked::pod().within("strict"),
                privileged(),
                vec![("enforce-policy", "baseline:latest"), ("audit-violations", &violation)],
            ),
            (deployments("free"), deployment.clone(), vec![]),
            (deployments("audited"), deployment.clone(), vec![("audit-violations", &*violation)]),
            (deployments("gone"), deployment, vec![("error", "failed to lookup namespace \"gone\"")]),
        ];
        for (asked, object, expected) in table {
            let mut told = Told::default();
            let _ = cluster.admission.check_pod_security(&asked.attributes(), &object, &mut told).await;
            let expected: Vec<_> = expected
                .iter()
                .map(|(key, value)| (format!("{AUDITED}{key}"), (*value).to_owned()))
                .collect();
            assert_eq!(told.annotations, expected, "{}", asked.namespace);
        }
    }

    #[tokio::test]
    async fn a_new_standard_tells_of_pods_that_are_there() {
        let pod = |name: &str, owner: Value| {
            let mut pod = privileged();
            pod["apiVersion"] = json!("v1");
            pod["kind"] = json!("Pod");
            pod["metadata"] = json!({"name": name, "namespace": "n", "ownerReferences": owner});
            pod
        };
        let owner = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}]);
        let mut port = pod("c", json!([]));
        port["spec"] = json!({"containers": [{"name": "c", "ports": [{"hostPort": 1}]}]});
        let cluster = Cluster::with(&[pod("b", owner.clone()), pod("a", owner), port]).await;
        let change = async |old: Value, new: Value| {
            let mut told = Told::default();
            let asked = Asked::create("", "namespaces", "Namespace").named("n").over(namespace("n", old));
            let new = namespace("n", new);
            let answer = cluster.admission.check_pod_security(&asked.attributes(), &new, &mut told).await;
            (answer.err().map(|status| status.message).unwrap_or_default(), told.warnings)
        };
        let baseline = json!({"pod-security.kubernetes.io/enforce": "baseline"});
        assert_eq!(
            change(json!({}), baseline.clone()).await.1,
            [
                "existing pods in namespace \"n\" violate the new PodSecurity enforce level \"baseline:latest\"",
                "a (and 1 other pod): host namespaces, privileged",
                "c: hostPort",
            ]
        );
        assert_eq!(change(baseline.clone(), baseline.clone()).await, (String::new(), Vec::new()));
        assert_eq!(change(baseline, json!({})).await, (String::new(), Vec::new()));
        let wrong = json!({"pod-security.kubernetes.io/enforce": "x"});
        assert!(
            change(json!({}), wrong.clone())
                .await
                .0
                .starts_with("Namespace \"n\" is invalid: metadata.labels[")
        );
        assert_eq!(change(wrong.clone(), wrong).await.0, "");
    }
}
