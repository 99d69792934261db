//! The controller manager: brings what is in line with what objects ask for. Each controller observes through caches that
//! watches feed, plans in pure functions, and acts over the API. Must never know the API server's insides or the store.
//!
//! How one is added: `controllers/src/registry.rs` says it.

mod act;
mod autoscaler;
mod bootstrap_tokens;
mod cache;
mod certificates;
mod clock;
mod cluster_role_aggregation;
pub mod config;
mod controller;
mod controller_manager;
mod cron_job;
mod daemon_set;
mod deployment;
mod discovery;
mod disruption;
mod endpoint_mirror;
mod endpoint_slice;
mod endpoints;
mod expectations;
mod garbage_collector;
mod hash;
mod history;
mod job;
mod kind;
mod label_selector_text;
mod load_balancer;
mod metadata_watch;
pub mod metrics;
mod namespace;
mod namespace_content;
mod node_ipam;
mod node_lifecycle;
mod node_ttl;
mod owners;
mod plan;
mod pod_gc;
mod pods;
mod question;
mod queue;
mod reconcile;
pub mod registry;
mod replica_set;
mod resource_quota;
mod root_certificates;
mod scale;
mod service_account_token;
mod service_cidr;
mod services;
mod settings;
mod signing_key;
#[cfg(test)]
mod simulation;
mod stateful_set;
mod taint_eviction;
mod ttl_after_finished;
mod volumes;

pub use certificates::AuthorityError;
pub use controller_manager::{ManagerError, run};
