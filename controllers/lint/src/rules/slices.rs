//! What slices tell of the pods behind services is so, and all that is to be told is told.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};

use crate::finding::{Findings, Rule};
use crate::objects::{is_deleting, place, shown, uid};
use crate::snapshot::Snapshot;
use crate::{pods, services};

/// The label with a slice's service.
const SERVICE: &str = "kubernetes.io/service-name";
/// The label with who makes a slice.
const MANAGER: &str = "endpointslice.kubernetes.io/managed-by";
/// Who makes slices of the pods that a service selects.
const BY_SELECTOR: &str = "endpointslice-controller.k8s.io";
/// Who makes slices of Endpoints, which somebody else fills.
const BY_ENDPOINTS: &str = "endpointslicemirroring-controller.k8s.io";

/// A namespace and a name in it.
type Place<'a> = (&'a str, &'a str);

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    let pods: HashMap<Place<'_>, &Pod> = snapshot.pods.iter().map(|pod| (place(pod), pod)).collect();
    let services: BTreeMap<Place<'_>, &Service> =
        snapshot.services.iter().map(|service| (place(service), service)).collect();
    let mut of_service: HashMap<Place<'_>, Vec<&EndpointSlice>> = HashMap::new();
    for slice in &snapshot.slices {
        let service = label(slice, SERVICE).map(|name| (place(slice).0, name));
        let found = service.and_then(|service| services.get(&service).copied());
        match (service, found) {
            (Some(service), Some(_)) => of_service.entry(service).or_default().push(slice),
            (Some((_, name)), None) => {
                findings.add(Rule::SliceOrphaned, slice, format!("is of service {name:?}, which is gone"));
            }
            (None, _) => {}
        }
        for endpoint in slice.endpoints.iter().flatten() {
            let Some(told) = target(endpoint, slice) else { continue };
            match living(endpoint, pods.get(&told).copied()) {
                Err(words) => {
                    findings.add(Rule::EndpointDead, slice, format!("tells of pod {}, {words}", told.1));
                }
                Ok(pod) => {
                    if let Some(words) = found.and_then(|service| readiness(endpoint, pod, slice, service)) {
                        let words = format!("tells of pod {}, {words}", told.1);
                        findings.add(Rule::EndpointReadiness, slice, words);
                    }
                }
            }
        }
    }
    untold(snapshot, &services, &of_service, findings);
}

fn label<'a>(slice: &'a EndpointSlice, key: &str) -> Option<&'a str> {
    slice.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// The pod that an endpoint is, if it says so.
fn target<'a>(endpoint: &'a Endpoint, slice: &'a EndpointSlice) -> Option<Place<'a>> {
    let target = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"))?;
    Some((target.namespace.as_deref().unwrap_or(place(slice).0), target.name.as_deref()?))
}

fn told_uid(endpoint: &Endpoint) -> Option<&str> {
    endpoint.target_ref.as_ref()?.uid.as_deref().filter(|uid| !uid.is_empty())
}

/// The pod, if the endpoint leads to it; otherwise what is wrong.
fn living<'a>(endpoint: &Endpoint, pod: Option<&'a Pod>) -> Result<&'a Pod, String> {
    let pod = pod.ok_or("which is gone")?;
    if told_uid(endpoint).is_some_and(|told| told != uid(pod)) {
        return Err("which is another one now".to_owned());
    }
    if pods::is_terminal(pod) {
        return Err("which has ended".to_owned());
    }
    let has = pods::addresses(pod);
    let mut told = endpoint.addresses.iter();
    match told.find(|text| pods::address(text).is_none_or(|address| !has.contains(&address))) {
        Some(other) => Err(format!("which does not have the address {other}")),
        None => Ok(pod),
    }
}

/// What is wrong with what is told of a pod's readiness.
fn readiness(
    endpoint: &Endpoint,
    pod: &Pod,
    slice: &EndpointSlice,
    service: &Service,
) -> Option<&'static str> {
    let manager = label(slice, MANAGER);
    if manager == Some(BY_ENDPOINTS) {
        return None;
    }
    let told = endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true);
    let is = services::publishes_not_ready(service) || pods::is_ready(pod) && !is_deleting(pod);
    match (told, is) {
        (true, false) if is_deleting(pod) => Some("which is going, as ready"),
        (true, false) => Some("which is not ready, as ready"),
        (false, true) if manager == Some(BY_SELECTOR) => Some("which is to be reached, as not ready"),
        _ => None,
    }
}

