//! Which member stops hearing which, for each shape of a partition.

/// A shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Two sides that hear nothing of each other.
    Symmetric,
    /// One side is not heard by the other, but hears it.
    OneWay,
    /// Each hears only its neighbours in a ring.
    Ring,
    /// Two sides that hear nothing of each other, and one member that hears both.
    Bridge,
}

/// Pairs of members, the second of which stops hearing the first. Members are taken in the order given: the first ones are
/// one side, the smaller one.
pub(crate) fn cuts(shape: Shape, members: &[usize]) -> Vec<(usize, usize)> {
    let count = members.len();
    let minority = count.saturating_sub(1) / 2;
    let apart = |one: usize, other: usize| match shape {
        Shape::Symmetric => (one < minority) != (other < minority),
        Shape::OneWay => one < minority && other >= minority,
        Shape::Ring => {
            let distance = one.abs_diff(other);
            distance > 1 && distance < count - 1
        }
        // The one behind the smaller side is the bridge.
        Shape::Bridge => one != minority && other != minority && (one < minority) != (other < minority),
    };
    let pairs = (0..count).flat_map(|one| (0..count).map(move |other| (one, other)));
    pairs
        .filter(|&(one, other)| one != other && apart(one, other))
        .map(|(a, b)| (members[a], members[b]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        for (shape, members, expected) in [
            (Shape::Symmetric, vec![7, 8, 9], vec![(7, 8), (7, 9), (8, 7), (9, 7)]),
            (Shape::OneWay, vec![7, 8, 9], vec![(7, 8), (7, 9)]),
            (Shape::Bridge, vec![7, 8, 9], vec![(7, 9), (9, 7)]),
            (Shape::Ring, vec![7, 8, 9], vec![]),
            (Shape::Ring, vec![1, 2, 3, 4], vec![(1, 3), (2, 4), (3, 1), (4, 2)]),
            (Shape::Symmetric, vec![1], vec![]),
        ] {
            assert_eq!(cuts(shape, &members), expected, "{shape:?} of {members:?}");
        }
    }

    /// In a ring of five each still hears a majority: itself and two more.
    #[test]
    fn a_ring_of_five_leaves_everybody_a_majority() {
        let cuts = cuts(Shape::Ring, &[0, 1, 2, 3, 4]);
        for member in 0..5 {
            assert_eq!(cuts.iter().filter(|(_, to)| *to == member).count(), 2);
        }
    }
}
