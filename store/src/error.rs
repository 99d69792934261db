//! Everything that a client of the store may be told when a request fails, and its one translation into
//! a gRPC status.
//!
//! Client libraries compare the exact texts, so this file is the only place that knows them. It decides
//! nothing: which error fits is said where the rule is kept.

use tonic::{Code, Status};

use crate::command::CommandError;
use crate::command::auth::AuthError;

/// Why a request failed. The text is etcd's, without the prefix that [`StoreError::message`] adds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum StoreError {
    /// Executing the command failed; the same on every member.
    #[error(transparent)]
    Command(#[from] CommandError),

    // Requests that are wrong in themselves.
    #[error("key is not provided")]
    EmptyKey,
    #[error("value is provided")]
    ValueProvided,
    #[error("lease is provided")]
    LeaseProvided,
    #[error("too many operations in txn request")]
    TooManyOps,
    #[error("duplicate key given in txn request")]
    DuplicateKey,
    #[error("invalid client api version")]
    InvalidClientApiVersion,
    #[error("invalid sort option")]
    InvalidSortOption,
    #[error("request is too large")]
    RequestTooLarge,
    #[error("too large lease TTL")]
    LeaseTtlTooLarge,
    #[error("unknown method")]
    UnknownMethod,

    // Load and watches.
    #[error("too many requests")]
    TooManyRequests,
    #[error("watch canceled")]
    WatchCanceled,

    // Membership.
    #[error("given member URLs are invalid")]
    MemberBadUrls,
    #[error("member not found")]
    MemberNotFound,
    #[error("member ID already exist")]
    MemberExists,
    #[error("Peer URLs already exists")]
    PeerUrlExists,
    #[error("re-configuration failed due to not enough started members")]
    NotEnoughStartedMembers,
    #[error("can only promote a learner member")]
    MemberNotLearner,
    #[error("can only promote a learner member which is in sync with leader")]
    LearnerNotReady,
    #[error("too many learner members in cluster")]
    TooManyLearners,
    #[error("cluster ID mismatch")]
    ClusterIdMismatch,
    #[error("rpc not supported for learner")]
    NotSupportedForLearner,
    #[error("bad leader transferee")]
    BadLeaderTransferee,

    // Who leads, and whether anybody does.
    #[error("no leader")]
    NoLeader,
    #[error("not leader")]
    NotLeader,
    #[error("leader changed")]
    LeaderChanged,
    #[error("not capable")]
    NotCapable,
    #[error("server stopped")]
    Stopped,
    #[error("request timed out")]
    Timeout,
    #[error("request timed out, possibly due to previous leader failure")]
    TimeoutDueToLeaderFail,
    #[error("request timed out, possibly due to connection lost")]
    TimeoutDueToConnectionLost,
    #[error("request timed out, waiting for the applied index took too long")]
    TimeoutWaitAppliedIndex,
    #[error("request timed out, leader transfer took too long")]
    TimeoutLeaderTransfer,
    #[error("unhealthy cluster")]
    Unhealthy,
    #[error("request canceled")]
    Canceled,
    #[error("context deadline exceeded")]
    DeadlineExceeded,

    // Downgrades.
    #[error("wrong downgrade target version format")]
    WrongDowngradeVersionFormat,
    #[error("invalid downgrade target version")]
    InvalidDowngradeTargetVersion,
    #[error("cluster version not found during downgrade")]
    ClusterVersionUnavailable,
    #[error("cluster has a downgrade job in progress")]
    DowngradeInProcess,
    #[error("no inflight downgrade job")]
    NoInflightDowngrade,

    // The lock and election services. etcd builds them on its own client and hands these out unprefixed.
    #[error("mutex: session is expired")]
    SessionExpired,
    #[error("election: not leader")]
    ElectionNotLeader,
    #[error("election: no leader")]
    ElectionNoLeader,
    #[error("\"leader\" field must be provided")]
    MissingLeaderKey,

    /// Something that is this member's own fault, for example a disk that cannot be read.
    #[error("{0}")]
    Internal(String),
}

