//! What can go wrong with plugins. A plugin's own words must never be lost.

use std::io;
use std::path::PathBuf;

use crate::error::NetworkError;

/// Why plugins could not do something.
#[derive(Debug, thiserror::Error)]
pub enum CniError {
    /// A file cannot be read or written.
    #[error("{what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A configuration is wrong.
    #[error("the CNI configuration {path} {problem}")]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A plugin's program is not there.
    #[error("there is no CNI plugin {name} in {searched}; install it there")]
    Missing {
        /// The plugin's type.
        name: String,
        /// The directories.
        searched: String,
    },
    /// A plugin's program cannot be run.
    #[error("the CNI plugin {name} cannot be run")]
    Run {
        /// The plugin's type.
        name: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A plugin failed.
    #[error("the CNI plugin {name} failed to {command}: {message}")]
    Plugin {
        /// The plugin's type.
        name: String,
        /// `ADD`, `DEL`, `CHECK` or `STATUS`.
        command: &'static str,
        /// The plugin's code, if it told one; those below 100 are the specification's.
        code: Option<u64>,
        /// The plugin's words.
        message: String,
    },
    /// A result has no addresses.
    #[error("the CNI plugins gave the pod no address: {result}")]
    NoAddress {
        /// The result.
        result: String,
    },
    /// The sandbox has no network.
    #[error("the sandbox {id} has no network by CNI")]
    Unknown {
        /// The sandbox.
        id: String,
    },
    /// The loopback interface could not be taken up.
    #[error("the pod's loopback interface")]
    Loopback(#[from] NetworkError),
}
