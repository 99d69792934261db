//! The pods behind services as the older kind `Endpoints` tells them, a thousand of each service at most. Must never take away
//! what a user made, but with the service that it is of.

pub(crate) mod subsets;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan, Told};
use crate::pods;
use crate::services::trigger_time::{self, TriggerTimes};
use crate::services::{self, Family};

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const MANAGER: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";

/// The controller.
#[derive(Default)]
pub(crate) struct LegacyEndpoints {
    triggers: Mutex<TriggerTimes>,
    /// Services that went while it watched.
    gone: Arc<Mutex<HashSet<Key>>>,
}

/// A service with what stands behind it.
pub(crate) enum View {
    /// It is there.
    Service {
        service: Arc<Service>,
        pods: Vec<Arc<Pod>>,
        existing: Option<Arc<Endpoints>>,
        trigger: Option<Timestamp>,
    },
    /// It is not; these were its.
    Left(Arc<Endpoints>),
}

impl Controller for LegacyEndpoints {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        let gone = self.gone.clone();
        watches.mapped::<Service>(move |change, _| {
            let key = change.latest().key();
            match change.new {
                Some(_) => gone.lock().remove(&key),
                None => gone.lock().insert(key),
            };
            Vec::new()
        });
        watches.objects::<Service>();
        watches.mapped::<Endpoints>(|change, _| vec![change.latest().key()]);
        watches.mapped::<Pod>(services::of_pod);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let existing = caches.of::<Endpoints>().get(key);
        let Some(service) = caches.of::<Service>().get(key) else {
            self.triggers.lock().forget(key);
            let went = self.gone.lock().contains(key);
            let Some(left) = existing else {
                self.gone.lock().remove(key);
                return None;
            };
            return (went || left.label(MANAGED_BY) == Some(MANAGER)).then_some(View::Left(left));
        };
        if !services::selects_pods(&service) {
            return None;
        }
        let all = caches.of::<Pod>().in_namespace(&key.namespace);
        let pods: Vec<_> = all.into_iter().filter(|pod| services::selects(&service, pod)).collect();
        let trigger = self.triggers.lock().of(&service, &pods);
        Some(View::Service { service, pods, existing, trigger })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        match view {
            View::Left(left) => plan.then(Action::delete_as_it_says(&**left).because("its service is gone")),
            View::Service { service, pods, existing, trigger } => {
                write(service, pods, existing.as_deref(), *trigger, &mut plan);
            }
        }
        plan
    }
}

fn write(
    service: &Service,
    pods: &[Arc<Pod>],
    existing: Option<&Endpoints>,
    trigger: Option<Timestamp>,
    plan: &mut Plan,
) {
    let mut wanted = subsets::repack(&desired(service, pods));
    let over = subsets::truncate(&mut wanted);
    let new = Endpoints {
        metadata: ObjectMeta {
            namespace: service.metadata.namespace.clone(),
            name: service.metadata.name.clone(),
            ..ObjectMeta::default()
        },
        subsets: None,
    };
    let before = existing.unwrap_or(&new);
    let mut after = before.clone();
    if subsets::repack(before.subsets.as_deref().unwrap_or_default()) != wanted {
        after.subsets = Some(wanted);
    }
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if services::is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    after.metadata.labels = Some(labels);
    let annotations = after.metadata.annotations.get_or_insert_default();
    if over {
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else {
        annotations.remove(OVER_CAPACITY);
    }
    if annotations.is_empty() {
        after.metadata.annotations = None;
    }
    let unchanged = existing.is_some() && Action::update(before, &after).is_none();
    if unchanged {
        return;
    }
    let annotations = after.metadata.annotations.get_or_insert_default();
    match trigger {
        Some(time) => annotations.insert(trigger_time::ANNOTATION.to_owned(), trigger_time::text(time)),
        None => annotations.remove(trigger_time::ANNOTATION),
    };
    let key = service.key();
    let (action, reason, text) = match existing {
        Some(_) => (
            Action::update(before, &after),
            "FailedToUpdateEndpoint",
            format!("Failed to update endpoint {key}: {{error}}"),
        ),
        None => (
            Some(Action::create(&after)),
            "FailedToCreateEndpoint",
            format!("Failed to create endpoint for service {key}: {{error}}"),
        ),
    };
    if let Some(action) = action {
        let mut planned = action.because("other pods stand behind the service");
        planned.failed = Some(Told { regarding: after.reference(), gravity: Gravity::Warning, reason, text });
        plan.then(planned);
    }
}

/// One subset for each pod and port.
fn desired(service: &Service, pods: &[Arc<Pod>]) -> Vec<EndpointSubset> {
    let publishes = services::publishes_not_ready(service);
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let mut subsets = Vec::new();
    for pod in pods.iter().filter(|pod| services::is_reachable(pod, publishes)) {
        let Some(address) = address(service, pod) else { continue };
        let ready = publishes || pods::is_ready(pod);
        let mut add = |ports: Option<Vec<EndpointPort>>| {
            let all = Some(vec![address.clone()]);
            let (addresses, not_ready_addresses) = if ready { (all, None) } else { (None, all) };
            subsets.push(EndpointSubset { addresses, not_ready_addresses, ports });
        };
        if ports.is_empty() {
            // Only a service without an address of its own may have no ports.
            if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
                add(None);
            }
            continue;
        }
        for port in ports {
            let Some(number) = services::port_at(pod, port) else { continue };
            add(Some(vec![EndpointPort {
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: number,
                protocol: Some(services::protocol(port.protocol.as_ref()).to_owned()),
                app_protocol: port.app_protocol.clone(),
            }]));
        }
    }
    subsets
}

/// A pod's address of the service's first family.
fn address(service: &Service, pod: &Pod) -> Option<EndpointAddress> {
    let said = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref()?.first().map(String::as_str));
    let family = match said {
        Some("IPv6") => Family::V6,
        Some(_) => Family::V4,
        None if services::is_headless(service) => Family::of(services::addresses(pod).next()?),
        None => services::families(service).into_iter().next()?,
    };
    let ip = services::addresses(pod).find(|ip| Family::of(*ip) == family)?;
    Some(EndpointAddress {
        ip: ip.to_string(),
        hostname: services::hostname(pod, service).map(str::to_owned),
        node_name: Some(pods::node(pod).to_owned()).filter(|node| !node.is_empty()),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
    })
}
