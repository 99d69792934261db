//! The types that openraft is instantiated with.

use std::fmt;

use bytes::Bytes;
use openraft::alias::CommittedLeaderIdOf;
use serde::{Deserialize, Serialize};

/// Standard Raft: one leader per term, as etcd's clients expect of `raft_term`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TypeConfig;

impl openraft::RaftTypeConfig for TypeConfig {
    type D = Batch;
    type R = ();
    type NodeId = u64;
    type Node = PeerNode;
    type Term = u64;
    type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Batch, u64, PeerNode>;
    type Entry = openraft::Entry<CommittedLeaderIdOf<Self>, Self::Payload>;
    type AsyncRuntime = openraft_rt_tokio::TokioRuntime;
    type Responder<T>
        = Callback<T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

/// Called once with the fate of a proposal.
pub struct Callback<T>(Box<dyn FnOnce(T) + Send + Sync>);

impl<T> Callback<T> {
    /// Calls `then` from Raft's own task: it must not block.
    pub fn new(then: impl FnOnce(T) + Send + Sync + 'static) -> Self {
        Self(Box::new(then))
    }
}

impl<T: Send + 'static> openraft::raft::responder::Responder<TypeConfig, T> for Callback<T> {
    fn on_complete(self, result: T) {
        (self.0)(result);
    }
}

/// A log position.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// A vote.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A log entry.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// A membership with its log position.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// A membership.
pub type Membership = openraft::Membership<u64, PeerNode>;

/// What Raft knows of a member: where the other members reach it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerNode {
    /// `https://host:2380`, at least one.
    pub peer_urls: Vec<String>,
    /// A learner that becomes a voter by itself once it has caught up.
    pub vote_when_ready: bool,
}

impl fmt::Display for PeerNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.peer_urls.join(","))
    }
}

/// The payload of a log entry: an encoded batch of commands. To Raft these are opaque, shared bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch(pub Bytes);

impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A committed leader as openraft names it: with one leader per term, the term.
pub type CommittedLeaderId = CommittedLeaderIdOf<TypeConfig>;

/// A log id from its numbers.
#[must_use]
pub fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(CommittedLeaderId::new(term), index)
}
