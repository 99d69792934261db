//! The API server: Kubernetes' REST interface over the cluster's store.

pub mod discovery;
pub mod http;
