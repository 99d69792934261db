//! Owners that are known not to be there: uids are never given again, so nobody needs to ask twice. A data structure; bounded,
//! the one that was asked for longest ago is forgotten first.

use std::collections::{BTreeMap, HashMap};

use super::identity::Identity;

/// How many are remembered.
const MOST: usize = 500;

/// Owners that are not there.
#[derive(Debug, Default)]
pub(super) struct Absent {
    used: HashMap<Identity, u64>,
    order: BTreeMap<u64, Identity>,
    clock: u64,
}

impl Absent {
    /// It is not there.
    pub(super) fn add(&mut self, identity: Identity) {
        self.clock += 1;
        if let Some(before) = self.used.insert(identity.clone(), self.clock) {
            self.order.remove(&before);
        }
        self.order.insert(self.clock, identity);
        if self.used.len() > MOST
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.used.remove(&oldest);
        }
    }

    /// Whether it is known not to be there.
    pub(super) fn has(&mut self, identity: &Identity) -> bool {
        let known = self.used.contains_key(identity);
        if known {
            self.add(identity.clone());
        }
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(uid: usize) -> Identity {
        let text = || "x".to_owned();
        Identity { kind: text(), api_version: text(), namespace: text(), name: text(), uid: uid.to_string() }
    }

    #[test]
    fn the_one_that_nobody_asked_for_longest_is_forgotten() {
        let mut absent = Absent::default();
        for uid in 0..MOST {
            absent.add(owner(uid));
        }
        assert!(absent.has(&owner(0)));
        absent.add(owner(MOST));
        assert!(absent.has(&owner(0)) && absent.has(&owner(MOST)) && !absent.has(&owner(1)));
        assert_eq!((absent.used.len(), absent.order.len()), (MOST, MOST));
    }
}
