//! Nodes are better that have the pod's images already; by size, and less so where few nodes have them, so that not all
//! pods go there.

use super::{MAX_NODE_SCORE, View};
use crate::pod::NodeAsk;

const MIB: i64 = 1024 * 1024;
/// Less than this in all is nothing.
const LEAST: i64 = 23 * MIB;
/// More than this for each container makes no difference.
const MOST_OF_ONE: i64 = 1000 * MIB;

pub(crate) fn score(ask: &NodeAsk, view: &View<'_>) -> i64 {
    let there = |image: &str| {
        let at = view.spec.images.binary_search_by(|(name, _)| (**name).cmp(image)).ok()?;
        let (nodes, _) = view.snapshot.columns.images.get(image)?;
        let spread = *nodes as f64 / view.snapshot.nodes() as f64;
        Some((view.spec.images[at].1 as f64 * spread) as i64)
    };
    if view.spec.images.is_empty() || ask.images.is_empty() {
        return 0;
    }
    let sum: i64 = ask.images.iter().filter_map(|image| there(image)).sum();
    let most = MOST_OF_ONE * ask.images.len() as i64;
    MAX_NODE_SCORE * (sum.clamp(LEAST, most) - LEAST) / (most - LEAST)
}

/// A number that differs when scores can: other nodes have the images, or there are other nodes.
pub(crate) fn stamp(ask: &NodeAsk, snapshot: &crate::snapshot::Snapshot) -> (u64, usize) {
    let images = ask.images.iter().filter_map(|image| snapshot.columns.images.get(image));
    let changes = images.map(|(_, changed)| *changed).max();
    changes.map_or((0, 0), |changes| (changes, snapshot.nodes()))
}
