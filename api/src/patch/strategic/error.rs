//! Why a strategic merge patch cannot be applied, in the sentences of Kubernetes.

use serde_json::{Map, Value};

use crate::go_text;
use crate::status::{Reason, Status};

/// A strategic merge patch that is wrong in itself or does not fit the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StrategicPatchError {
    /// The patch is not an object.
    #[error("invalid JSON document")]
    NotAnObject,
    /// `$deleteFromPrimitiveList` without the name of a list.
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    /// `$retainKeys` is no list, or does not name a field that the patch sets.
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    /// `$setElementOrder` without the name of a list, or beside what is no list.
    #[error("invalid patch format of setElementOrder list")]
    SetElementOrder,
    /// The items are lists themselves.
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// An item cannot be told from others.
    #[error("map: {map} does not contain declared merge key: {key}")]
    NoMergeKey {
        /// The item, as text.
        map: String,
        /// The field that it should have.
        key: String,
    },
    /// A value of the wrong type.
    #[error("expected a {expected}, but received a {received}")]
    WrongType {
        /// In Go's words.
        expected: &'static str,
        /// In Go's words.
        received: &'static str,
    },
    /// `$patch` says what nobody knows.
    #[error("unknown patch type: {directive} in map: {map}")]
    Directive {
        /// What it says.
        directive: String,
        /// What it stands in, as text.
        map: String,
    },
    /// `$patch: merge` in an item.
    #[error("merging lists cannot yet be specified in the patch")]
    MergeOfLists,
    /// Objects in a list of which nobody knows how to tell them apart.
    #[error("cannot merge lists without merge key for {0}")]
    NoMergeKeyDeclared(&'static str),
    /// Items of several types.
    #[error("list element types are not identical: {0}")]
    MixedItems(String),
    /// An item that is no object, where objects were expected.
    #[error("value for key {0} is not a map")]
    ItemNotAnObject(usize),
    /// `$setElementOrder` and the list contradict each other.
    #[error("The order in patch list:\n{patch}\n doesn't match $setElementOrder list:\n{order}\n")]
    OrderMismatch {
        /// The list, as text.
        patch: String,
        /// The order, as text.
        order: String,
    },
}

impl StrategicPatchError {
    /// What the client is told. Kubernetes has no code of its own for what does not fit the object and answers 500; the
    /// mistake is the client's, so that it is 400 here.
    #[must_use]
    pub fn status(&self) -> Status {
        match self {
            Self::ListOfLists => {
                Status::new(Reason::Invalid, "the server rejected our request due to an error in our request")
                    .because("FieldValueInvalid", self.to_string(), "patch")
            }
            other => Status::new(Reason::BadRequest, other.to_string()),
        }
    }

    pub(super) fn no_merge_key(map: &Map<String, Value>, key: &str) -> Self {
        Self::NoMergeKey { map: printed(map), key: key.to_owned() }
    }

    pub(super) fn not_a_list(found: &Value) -> Self {
        Self::WrongType { expected: "[]interface {}", received: go_text::type_name(found) }
    }

    pub(super) fn not_an_object(found: &Value) -> Self {
        Self::WrongType { expected: "map[string]interface {}", received: go_text::type_name(found) }
    }

    pub(super) fn directive(directive: &Value, map: &Map<String, Value>) -> Self {
        let directive = match directive {
            Value::String(text) => text.clone(),
            other => format!("%!s({}={})", go_text::type_name(other), go_text::printed(other)),
        };
        Self::Directive { directive, map: printed(map) }
    }
}

fn printed(map: &Map<String, Value>) -> String {
    go_text::printed(&Value::Object(map.clone()))
}