/// Pods that should be told of, and are not.
fn untold(
    snapshot: &Snapshot,
    services: &BTreeMap<Place<'_>, &Service>,
    of_service: &HashMap<Place<'_>, Vec<&EndpointSlice>>,
    findings: &mut Findings,
) {
    let mut ready: HashMap<&str, Vec<&Pod>> = HashMap::new();
    let nodes: std::collections::HashSet<&str> = snapshot.nodes.iter().map(|node| place(node).1).collect();
    for pod in &snapshot.pods {
        // One whose node is gone is left out on purpose.
        let has_node = pods::node(pod).is_some_and(|node| nodes.contains(node));
        if pods::is_active(pod) && pods::is_ready(pod) && has_node {
            ready.entry(place(pod).0).or_default().push(pod);
        }
    }
    for (name, service) in services.iter().filter(|(_, service)| services::selects_pods(service)) {
        let slices = of_service.get(name).map_or(&[][..], Vec::as_slice);
        let told: Vec<&Endpoint> = slices.iter().flat_map(|slice| slice.endpoints.iter().flatten()).collect();
        for pod in ready.get(name.0).into_iter().flatten().filter(|pod| services::selects(service, pod)) {
            let mut families = pods::addresses(pod);
            families.dedup_by_key(|address| address.is_ipv4());
            for address in families.into_iter().filter(|address| services::has_family_of(service, *address)) {
                let is_it = |endpoint: &&Endpoint| {
                    let mut addresses = endpoint.addresses.iter().filter_map(|text| pods::address(text));
                    told_uid(endpoint) == Some(uid(*pod))
                        && addresses.any(|one| one.is_ipv4() == address.is_ipv4())
                };
                if !told.iter().any(is_it) {
                    let service = shown(*name);
                    let words =
                        format!("is ready at {address}, of which no slice of service {service} tells");
                    findings.add(Rule::PodUntold, *pod, words);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_snapshot::{check, deleted, ended, object, pod, with};

    fn service(more: Value) -> Value {
        let spec = json!({"spec": {"clusterIP": "None", "selector": {"app": "web"}, "ipFamilies": ["IPv4"]}});
        with(object("v1", "Service", "n", "web", spec), more)
    }

    fn web(more: Value) -> Value {
        with(pod("p", "10.0.0.1", json!({"metadata": {"labels": {"app": "web"}}})), more)
    }

    fn unready() -> Value {
        json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
    }

    /// A slice of the service that tells of the pod.
    fn slice(endpoint: Value) -> Value {
        let endpoint = with(
            json!({
                "addresses": ["10.0.0.1"], "conditions": {"ready": true},
                "targetRef": {"kind": "Pod", "namespace": "n", "name": "p", "uid": "pod-p"},
            }),
            endpoint,
        );
        let labels = json!({
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        });
        let more = json!({"metadata": {"labels": labels}, "addressType": "IPv4", "endpoints": [endpoint], "ports": []});
        object("discovery.k8s.io/v1", "EndpointSlice", "n", "web-1", more)
    }

    fn managed_by(manager: &str) -> Value {
        json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": manager}}})
    }

    #[test]
    fn endpoints_lead_to_living_pods() {
        let all = |pod: Value, endpoint: Value| {
            [service(json!({"spec": {"selector": null}})), pod, slice(endpoint)]
        };
        let found = |words: &str| format!("endpoint-dead: EndpointSlice n/web-1 tells of pod p, {words}");
        check(&all(web(json!({})), json!({})), &[]);
        check(
            &all(web(json!({})), json!({"targetRef": {"uid": "before"}})),
            &[&found("which is another one now")],
        );
        check(&all(web(ended()), json!({})), &[&found("which has ended")]);
        let other = found("which does not have the address 10.0.0.9");
        check(&all(web(json!({})), json!({"addresses": ["10.0.0.9"]})), &[&other]);
        check(&[service(json!({"spec": {"selector": null}})), slice(json!({}))], &[&found("which is gone")]);
        // Not a pod, so nobody knows.
        check(&[service(json!({})), slice(json!({"targetRef": null}))], &[]);
    }

    #[test]
    fn readiness_is_told_as_it_is() {
        let found =
            |words: &str| format!("endpoint-readiness: EndpointSlice n/web-1 tells of pod p, {words}");
        let not_ready = found("which is not ready, as ready");
        let told = |ready: Value| slice(json!({"conditions": {"ready": ready}}));
        check(&[service(json!({})), web(unready()), told(json!(true))], &[&not_ready]);
        check(&[service(json!({})), web(unready()), told(json!(false))], &[]);
        // What is not said is ready.
        check(&[service(json!({})), web(unready()), told(json!(null))], &[&not_ready]);
        let going = found("which is going, as ready");
        check(&[service(json!({})), web(deleted()), told(json!(true))], &[&going]);
        check(&[service(json!({})), web(deleted()), told(json!(false))], &[]);
        let early = || service(json!({"spec": {"publishNotReadyAddresses": true}}));
        check(&[early(), web(unready()), told(json!(true))], &[]);
        check(&[early(), web(deleted()), told(json!(true))], &[]);
        let reached = found("which is to be reached, as not ready");
        check(&[early(), web(unready()), told(json!(false))], &[&reached]);
        check(&[service(json!({})), web(json!({})), told(json!(false))], &[&reached]);
        // Others may hold back who is ready, and mirrors tell what they were told.
        let plain = || service(json!({"spec": {"selector": null}}));
        check(&[plain(), web(json!({})), with(told(json!(false)), managed_by("x.org"))], &[]);
        check(&[plain(), web(unready()), with(told(json!(true)), managed_by("x.org"))], &[&not_ready]);
        check(&[plain(), web(unready()), with(told(json!(true)), managed_by(super::BY_ENDPOINTS))], &[]);
    }

    #[test]
    fn ready_pods_are_told() {
        let untold = "pod-untold: Pod n/p is ready at 10.0.0.1, of which no slice of service n/web tells";
        check(&[service(json!({})), web(json!({})), slice(json!({}))], &[]);
        check(&[service(json!({})), web(json!({}))], &[untold]);
        check(&[service(json!({})), web(unready())], &[]);
        check(&[service(json!({})), web(deleted())], &[]);
        // Another one is told of.
        let also = pod("q", "10.0.0.2", json!({"metadata": {"labels": {"app": "web"}}}));
        check(
            &[service(json!({})), web(json!({})), also, slice(json!({}))],
            &["pod-untold: Pod n/q is ready at 10.0.0.2, of which no slice of service n/web tells"],
        );
        // Its node is gone, and so it is left out.
        check(
            &[service(json!({})), web(json!({"spec": {"nodeName": "gone"}}))],
            &["pod-node-missing: Pod n/p is bound to node \"gone\", which is not there"],
        );
        check(&[service(json!({})), web(json!({"metadata": {"labels": {"app": "other"}}}))], &[]);
        check(&[service(json!({"spec": {"selector": null}})), web(json!({}))], &[]);
        check(&[service(json!({"spec": {"type": "ExternalName"}})), web(json!({}))], &[]);
        check(&[service(json!({"spec": {"ipFamilies": ["IPv6"]}})), web(json!({}))], &[]);
        let other =
            with(slice(json!({})), json!({"metadata": {"labels": {"kubernetes.io/service-name": null}}}));
        check(&[service(json!({})), web(json!({})), other], &[untold]);
        // One for each family.
        let both = || {
            web(
                json!({"status": {"podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, "spec": {"nodeName": "b"}}),
            )
        };
        let node = crate::test_snapshot::node("b", json!({"spec": {"podCIDR": null, "podCIDRs": null}}));
        let dual = || service(json!({"spec": {"ipFamilies": ["IPv4", "IPv6"]}}));
        check(
            &[node.clone(), dual(), both(), slice(json!({}))],
            &["pod-untold: Pod n/p is ready at fd00::1, of which no slice of service n/web tells"],
        );
        let six = slice(json!({"addresses": ["fd00::1"]}));
        let six = with(six, json!({"metadata": {"name": "web-6", "uid": "s6"}, "addressType": "IPv6"}));
        check(&[node, dual(), both(), slice(json!({})), six], &[]);
    }

    #[test]
    fn slices_have_their_service() {
        let empty = with(slice(json!({})), json!({"endpoints": null}));
        let found = "slice-orphaned: EndpointSlice n/web-1 is of service \"web\", which is gone";
        check(std::slice::from_ref(&empty), &[found]);
        check(&[empty.clone(), service(json!({}))], &[]);
        check(&[with(empty, json!({"metadata": {"labels": null}}))], &[]);
    }
}
