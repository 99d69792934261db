//! What clients ask, and what they are told.

use serde::{Deserialize, Serialize};

use super::condition::{Compare, Selection};
use super::data::{KeyValue, Span};

/// A request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// A read.
    Range {
        /// Which keys.
        span: Span,
        /// At most so many; 0 for all.
        limit: i64,
        /// At which revision; 0 for the present one.
        revision: i64,
        /// Whether the member may answer from what it has.
        serializable: bool,
        /// What of them is told.
        #[serde(default, skip_serializing_if = "Selection::is_everything")]
        selection: Selection,
    },
    /// A write of one key.
    Put {
        /// The key.
        key: String,
        /// Its new value.
        value: String,
        /// The lease it shall hang on; 0 for none.
        lease: i64,
    },
    /// A deletion.
    Delete {
        /// Which keys.
        span: Span,
    },
    /// A transaction.
    Txn {
        /// Conditions, all of which must hold.
        compares: Vec<Compare>,
        /// What is done if they hold.
        then: Vec<Request>,
        /// What is done if not.
        otherwise: Vec<Request>,
    },
    /// A new lease.
    LeaseGrant {
        /// Its id.
        id: i64,
        /// How long it shall live.
        ttl_s: i64,
    },
    /// A renewal.
    LeaseKeepAlive {
        /// The lease.
        id: i64,
    },
    /// The end of a lease.
    LeaseRevoke {
        /// The lease.
        id: i64,
    },
    /// A compaction.
    Compact {
        /// Up to where.
        revision: i64,
    },
    /// Guests get their role.
    AuthGrant,
    /// Guests lose their role.
    AuthRevoke,
    /// Rights are asked for from now on.
    AuthEnable,
    /// Everybody may do everything.
    AuthDisable,
}

impl Request {
    /// A linearizable read of one key.
    #[must_use]
    pub fn get(key: impl Into<String>) -> Self {
        Self::range(Span::one(key))
    }

    /// A linearizable read of everything in a span.
    #[must_use]
    pub fn range(span: Span) -> Self {
        Self::Range { span, limit: 0, revision: 0, serializable: false, selection: Selection::default() }
    }

    /// A read of everything in a span, from what the member has.
    #[must_use]
    pub fn serializable_range(span: Span) -> Self {
        Self::Range { span, limit: 0, revision: 0, serializable: true, selection: Selection::default() }
    }

    /// A write without a lease.
    #[must_use]
    pub fn put(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Put { key: key.into(), value: value.into(), lease: 0 }
    }

    /// Whether it may change keys.
    #[must_use]
    pub fn may_write(&self) -> bool {
        match self {
            Self::Put { .. } | Self::Delete { .. } => true,
            Self::Txn { then, otherwise, .. } => then.iter().chain(otherwise).any(Self::may_write),
            _ => false,
        }
    }

    /// Whether its answer may be of the past.
    #[must_use]
    pub fn is_serializable(&self) -> bool {
        matches!(self, Self::Range { serializable: true, .. })
    }

    /// The keys and spans that it names.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        match self {
            Self::Range { span, .. } | Self::Delete { span } => vec![span.clone()],
            Self::Put { key, .. } => vec![Span::one(key)],
            Self::Txn { compares, then, otherwise } => {
                let compared = compares.iter().map(|compare| compare.span.clone());
                let done = then.iter().chain(otherwise).flat_map(Self::spans);
                compared.chain(done).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The operation in one word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Range { serializable: true, .. } => "serializable range",
            Self::Range { .. } => "range",
            Self::Put { .. } => "put",
            Self::Delete { .. } => "delete",
            Self::Txn { .. } => "txn",
            Self::LeaseGrant { .. } => "lease grant",
            Self::LeaseKeepAlive { .. } => "lease keep-alive",
            Self::LeaseRevoke { .. } => "lease revoke",
            Self::Compact { .. } => "compact",
            Self::AuthGrant => "grant role",
            Self::AuthRevoke => "revoke role",
            Self::AuthEnable => "auth enable",
            Self::AuthDisable => "auth disable",
        }
    }
}

/// What a request brought.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Of a read.
    Range {
        /// The keys.
        kvs: Vec<KeyValue>,
        /// How many there are without the limit.
        count: i64,
        /// Whether the limit cut some off.
        more: bool,
    },
    /// Of a write.
    Put,
    /// Of a deletion.
    Delete {
        /// How many keys there were.
        deleted: i64,
    },
    /// Of a transaction.
    Txn {
        /// Whether the conditions held.
        succeeded: bool,
        /// The answers of what was done.
        answers: Vec<Answer>,
    },
    /// Of a grant or a renewal.
    Lease {
        /// What the lease has from now on; 0 for a lease that is not there.
        ttl_s: i64,
    },
    /// Of whatever tells nothing else.
    Done,
}

/// How a request ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Ok {
        /// The revision in the answer's header.
        revision: i64,
        /// The rest of the answer.
        answer: Answer,
    },
    /// It was refused: it has not happened and never will.
    Failed {
        /// Why.
        error: String,
    },
    /// It may have happened, or may yet happen.
    Unknown {
        /// What the client knows.
        error: String,
    },
}
