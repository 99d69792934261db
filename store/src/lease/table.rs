//! The replicated part of leases: which exist, for how long they were granted, and which keys hang on them.
//!
//! Every member has the same table after the same command. It knows no clock and never decides that a lease
//! has expired; deadlines belong to the leader alone. A key hangs on at most one lease, and its record names
//! that lease, so attachments can always be rebuilt from live records.

use std::sync::Arc;

use crate::command::CommandError;
use crate::ids::LeaseId;
use crate::tree::{Keyed, Tree};

/// One lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    id: LeaseId,
    order: [u8; 8],
    ttl_s: i64,
    remaining_s: i64,
}

impl Lease {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Seconds it was granted for.
    #[must_use]
    pub fn ttl_s(&self) -> i64 {
        self.ttl_s
    }

    /// Seconds left at the last checkpoint; 0 means the full time.
    #[must_use]
    pub fn remaining_s(&self) -> i64 {
        self.remaining_s
    }
}

#[derive(Clone)]
struct Entry {
    lease: Lease,
    keys: Tree<Arc<[u8]>>,
}

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        &self.lease.order
    }
}

/// All leases. Cloning copies a pointer; the copy never changes.
#[derive(Clone, Default)]
pub struct LeaseTable {
    leases: Tree<Entry>,
}

fn order(id: LeaseId) -> [u8; 8] {
    // Flipping the sign bit makes the order of the bytes that of the numbers.
    (id.0 ^ i64::MIN).to_be_bytes()
}

impl LeaseTable {
    /// No leases.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a lease of `ttl_s` seconds.
    ///
    /// # Errors
    /// `LeaseExists` when the id is taken.
    pub fn grant(&mut self, id: LeaseId, ttl_s: i64) -> Result<(), CommandError> {
        if self.exists(id) {
            return Err(CommandError::LeaseExists);
        }
        let lease = Lease { id, order: order(id), ttl_s, remaining_s: 0 };
        self.leases.insert(Entry { lease, keys: Tree::new() });
        Ok(())
    }

    /// Takes a lease away and answers its keys in order, for the caller to delete. `None` when there is no
    /// such lease.
    pub fn revoke(&mut self, id: LeaseId) -> Option<Vec<Arc<[u8]>>> {
        let entry = self.leases.remove(&order(id))?;
        Some(entry.keys.iter().cloned().collect())
    }

    /// Whether the lease is granted.
    #[must_use]
    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.get(&order(id)).is_some()
    }

    /// Moves a key from the lease that its record named before to the one that it names now. A lease that is
    /// not granted is passed over: a revoked lease has let go of its keys already.
    pub fn attach(&mut self, key: &[u8], from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(entry) = from.and_then(|id| self.leases.get_mut(&order(id))) {
            entry.keys.remove(key);
        }
        if let Some(entry) = to.and_then(|id| self.leases.get_mut(&order(id))) {
            entry.keys.insert(key.into());
        }
    }

    /// The keys that hang on a lease, in order; none when there is no such lease.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &[u8]> {
        self.leases.get(&order(id)).into_iter().flat_map(|entry| entry.keys.iter().map(|key| &**key))
    }

    /// What is known of a lease.
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<&Lease> {
        self.leases.get(&order(id)).map(|entry| &entry.lease)
    }

    /// Notes the seconds that a lease had left; 0 means its full time. A lease that is gone is passed over.
    pub fn checkpoint(&mut self, id: LeaseId, remaining_s: i64) {
        if let Some(entry) = self.leases.get_mut(&order(id)) {
            entry.lease.remaining_s = remaining_s;
        }
    }

    /// All leases in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Lease> {
        self.leases.iter().map(|entry| &entry.lease)
    }

    /// How many leases.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether there is no lease.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LeaseId = LeaseId(7);
    const B: LeaseId = LeaseId(-3);

    fn keys(table: &LeaseTable, id: LeaseId) -> Vec<Vec<u8>> {
        table.keys(id).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn an_id_is_granted_once() {
        let mut table = LeaseTable::new();
        table.grant(A, 10).unwrap();
        assert_eq!(table.grant(A, 20), Err(CommandError::LeaseExists));
        assert_eq!(table.get(A).map(Lease::ttl_s), Some(10));
        assert!(table.exists(A) && !table.exists(B));
        table.revoke(A).unwrap();
        table.grant(A, 30).unwrap();
        assert_eq!(table.get(A).map(Lease::ttl_s), Some(30));
    }

    #[test]
    fn a_key_hangs_on_one_lease() {
        let mut table = LeaseTable::new();
        table.grant(A, 10).unwrap();
        table.grant(B, 10).unwrap();
        table.attach(b"b", None, Some(A));
        table.attach(b"a", None, Some(A));
        table.attach(b"c", None, Some(A));
        table.attach(b"b", Some(A), Some(B));
        table.attach(b"c", Some(A), None);
        assert_eq!(keys(&table, A), [b"a"]);
        assert_eq!(keys(&table, B), [b"b"]);
        assert_eq!(table.iter().map(Lease::id).collect::<Vec<_>>(), [B, A]);
    }

    #[test]
    fn revoking_gives_the_keys_in_order_and_a_clone_keeps_them() {
        let mut table = LeaseTable::new();
        table.grant(A, 10).unwrap();
        for key in ["z", "m", "a"] {
            table.attach(key.as_bytes(), None, Some(A));
        }
        let before = table.clone();
        let revoked = table.revoke(A).unwrap();
        assert_eq!(revoked, [b"a", b"m", b"z"].map(|key| Arc::from(&key[..])));
        assert!(table.revoke(A).is_none() && table.is_empty());
        assert_eq!(keys(&before, A).len(), 3);
        table.attach(b"a", Some(A), None);
        assert_eq!(keys(&table, A), Vec::<Vec<u8>>::new());
    }

    #[test]
    fn a_checkpoint_is_kept_until_the_next() {
        let mut table = LeaseTable::new();
        table.grant(A, 10).unwrap();
        table.checkpoint(A, 4);
        table.checkpoint(B, 4);
        assert_eq!(table.get(A).map(Lease::remaining_s), Some(4));
        table.checkpoint(A, 0);
        assert_eq!(table.get(A).map(Lease::remaining_s), Some(0));
    }
}
