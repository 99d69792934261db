//! The rows of the answers that are lists of members or endpoints: shared by the simple format and the tables.

use barque_proto::etcdserverpb as pb;

use super::size::humanize;
use super::{EndpointHash, EndpointHealth, EndpointStatus};

pub(super) const MEMBERS: &[&str] = &["ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner"];

pub(super) const HEALTH: &[&str] = &["endpoint", "health", "took", "error"];

pub(super) const STATUS: &[&str] = &[
    "endpoint",
    "ID",
    "version",
    "storage version",
    "db size",
    "in use",
    "percentage not in use",
    "quota",
    "is leader",
    "is learner",
    "raft term",
    "raft index",
    "raft applied index",
    "errors",
    "downgrade target version",
    "downgrade enabled",
];

pub(super) const HASHES: &[&str] = &["endpoint", "hash", "hash_revision"];

pub(super) fn members(response: &pb::MemberListResponse) -> Vec<Vec<String>> {
    let row = |member: &pb::Member| {
        vec![
            format!("{:x}", member.id),
            if member.name.is_empty() { "unstarted" } else { "started" }.to_owned(),
            member.name.clone(),
            member.peer_ur_ls.join(","),
            member.client_ur_ls.join(","),
            member.is_learner.to_string(),
        ]
    };
    response.members.iter().map(row).collect()
}

pub(super) fn health(endpoints: &[EndpointHealth]) -> Vec<Vec<String>> {
    let row = |one: &EndpointHealth| {
        vec![one.endpoint.clone(), one.healthy().to_string(), one.took.clone(), one.error.clone()]
    };
    endpoints.iter().map(row).collect()
}

pub(super) fn status(endpoints: &[EndpointStatus]) -> Vec<Vec<String>> {
    let row = |one: &EndpointStatus| {
        let status = &one.response;
        let member_id = status.header.as_ref().map_or(0, |header| header.member_id);
        let downgrade = status.downgrade_info.clone().unwrap_or_default();
        vec![
            one.endpoint.clone(),
            format!("{member_id:x}"),
            status.version.clone(),
            status.storage_version.clone(),
            bytes(status.db_size),
            bytes(status.db_size_in_use),
            format!("{}%", not_in_use_percent(status)),
            bytes(status.db_size_quota),
            (status.leader == member_id).to_string(),
            status.is_learner.to_string(),
            status.raft_term.to_string(),
            status.raft_index.to_string(),
            status.raft_applied_index.to_string(),
            status.errors.join(", "),
            downgrade.target_version,
            downgrade.enabled.to_string(),
        ]
    };
    endpoints.iter().map(row).collect()
}

fn bytes(size: i64) -> String {
    humanize(size.try_into().unwrap_or(0))
}

fn not_in_use_percent(status: &pb::StatusResponse) -> i64 {
    let used = status.db_size_in_use.saturating_mul(100);
    100 - used.checked_div(status.db_size).unwrap_or(0)
}

pub(super) fn hashes(endpoints: &[EndpointHash]) -> Vec<Vec<String>> {
    let row = |one: &EndpointHash| {
        vec![one.endpoint.clone(), one.response.hash.to_string(), one.response.hash_revision.to_string()]
    };
    endpoints.iter().map(row).collect()
}
