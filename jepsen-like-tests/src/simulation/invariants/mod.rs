//! What must hold in every cluster at every moment, whatever happens to it: one file for each property, named after it.
//!
//! They judge what is seen from outside and what clients were told. They must never ask a member what it thinks of itself
//! being right.

pub mod committed_is_durable;
pub mod committed_on_quorum;
pub mod election_safety;
pub mod leader_completeness;
pub mod lease_not_early;
pub mod log_matching;
pub mod revision_never_goes_back;
pub mod state_machine_safety;
pub mod watch_guarantees;
