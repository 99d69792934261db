//! The object model of a Kubernetes-compatible cluster: which resources there are, what their objects look like, how they
//! are named, selected, compared and changed. Pure code: must never do I/O, read a clock, or know who serves or uses it.
//!
//! An object is a [`serde_json::Value`] (built-in and custom kinds alike); what a kind is follows from data: a row in
//! [`resources`] and a [`schema`].

pub mod cel;
pub mod certificate_bundle;
pub mod custom_schema;
pub mod field;
pub mod field_selector;
pub mod go_text;
pub mod int_or_string;
pub mod ip;
pub mod json_path;
pub mod kind;
pub mod labels;
pub mod managed_fields;
pub mod metadata;
pub mod names;
pub mod node_certificate;
pub mod openapi;
pub mod patch;
pub mod pointer;
pub mod protobuf;
pub mod quantity;
pub mod quota;
pub mod resource_version;
pub mod resources;
pub mod schema;
pub mod status;
pub mod time;

#[cfg(test)]
mod test_schema;
