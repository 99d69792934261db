//! What went wrong with files, with the exit code that etcdctl gives to the like.

use barque_store::offline::OfflineError;

use crate::error::Failure;

/// For `map_err`.
pub(in crate::command) fn told(error: OfflineError) -> Failure {
    match error {
        OfflineError::Io { path, action, source } => {
            Failure::Io { what: format!("{}: cannot {action}", path.display()), source }
        }
        OfflineError::Config(_)
        | OfflineError::Chain(_)
        | OfflineError::Bump { .. }
        | OfflineError::FolderName(_)
        | OfflineError::Twice(_) => Failure::Arguments(error.to_string()),
        other => Failure::Verdict(other.to_string()),
    }
}
