//! Leases of a migration: the same ids and times at the destination, with as much time left as at the source.

use std::collections::BTreeSet;

use barque_proto::etcdserverpb as pb;

use crate::connection::Connection;
use crate::error::Failure;

/// Renewed if not more than this is left, however little is left at the source: the next look must come in time.
const TOO_CLOSE_S: i64 = 3;

/// The leases that exist at the destination.
#[derive(Debug, Default)]
pub(super) struct Leases {
    known: BTreeSet<i64>,
}

impl Leases {
    /// Makes sure that the lease exists at the destination, and returns the id to attach a key to: 0 if the key has no
    /// lease, or one that has ended already, in which case the key's deletion follows.
    pub(super) async fn ensure(
        &mut self,
        source: &Connection,
        destination: &Connection,
        id: i64,
    ) -> Result<i64, Failure> {
        if id == 0 || self.known.contains(&id) {
            return Ok(id);
        }
        let there = time_to_live(source, id).await?;
        if there.ttl <= 0 {
            return Ok(0);
        }
        match destination.lease_grant(pb::LeaseGrantRequest { id, ttl: there.granted_ttl }).await {
            Err(failure)
                if failure.server_message().is_some_and(|text| text.contains("lease already exists")) => {}
            other => drop(other?),
        }
        self.known.insert(id);
        Ok(id)
    }

    /// Learns what an earlier run has granted. False if a lease that lives at the source has ended here meanwhile, and
    /// its keys with it.
    pub(super) async fn recall(
        &mut self,
        source: &Connection,
        destination: &Connection,
    ) -> Result<bool, Failure> {
        let theirs = ids(source).await?;
        let ours = ids(destination).await?;
        self.known = theirs.intersection(&ours).copied().collect();
        for &id in theirs.difference(&ours) {
            let lease = source.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true }).await?;
            if !lease.keys.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Renews at the destination what has more time left at the source.
    pub(super) async fn renew(
        &mut self,
        source: &Connection,
        destination: &Connection,
    ) -> Result<(), Failure> {
        for id in self.known.clone() {
            let there = time_to_live(source, id).await?;
            if there.ttl <= 0 {
                // Its keys are deleted by events; the lease itself must not outlive them.
                match destination.lease_revoke(pb::LeaseRevokeRequest { id }).await {
                    Err(failure)
                        if failure.server_message().is_some_and(|text| text.contains("lease not found")) => {}
                    other => drop(other?),
                }
                self.known.remove(&id);
            } else if must_renew(there.ttl, time_to_live(destination, id).await?.ttl) {
                destination.lease_keep_alive_once(id).await?;
            }
        }
        Ok(())
    }
}

async fn ids(connection: &Connection) -> Result<BTreeSet<i64>, Failure> {
    let list = connection.lease_leases(pb::LeaseLeasesRequest {}).await?;
    Ok(list.leases.into_iter().map(|lease| lease.id).collect())
}

/// Whether a lease with so much time left on both sides, in seconds, must be renewed at the destination.
fn must_renew(source_s: i64, destination_s: i64) -> bool {
    destination_s < source_s || destination_s <= TOO_CLOSE_S
}

async fn time_to_live(connection: &Connection, id: i64) -> Result<pb::LeaseTimeToLiveResponse, Failure> {
    connection.lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: false }).await
}

#[cfg(test)]
mod tests {
    use super::must_renew;

    #[test]
    fn a_lease_never_has_less_time_than_at_the_source() {
        assert!(must_renew(10, 9) && must_renew(1, 3));
        assert!(!must_renew(10, 10) && !must_renew(5, 60));
    }
}
