//! The node API: what the kubelet serves on port 10250. Logs, exec, attach, port-forward, statistics and metrics of the pods of
//! one node, to those whom the API servers know and allow. Must never change a pod, nor answer who was not let in.
//!
//! [`server`] takes connections ([`tls`], [`certificate`]), [`handler`] answers one request: [`authentication`] and
//! [`authorization`] with the [`reviews`] of API servers, then [`routes`]. [`containers`] is what it needs of those who run pods;
//! [`run`] joins streams, [`logs`] and [`stats`] are what their names say.

mod authentication;
pub mod authorization;
mod certificate;
pub mod config;
pub mod containers;
mod expiring;
pub(crate) mod handler;
mod logs;
pub mod reviews;
mod routes;
pub(crate) mod run;
pub mod server;
pub mod stats;
pub mod tls;
mod volumes;

#[cfg(test)]
mod tests;
