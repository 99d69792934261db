//! For which zones and nodes endpoints are. Decisions: by where an endpoint is, as `trafficDistribution` says, or by what zones can
//! do, as the annotation `service.kubernetes.io/topology-mode` says.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, ForNode, ForZone};

use super::pack::Slice;
use super::zones::Capacity;
use crate::kind::Object as _;

/// How much more than its part an endpoint may get.
const OVERLOAD: f64 = 0.2;

/// How many endpoints each zone gets.
type Counts = BTreeMap<String, usize>;

/// What a zone is to get.
#[derive(Debug, Clone, Copy)]
struct Allocation {
    maximum: usize,
    desired: f64,
}

/// Whether a service wants to be served as zones' capacities say.
pub(super) fn follows_zones(service: &Service) -> bool {
    let said = service
        .annotation("service.kubernetes.io/topology-aware-hints")
        .or_else(|| service.annotation("service.kubernetes.io/topology-mode"));
    matches!(said, Some("Auto" | "auto"))
}

/// Whether a service wants to be served nearby: nothing when not, and whether on the same node.
pub(super) fn nearby(service: &Service) -> Option<bool> {
    match service.spec.as_ref()?.traffic_distribution.as_deref()? {
        "PreferClose" | "PreferSameZone" => Some(false),
        "PreferSameNode" => Some(true),
        _ => None,
    }
}

fn is_ready(endpoint: &Endpoint) -> bool {
    endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true)
}

fn for_zone(zone: &str) -> Vec<ForZone> {
    vec![ForZone { name: zone.to_owned() }]
}

/// No endpoint has a hint.
pub(super) fn none(slices: &mut [Slice]) {
    for slice in slices {
        let any = slice.endpoints.iter().any(|endpoint| endpoint.hints.is_some());
        slice.changed |= any;
        for endpoint in &mut slice.endpoints {
            endpoint.hints = None;
        }
    }
}

/// Every endpoint that is ready is for its own zone, or node.
pub(super) fn near(slices: &mut [Slice], same_node: bool) {
    for slice in slices {
        let written = slice.changed;
        for endpoint in &mut slice.endpoints {
            if !is_ready(endpoint) {
                if written {
                    endpoint.hints = None;
                }
                continue;
            }
            let zones = endpoint.zone.as_deref().map(for_zone);
            let node = endpoint.node_name.clone().filter(|_| same_node);
            let nodes = node.map(|name| vec![ForNode { name }]);
            let hints = (zones.is_some() || nodes.is_some())
                .then_some(EndpointHints { for_zones: zones, for_nodes: nodes });
            slice.changed |= endpoint.hints != hints;
            endpoint.hints = hints;
        }
    }
}

/// Endpoints are for zones so that each gets as many as it can serve; otherwise why not, and none has a hint.
pub(super) fn by_zones(slices: &mut [Slice], capacity: &Capacity) -> Result<(), String> {
    let given = allocations(slices, capacity).and_then(|allocations| give(slices, &allocations));
    if given.is_err() {
        none(slices);
    }
    given
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts of endpoints times ratios below one"
)]
fn allocations(slices: &[Slice], capacity: &Capacity) -> Result<BTreeMap<String, Allocation>, String> {
    let ready =
        slices.iter().flat_map(|slice| &slice.endpoints).filter(|endpoint| is_ready(endpoint)).count();
    let Some(zones) = capacity else {
        let what = "allocatable CPU or zone not specified on one or more nodes";
        return Err(format!("Insufficient Node information: {what}"));
    };
    let counts = format!("({ready} endpoints, {} zones)", zones.len());
    if zones.len() > ready {
        return Err(format!("Insufficient number of endpoints {counts}"));
    }
    let desired = |ratio: &f64| ratio * ready as f64;
    let minimum = |ratio: &f64| (desired(ratio) / (1.0 + OVERLOAD)).ceil() as usize;
    let all: usize = zones.values().map(minimum).sum();
    let Some(rest) = ready.checked_sub(all) else {
        let what = "to each zone without exceeding overload threshold";
        return Err(format!("Unable to allocate minimum required endpoints {what} {counts}"));
    };
    let of = |ratio: &f64| Allocation {
        maximum: minimum(ratio) + rest,
        desired: desired(ratio).max(minimum(ratio) as f64),
    };
    Ok(zones.iter().map(|(zone, ratio)| (zone.clone(), of(ratio))).collect())
}

