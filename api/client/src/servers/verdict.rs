//! What an attempt says: of the server, and whether the request may go to another one. A decision; must never let a write be
//! sent again whose fate is unknown.

use std::error::Error;
use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, Method, StatusCode};

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// With an answer.
    Answered(StatusCode),
    /// With the answer that too many ask; nothing was done, and it says when to come again.
    Busy(Duration),
    /// Without a connection: the server has not seen the request.
    NotSent,
    /// The connection broke, or no answer came in time: the server may have done what it was asked.
    Unknown,
    /// Before a server was asked, as by a token that cannot be read.
    Ours,
}

/// What follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Whether the server works, where that was learned.
    pub(super) works: Option<bool>,
    /// Whether the request may be sent to the next server.
    pub(super) next: bool,
}

/// Judges an attempt.
///
/// A 503 says that a server cannot serve. It does not say that nothing was done: one whose store did not answer in time
/// says it too. So only reads go on.
pub(super) fn judge(method: &Method, attempt: Attempt) -> Verdict {
    let read = method.is_safe();
    match attempt {
        Attempt::Answered(StatusCode::SERVICE_UNAVAILABLE) => Verdict { works: Some(false), next: read },
        Attempt::Answered(_) => Verdict { works: Some(true), next: false },
        Attempt::Busy(_) => Verdict { works: Some(true), next: true },
        Attempt::NotSent => Verdict { works: Some(false), next: true },
        Attempt::Unknown => Verdict { works: Some(false), next: read },
        Attempt::Ours => Verdict { works: None, next: false },
    }
}

/// What an answer means. A 429 that does not say when to come again is for the caller, as that of an eviction that a
/// disruption budget forbids.
pub(super) fn answer(status: StatusCode, headers: &HeaderMap) -> Attempt {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    match (status, seconds) {
        (StatusCode::TOO_MANY_REQUESTS, Some(seconds)) => Attempt::Busy(Duration::from_secs(seconds)),
        _ => Attempt::Answered(status),
    }
}

/// What an error of kube's client means.
pub(super) fn attempt(error: &kube::Error) -> Attempt {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return if error.is_connect() { Attempt::NotSent } else { Attempt::Unknown };
        }
        cause = error.source();
    }
    match error {
        kube::Error::HyperError(_) => Attempt::Unknown,
        _ => Attempt::Ours,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_reads_are_sent_again_when_their_fate_is_unknown() {
        let writes = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
        for (attempt, read_goes_on, write_goes_on, works) in [
            (Attempt::NotSent, true, true, Some(false)),
            (Attempt::Unknown, true, false, Some(false)),
            (Attempt::Ours, false, false, None),
            (Attempt::Answered(StatusCode::SERVICE_UNAVAILABLE), true, false, Some(false)),
            (Attempt::Busy(Duration::from_secs(1)), true, true, Some(true)),
            (Attempt::Answered(StatusCode::OK), false, false, Some(true)),
            (Attempt::Answered(StatusCode::CONFLICT), false, false, Some(true)),
            (Attempt::Answered(StatusCode::TOO_MANY_REQUESTS), false, false, Some(true)),
            (Attempt::Answered(StatusCode::INTERNAL_SERVER_ERROR), false, false, Some(true)),
        ] {
            assert_eq!(judge(&Method::GET, attempt), Verdict { works, next: read_goes_on }, "{attempt:?}");
            for method in &writes {
                let expected = Verdict { works, next: write_goes_on };
                assert_eq!(judge(method, attempt), expected, "{method} {attempt:?}");
            }
        }
    }

    #[test]
    fn a_server_is_busy_when_it_says_until_when() {
        let mut headers = HeaderMap::new();
        let many = StatusCode::TOO_MANY_REQUESTS;
        assert_eq!(answer(many, &headers), Attempt::Answered(many));
        headers.insert(RETRY_AFTER, "3".parse().unwrap());
        assert_eq!(answer(many, &headers), Attempt::Busy(Duration::from_secs(3)));
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(answer(unavailable, &headers), Attempt::Answered(unavailable));
    }
}
