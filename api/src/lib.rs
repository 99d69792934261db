//! The object model of a Kubernetes-compatible cluster: which resources there are, what their objects look like, how they
//! are named, selected, compared and changed. Pure code: must never do I/O, read a clock, or know who serves or uses it.
//!
//! An object is a [`serde_json::Value`] (built-in and custom kinds alike); what a kind is follows from data: a row in
//! [`resources`] and a [`schema`].

pub mod cel;
pub mod custom_schema;
pub mod field;
pub mod kind;
pub mod openapi;
pub mod resources;
pub mod schema;
pub mod status;
