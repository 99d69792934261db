//! Raft's values in the form in which members send them to each other, and back.
//!
//! Conversions only. What a peer sends is checked here: a message with a missing part is an error, never
//! a default.

use barque_proto::peer as wire;
use bytes::Bytes;
use openraft::alias::{CommittedLeaderIdOf, LeaderIdOf};
use openraft::entry::RaftEntry as _;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::vote::RaftVote as _;
use openraft::{EntryPayload, RaftTypeConfig};

use super::types::{Batch, Entry, LogId, Membership, StoredMembership, TypeConfig, Vote, log_id};

/// A peer sent something that this member does not understand.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A part that must be there is missing.
    #[error("the peer's message lacks {0}")]
    Missing(&'static str),
    /// A membership cannot be read.
    #[error("a membership cannot be decoded")]
    Membership(#[source] bincode::error::DecodeError),
    /// A membership was written by a newer version.
    #[error("a membership has format {0}, which this version does not know")]
    MembershipFormat(u8),
}

const MEMBERSHIP_FORMAT: u8 = 1;

/// A membership as bytes, for log, snapshots and wire.
///
/// # Panics
/// Never: a membership is made of numbers, maps and strings.
#[must_use]
pub fn encode_membership(membership: &Membership) -> Vec<u8> {
    encode_versioned(membership)
}

/// The inverse of [`encode_membership`].
///
/// # Errors
/// When the bytes are damaged or newer than this version.
pub fn decode_membership(bytes: &[u8]) -> Result<Membership, CodecError> {
    decode_versioned(bytes)
}

/// A membership with the log id at which it was written.
#[must_use]
pub fn encode_stored_membership(membership: &StoredMembership) -> Vec<u8> {
    encode_versioned(membership)
}

/// The inverse of [`encode_stored_membership`]; no bytes mean "no membership yet".
///
/// # Errors
/// When the bytes are damaged or newer than this version.
pub fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, CodecError> {
    if bytes.is_empty() { Ok(StoredMembership::default()) } else { decode_versioned(bytes) }
}

fn encode_versioned<T: serde::Serialize>(value: &T) -> Vec<u8> {
    let mut out = vec![MEMBERSHIP_FORMAT];
    bincode::serde::encode_into_std_write(value, &mut out, bincode::config::standard())
        .expect("a membership is numbers, maps and strings, and memory takes every byte");
    out
}

fn decode_versioned<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&format, rest) = bytes.split_first().ok_or(CodecError::Missing("a membership"))?;
    if format != MEMBERSHIP_FORMAT {
        return Err(CodecError::MembershipFormat(format));
    }
    bincode::serde::decode_from_slice(rest, bincode::config::standard())
        .map(|(value, _)| value)
        .map_err(CodecError::Membership)
}

/// To the wire.
#[must_use]
pub fn log_id_to_wire(id: &LogId) -> wire::LogId {
    wire::LogId { term: **id.committed_leader_id(), index: id.index() }
}

/// From the wire.
#[must_use]
pub fn log_id_from_wire(id: &wire::LogId) -> LogId {
    log_id(id.term, id.index)
}

/// To the wire.
#[must_use]
pub fn vote_to_wire(vote: &Vote) -> wire::Vote {
    let leader = vote.leader_id();
    wire::Vote { term: leader.term, voted_for: leader.voted_for, committed: vote.is_committed() }
}

/// From the wire.
///
/// # Errors
/// When there is none.
pub fn vote_from_wire(vote: Option<&wire::Vote>) -> Result<Vote, CodecError> {
    let vote = vote.ok_or(CodecError::Missing("a vote"))?;
    let leader = LeaderIdOf::<TypeConfig> { term: vote.term, voted_for: vote.voted_for };
    Ok(Vote::from_leader_id(leader, vote.committed))
}

fn entry_to_wire(entry: Entry) -> wire::Entry {
    let log_id = Some(log_id_to_wire(&entry.log_id()));
    let payload = match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(batch) => Some(wire::entry::Payload::Commands(batch.0)),
        EntryPayload::Membership(membership) => {
            Some(wire::entry::Payload::Membership(Bytes::from(encode_membership(&membership))))
        }
    };
    wire::Entry { log_id, payload }
}