impl StoreError {
    /// The gRPC code that etcd answers this error with.
    #[must_use]
    pub const fn code(&self) -> Code {
        use StoreError as E;
        match self {
            E::Command(CommandError::KeyNotFound)
            | E::EmptyKey
            | E::ValueProvided
            | E::LeaseProvided
            | E::TooManyOps
            | E::DuplicateKey
            | E::InvalidClientApiVersion
            | E::InvalidSortOption
            | E::RequestTooLarge
            | E::MemberBadUrls
            | E::WrongDowngradeVersionFormat
            | E::InvalidDowngradeTargetVersion => Code::InvalidArgument,

            E::Command(CommandError::Compacted | CommandError::FutureRevision) | E::LeaseTtlTooLarge => {
                Code::OutOfRange
            }
            E::Command(CommandError::NoSpace) | E::TooManyRequests => Code::ResourceExhausted,
            E::Command(CommandError::LeaseNotFound) | E::MemberNotFound => Code::NotFound,

            E::Command(CommandError::LeaseExists)
            | E::MemberExists
            | E::PeerUrlExists
            | E::NotEnoughStartedMembers
            | E::MemberNotLearner
            | E::LearnerNotReady
            | E::TooManyLearners
            | E::ClusterIdMismatch
            | E::NotLeader
            | E::NotCapable
            | E::NotSupportedForLearner
            | E::BadLeaderTransferee
            | E::ClusterVersionUnavailable
            | E::DowngradeInProcess
            | E::NoInflightDowngrade => Code::FailedPrecondition,

            E::Command(CommandError::Auth(error)) => auth_code(*error),

            E::NoLeader
            | E::LeaderChanged
            | E::Stopped
            | E::Timeout
            | E::TimeoutDueToLeaderFail
            | E::TimeoutDueToConnectionLost
            | E::TimeoutWaitAppliedIndex
            | E::Unhealthy => Code::Unavailable,

            E::Command(CommandError::Corrupt) => Code::DataLoss,
            E::WatchCanceled | E::Canceled => Code::Cancelled,
            E::DeadlineExceeded => Code::DeadlineExceeded,

            // etcd has no gRPC error of its own for these, so they travel as "unknown".
            E::UnknownMethod
            | E::TimeoutLeaderTransfer
            | E::SessionExpired
            | E::ElectionNotLeader
            | E::ElectionNoLeader
            | E::MissingLeaderKey => Code::Unknown,

            E::Command(CommandError::History(_)) | E::Internal(_) => Code::Internal,
        }
    }

    /// The text that a client sees.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::SessionExpired
            | Self::ElectionNotLeader
            | Self::ElectionNoLeader
            | Self::MissingLeaderKey => self.to_string(),
            _ => format!("etcdserver: {self}"),
        }
    }
}

const fn auth_code(error: AuthError) -> Code {
    use AuthError as A;
    match error {
        A::UserEmpty
        | A::RoleEmpty
        | A::Failed
        | A::PermissionNotGiven
        | A::InvalidManagement
        | A::OldRevision => Code::InvalidArgument,
        A::RootUserNotExist
        | A::RootRoleNotExist
        | A::UserExists
        | A::UserNotFound
        | A::RoleExists
        | A::RoleNotFound
        | A::RoleNotGranted
        | A::PermissionNotGranted
        | A::NotEnabled => Code::FailedPrecondition,
        A::PermissionDenied => Code::PermissionDenied,
        A::InvalidToken => Code::Unauthenticated,
    }
}

impl From<AuthError> for StoreError {
    fn from(error: AuthError) -> Self {
        Self::Command(error.into())
    }
}

impl From<AuthError> for Status {
    fn from(error: AuthError) -> Self {
        StoreError::from(error).into()
    }
}

impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        Self::new(error.code(), error.message())
    }
}