fn give(slices: &mut [Slice], allocations: &BTreeMap<String, Allocation>) -> Result<(), String> {
    let mut given = Counts::new();
    for slice in slices.iter_mut().filter(|slice| !slice.changed) {
        match kept(slice, &given, allocations) {
            Some(kept) => kept.into_iter().for_each(|(zone, count)| *given.entry(zone).or_default() += count),
            None => slice.changed = true,
        }
    }
    let written = || slices.iter().filter(|slice| slice.changed).flat_map(|slice| &slice.endpoints);
    if written().any(|endpoint| is_ready(endpoint) && endpoint.zone.as_deref().unwrap_or_default().is_empty())
    {
        return Err("One or more endpoints do not have a zone specified".to_owned());
    }
    for slice in slices.iter_mut().filter(|slice| slice.changed) {
        for endpoint in &mut slice.endpoints {
            let zone = endpoint.zone.clone().filter(|_| is_ready(endpoint));
            endpoint.hints = zone
                .as_deref()
                .map(|zone| EndpointHints { for_zones: Some(for_zone(zone)), for_nodes: None });
            if let Some(zone) = zone {
                *given.entry(zone).or_default() += 1;
            }
        }
    }
    if given.is_empty() {
        return Err("No hints allocated for zones".to_owned());
    }
    let (mut giving, mut receiving) = exchange(allocations, &given);
    for slice in slices.iter_mut().filter(|slice| slice.changed) {
        for endpoint in slice.endpoints.iter_mut().filter(|endpoint| is_ready(endpoint)) {
            let Some(gives) =
                endpoint.zone.as_ref().and_then(|zone| giving.get_mut(zone)).filter(|it| **it > 0)
            else {
                continue;
            };
            let Some((to, receives)) = receiving.iter_mut().find(|(_, count)| **count > 0) else { break };
            endpoint.hints = Some(EndpointHints { for_zones: Some(for_zone(to)), for_nodes: None });
            *gives -= 1;
            *receives -= 1;
        }
    }
    Ok(())
}

/// How many endpoints of a slice are for which zones, if it can stay as it is.
fn kept(slice: &Slice, given: &Counts, allocations: &BTreeMap<String, Allocation>) -> Option<Counts> {
    let mut counts = Counts::new();
    for endpoint in slice.endpoints.iter().filter(|endpoint| is_ready(endpoint)) {
        let zones = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_deref());
        for zone in zones.filter(|zones| !zones.is_empty())? {
            *counts.entry(zone.name.clone()).or_default() += 1;
        }
    }
    let fits = |(zone, count): (&String, &usize)| {
        let before = given.get(zone).copied().unwrap_or_default();
        allocations.get(zone).is_some_and(|allocation| count + before <= allocation.maximum)
    };
    counts.iter().all(fits).then_some(counts)
}

/// How many endpoints zones give to others, and how many these receive.
#[allow(clippy::cast_precision_loss, reason = "counts of endpoints")]
fn exchange(allocations: &BTreeMap<String, Allocation>, given: &Counts) -> (Counts, Counts) {
    let (mut too_many, mut too_few) = (BTreeMap::new(), BTreeMap::new());
    for (zone, allocation) in allocations {
        let has = given.get(zone).copied().unwrap_or_default() as f64;
        if has > allocation.desired {
            too_many.insert(zone.clone(), has - allocation.desired);
        } else if has < allocation.desired {
            too_few.insert(zone.clone(), allocation.desired - has);
        }
    }
    let (mut giving, mut receiving) = (Counts::new(), Counts::new());
    while let (Some((from, many)), Some((to, few))) = (most(&mut too_many), most(&mut too_few)) {
        if *many < 1.0 && *few < 1.0 || *many < 0.5 || *few < 0.5 {
            break;
        }
        *many -= 1.0;
        *few -= 1.0;
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
    }
    (giving, receiving)
}

fn most(zones: &mut BTreeMap<String, f64>) -> Option<(&String, &mut f64)> {
    zones.iter_mut().max_by(|one, other| one.1.total_cmp(other.1))
}
