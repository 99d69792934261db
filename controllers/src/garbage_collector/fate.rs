//! What happens to an object, knowing what its owners are. A decision; nothing with a living owner goes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::graph::{FOREGROUND, ORPHAN};
use crate::plan::Propagation;

/// An object as the API has it now.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Live {
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) owners: Vec<OwnerReference>,
    pub(super) finalizers: Vec<String>,
    pub(super) deleting: bool,
}

impl Live {
    /// Whether it has this finalizer.
    pub(super) fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|one| one == finalizer)
    }
}

/// What an owner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It is there.
    Solid,
    /// It is there, and goes as soon as its dependents are gone.
    Waiting,
    /// It is not there.
    Dangling,
}

impl OwnerState {
    /// That of an owner that is there.
    pub(super) fn of(owner: &Live) -> Self {
        if owner.deleting && owner.has(FOREGROUND) { Self::Waiting } else { Self::Solid }
    }
}

/// What happens to an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Nothing.
    Stays,
    /// It stays, and does not name these owners any more.
    Unlink(Vec<String>),
    /// It goes.
    Goes {
        /// What becomes of its dependents.
        propagation: Propagation,
        /// Whether its owners do not wait for it any more: it may be that they wait for each other.
        unblock: bool,
    },
}

/// Decides. `waiting` is of each dependent whether it waits for its own dependents.
pub(super) fn fate(object: &Live, owners: &[OwnerState], waiting: &[bool]) -> Fate {
    if owners.is_empty() {
        return Fate::Stays;
    }
    if owners.contains(&OwnerState::Solid) {
        let rest = object.owners.iter().zip(owners).filter(|(_, state)| **state != OwnerState::Solid);
        // An owner that waits would wait for ever for one that stays.
        let rest: Vec<_> = rest.map(|(owner, _)| owner.uid.clone()).collect();
        return if rest.is_empty() { Fate::Stays } else { Fate::Unlink(rest) };
    }
    if owners.contains(&OwnerState::Waiting) && !waiting.is_empty() {
        return Fate::Goes { propagation: Propagation::Foreground, unblock: waiting.contains(&true) };
    }
    let propagation = if object.has(ORPHAN) {
        Propagation::Orphan
    } else if object.has(FOREGROUND) {
        Propagation::Foreground
    } else {
        Propagation::Background
    };
    Fate::Goes { propagation, unblock: false }
}

#[cfg(test)]
mod tests {
    use super::OwnerState::{Dangling, Solid, Waiting};
    use super::*;

    fn object(owners: usize, finalizers: &[&str]) -> Live {
        let owner = |number: usize| OwnerReference { uid: number.to_string(), ..OwnerReference::default() };
        Live {
            uid: "u".into(),
            version: "1".into(),
            owners: (0..owners).map(owner).collect(),
            finalizers: finalizers.iter().map(|one| (*one).to_owned()).collect(),
            deleting: false,
        }
    }

    #[test]
    fn every_mixture_of_owners_has_its_consequence() {
        let unlink = |uids: &[&str]| Fate::Unlink(uids.iter().map(|uid| (*uid).to_owned()).collect());
        let goes = |propagation, unblock| Fate::Goes { propagation, unblock };
        let (background, foreground) = (Propagation::Background, Propagation::Foreground);
        type Row<'a> = (&'a [OwnerState], &'a [bool], &'a [&'a str], Fate);
        let table: Vec<Row<'_>> = vec![
            (&[], &[], &[], Fate::Stays),
            (&[Solid], &[], &[], Fate::Stays),
            (&[Solid, Solid], &[true], &[], Fate::Stays),
            (&[Dangling, Solid, Waiting], &[], &[], unlink(&["0", "2"])),
            (&[Waiting, Solid], &[true], &[], unlink(&["0"])),
            (&[Dangling], &[], &[], goes(background, false)),
            (&[Dangling], &[true], &[], goes(background, false)),
            (&[Dangling, Dangling], &[], &[ORPHAN, FOREGROUND], goes(Propagation::Orphan, false)),
            (&[Dangling], &[], &[FOREGROUND], goes(foreground, false)),
            (&[Waiting], &[], &[], goes(background, false)),
            (&[Waiting], &[false], &[], goes(foreground, false)),
            (&[Waiting, Dangling], &[false, true], &[], goes(foreground, true)),
        ];
        for (owners, waiting, finalizers, expected) in table {
            let fate = fate(&object(owners.len(), finalizers), owners, waiting);
            assert_eq!(fate, expected, "{owners:?} {waiting:?} {finalizers:?}");
        }
    }
}
