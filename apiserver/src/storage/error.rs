//! Why the store did not do what it was asked for, and what that means to whoever asked. Must never hide that the outcome
//! of a write is not known.

use barque_api::status::{Reason, Status};

use super::Revision;

/// A request that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The revision, or changes from it on, are gone.
    #[error("revision {wanted} was compacted: read the newest state instead")]
    Compacted {
        /// What was asked for.
        wanted: Revision,
    },
    /// The revision has not come yet.
    #[error("revision {wanted} has not come yet")]
    Future {
        /// What was asked for.
        wanted: Revision,
    },
    /// The value is too large for the store.
    #[error("the object is too large for the store (--max-request-bytes of the store)")]
    TooLarge,
    /// The store is over its quota.
    #[error("the store is full (--quota-backend-bytes of the store): delete objects or raise the quota")]
    NoSpace,
    /// The lease ended before the key was written.
    #[error("the lease has ended")]
    LeaseNotFound,
    /// Nothing was done: the store cannot be reached, has no leader or is too busy.
    #[error("the store cannot be reached: {why}")]
    Unavailable {
        /// What was tried.
        why: String,
    },
    /// A write may have been done, or may still be done.
    #[error("it is not known whether the write was done: {why}")]
    Unknown {
        /// What happened.
        why: String,
    },
    /// A value cannot be read or written as the configuration of encryption wants it.
    #[error("{why}")]
    Transform {
        /// Which key, and what is wrong.
        why: String,
    },
    /// The store refuses this client, or answers what it should not.
    #[error("the store failed: {why}")]
    Internal {
        /// What it said.
        why: String,
    },
}

impl StorageError {
    pub(super) fn unavailable(why: impl Into<String>) -> Self {
        Self::Unavailable { why: why.into() }
    }

    pub(super) fn unknown(why: impl Into<String>) -> Self {
        Self::Unknown { why: why.into() }
    }

    pub(super) fn internal(why: impl Into<String>) -> Self {
        Self::Internal { why: why.into() }
    }

    /// As clients of the API are told, where nothing more is known of the request.
    #[must_use]
    pub fn to_status(&self) -> Status {
        match self {
            Self::Compacted { .. } => Status::expired("The provided resource version is too old."),
            Self::Future { wanted } => Status::too_large_resource_version(wanted.0, 0),
            Self::TooLarge => Status::new(Reason::RequestEntityTooLarge, self.to_string()),
            Self::Unavailable { .. } => {
                Status::new(Reason::ServiceUnavailable, self.to_string()).retry_after(1)
            }
            Self::Unknown { .. } => Status::new(Reason::Timeout, self.to_string()),
            Self::NoSpace | Self::LeaseNotFound | Self::Transform { .. } | Self::Internal { .. } => {
                Status::internal(self)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_whether_to_try_again() {
        let table = [
            (StorageError::Compacted { wanted: Revision(3) }, 410),
            (StorageError::Future { wanted: Revision(3) }, 504),
            (StorageError::TooLarge, 413),
            (StorageError::NoSpace, 500),
            (StorageError::unavailable("no leader"), 503),
            (StorageError::unknown("cut"), 504),
            (StorageError::internal("?"), 500),
        ];
        for (error, code) in table {
            assert_eq!(error.to_status().reason.code(), code, "{error}");
        }
        assert_eq!(StorageError::unavailable("x").to_status().details.retry_after_seconds, 1);
    }
}
