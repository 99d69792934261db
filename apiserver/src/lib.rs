//! The API server: Kubernetes' REST interface over the cluster's store.

pub mod authorization;
pub mod defaults;
pub mod discovery;
pub mod http;
pub mod registry;
pub mod table;
