//! The tree against a sorted map.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug, PartialEq)]
struct Item(Vec<u8>, u32);

impl Keyed for Item {
    fn key(&self) -> &[u8] {
        &self.0
    }
}

type Model = BTreeMap<Vec<u8>, u32>;

/// Checks every promise about the shape, and gives back the number of values and the depth.
fn check_node(node: &Node<Item>, low: Option<&[u8]>, high: Option<&[u8]>, root: bool) -> (usize, usize) {
    match node {
        Node::Leaf(leaf) => {
            assert!(leaf.values.len() <= LEAF_MAX);
            assert!(root || !leaf.values.is_empty());
            for (value, head_of) in leaf.values.iter().zip(&leaf.heads) {
                assert_eq!(head(value.key(), leaf.common), *head_of);
                assert_eq!(value.key()[..leaf.common], leaf.values[0].key()[..leaf.common]);
            }
            for value in &leaf.values {
                assert!(
                    low.is_none_or(|low| low <= value.key()) && high.is_none_or(|high| value.key() < high)
                );
            }
            (leaf.values.len(), 0)
        }
        Node::Inner(inner) => {
            assert!(inner.children.len() <= INNER_MAX && inner.children.len() > usize::from(root));
            assert_eq!(inner.separators.len() + 1, inner.children.len());
            let mut total = 0;
            let mut depths = Vec::new();
            for (at, child) in inner.children.iter().enumerate() {
                let low = if at == 0 { low } else { Some(inner.separators.get(at - 1)) };
                let high = if at + 1 == inner.children.len() { high } else { Some(inner.separators.get(at)) };
                let (count, depth) = check_node(&child.node, low, high, false);
                assert_eq!(count, child.count);
                total += count;
                depths.push(depth);
            }
            assert!(depths.windows(2).all(|pair| pair[0] == pair[1]));
            (total, depths[0] + 1)
        }
    }
}

fn check(tree: &Tree<Item>, model: &Model) {
    assert_eq!(check_node(&tree.root, None, None, true).0, tree.len());
    let found: Vec<_> = tree.iter().map(|item| (item.0.clone(), item.1)).collect();
    let expected: Vec<_> = model.iter().map(|(key, value)| (key.clone(), *value)).collect();
    assert_eq!(found, expected);
}

fn probe(tree: &Tree<Item>, model: &Model, key: &[u8]) {
    assert_eq!(tree.get(key).map(|item| item.1), model.get(key).copied());
    let rank = model.range(..key.to_vec()).count();
    assert_eq!(tree.rank(key), rank);
    let at_rank: Vec<_> = tree.iter_at(rank).map(|item| &item.0).collect();
    let from: Vec<_> = tree.iter_from(Bound::Included(key)).map(|item| &item.0).collect();
    let expected: Vec<_> = model.range(key.to_vec()..).map(|(key, _)| key).collect();
    assert_eq!(at_rank, expected);
    assert_eq!(from, expected);
    let after: Vec<_> = tree.iter_from(Bound::Excluded(key)).map(|item| &item.0).collect();
    let expected: Vec<_> =
        model.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded)).map(|(key, _)| key).collect();
    assert_eq!(after, expected);
    assert_eq!(
        tree.at_rank(rank).map(|item| &item.0),
        model.range(key.to_vec()..).next().map(|(key, _)| key)
    );
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        3 => (0u16..600).prop_map(|n| format!("/registry/pods/{n:04}").into_bytes()),
        1 => proptest::collection::vec(0u8..3, 0..5),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn behaves_as_an_ordered_map_and_clones_never_change(
        start in proptest::collection::btree_map(key(), any::<u32>(), 0..500),
        steps in proptest::collection::vec((key(), any::<u32>(), 0u8..8), 0..700),
        remove_often: bool,
    ) {
        let mut model: Model = start;
        let mut tree = Tree::from_sorted(model.iter().map(|(k, v)| Item(k.clone(), *v)));
        check(&tree, &model);
        let mut clones = Vec::new();
        for (key, value, what) in steps {
            if what == 0 && clones.len() < 8 {
                clones.push((tree.clone(), model.clone()));
            } else if what <= if remove_often { 5 } else { 2 } {
                let removed = tree.remove(&key).map(|item| item.1);
                prop_assert_eq!(removed, model.remove(&key));
            } else if what == 6 {
                if let Some(item) = tree.get_mut(&key) {
                    item.1 = value;
                    model.insert(key.clone(), value);
                }
            } else {
                let replaced = tree.insert(Item(key.clone(), value)).map(|item| item.1);
                prop_assert_eq!(replaced, model.insert(key.clone(), value));
            }
            prop_assert_eq!(tree.len(), model.len());
            if what == 7 {
                probe(&tree, &model, &key);
            }
        }
        check(&tree, &model);
        for (tree, model) in &clones {
            check(tree, model);
        }
        for key in model.keys().cloned().collect::<Vec<_>>() {
            tree.remove(&key).unwrap();
        }
        check(&tree, &Model::new());
    }
}

#[test]
fn ascending_inserts_fill_the_nodes() {
    let mut tree = Tree::new();
    let mut model = Model::new();
    for n in 0..20_000u32 {
        tree.insert(Item(n.to_be_bytes().to_vec(), n));
        model.insert(n.to_be_bytes().to_vec(), n);
    }
    check(&tree, &model);
    let (_, depth) = check_node(&tree.root, None, None, true);
    assert!(depth <= 3, "depth {depth}");
}

#[test]
fn merging_pairs_equal_keys() {
    let left = [Item(b"a".to_vec(), 1), Item(b"c".to_vec(), 2)];
    let right = [Item(b"b".to_vec(), 3), Item(b"c".to_vec(), 4), Item(b"d".to_vec(), 5)];
    let merged: Vec<_> =
        merge(left.iter(), right.iter()).map(|(a, b)| (a.map(|a| a.1), b.map(|b| b.1))).collect();
    assert_eq!(merged, [(Some(1), None), (None, Some(3)), (Some(2), Some(4)), (None, Some(5))]);
}
