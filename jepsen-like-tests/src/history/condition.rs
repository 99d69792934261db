//! Conditions of transactions, and what of a range is told.

use serde::{Deserialize, Serialize};

use super::data::Span;

/// What of a key a transaction compares, and with what.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The value; whatever the relation, false for a key that is not there.
    Value(String),
    /// How often it was written since it was created; 0 for a key that is not there.
    Version(i64),
    /// The revision of its last change; 0 for a key that is not there.
    ModRevision(i64),
    /// The revision that created it; 0 for a key that is not there.
    CreateRevision(i64),
    /// The lease it hangs on; 0 for none, and for a key that is not there.
    Lease(i64),
}

/// How what a key has must stand to the target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Relation {
    /// The same.
    #[default]
    Equal,
    /// Another.
    NotEqual,
    /// More, or later in the order of bytes.
    Greater,
    /// Less, or earlier in the order of bytes.
    Less,
}

impl Relation {
    /// Whether it holds between what there is and what was named.
    #[must_use]
    pub fn holds<T: Ord + ?Sized>(self, is: &T, named: &T) -> bool {
        match self {
            Self::Equal => is == named,
            Self::NotEqual => is != named,
            Self::Greater => is > named,
            Self::Less => is < named,
        }
    }

    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compare {
    /// The keys, each of which must fulfil it.
    #[serde(flatten)]
    pub span: Span,
    /// How they must stand to the target.
    #[serde(default, skip_serializing_if = "Relation::is_default")]
    pub relation: Relation,
    /// What is looked at, and with what it is compared.
    pub target: Target,
}

impl Compare {
    /// One key must have exactly this.
    #[must_use]
    pub fn equal(key: impl Into<String>, target: Target) -> Self {
        Self { span: Span::one(key), relation: Relation::Equal, target }
    }
}

/// By what the keys of a range are sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// The key itself.
    Key,
    /// How often it was written.
    Version,
    /// The revision that created it.
    CreateRevision,
    /// The revision of its last change.
    ModRevision,
    /// The value.
    Value,
}

/// The order of a range's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// Whether the highest comes first.
    pub descending: bool,
}

/// What of a range's keys is told, in which order; by default all of them and all of each, in the order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// The order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sort: Option<Sort>,
    /// No keys that changed earlier; 0 for no such bound.
    pub min_mod_revision: i64,
    /// No keys that changed later; 0 for no such bound.
    pub max_mod_revision: i64,
    /// No keys that were created earlier; 0 for no such bound.
    pub min_create_revision: i64,
    /// No keys that were created later; 0 for no such bound.
    pub max_create_revision: i64,
    /// Without values.
    pub keys_only: bool,
    /// Only how many there are.
    pub count_only: bool,
}

impl Selection {
    /// Whether it is the whole range in the order of keys.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}
