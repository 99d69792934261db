//! The API server: what stands between the clients of a cluster and its store. Must never know controllers, scheduler or
//! agent.
//!
//! [`storage`] is the narrow waist over the store; [`watch_cache`] serves lists and watches without asking it.

pub mod admission;
pub mod aggregation;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod bootstrap;
pub mod clock;
pub mod config;
pub mod custom_resources;
pub mod defaults;
mod dial;
pub mod discovery;
pub mod flow_control;
pub mod http;
pub mod keeper;
pub mod metrics;
mod pod_references;
pub mod registry;
pub mod relay;
pub mod resource_metrics;
pub mod rights;
pub mod server;
pub mod storage;
pub mod streaming;
pub mod table;
pub mod ui;
pub mod validation;
pub mod watch_cache;
pub mod webhook_client;

#[cfg(test)]
mod test_parts;
#[cfg(test)]
mod test_webhook;
