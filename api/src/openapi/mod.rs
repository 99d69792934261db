//! What clients read about the API: OpenAPI documents of all collections with their schemas, built-in and custom alike.
//! Must never know how documents are asked for, compressed or kept.

mod custom;
mod gnostic;
mod parameters;
mod routes;
mod source;
#[cfg(test)]
mod tests;
pub mod v2;
pub mod v3;

pub use source::Source;
