//! The REST front: what requests mean and in which form they are answered. Must never know how objects are stored.

pub mod answer;
pub mod auditing;
pub mod body;
pub mod component_statuses;
pub mod compression;
pub mod documents;
pub mod handler;
pub mod health;
pub mod negotiation;
pub mod parameters;
pub mod request_info;
pub mod reviews;
pub mod serve;
pub mod subresources;
pub mod verbs;
pub mod views;
pub mod watches;