fn entry_from_wire(entry: wire::Entry) -> Result<Entry, CodecError> {
    let log_id = log_id_from_wire(entry.log_id.as_ref().ok_or(CodecError::Missing("an entry's log id"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(wire::entry::Payload::Commands(bytes)) => EntryPayload::Normal(Batch(bytes)),
        Some(wire::entry::Payload::Membership(bytes)) => EntryPayload::Membership(decode_membership(&bytes)?),
    };
    Ok(Entry::new(log_id, payload))
}

/// To the wire.
#[must_use]
pub fn append_to_wire(request: AppendEntriesRequest<TypeConfig>) -> wire::AppendRequest {
    wire::AppendRequest {
        vote: Some(vote_to_wire(&request.vote)),
        prev_log_id: request.prev_log_id.as_ref().map(log_id_to_wire),
        entries: request.entries.into_iter().map(entry_to_wire).collect(),
        leader_commit: request.leader_commit.as_ref().map(log_id_to_wire),
    }
}

/// From the wire.
///
/// # Errors
/// When a part is missing or unreadable.
pub fn append_from_wire(
    request: wire::AppendRequest,
) -> Result<AppendEntriesRequest<TypeConfig>, CodecError> {
    Ok(AppendEntriesRequest {
        vote: vote_from_wire(request.vote.as_ref())?,
        prev_log_id: request.prev_log_id.as_ref().map(log_id_from_wire),
        entries: request.entries.into_iter().map(entry_from_wire).collect::<Result<_, _>>()?,
        leader_commit: request.leader_commit.as_ref().map(log_id_from_wire),
    })
}

/// To the wire.
#[must_use]
pub fn append_result_to_wire(result: &StreamAppendResult<TypeConfig>) -> wire::AppendReply {
    use wire::append_reply::Result as Reply;
    let result = match result {
        Ok(matched) => Reply::Matched(wire::Matched { log_id: matched.as_ref().map(log_id_to_wire) }),
        Err(StreamAppendError::Conflict(at)) => Reply::Conflict(log_id_to_wire(at)),
        Err(StreamAppendError::HigherVote(vote)) => Reply::HigherVote(vote_to_wire(vote)),
    };
    wire::AppendReply { result: Some(result) }
}

/// From the wire.
///
/// # Errors
/// When a part is missing.
pub fn append_result_from_wire(
    reply: &wire::AppendReply,
) -> Result<StreamAppendResult<TypeConfig>, CodecError> {
    use wire::append_reply::Result as Reply;
    match reply.result.as_ref().ok_or(CodecError::Missing("the result of an append"))? {
        Reply::Matched(matched) => Ok(Ok(matched.log_id.as_ref().map(log_id_from_wire))),
        Reply::Conflict(at) => Ok(Err(StreamAppendError::Conflict(log_id_from_wire(at)))),
        Reply::HigherVote(vote) => Ok(Err(StreamAppendError::HigherVote(vote_from_wire(Some(vote))?))),
    }
}

/// To the wire.
#[must_use]
pub fn vote_request_to_wire(request: &VoteRequest<TypeConfig>, pre_vote: bool) -> wire::VoteRequest {
    wire::VoteRequest {
        vote: Some(vote_to_wire(&request.vote)),
        last_log_id: request.last_log_id.as_ref().map(log_id_to_wire),
        leadership_transfer: request.leadership_transfer,
        pre_vote,
    }
}

/// From the wire.
///
/// # Errors
/// When a part is missing.
pub fn vote_request_from_wire(request: &wire::VoteRequest) -> Result<VoteRequest<TypeConfig>, CodecError> {
    let mut vote = VoteRequest::new(
        vote_from_wire(request.vote.as_ref())?,
        request.last_log_id.as_ref().map(log_id_from_wire),
    );
    vote.leadership_transfer = request.leadership_transfer;
    Ok(vote)
}

/// To the wire.
#[must_use]
pub fn vote_reply_to_wire(reply: &VoteResponse<TypeConfig>) -> wire::VoteReply {
    wire::VoteReply {
        vote: Some(vote_to_wire(&reply.vote)),
        last_log_id: reply.last_log_id.as_ref().map(log_id_to_wire),
        granted: reply.vote_granted,
    }
}

/// From the wire.
///
/// # Errors
/// When a part is missing.
pub fn vote_reply_from_wire(reply: &wire::VoteReply) -> Result<VoteResponse<TypeConfig>, CodecError> {
    let vote = vote_from_wire(reply.vote.as_ref())?;
    Ok(VoteResponse::new(vote, reply.last_log_id.as_ref().map(log_id_from_wire), reply.granted))
}

/// From the wire.
///
/// # Errors
/// When a part is missing.
pub fn transfer_request_from_wire(
    request: &wire::TransferLeaderRequest,
) -> Result<TransferLeaderRequest<TypeConfig>, CodecError> {
    Ok(TransferLeaderRequest::new(
        vote_from_wire(request.from_leader.as_ref())?,
        request.to,
        request.last_log_id.as_ref().map(log_id_from_wire),
    ))
}

/// To the wire.
#[must_use]
pub fn transfer_reply_to_wire(reply: &TransferLeaderResponse<TypeConfig>) -> wire::TransferLeaderReply {
    wire::TransferLeaderReply { body: Bytes::from(encode_versioned(reply)) }
}

/// From the wire.
///
/// # Errors
/// When it cannot be read.
pub fn transfer_reply_from_wire(
    reply: &wire::TransferLeaderReply,
) -> Result<TransferLeaderResponse<TypeConfig>, CodecError> {
    decode_versioned(&reply.body)
}

/// The leader of a term, as a write that must only be accepted in this term names it.
#[must_use]
pub fn leader_of_term(term: u64) -> CommittedLeaderIdOf<TypeConfig> {
    <<TypeConfig as RaftTypeConfig>::LeaderId as openraft::vote::RaftLeaderId>::Committed::new(term)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::raft::types::PeerNode;

    #[test]
    fn an_append_survives_the_wire() {
        let node = PeerNode { peer_urls: vec!["http://127.0.0.1:2380".into()], vote_when_ready: false };
        let membership = Membership::new(vec![BTreeSet::from([7])], BTreeMap::from([(7, node)])).unwrap();
        let request = AppendEntriesRequest::<TypeConfig> {
            vote: Vote::new_committed(3, 7),
            prev_log_id: Some(log_id(2, 4)),
            entries: vec![
                Entry::new(log_id(3, 5), EntryPayload::Blank),
                Entry::new(log_id(3, 6), EntryPayload::Normal(Batch(Bytes::from_static(b"x")))),
                Entry::new(log_id(3, 7), EntryPayload::Membership(membership)),
            ],
            leader_commit: None,
        };
        let back = append_from_wire(append_to_wire(request.clone())).unwrap();
        assert_eq!(format!("{request:?}"), format!("{back:?}"));
    }

    #[test]
    fn a_message_without_a_vote_is_refused() {
        let error = append_from_wire(wire::AppendRequest::default()).unwrap_err();
        assert_eq!(error.to_string(), "the peer's message lacks a vote");
    }
}
