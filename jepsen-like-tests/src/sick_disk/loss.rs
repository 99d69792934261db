//! What a power cut leaves of the changes that were not synced. Pure: chance is handed in.

use std::fmt;

use rand::Rng;

/// A change of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Bytes were written.
    Write {
        /// Where in the file.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// The file was made longer, by zeros, or shorter.
    Resize {
        /// Its length after that.
        length: u64,
    },
}

impl Change {
    /// Carries it out.
    pub fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let from = index(*offset);
                let to = from + bytes.len();
                if content.len() < to {
                    content.resize(to, 0);
                }
                content[from..to].copy_from_slice(bytes);
            }
            Self::Resize { length } => content.resize(index(*length), 0),
        }
    }
}

/// A place in content that is in memory.
pub(super) fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

/// How a power cut treats what was not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All of it is gone.
    Everything,
    /// What came first is there; the last write that is there ends between two sectors of so many bytes.
    Torn(u64),
    /// Some sectors of so many bytes are there and some are not, whichever came first.
    Reordered(u64),
}

impl Loss {
    /// All kinds, with the sectors that disks have.
    pub const ALL: [Self; 5] =
        [Self::Everything, Self::Torn(512), Self::Torn(4096), Self::Reordered(512), Self::Reordered(4096)];
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everything => write!(f, "nothing unsynced is left"),
            Self::Torn(sector) => write!(f, "torn at {sector} B"),
            Self::Reordered(sector) => write!(f, "reordered by {sector} B"),
        }
    }
}

/// Those of a file's changes that are on the disk nevertheless, in their order.
pub fn survivors(changes: &[Change], loss: Loss, rng: &mut impl Rng) -> Vec<Change> {
    match loss {
        Loss::Everything => Vec::new(),
        Loss::Torn(sector) => {
            let whole = rng.random_range(0..=changes.len());
            let mut left = changes[..whole].to_vec();
            if let Some(Change::Write { offset, bytes }) = changes.get(whole) {
                let pieces = sectors(*offset, bytes, sector);
                let count = rng.random_range(0..=pieces.len());
                let length = pieces[..count].iter().map(|(_, piece)| piece.len()).sum();
                if length > 0 {
                    left.push(Change::Write { offset: *offset, bytes: bytes[..length].to_vec() });
                }
            }
            left
        }
        Loss::Reordered(sector) => {
            let mut left = Vec::new();
            for change in changes {
                match change {
                    Change::Write { offset, bytes } => {
                        for (offset, piece) in sectors(*offset, bytes, sector) {
                            if rng.random() {
                                left.push(Change::Write { offset, bytes: piece.to_vec() });
                            }
                        }
                    }
                    Change::Resize { .. } => {
                        if rng.random() {
                            left.push(change.clone());
                        }
                    }
                }
            }
            left
        }
    }
}

/// How many of a directory's changes are on the disk nevertheless: the first ones, as journals of file systems keep their
/// order.
pub fn surviving_names(changes: usize, loss: Loss, rng: &mut impl Rng) -> usize {
    match loss {
        Loss::Everything => 0,
        Loss::Torn(_) | Loss::Reordered(_) => rng.random_range(0..=changes),
    }
}

