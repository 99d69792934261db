//! What can go wrong for those who use this crate.

use crate::cgroup::CgroupError;
use crate::namespaces::NamespaceError;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such sandbox or container.
    #[error("there is no {0}")]
    NotFound(String),
    /// There is one of this name.
    #[error("there is a {0} already")]
    Exists(String),
    /// It is not in a state for this; the sentence says which state it is in.
    #[error("{0}")]
    State(String),
    /// What was asked for is not possible as it was asked for; the sentence says why, and for a program that cannot be run
    /// it is the one that users know from runc.
    #[error("{0}")]
    Refused(String),
    /// The shim has ended, and the containers of its sandbox with it.
    #[error("the shim of the sandbox {0} has ended")]
    ShimGone(String),
    /// It took too long.
    #[error("it took longer than {0:?}")]
    TimedOut(std::time::Duration),
    /// A control group.
    #[error("control groups")]
    Cgroup(#[source] CgroupError),
    /// The namespaces.
    #[error("the namespaces of the sandbox cannot be made")]
    Namespace(#[source] NamespaceError),
    /// A file, a mount or a process.
    #[error("cannot {action}")]
    Io {
        /// What was tried.
        action: String,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// Something of it is left; it can be tried again.
    #[error("{0} could not be removed: {1}")]
    Left(String, String),
}

/// An error with all its causes in one line, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
