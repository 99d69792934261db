//! What follows when the API does not take a binding. A decision.

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActError {
    /// Nothing is done any more: another may lead.
    #[error("the scheduler stops")]
    Stopped,
    /// The API did not take it.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// A volume was given to another claim meanwhile.
    #[error("volume {volume:?} is that of claim {claim:?}")]
    Taken {
        /// Which volume.
        volume: String,
        /// Whose it is.
        claim: String,
    },
}

/// How a binding failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The pod is gone, going, gated again or bound already: what was decided on is not there any more, and the watch will tell.
    Outdated,
    /// Nothing was done.
    Refused,
    /// It may have been done.
    Unknown,
}

/// What an error means for a write.
pub(crate) fn judge(error: &ActError) -> Verdict {
    match error {
        ActError::Stopped | ActError::Taken { .. } => Verdict::Outdated,
        ActError::Api(kube::Error::Api(status)) => match status.code {
            404 | 409 => Verdict::Outdated,
            400..500 => Verdict::Refused,
            // A server whose store did not answer in time says such things too.
            _ => Verdict::Unknown,
        },
        ActError::Api(_) => Verdict::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn every_answer_has_its_consequence() {
        let of = |code: u16| {
            let status: Status = serde_json::from_value(serde_json::json!({"code": code})).unwrap();
            judge(&ActError::Api(kube::Error::Api(Box::new(status))))
        };
        assert_eq!([404, 409].map(of), [const { Verdict::Outdated }; 2]);
        assert_eq!([403, 422, 429].map(of), [const { Verdict::Refused }; 3]);
        assert_eq!([500, 503, 504].map(of), [const { Verdict::Unknown }; 3]);
    }
}
