//! What is checked for every call before the call itself: whether this member may serve it at all. Plain
//! functions that services call first, so that no call pays for an interceptor.

use barque_proto::etcdserverpb::ResponseHeader;
use tonic::Request;

use super::backend::Backend;
use super::permit::Credentials;
use crate::command::CommandError;
use crate::error::StoreError;
use crate::ids::Revision;

/// Whether a member without a vote serves a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLearner {
    /// Status, serializable ranges, snapshots.
    Serve,
    /// Everything else.
    Refuse,
}

/// What a caller asked for beside its request.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The caller wants to be cut off when this member has no leader (`hasleader: true`).
    pub require_leader: bool,
    /// The call lives on what this member holds, and ends when that turns out to be wrong.
    pub reads_data: bool,
    /// Who the caller says to be.
    pub credentials: Credentials,
}

/// Checks that this member may serve a call.
///
/// # Errors
/// `NotSupportedForLearner`, `InvalidClientApiVersion`, `NoLeader`.
#[inline]
pub fn admit<B: Backend, T>(
    backend: &B,
    request: &Request<T>,
    on_learner: OnLearner,
) -> Result<Admitted, StoreError> {
    if on_learner == OnLearner::Refuse && backend.is_learner() {
        return Err(StoreError::NotSupportedForLearner);
    }
    let metadata = request.metadata();
    if let Some(version) = metadata.get("client-api-version")
        && std::str::from_utf8(version.as_bytes()).is_err()
    {
        return Err(StoreError::InvalidClientApiVersion);
    }
    let require_leader = metadata.get("hasleader").is_some_and(|value| value.as_bytes() == b"true");
    if require_leader && backend.leader().is_none() {
        return Err(StoreError::NoLeader);
    }
    let credentials = Credentials::of(metadata, request.extensions());
    Ok(Admitted { require_leader, reads_data: false, credentials })
}

/// Checks that this member may serve a call that reads or changes what it holds.
///
/// # Errors
/// As [`admit`]; `Corrupt`.
#[inline]
pub fn admit_to_data<B: Backend, T>(
    backend: &B,
    request: &Request<T>,
    on_learner: OnLearner,
) -> Result<Admitted, StoreError> {
    let admitted = admit(backend, request, on_learner)?;
    if backend.is_corrupt() {
        return Err(CommandError::Corrupt.into());
    }
    Ok(Admitted { reads_data: true, ..admitted })
}

/// The header of an answer.
#[inline]
pub fn header<B: Backend>(backend: &B, revision: Revision) -> ResponseHeader {
    let identity = backend.identity();
    ResponseHeader {
        cluster_id: identity.cluster.0,
        member_id: identity.member.0,
        revision: revision.0,
        raft_term: backend.raft_term(),
    }
}
