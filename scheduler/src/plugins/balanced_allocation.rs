//! Nodes are better whose resources are taken to the same part.

use super::node_resources_fit::demand;
use super::{MAX_NODE_SCORE, View};
use crate::pod::NodeAsk;
use crate::profile::ScoredResource;
use crate::snapshot::ResourceId;

/// Whether the pod asks for none of the resources; then nothing is scored, or all such pods would go to one node.
pub(crate) fn skips(ask: &NodeAsk, resources: &[ScoredResource]) -> bool {
    resources.iter().all(|resource| ask.requests.get(&resource.name) == 0)
}

pub(crate) fn score(
    ask: &NodeAsk,
    resources: &[ScoredResource],
    numbers: &[Option<ResourceId>],
    view: &View<'_>,
) -> i64 {
    let demands = resources.iter().zip(numbers);
    let demands = demands.map(|(resource, number)| demand(ask, *number, &resource.name, true, view));
    let parts = demands.filter(|(_, offered)| *offered != 0);
    let parts: Vec<f64> =
        parts.map(|(requested, offered)| (requested as f64 / offered as f64).min(1.0)).collect();
    let deviation = match parts.as_slice() {
        [] | [_] => 0.0,
        [one, other] => ((one - other) / 2.0).abs(),
        many => {
            let mean = many.iter().sum::<f64>() / many.len() as f64;
            let squares: f64 = many.iter().map(|part| (part - mean) * (part - mean)).sum();
            (squares / many.len() as f64).sqrt()
        }
    };
    ((1.0 - deviation) * MAX_NODE_SCORE as f64) as i64
}