impl StoreError {
    /// The error that another member answered with, as far as it is one that membership changes, leases
    /// or transfers of leadership end with; anything else means that the member cannot be reached.
    #[must_use]
    pub fn from_peer(status: &Status) -> Self {
        const KNOWN: [StoreError; 14] = [
            StoreError::MemberNotFound,
            StoreError::MemberExists,
            StoreError::PeerUrlExists,
            StoreError::NotEnoughStartedMembers,
            StoreError::MemberNotLearner,
            StoreError::LearnerNotReady,
            StoreError::TooManyLearners,
            StoreError::BadLeaderTransferee,
            StoreError::LeaderChanged,
            StoreError::NotLeader,
            StoreError::Timeout,
            StoreError::TimeoutLeaderTransfer,
            StoreError::Unhealthy,
            StoreError::Stopped,
        ];
        let known = KNOWN.into_iter().find(|error| error.message() == status.message());
        known.unwrap_or(Self::TimeoutDueToConnectionLost)
    }
}

impl From<CommandError> for Status {
    fn from(error: CommandError) -> Self {
        StoreError::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row of etcd's table of errors.
    #[test]
    fn texts_and_codes_are_etcds() {
        use AuthError as A;
        use Code as C;
        use CommandError as Cmd;
        use StoreError as E;
        let table: &[(StoreError, Code, &str)] = &[
            (E::EmptyKey, C::InvalidArgument, "key is not provided"),
            (Cmd::KeyNotFound.into(), C::InvalidArgument, "key not found"),
            (E::ValueProvided, C::InvalidArgument, "value is provided"),
            (E::LeaseProvided, C::InvalidArgument, "lease is provided"),
            (E::TooManyOps, C::InvalidArgument, "too many operations in txn request"),
            (E::DuplicateKey, C::InvalidArgument, "duplicate key given in txn request"),
            (E::InvalidClientApiVersion, C::InvalidArgument, "invalid client api version"),
            (E::InvalidSortOption, C::InvalidArgument, "invalid sort option"),
            (E::MemberBadUrls, C::InvalidArgument, "given member URLs are invalid"),
            (E::RequestTooLarge, C::InvalidArgument, "request is too large"),
            (A::UserEmpty.into(), C::InvalidArgument, "user name is empty"),
            (A::RoleEmpty.into(), C::InvalidArgument, "role name is empty"),
            (A::Failed.into(), C::InvalidArgument, "authentication failed, invalid user ID or password"),
            (A::PermissionNotGiven.into(), C::InvalidArgument, "permission not given"),
            (A::InvalidManagement.into(), C::InvalidArgument, "invalid auth management"),
            (A::OldRevision.into(), C::InvalidArgument, "revision of auth store is old"),
            (E::WrongDowngradeVersionFormat, C::InvalidArgument, "wrong downgrade target version format"),
            (E::InvalidDowngradeTargetVersion, C::InvalidArgument, "invalid downgrade target version"),
            (Cmd::Compacted.into(), C::OutOfRange, "mvcc: required revision has been compacted"),
            (Cmd::FutureRevision.into(), C::OutOfRange, "mvcc: required revision is a future revision"),
            (E::LeaseTtlTooLarge, C::OutOfRange, "too large lease TTL"),
            (Cmd::NoSpace.into(), C::ResourceExhausted, "mvcc: database space exceeded"),
            (E::TooManyRequests, C::ResourceExhausted, "too many requests"),
            (Cmd::LeaseNotFound.into(), C::NotFound, "requested lease not found"),
            (E::MemberNotFound, C::NotFound, "member not found"),
            (Cmd::LeaseExists.into(), C::FailedPrecondition, "lease already exists"),
            (E::MemberExists, C::FailedPrecondition, "member ID already exist"),
            (E::PeerUrlExists, C::FailedPrecondition, "Peer URLs already exists"),
            (
                E::NotEnoughStartedMembers,
                C::FailedPrecondition,
                "re-configuration failed due to not enough started members",
            ),
            (E::MemberNotLearner, C::FailedPrecondition, "can only promote a learner member"),
            (
                E::LearnerNotReady,
                C::FailedPrecondition,
                "can only promote a learner member which is in sync with leader",
            ),
            (E::TooManyLearners, C::FailedPrecondition, "too many learner members in cluster"),
            (E::ClusterIdMismatch, C::FailedPrecondition, "cluster ID mismatch"),
            (A::RootUserNotExist.into(), C::FailedPrecondition, "root user does not exist"),
            (A::RootRoleNotExist.into(), C::FailedPrecondition, "root user does not have root role"),
            (A::UserExists.into(), C::FailedPrecondition, "user name already exists"),
            (A::UserNotFound.into(), C::FailedPrecondition, "user name not found"),
            (A::RoleExists.into(), C::FailedPrecondition, "role name already exists"),
            (A::RoleNotFound.into(), C::FailedPrecondition, "role name not found"),
            (A::RoleNotGranted.into(), C::FailedPrecondition, "role is not granted to the user"),
            (A::PermissionNotGranted.into(), C::FailedPrecondition, "permission is not granted to the role"),
            (A::NotEnabled.into(), C::FailedPrecondition, "authentication is not enabled"),
            (E::NotLeader, C::FailedPrecondition, "not leader"),
            (E::NotCapable, C::FailedPrecondition, "not capable"),
            (E::NotSupportedForLearner, C::FailedPrecondition, "rpc not supported for learner"),
            (E::BadLeaderTransferee, C::FailedPrecondition, "bad leader transferee"),
            (
                E::ClusterVersionUnavailable,
                C::FailedPrecondition,
                "cluster version not found during downgrade",
            ),
            (E::DowngradeInProcess, C::FailedPrecondition, "cluster has a downgrade job in progress"),
            (E::NoInflightDowngrade, C::FailedPrecondition, "no inflight downgrade job"),
            (A::PermissionDenied.into(), C::PermissionDenied, "permission denied"),
            (A::InvalidToken.into(), C::Unauthenticated, "invalid auth token"),
            (E::NoLeader, C::Unavailable, "no leader"),
            (E::LeaderChanged, C::Unavailable, "leader changed"),
            (E::Stopped, C::Unavailable, "server stopped"),
            (E::Timeout, C::Unavailable, "request timed out"),
            (
                E::TimeoutDueToLeaderFail,
                C::Unavailable,
                "request timed out, possibly due to previous leader failure",
            ),
            (
                E::TimeoutDueToConnectionLost,
                C::Unavailable,
                "request timed out, possibly due to connection lost",
            ),
            (
                E::TimeoutWaitAppliedIndex,
                C::Unavailable,
                "request timed out, waiting for the applied index took too long",
            ),
            (E::Unhealthy, C::Unavailable, "unhealthy cluster"),
            (Cmd::Corrupt.into(), C::DataLoss, "corrupt cluster"),
            (E::WatchCanceled, C::Cancelled, "watch canceled"),
            (E::Canceled, C::Cancelled, "request canceled"),
            (E::DeadlineExceeded, C::DeadlineExceeded, "context deadline exceeded"),
            (E::UnknownMethod, C::Unknown, "unknown method"),
            (E::TimeoutLeaderTransfer, C::Unknown, "request timed out, leader transfer took too long"),
        ];
        for (error, code, text) in table {
            let status = Status::from(error.clone());
            assert_eq!((status.code(), status.message()), (*code, &*format!("etcdserver: {text}")));
        }
    }

    #[test]
    fn lock_and_election_errors_carry_no_prefix() {
        for (error, text) in [
            (StoreError::SessionExpired, "mutex: session is expired"),
            (StoreError::ElectionNotLeader, "election: not leader"),
            (StoreError::ElectionNoLeader, "election: no leader"),
            (StoreError::MissingLeaderKey, "\"leader\" field must be provided"),
        ] {
            let status = Status::from(error);
            assert_eq!((status.code(), status.message()), (Code::Unknown, text));
        }
    }
}
