//! Why a runtime did not do what it was asked for. Must never lose what it said.

use tonic::{Code, Status};

use crate::endpoint::Endpoint;

/// Why a call has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CriError {
    /// Nobody is at the socket, or the connection broke off.
    #[error("the container runtime at {endpoint} cannot be reached ({call}: {message})")]
    Unreachable {
        /// Where it should be.
        endpoint: Endpoint,
        /// The call.
        call: &'static str,
        /// Why.
        message: String,
    },
    /// What the call names is not there.
    #[error("{call}: {message}")]
    NotFound {
        /// The call.
        call: &'static str,
        /// In the runtime's words.
        message: String,
    },
    /// The runtime does not know the call, as those that are older than it.
    #[error("the container runtime at {endpoint} does not know the call {call} of CRI v1: {message}")]
    Unimplemented {
        /// The runtime.
        endpoint: Endpoint,
        /// The call.
        call: &'static str,
        /// In the runtime's words.
        message: String,
    },
    /// It took longer than it may.
    #[error("{call} was not done in time: {message}")]
    TimedOut {
        /// The call.
        call: &'static str,
        /// In the runtime's words.
        message: String,
    },
    /// Anything else.
    #[error("{call}: {message}")]
    Failed {
        /// The call.
        call: &'static str,
        /// In the runtime's words.
        message: String,
    },
}

impl CriError {
    /// What the answer to a call means.
    pub(crate) fn of(endpoint: &Endpoint, call: &'static str, status: &Status) -> Self {
        let (endpoint, message) = (endpoint.clone(), story(status));
        match status.code() {
            Code::Unavailable => Self::Unreachable { endpoint, call, message },
            Code::NotFound => Self::NotFound { call, message },
            Code::Unimplemented => Self::Unimplemented { endpoint, call, message },
            Code::DeadlineExceeded | Code::Cancelled => Self::TimedOut { call, message },
            _ => Self::Failed { call, message },
        }
    }

    /// Whether what the call names is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

/// What was said, with the causes that only the connection knows.
fn story(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_was_asked_and_what_was_said() {
        let endpoint: Endpoint = "/run/c.sock".parse().unwrap();
        let told = |status: Status| CriError::of(&endpoint, "StopContainer", &status).to_string();
        let table = [
            (
                Status::unavailable("gone"),
                "the container runtime at unix:///run/c.sock cannot be reached (StopContainer: gone)",
            ),
            (Status::not_found("no c"), "StopContainer: no c"),
            (
                Status::unimplemented("unknown"),
                "the container runtime at unix:///run/c.sock does not know the call StopContainer of CRI v1: unknown",
            ),
            (Status::deadline_exceeded("late"), "StopContainer was not done in time: late"),
            (Status::unknown("odd"), "StopContainer: odd"),
        ];
        for (status, expected) in table {
            assert_eq!(told(status), expected);
        }
        assert!(CriError::of(&endpoint, "x", &Status::not_found("")).is_not_found());
    }
}
