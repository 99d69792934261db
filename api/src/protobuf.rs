//! Built-in kinds in Kubernetes' protobuf: objects to bytes and back, as Go's clients and servers write them, driven by a
//! table of messages. Must never guess the shape of a kind that is not in the table (custom kinds have none).
//!
//! An object travels in an [`Envelope`] that says its kind; items of lists and the fields of objects travel without. An
//! object is encoded once: a watch event ([`watch_frame`]) and a list ([`encode_list`]) are made of what is encoded.

mod decode;
mod encode;
mod envelope;
mod list;
#[cfg(test)]
mod round_trip;
mod table;
mod wire;

use std::fmt;

use crate::field::FieldPath;

pub use envelope::{Envelope, MAGIC, decode_object, encode_object, watch_frame};
pub use list::encode_list;
pub use table::{Message, Messages};

/// How deep messages may be nested in each other. Only schemas in schemas nest at will.
const MAX_DEPTH: usize = 120;

/// An object that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A field has a value that its type has not.
    #[error("{}: {why}", told(.path))]
    Field {
        /// Where.
        path: FieldPath,
        /// What is wrong.
        why: String,
    },
    /// It has no `apiVersion` and `kind`, or there is no protobuf for them.
    #[error("no protobuf is defined for kind {kind:?} of apiVersion {api_version:?}; use JSON")]
    Kind {
        /// The field `apiVersion`.
        api_version: String,
        /// The field `kind`.
        kind: String,
    },
}

/// Bytes that are no object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// They do not begin as they must.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    NoMagic,
    /// They are damaged or cut off.
    #[error("proto: {message}: {why}")]
    Wire {
        /// The message that is damaged.
        message: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A field has a value that cannot be told in JSON.
    #[error("proto: {message}.{field}: {why}")]
    Field {
        /// The message.
        message: String,
        /// The field.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// Nobody said what it is, or there is no protobuf for it.
    #[error("no protobuf is defined for kind {kind:?} of apiVersion {api_version:?}")]
    Kind {
        /// The field `apiVersion`.
        api_version: String,
        /// The field `kind`.
        kind: String,
    },
    /// Messages are nested too deep, or leave out so much that they would become far larger than they are.
    #[error("proto: the message is nested too deep or leaves out too much")]
    TooMuch,
}

fn told(path: &FieldPath) -> String {
    if *path == FieldPath::root() { "the object".to_owned() } else { path.to_string() }
}

/// What is wrong inside a message, and the way there, from the inside out.
struct Wrong {
    why: String,
    steps: Vec<Step>,
}

enum Step {
    Field(Box<str>),
    Index(usize),
    Key(String),
}

impl Wrong {
    fn new(why: impl fmt::Display) -> Self {
        Self { why: why.to_string(), steps: Vec::new() }
    }

    fn at(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn into_error(self) -> EncodeError {
        let path = self.steps.iter().rev().fold(FieldPath::root(), |path, step| match step {
            Step::Field(name) => path.child(name),
            Step::Index(index) => path.index(*index),
            Step::Key(key) => path.key(key),
        });
        EncodeError::Field { path, why: self.why }
    }
}
