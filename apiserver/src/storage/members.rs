//! The members of a store, for people to look at: what each one said of itself, or why nothing is known of it. Values only; must
//! never ask anybody.

use super::Revision;

/// A member, as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreMember {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it started once.
    pub name: String,
    /// Where clients reach it; none until it started once.
    pub client_urls: Vec<String>,
    /// Whether it has no vote yet.
    pub is_learner: bool,
    /// What it said; why it said nothing otherwise.
    pub report: Result<MemberReport, String>,
}

/// What a member says of itself (etcd's `Maintenance.Status`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberReport {
    /// Who leads, as far as it knows; 0 for nobody.
    pub leader: u64,
    /// Raft's term.
    pub term: u64,
    /// The last revision that it knows.
    pub revision: Revision,
    /// The last entry of the log that it knows to be committed.
    pub committed_index: u64,
    /// The last entry of the log that it has executed.
    pub applied_index: u64,
    /// What its data takes, in bytes.
    pub size_bytes: u64,
    /// The version of etcd's API that it serves.
    pub version: String,
    /// What it complains of: that there is no leader, alarms.
    pub errors: Vec<String>,
}
