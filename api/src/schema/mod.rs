//! What objects of a kind look like: one structural model for built-in and for custom kinds. The model only says; the
//! modules beside it check, prune and default by it. Must never know a kind by name, but for `builtin`.

mod builtin;
mod default;
mod embedded;
mod facts;
mod format;
mod json;
mod kinds;
mod lists;
mod model;
mod old;
mod parse;
pub(crate) mod pattern;
#[cfg(test)]
mod properties;
mod prune;
mod read;
mod resource_metrics;
mod validate;
mod write;

pub use builtin::BuiltinSchemas;
pub use default::{default, drop_nulls};
pub use embedded::validate_embedded;
pub(crate) use format::{duration_nanos, fits, go_duration_nanos};
pub use json::{Document, read_document};
pub use lists::validate_lists;
pub use model::{Definitions, ListType, MapType, PatchStrategy, Rule, Schema, SchemaRef, Type, View};
pub(crate) use old::{old_field, old_item};
pub(crate) use parse::field_at;
pub use parse::parse;
pub use prune::{Place, prune, strict_decoding_error, strict_decoding_warnings};
pub use read::{Texts, read};
pub use validate::{Extent, validate, validate_update};
pub use write::{Dialect, write, write_ref};
