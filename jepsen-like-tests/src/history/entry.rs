//! One line of the record.

use serde::{Deserialize, Serialize};

use super::data::{Event, KeyValue, Span};
use super::request::{Outcome, Request};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    };
}

id!(/// A client: it has at most one request under way.
    ClientId(u32));
id!(/// A request.
    OperationId(u64));
id!(/// A watch.
    WatchId(u64));
id!(/// A fault.
    FaultId(u64));

/// What a watch asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchRequest {
    /// Which keys.
    pub span: Span,
    /// From which revision on; never 0 here, so that what must come is known.
    pub start_revision: i64,
    /// Whether the key before each change is wanted.
    pub prev_kv: bool,
    /// Whether writes are left out.
    pub no_put: bool,
    /// Whether deletions are left out.
    pub no_delete: bool,
    /// The watch that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<WatchId>,
}

/// Everything that one revision changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevisionEvents {
    /// The revision.
    pub revision: i64,
    /// Its changes, in their order.
    pub events: Vec<Event>,
}

/// What a member holds when all is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberState {
    /// The member.
    pub member: String,
    /// Its revision.
    pub revision: i64,
    /// Its hash at that revision.
    pub hash: u32,
    /// Its compact revision; hashes are equal only where this is.
    pub compact_revision: i64,
    /// All its keys.
    pub kvs: Vec<KeyValue>,
}

/// One line of the record. Times are nanoseconds since the run began, on a clock that never goes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Entry {
    /// A client sends a request.
    Invoked {
        /// When.
        time_ns: u64,
        /// Which request.
        operation: OperationId,
        /// Who sends it.
        client: ClientId,
        /// To whom.
        member: String,
        /// What.
        request: Request,
    },
    /// A client learns what became of it. A request without this line is still open.
    Completed {
        /// When.
        time_ns: u64,
        /// Which request.
        operation: OperationId,
        /// What the client was told.
        outcome: Outcome,
    },
    /// A watch is asked for.
    WatchOpened {
        /// When.
        time_ns: u64,
        /// Which watch.
        watch: WatchId,
        /// Who watches.
        client: ClientId,
        /// At whom.
        member: String,
        /// What.
        request: WatchRequest,
    },
    /// A watch delivers events, or, without any, tells how far it has come.
    WatchAnswered {
        /// When.
        time_ns: u64,
        /// Which watch.
        watch: WatchId,
        /// The revision in the header.
        revision: i64,
        /// The events.
        events: Vec<Event>,
    },
    /// A watch ends.
    WatchClosed {
        /// When.
        time_ns: u64,
        /// Which watch.
        watch: WatchId,
        /// The client waited until it had everything up to here.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        complete_to: Option<i64>,
        /// The compact revision with which the member refused it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compacted: Option<i64>,
        /// Why.
        why: String,
    },
    /// A fault begins.
    FaultBegan {
        /// When.
        time_ns: u64,
        /// Which fault.
        fault: FaultId,
        /// What it is.
        kind: String,
        /// Whom it strikes.
        members: Vec<String>,
    },
    /// A fault is over.
    FaultEnded {
        /// When.
        time_ns: u64,
        /// Which fault.
        fault: FaultId,
    },
    /// A revision, as the store tells its own history.
    Revision(RevisionEvents),
    /// What a member holds in the end.
    Member(MemberState),
}
