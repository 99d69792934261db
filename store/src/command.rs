//! What members agree on: the commands in Raft's log, and what executing one answers.
//!
//! A command carries everything that its execution needs; nothing here depends on a clock, a random
//! number or a member's configuration. The enums are stored on disk: variants are only ever appended.

pub mod auth;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use auth::{AuthCommand, AuthError, Caller};

use crate::ids::{Incarnation, LeaseId, MemberId, Revision};
use crate::record::Record;

/// One replicated command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// `KV.Put`
    Put(Put),
    /// `KV.DeleteRange`
    DeleteRange(DeleteRange),
    /// `KV.Txn`, when it may write.
    Txn(Txn),
    /// `KV.Compact`
    Compact {
        /// The oldest revision that stays readable.
        revision: Revision,
    },
    /// `Lease.LeaseGrant`; the id was chosen before proposing.
    LeaseGrant {
        /// The new lease.
        id: LeaseId,
        /// Seconds.
        ttl_s: i64,
    },
    /// `Lease.LeaseRevoke`
    LeaseRevoke {
        /// The lease whose keys are deleted with it.
        id: LeaseId,
    },
    /// Leases whose time ran out on the leader's clock, each deleted in a revision of its own. Executed
    /// only when the entry's term is `term`: a leader that lost its office never expires a lease.
    LeaseExpire {
        /// The term in which the proposer led.
        term: u64,
        /// The leases.
        ids: Vec<LeaseId>,
    },
    /// Remaining times, so that a new leader does not start every lease anew.
    LeaseCheckpoint {
        /// Lease and seconds left; 0 means the full time.
        remaining_s: Vec<(LeaseId, i64)>,
    },
    /// `Maintenance.Alarm`, ACTIVATE or DEACTIVATE.
    Alarm {
        /// Raise or clear.
        raise: bool,
        /// Whose alarm; 0 clears those of all members.
        member: MemberId,
        /// Which one.
        kind: AlarmKind,
    },
    /// A member tells its name and addresses, once after each start.
    PublishMember {
        /// The member.
        id: MemberId,
        /// Human name.
        name: String,
        /// Where clients reach it.
        client_urls: Vec<String>,
        /// The data directory it runs on. Another one under the same id is refused from then on.
        incarnation: Incarnation,
    },
    /// A command of a client while rights are asked for: executed only if this user may then.
    As {
        /// Who.
        caller: Caller,
        /// What; never another `As`, nor what members do by themselves.
        command: Box<Command>,
    },
    /// Users, roles, and whether they are asked for.
    Auth(AuthCommand),
    /// The leader saw that this revision was current at this time on its clock. Changes no key.
    MarkTime {
        /// The current revision then.
        revision: Revision,
        /// Milliseconds since 1970.
        time_ms: i64,
    },
}

impl Command {
    /// The command in a caller's name; without one, as it is.
    #[must_use]
    pub fn by(self, caller: Option<Caller>) -> Self {
        match caller {
            Some(caller) => Self::As { caller, command: Box::new(self) },
            None => self,
        }
    }

    /// The command itself, whoever asked for it.
    #[must_use]
    pub fn unsigned(&self) -> &Self {
        match self {
            Self::As { command, .. } => command,
            other => other,
        }
    }
}

/// Alarms that etcd knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AlarmKind {
    /// The live bytes are over the quota.
    NoSpace,
    /// This member's keyspace differs from the others'.
    Corrupt,
}

/// `PutRequest`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// Not empty.
    pub key: Bytes,
    /// Ignored with `ignore_value`.
    pub value: Bytes,
    /// `None` detaches.
    pub lease: Option<LeaseId>,
    /// Answer the version before.
    pub prev_kv: bool,
    /// Keep the value, fail if the key is absent.
    pub ignore_value: bool,
    /// Keep the lease, fail if the key is absent.
    pub ignore_lease: bool,
}

