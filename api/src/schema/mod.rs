//! What objects of a kind look like: one structural model for built-in and for custom kinds. The model only says; the
//! modules beside it check, prune and default by it. Must never know a kind by name, but for `builtin`.

mod builtin;
mod facts;
mod kinds;
mod model;
mod read;
mod write;

pub use builtin::BuiltinSchemas;
pub use model::{Definitions, ListType, MapType, PatchStrategy, Rule, Schema, SchemaRef, Type, View};
pub use read::{Texts, read};
pub use write::{Dialect, write, write_ref};
