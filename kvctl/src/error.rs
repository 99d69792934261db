//! Everything that can go wrong in a command, and the exit code that tells a script which kind it was.
//!
//! Never prints; `main` does, once.

use std::io;
use std::time::Duration;

use thiserror::Error;

use crate::go_duration;

/// Why a command failed. The codes are etcdctl's.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// Words of the command line that do not make a command.
    #[error("{0}")]
    Arguments(String),
    /// A flag with a value that it does not take, or an output format that the command does not have.
    #[error("{0}")]
    Unsupported(String),
    /// Standard input that is not what the command reads, or a store that is not in the state it needs.
    #[error("{0}")]
    Input(String),
    /// No connection: nobody listens, a certificate was refused, a password is wrong.
    #[error("{0}")]
    Connection(String),
    /// The server answered with an error.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No answer in time.
    #[error("{endpoint} gave no answer within {}: see whether the cluster has a leader (`kvctl endpoint health`), or raise --command-timeout", go_duration::format(*.within))]
    Late {
        /// Who was asked.
        endpoint: String,
        /// How long.
        within: Duration,
    },
    /// A stream that should go on was ended by the server.
    #[error("{0}")]
    Interrupted(String),
    /// A file, a terminal, a program to run.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The command did its work, and the verdict is bad.
    #[error("{0}")]
    Verdict(String),
    /// Everything has been said already; only the code is left.
    #[error("exit code {0}")]
    Code(u8),
}

/// An error that a server answered with.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{}{}", .message, advice(.message).map(|advice| format!(": {advice}")).unwrap_or_default())]
pub(crate) struct ServerError {
    /// The server's own text.
    pub(crate) message: String,
    /// Whether asking another member may help.
    pub(crate) unavailable: bool,
    /// The service or call is not there.
    pub(crate) unimplemented: bool,
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Server(_) | Self::Late { .. } | Self::Verdict(_) => 1,
            Self::Connection(_) => 2,
            Self::Input(_) => 3,
            Self::Unsupported(_) => 4,
            Self::Interrupted(_) => 5,
            Self::Io { .. } => 6,
            Self::Arguments(_) => 128,
            Self::Code(code) => *code,
        }
    }

    /// For `map_err`: an I/O error with what was tried.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// The server's text, if a server answered.
    pub(crate) fn server_message(&self) -> Option<&str> {
        match self {
            Self::Server(error) => Some(&error.message),
            _ => None,
        }
    }
}

/// What to do about an error whose text alone does not say it.
fn advice(message: &str) -> Option<&'static str> {
    const ADVICE: &[(&str, &str)] = &[
        (
            "invalid auth token",
            "the token is unknown or has expired: give --user and --password, or a new --auth-jwt-token",
        ),
        ("authentication failed", "check --user and --password"),
        ("user name is empty", "users are enabled here: give --user and --password"),
        (
            "permission denied",
            "this user may not do it: ask for a role (`kvctl user grant-role`), or use another --user",
        ),
        ("database space exceeded", "delete keys and compact, then `kvctl alarm disarm`"),
        ("required revision has been compacted", "it is older than the history that is kept"),
        ("required revision is a future revision", "the store has not reached it yet"),
        ("requested lease not found", "see `kvctl lease list`"),
        ("member not found", "see `kvctl member list`"),
        ("unhealthy cluster", "bring the members that are down back first, or remove them"),
        ("no leader", "most members must run and reach each other"),
    ];
    ADVICE.iter().find(|(text, _)| message.contains(text)).map(|(_, advice)| *advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_error_keeps_its_text_and_says_what_to_do() {
        let error = |message: &str| {
            ServerError { message: message.to_owned(), unavailable: false, unimplemented: false }.to_string()
        };
        assert_eq!(
            error("etcdserver: authentication failed, invalid user ID or password"),
            "etcdserver: authentication failed, invalid user ID or password: check --user and --password"
        );
        assert_eq!(error("etcdserver: key is not provided"), "etcdserver: key is not provided");
    }

    #[test]
    fn every_kind_has_the_code_that_etcdctl_gives_it() {
        let codes = [
            Failure::Verdict(String::new()).exit_code(),
            Failure::Connection(String::new()).exit_code(),
            Failure::Input(String::new()).exit_code(),
            Failure::Unsupported(String::new()).exit_code(),
            Failure::Interrupted(String::new()).exit_code(),
            Failure::io("x")(io::Error::other("y")).exit_code(),
            Failure::Arguments(String::new()).exit_code(),
        ];
        assert_eq!(codes, [1, 2, 3, 4, 5, 6, 128]);
    }
}