/// A write in pieces that end where sectors end, each with its place.
fn sectors(offset: u64, bytes: &[u8], sector: u64) -> Vec<(u64, &[u8])> {
    let mut pieces = Vec::new();
    let (mut at, mut rest) = (offset, bytes);
    while !rest.is_empty() {
        let room = index(sector - at % sector).min(rest.len());
        let (piece, behind) = rest.split_at(room);
        pieces.push((at, piece));
        at += room as u64;
        rest = behind;
    }
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn content(changes: &[Change]) -> Vec<u8> {
        let mut content = Vec::new();
        for change in changes {
            change.apply(&mut content);
        }
        content
    }

    fn write(offset: u64, byte: u8, length: usize) -> Change {
        Change::Write { offset, bytes: vec![byte; length] }
    }

    #[test]
    fn changes_do_what_files_do() {
        for (changes, expected) in [
            (vec![write(0, 1, 2), write(1, 2, 2)], vec![1, 2, 2]),
            (vec![write(2, 1, 1)], vec![0, 0, 1]),
            (vec![write(0, 1, 3), Change::Resize { length: 1 }], vec![1]),
            (vec![write(0, 1, 1), Change::Resize { length: 3 }], vec![1, 0, 0]),
            (vec![write(0, 1, 3), Change::Resize { length: 1 }, Change::Resize { length: 2 }], vec![1, 0]),
        ] {
            assert_eq!(content(&changes), expected, "{changes:?}");
        }
    }

    #[test]
    fn writes_come_apart_at_sectors() {
        for (offset, length, expected) in [
            (0, 512, vec![(0, 512)]),
            (0, 513, vec![(0, 512), (512, 1)]),
            (500, 20, vec![(500, 12), (512, 8)]),
            (512, 1100, vec![(512, 512), (1024, 512), (1536, 76)]),
            (7, 0, vec![]),
        ] {
            let bytes = vec![1; length];
            let pieces = sectors(offset, &bytes, 512);
            let found: Vec<_> = pieces.iter().map(|(at, piece)| (*at, piece.len())).collect();
            assert_eq!(found, expected, "{length} at {offset}");
        }
    }

    /// Every number of changes, and every cut within one, comes to pass.
    #[test]
    fn every_torn_state_comes_to_pass() {
        let changes = [write(0, 1, 1024), write(1024, 2, 1024)];
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let left = survivors(&changes, Loss::Torn(512), &mut StdRng::seed_from_u64(seed));
            lengths.insert(content(&left).len());
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 512, 1024, 1536, 2048]);
    }

    /// A later write is there and an earlier one is not.
    #[test]
    fn order_is_not_kept_between_syncs() {
        let changes = [write(0, 1, 512), write(512, 2, 512)];
        let only_later = |seed| {
            survivors(&changes, Loss::Reordered(512), &mut StdRng::seed_from_u64(seed)) == changes[1..]
        };
        assert!((0..100).any(only_later));
    }

    fn any_change() -> impl Strategy<Value = Change> {
        prop_oneof![
            (0_u64..4000, prop::collection::vec(any::<u8>(), 0..3000))
                .prop_map(|(offset, bytes)| Change::Write { offset, bytes }),
            (0_u64..8000).prop_map(|length| Change::Resize { length }),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_made_up(
            changes in prop::collection::vec(any_change(), 0..8),
            which in 0..Loss::ALL.len(),
            seed: u64,
        ) {
            let loss = Loss::ALL[which];
            let left = survivors(&changes, loss, &mut StdRng::seed_from_u64(seed));
            // Each change that is left is one of those that were made, or a piece of it between sectors, in order.
            let mut from = 0;
            for change in &left {
                let is_from = |made: &Change| match (change, made) {
                    (Change::Write { offset, bytes }, Change::Write { offset: made_at, bytes: made }) => {
                        let at = offset.checked_sub(*made_at).map(index);
                        at.is_some_and(|at| made.get(at..at + bytes.len()) == Some(&bytes[..]))
                    }
                    (change, made) => change == made,
                };
                let found = changes[from..].iter().position(is_from);
                prop_assert!(found.is_some(), "{change:?} was never made, or earlier");
                from += found.unwrap_or_default();
            }
            match loss {
                Loss::Everything => prop_assert!(left.is_empty()),
                Loss::Torn(sector) => if let Some((last, whole)) = left.split_last() {
                    prop_assert_eq!(whole, &changes[..whole.len()]);
                    if let (Change::Write { offset, bytes }, true) = (last, *last != changes[whole.len()]) {
                        prop_assert_eq!((offset + bytes.len() as u64) % sector, 0);
                    }
                },
                Loss::Reordered(_) => {}
            }
            prop_assert!(surviving_names(changes.len(), loss, &mut StdRng::seed_from_u64(seed)) <= changes.len());
        }
    }
}
