//! What a failed call means: whether it may have been done, and whether another endpoint may do better. Pure.

use std::error::Error as _;

use tonic::{Code, Status};

use super::connection::causes;
use crate::storage::{Revision, StorageError};

/// What a failed call means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It was surely not done; another endpoint may do it.
    NotDone(String),
    /// It may have been done. A read may be asked again elsewhere.
    Unknown(String),
    /// It was not done, and would not be elsewhere.
    Final(StorageError),
}

/// Answers that etcd gives before it proposes anything.
const NOT_PROPOSED: [&str; 3] =
    ["etcdserver: no leader", "etcdserver: not leader", "etcdserver: too many requests"];

/// `wanted` is the revision that was asked for.
pub(super) fn verdict(status: &Status, wanted: Revision) -> Verdict {
    let text = status.message();
    if status.source().is_some() {
        return Verdict::Unknown(causes(status));
    }
    if NOT_PROPOSED.contains(&text) {
        return Verdict::NotDone(text.to_owned());
    }
    let error = match status.code() {
        Code::OutOfRange if text.contains("compacted") => StorageError::Compacted { wanted },
        Code::OutOfRange if text.contains("future revision") => StorageError::Future { wanted },
        Code::ResourceExhausted if text.contains("space exceeded") => StorageError::NoSpace,
        Code::InvalidArgument if text.contains("request is too large") => StorageError::TooLarge,
        // gRPC's own limit, before etcd looks at the request.
        Code::ResourceExhausted if text.contains("larger than max") => StorageError::TooLarge,
        Code::NotFound if text.contains("lease not found") => StorageError::LeaseNotFound,
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::ResourceExhausted
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented => StorageError::internal(text),
        _ => return Verdict::Unknown(format!("{}: {text}", status.code())),
    };
    Verdict::Final(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_surely_not_done_goes_elsewhere_without_a_doubt() {
        let wanted = Revision(7);
        let compacted = StorageError::Compacted { wanted };
        let table = [
            (Code::Unavailable, "etcdserver: no leader", Verdict::NotDone("etcdserver: no leader".into())),
            (
                Code::ResourceExhausted,
                "etcdserver: too many requests",
                Verdict::NotDone("etcdserver: too many requests".into()),
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
                Verdict::Final(compacted),
            ),
            (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
                Verdict::Final(StorageError::Future { wanted }),
            ),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Verdict::Final(StorageError::NoSpace),
            ),
            (
                Code::InvalidArgument,
                "etcdserver: request is too large",
                Verdict::Final(StorageError::TooLarge),
            ),
            (
                Code::ResourceExhausted,
                "grpc: received message larger than max (2 vs. 1)",
                Verdict::Final(StorageError::TooLarge),
            ),
            (
                Code::NotFound,
                "etcdserver: requested lease not found",
                Verdict::Final(StorageError::LeaseNotFound),
            ),
            (
                Code::PermissionDenied,
                "etcdserver: permission denied",
                Verdict::Final(StorageError::internal("etcdserver: permission denied")),
            ),
        ];
        for (code, text, expected) in table {
            assert_eq!(verdict(&Status::new(code, text), wanted), expected);
        }
        for (code, text) in [
            (Code::Unavailable, "etcdserver: request timed out"),
            (Code::Unavailable, "etcdserver: leader changed"),
            (Code::Unavailable, "etcdserver: server stopped"),
            (Code::DeadlineExceeded, "late"),
            (Code::Unknown, "?"),
            (Code::Internal, "?"),
        ] {
            assert!(matches!(verdict(&Status::new(code, text), wanted), Verdict::Unknown(_)), "{text}");
        }
    }
}
