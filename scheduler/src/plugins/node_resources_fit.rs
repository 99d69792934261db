//! Resources must be enough; and nodes are scored by how much of them is taken.

use super::{MAX_NODE_SCORE, Plugin, Refusal, Verdict, View};
use crate::pod::{Amounts, NodeAsk};
use crate::profile::{FitArgs, ScoredResource, Strategy};
use crate::snapshot::{CPU, MEMORY, ResourceId, Snapshot, Taken};

pub(crate) fn filter(taken: &[Taken], args: &FitArgs, view: &View<'_>) -> Verdict {
    let mut reasons: Vec<Box<str>> = Vec::new();
    let mut resolvable = true;
    if view.pods() + 1 > view.spec.allocatable.pods {
        reasons.push("Too many pods".into());
    }
    for &(resource, amount) in taken {
        let offered = view.allocatable(resource);
        if amount <= offered - view.requested(resource) {
            continue;
        }
        let name = &view.snapshot.columns.resource_names[resource];
        if resource > MEMORY && args.ignores(name) {
            continue;
        }
        reasons.push(format!("Insufficient {name}").into());
        resolvable &= amount <= offered;
    }
    if reasons.is_empty() {
        return Ok(());
    }
    Err(Refusal { plugin: Plugin::NodeResourcesFit, resolvable, reasons })
}

/// A resource that is scored, by number; `None` for one that nobody has asked for yet.
pub(crate) fn number(snapshot: &Snapshot, resource: &ScoredResource) -> Option<ResourceId> {
    snapshot.columns.known_resource(&resource.name)
}

/// What would be taken of a resource with the pod, and what there is. Both are 0 where the resource is not to be scored.
pub(crate) fn demand(
    ask: &NodeAsk,
    resource: Option<ResourceId>,
    name: &str,
    exact: bool,
    view: &View<'_>,
) -> (i64, i64) {
    // Nobody has asked for it, so neither does the pod; resources beyond the usual ones are scored if it does.
    let Some(id) = resource else { return (0, 0) };
    let asked = ask.requests.get(name);
    match id {
        CPU if !exact => (view.scored_cpu_milli() + ask.scored_cpu_milli, view.allocatable(id)),
        MEMORY if !exact => (view.scored_memory() + ask.scored_memory, view.allocatable(id)),
        _ if asked == 0 && Amounts::is_scalar(name) => (0, 0),
        _ => (view.requested(id) + asked, view.allocatable(id)),
    }
}

pub(crate) fn score(ask: &NodeAsk, args: &FitArgs, numbers: &[Option<ResourceId>], view: &View<'_>) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for (resource, number) in args.resources.iter().zip(numbers) {
        let (requested, offered) = demand(ask, *number, &resource.name, false, view);
        if offered == 0 {
            continue;
        }
        let score = match &args.strategy {
            Strategy::LeastAllocated => {
                if requested > offered {
                    0
                } else {
                    (offered - requested) * MAX_NODE_SCORE / offered
                }
            }
            Strategy::MostAllocated => requested.min(offered) * MAX_NODE_SCORE / offered,
            Strategy::RequestedToCapacityRatio(shape) => {
                let used = if requested > offered { 100 } else { requested * 100 / offered };
                along(shape, used)
            }
        };
        // What scores nothing does not count, by the shape.
        if score > 0 || !matches!(args.strategy, Strategy::RequestedToCapacityRatio(_)) {
            sum += score * resource.weight;
            weights += resource.weight;
        }
    }
    match (&args.strategy, weights) {
        (_, 0) => 0,
        (Strategy::RequestedToCapacityRatio(_), weights) => (sum as f64 / weights as f64).round() as i64,
        (_, weights) => sum / weights,
    }
}

/// The score at a utilization in percent, on a line through points of (utilization, score).
fn along(shape: &[(i64, i64)], used: i64) -> i64 {
    let Some(after) = shape.iter().position(|(utilization, _)| used <= *utilization) else {
        return shape.last().map_or(0, |(_, score)| *score);
    };
    let (to, high) = shape[after];
    let Some((from, low)) = after.checked_sub(1).map(|before| shape[before]) else { return high };
    low + (high - low) * (used - from) / (to - from)
}
