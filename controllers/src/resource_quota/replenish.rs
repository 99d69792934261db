//! Which changes of objects may give something back to a quota. Decisions; what uses more has been charged already.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceRequirements, Service};

use crate::cache::Change;
use crate::pods;

/// One that went, ended, or asks for something else.
pub(super) fn pod(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return change.new.is_none() };
    pods::is_terminal(new) && !pods::is_terminal(old) || asks(old) != asks(new)
}

type Asked<'a> = Vec<Option<&'a ResourceRequirements>>;

/// What a pod asks for and has.
fn asks(pod: &Pod) -> (Asked<'_>, Vec<Option<String>>) {
    let spec = pod.spec.iter().flat_map(|spec| {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        std::iter::once(spec.resources.as_ref()).chain(containers.map(|one| one.resources.as_ref()))
    });
    let status = pod.status.as_ref();
    let of_status = status.into_iter().flat_map(|status| {
        let containers = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        containers.map(|one| one.resources.as_ref())
    });
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    let resize = conditions.filter(|one| one.type_ == "PodResizePending").map(|one| one.reason.clone());
    (spec.chain(of_status).collect(), resize.collect())
}

/// One that went, or has other ports or another type.
pub(super) fn service(change: &Change<Service>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return change.new.is_none() };
    let uses = |service: &Service| {
        let spec = service.spec.as_ref();
        spec.map(|spec| (spec.type_.clone(), spec.ports.clone(), spec.allocate_load_balancer_node_ports))
    };
    uses(old) != uses(new)
}

/// One that went, or has another size or class.
pub(super) fn claim(change: &Change<PersistentVolumeClaim>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return change.new.is_none() };
    let uses = |claim: &PersistentVolumeClaim| {
        let spec = claim.spec.as_ref();
        let spec = spec.map(|spec| (spec.resources.clone(), spec.volume_attributes_class_name.clone()));
        let status = claim.status.as_ref();
        let status = status.map(|status| {
            (status.allocated_resources.clone(), status.current_volume_attributes_class_name.clone())
        });
        (spec, status)
    };
    uses(old) != uses(new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;

    fn change<K: DeserializeOwned>(old: Option<Value>, new: Option<Value>) -> Change<K> {
        let read = |value: Value| {
            let mut whole = json!({"metadata": {"name": "x"}});
            barque_api::patch::merge::merge(&mut whole, value);
            Arc::new(serde_json::from_value(whole).unwrap())
        };
        Change { old: old.map(read), new: new.map(read) }
    }

    #[test]
    fn pods_give_back_when_they_end_or_shrink() {
        let told = |phase: &str, cpu: &str, node: &str| {
            let container = json!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
            json!({"spec": {"containers": [container], "nodeName": node}, "status": {"phase": phase}})
        };
        let check = |old: Option<Value>, new: Option<Value>, expected| {
            assert_eq!(pod(&change(old.clone(), new.clone())), expected, "{old:?} {new:?}");
        };
        check(None, Some(told("Pending", "1", "")), false);
        check(Some(told("Pending", "1", "")), Some(told("Running", "1", "n")), false);
        check(Some(told("Running", "1", "n")), Some(told("Failed", "1", "n")), true);
        check(Some(told("Failed", "1", "n")), Some(told("Failed", "1", "n")), false);
        check(Some(told("Running", "2", "n")), Some(told("Running", "1", "n")), true);
        check(Some(told("Running", "1", "n")), None, true);
    }

    #[test]
    fn services_and_claims_give_back_when_they_use_less() {
        let of = |type_: &str, ports: usize| json!({"spec": {"type": type_, "ports": vec![json!({"port": 1}); ports]}});
        let check = |old: Value, new: Value| service(&change(Some(old), Some(new)));
        assert!(!check(of("NodePort", 1), of("NodePort", 1)));
        assert!(check(of("NodePort", 2), of("NodePort", 1)) && check(of("NodePort", 1), of("ClusterIP", 1)));
        let of = |size: &str, phase: &str| json!({"spec": {"resources": {"requests": {"storage": size}}}, "status": {"phase": phase}});
        let check = |old: Value, new: Value| claim(&change(Some(old), Some(new)));
        assert!(
            !check(of("1Gi", "Pending"), of("1Gi", "Bound")) && check(of("2Gi", "Bound"), of("1Gi", "Bound"))
        );
        assert!(claim(&change(Some(of("1Gi", "Bound")), None)));
    }
}
