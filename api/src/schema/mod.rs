//! What objects of a kind look like: one structural model for built-in and for custom kinds. The model only says; the
//! modules beside it check, prune and default by it. Must never know a kind by name.

mod model;

pub use model::{Definitions, ListType, MapType, PatchStrategy, Rule, Schema, SchemaRef, Type, View};