/// `DeleteRangeRequest`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteRange {
    /// Which keys.
    pub range: KeyRange,
    /// Answer the versions before.
    pub prev_kv: bool,
}

/// Which keys: etcd's `key` and `range_end`, kept as they came.
///
/// An empty `range_end` means exactly `key`; `\0` means every key from `key` on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyRange {
    /// First key.
    pub key: Bytes,
    /// First key behind the range, see above.
    pub range_end: Bytes,
}

/// `RangeRequest`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub range: KeyRange,
    /// At most so many records; 0 for no limit.
    pub limit: i64,
    /// Read as of this revision; 0 or less for the current one.
    pub revision: Revision,
    /// Order of the answer.
    pub sort_order: SortOrder,
    /// What to order by.
    pub sort_target: SortTarget,
    /// Leave the values out.
    pub keys_only: bool,
    /// Answer the count alone.
    pub count_only: bool,
    /// Filters; 0 for none.
    pub min_mod_revision: Revision,
    /// See above.
    pub max_mod_revision: Revision,
    /// See above.
    pub min_create_revision: Revision,
    /// See above.
    pub max_create_revision: Revision,
}

/// `RangeRequest.SortOrder`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// `RangeRequest.SortTarget`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// `TxnRequest`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold for `success`.
    pub compare: Vec<Compare>,
    /// Executed when all compares hold.
    pub success: Vec<TxnOp>,
    /// Executed otherwise.
    pub failure: Vec<TxnOp>,
}

/// `RequestOp`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum TxnOp {
    Range(Range),
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Txn),
}

/// `Compare`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Every key in it must satisfy the comparison.
    pub range: KeyRange,
    /// How to compare.
    pub result: CompareResult,
    /// What with.
    pub target: CompareTarget,
}

/// `Compare.CompareResult`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CompareResult {
    Equal,
    Greater,
    Less,
    NotEqual,
}

/// `Compare.CompareTarget` with its operand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum CompareTarget {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(Bytes),
    /// 0 for "no lease".
    Lease(LeaseId),
}

/// What executing a command answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// For `Put`.
    Put(PutOutcome),
    /// For `DeleteRange`.
    DeleteRange(DeleteRangeOutcome),
    /// For `Txn`.
    Txn(TxnOutcome),
    /// For every other command.
    Done,
}

/// For `Put`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOutcome {
    /// The version before, when asked for and present.
    pub prev: Option<Record>,
}

/// For `DeleteRange`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeleteRangeOutcome {
    /// How many keys are gone.
    pub deleted: i64,
    /// The versions before, when asked for.
    pub prev: Vec<Record>,
}

/// For `Range`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeOutcome {
    /// In the order asked for; without values for `keys_only`.
    pub records: Vec<Record>,
    /// Whether the limit cut the answer.
    pub more: bool,
    /// All keys in the range at that revision, whatever limit and filters say.
    pub count: i64,
}

/// For `Txn`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnOutcome {
    /// Whether the compares held.
    pub succeeded: bool,
    /// One for each operation of the branch taken.
    pub responses: Vec<OpOutcome>,
}

/// One answer inside a `TxnOutcome`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum OpOutcome {
    Range(RangeOutcome),
    Put(PutOutcome),
    DeleteRange(DeleteRangeOutcome),
    Txn(TxnOutcome),
}

/// Why a command changed nothing. The text is etcd's (without its `etcdserver: ` prefix).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum CommandError {
    #[error("key not found")]
    KeyNotFound,
    #[error("requested lease not found")]
    LeaseNotFound,
    #[error("lease already exists")]
    LeaseExists,
    #[error("mvcc: required revision has been compacted")]
    Compacted,
    #[error("mvcc: required revision is a future revision")]
    FutureRevision,
    #[error("mvcc: database space exceeded")]
    NoSpace,
    #[error("corrupt cluster")]
    Corrupt,
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Reading history back from disk failed; the member must stop.
    #[error("history cannot be read: {0}")]
    History(String),
}
