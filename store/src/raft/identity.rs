//! Who is on the other end: every call between members carries the caller's identity, every answer the
//! answerer's, and a stranger, another cluster's member or a member on another disk is refused.
//!
//! Why: a member whose disk was wiped or replaced under its old id no longer holds what it acknowledged.
//! Were it to vote, a quorum could form that has never seen a committed entry. So each data directory
//! carries a random incarnation, the cluster remembers it (a replicated command), and a call under the
//! same id from another incarnation never reaches Raft.

use std::collections::{BTreeMap, BTreeSet};

use arc_swap::ArcSwap;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use crate::ids::{ClusterId, Incarnation, MemberId};

/// This member, as it shows itself to others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id.
    pub member: MemberId,
    /// Its data directory.
    pub incarnation: Incarnation,
}

/// What the replicated state says of members; read on every connection between members.
#[derive(Debug, Default)]
pub struct Roster(ArcSwap<RosterData>);

#[derive(Clone, Debug, Default)]
struct RosterData {
    incarnations: BTreeMap<MemberId, Incarnation>,
    removed: BTreeSet<MemberId>,
}

impl Roster {
    /// Replaces what is known.
    pub fn update(
        &self,
        incarnations: impl IntoIterator<Item = (MemberId, Incarnation)>,
        removed: impl IntoIterator<Item = MemberId>,
    ) {
        self.0.store(std::sync::Arc::new(RosterData {
            incarnations: incarnations.into_iter().collect(),
            removed: removed.into_iter().collect(),
        }));
    }

    /// The data directory that a member is known to run on.
    #[must_use]
    pub fn incarnation(&self, member: MemberId) -> Option<Incarnation> {
        self.0.load().incarnations.get(&member).copied()
    }

    /// Whether the id belonged to a member that was removed.
    #[must_use]
    pub fn was_removed(&self, member: MemberId) -> bool {
        self.0.load().removed.contains(&member)
    }

    /// Why a peer is refused.
    ///
    /// # Errors
    /// The reason.
    pub fn check(&self, own: &Identity, peer: &Identity) -> Result<(), Refusal> {
        if peer.cluster != own.cluster {
            return Err(Refusal::OtherCluster { own: own.cluster, peer: peer.cluster });
        }
        if self.was_removed(peer.member) {
            return Err(Refusal::Removed(peer.member));
        }
        match self.incarnation(peer.member) {
            Some(known) if known != peer.incarnation => Err(Refusal::OtherDisk(peer.member)),
            _ => Ok(()),
        }
    }
}

/// Why a member is not talked to. The texts are for the administrator of the refused member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Different clusters.
    #[error(
        "cluster ID mismatch: this cluster is {own}, the other member belongs to {peer}; check --initial-cluster \
         and --initial-cluster-token"
    )]
    OtherCluster {
        /// Ours.
        own: ClusterId,
        /// Theirs.
        peer: ClusterId,
    },
    /// The member was removed.
    #[error(
        "member {0} was removed from the cluster and its id never comes back; add it again as a new member with an empty data directory"
    )]
    Removed(MemberId),
    /// The data directory is not the one under which the member is known.
    #[error(
        "member {0} runs on another data directory than the one the cluster knows it by (wiped or replaced): it has \
         lost what it acknowledged and may not vote; remove the member, then add it again as a new one with an \
         empty data directory"
    )]
    OtherDisk(MemberId),
    /// The data directory is older than what the member acknowledged.
    #[error(
        "member {member} has log up to index {has}, but it had acknowledged index {acknowledged}: its data directory \
         was rolled back to an older state and it may not vote; remove the member, then add it again as a new one \
         with an empty data directory"
    )]
    RolledBack {
        /// Which.
        member: MemberId,
        /// Its last log index.
        has: u64,
        /// What the leader counted on.
        acknowledged: u64,
    },
    /// Somebody else is at its address.
    #[error(
        "at an address of member {expected} is member {found}: it took the other's place, and this member has not heard of \
         it yet; if it never does, check the peer URLs of the members"
    )]
    OtherMember {
        /// Who was meant.
        expected: MemberId,
        /// Who answered.
        found: MemberId,
    },
    /// The call carries no identity.
    #[error("the peer does not say who it is; is it a client on the peer port?")]
    Nameless,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::failed_precondition(refusal.to_string())
    }
}

