//! The node agent: pods that were bound to its nodes run, and the cluster is told how they are. Must never know the store,
//! or how the API servers work.
//!
//! [`pods`] has the plan of a pod and its worker, [`node`] what a node tells of itself, [`runtime`] what runs containers;
//! [`containers`] says what a container is made of, [`references`] follows what pods name, [`volumes`] has their directories, and
//! [`node_api`] is what a node is asked for; [`static_pods`] come from files; [`eviction`] ends some when the node is short of
//! something; [`agent`] puts them together.

pub mod agent;
pub mod check;
pub mod cleanup;
pub mod clock;
pub mod config;
pub mod container_node;
pub mod containers;
mod error_story;
pub mod eviction;
pub mod fan_out;
pub mod handlers;
mod image_collection;
mod limit;
mod links;
mod machine;
pub mod metrics;
mod names_and_services;
pub mod node;
pub mod node_api;
pub mod node_shutdown;
pub mod pod_api;
pub mod pod_network;
pub mod pods;
pub mod references;
pub mod runtime;
mod serve;
pub mod static_pods;
pub mod tell;
pub mod volumes;
