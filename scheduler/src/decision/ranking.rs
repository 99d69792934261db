//! Nodes by score, so that the best is found without looking at the others. Must never know what scores mean.

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::snapshot::NodeId;

/// Nodes by score.
#[derive(Debug, Default)]
pub(crate) struct Ranking {
    by_score: BTreeMap<i64, Vec<NodeId>>,
    /// Of each node its score and its place among its equals.
    places: Vec<Option<(i64, u32)>>,
}

impl Ranking {
    /// Gives a node a score, or takes it out.
    pub(crate) fn set(&mut self, node: NodeId, score: Option<i64>) {
        if self.places.len() <= node.at() {
            self.places.resize(node.at() + 1, None);
        }
        if let Some((old, place)) = self.places[node.at()] {
            if score == Some(old) {
                return;
            }
            if let Some(equals) = self.by_score.get_mut(&old) {
                equals.swap_remove(place as usize);
                if let Some(moved) = equals.get(place as usize) {
                    self.places[moved.at()] = Some((old, place));
                }
                if equals.is_empty() {
                    self.by_score.remove(&old);
                }
            }
        }
        self.places[node.at()] = score.map(|score| {
            let equals = self.by_score.entry(score).or_default();
            equals.push(node);
            (score, equals.len() as u32 - 1)
        });
    }

    /// One of the best.
    pub(crate) fn best(&self, chance: &mut Chance) -> Option<NodeId> {
        let (_, equals) = self.by_score.last_key_value()?;
        equals.get(chance.pick(equals.len())).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_best_is_one_with_the_greatest_score(
            steps in prop::collection::vec((0u32..12, prop::option::of(0i64..5)), 1..80),
            seed in any::<u64>(),
        ) {
            let mut ranking = Ranking::default();
            let mut scores = [None; 12];
            let mut chance = Chance::of_seed(seed);
            for (node, score) in steps {
                ranking.set(NodeId(node), score);
                scores[node as usize] = score;
                let best = ranking.best(&mut chance);
                let greatest = scores.iter().flatten().max();
                prop_assert_eq!(best.and_then(|best| scores[best.at()]), greatest.copied());
            }
        }
    }
}