const CLUSTER: &str = "barque-cluster";
const MEMBER: &str = "barque-member";
const INCARNATION: &str = "barque-incarnation";

/// An identity as metadata, made once.
#[derive(Clone, Debug)]
pub struct IdentityMetadata([(&'static str, MetadataValue<Ascii>); 3]);

impl IdentityMetadata {
    /// Encodes it.
    ///
    /// # Panics
    /// Never: hexadecimal digits are valid metadata.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let hex = |number: u64| {
            MetadataValue::try_from(format!("{number:x}")).expect("hexadecimal digits are valid metadata")
        };
        Self([
            (CLUSTER, hex(identity.cluster.0)),
            (MEMBER, hex(identity.member.0)),
            (INCARNATION, hex(identity.incarnation.0)),
        ])
    }

    /// Writes it into a request's or an answer's metadata.
    pub fn insert_into(&self, metadata: &mut MetadataMap) {
        for (name, value) in &self.0 {
            metadata.insert(*name, value.clone());
        }
    }
}

/// Reads the other side's identity.
///
/// # Errors
/// When it is missing or garbled.
pub fn identity_from(metadata: &MetadataMap) -> Result<Identity, Refusal> {
    identity_in(metadata.as_ref())
}

/// As [`identity_from`], from the headers of a call.
///
/// # Errors
/// `Nameless` when they name nobody.
pub fn identity_in(headers: &http::HeaderMap) -> Result<Identity, Refusal> {
    let number = |name: &str| {
        let text = headers.get(name)?.to_str().ok()?;
        u64::from_str_radix(text, 16).ok()
    };
    match (number(CLUSTER), number(MEMBER), number(INCARNATION)) {
        (Some(cluster), Some(member), Some(incarnation)) => Ok(Identity {
            cluster: ClusterId(cluster),
            member: MemberId(member),
            incarnation: Incarnation(incarnation),
        }),
        _ => Err(Refusal::Nameless),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Identity =
        Identity { cluster: ClusterId(1), member: MemberId(10), incarnation: Incarnation(100) };

    fn peer(cluster: u64, member: u64, incarnation: u64) -> Identity {
        Identity {
            cluster: ClusterId(cluster),
            member: MemberId(member),
            incarnation: Incarnation(incarnation),
        }
    }

    #[test]
    fn only_a_known_member_on_its_own_disk_is_welcome() {
        let roster = Roster::default();
        roster.update([(MemberId(11), Incarnation(5))], [MemberId(12)]);
        assert_eq!(roster.check(&OWN, &peer(1, 11, 5)), Ok(()));
        assert_eq!(roster.check(&OWN, &peer(1, 13, 9)), Ok(()), "not yet published");
        assert_eq!(roster.check(&OWN, &peer(1, 11, 6)), Err(Refusal::OtherDisk(MemberId(11))));
        assert_eq!(roster.check(&OWN, &peer(1, 12, 5)), Err(Refusal::Removed(MemberId(12))));
        assert!(matches!(roster.check(&OWN, &peer(2, 11, 5)), Err(Refusal::OtherCluster { .. })));
    }

    #[test]
    fn an_identity_survives_metadata() {
        let mut metadata = MetadataMap::new();
        assert_eq!(identity_from(&metadata), Err(Refusal::Nameless));
        IdentityMetadata::new(&OWN).insert_into(&mut metadata);
        assert_eq!(identity_from(&metadata), Ok(OWN));
    }
}
