//! What can go wrong with an image, said as the kubelet and containerd say it, so that the events of pods read as people
//! know them. Never hides what a registry answered.

use std::io;

use crate::digest::Digest;
use crate::reference::ReferenceError;

/// A result with [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Each level says what it tried; [`Error::message`] joins them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A pull failed.
    #[error("failed to pull and unpack image \"{reference}\"")]
    Pull {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// It is unknown what the reference means.
    #[error("failed to resolve reference \"{reference}\"")]
    Resolve {
        /// The image.
        reference: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A blob of an image did not come.
    #[error("failed to copy {what}")]
    Copy {
        /// Which blob.
        what: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Several registries were asked.
    #[error("{}", tried(.0))]
    Endpoints(Vec<(String, Error)>),
    /// The text names no image.
    #[error("failed to parse reference \"{text}\"")]
    Reference {
        /// The text.
        text: String,
        /// Why.
        #[source]
        source: ReferenceError,
    },
    /// It is not there: in a registry, or here.
    #[error("{0}: not found")]
    NotFound(String),
    /// Whoever asks may not have it, or it does not exist.
    #[error("{what}: pull access denied, repository does not exist or may require authorization: {reason}")]
    Unauthorized {
        /// What was asked for.
        what: String,
        /// What the server said.
        reason: String,
    },
    /// A registry did not answer.
    #[error("failed to do request: {method} \"{url}\"")]
    Unreachable {
        /// GET or POST.
        method: &'static str,
        /// Whom.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A registry answered something else than it should.
    #[error("unexpected status from GET request to {url}: {status}{detail}")]
    Status {
        /// Whom.
        url: String,
        /// What it answered.
        status: http::StatusCode,
        /// What it said, with a separator before it; may be empty.
        detail: String,
    },
    /// A registry answered what makes no sense.
    #[error("{url} answered {why}")]
    Protocol {
        /// Whom.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The content is not what its name says.
    #[error("{what}: unexpected digest {found}, expected {expected}")]
    WrongDigest {
        /// Which content.
        what: String,
        /// What it is.
        found: Digest,
        /// What it should be.
        expected: Digest,
    },
    /// The content is longer or shorter than it should be.
    #[error("{what}: unexpected size {found}, expected {expected}")]
    WrongSize {
        /// Which content.
        what: String,
        /// Bytes that came.
        found: u64,
        /// Bytes that should have come.
        expected: u64,
    },
    /// A manifest, index or configuration is larger than anybody's.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// Which.
        what: String,
        /// What is allowed.
        limit: u64,
    },
    /// No manifest in the index is for this machine.
    #[error("no match for platform {platform} in manifest: not found")]
    NoPlatform {
        /// This machine.
        platform: String,
    },
    /// A manifest, index, configuration or archive that cannot be used.
    #[error("{what} cannot be used: {why}")]
    Invalid {
        /// Which.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A layer that cannot be unpacked.
    #[error("failed to extract layer {layer}")]
    Unpack {
        /// Its diff id.
        layer: Digest,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The image is used by something that runs.
    #[error("image {image} is in use by {by}")]
    InUse {
        /// The image.
        image: Digest,
        /// The names of those who hold it.
        by: String,
    },
    /// Several images have ids that begin so.
    #[error("{0}: several images have ids that begin so")]
    Ambiguous(String),
    /// The compressed layers of an image were not kept.
    #[error(
        "layers of {image} were not kept as they were pulled; pull it again with its layers kept to save it"
    )]
    NotKept {
        /// The image.
        image: Digest,
    },
    /// A file of configuration.
    #[error("{file}: {why}")]
    Configuration {
        /// Which file or text.
        file: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// The machine failed.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// Whoever wanted it does not any more.
    #[error("cancelled")]
    Cancelled,
}

/// What kind of thing went wrong; a CRI service makes its status code of it, a pod's status its reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// There is no such image, or none for this platform.
    NotFound,
    /// The credentials do not do.
    Unauthorized,
    /// Nobody answered, or only with errors of the server; later it may work.
    Unavailable,
    /// What came is not what was promised.
    Corrupt,
    /// The disk is full.
    NoSpace,
    /// The words of whoever asked are wrong.
    InvalidArgument,
    /// Something uses it.
    InUse,
    /// Whoever asked does not wait any more.
    Cancelled,
    /// Everything else.
    Internal,
}

impl Error {
    /// What kind of thing went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Pull { source, .. } | Self::Resolve { source, .. } | Self::Copy { source, .. } => {
                source.kind()
            }
            // A registry that knows who asks or what it has tells more than one that is not there.
            Self::Endpoints(tried) => {
                let kinds = || tried.iter().map(|(_, error)| error.kind());
                [ErrorKind::NoSpace, ErrorKind::Unauthorized, ErrorKind::Corrupt, ErrorKind::NotFound]
                    .into_iter()
                    .find(|kind| kinds().any(|other| other == *kind))
                    .or_else(|| kinds().next_back())
                    .unwrap_or(ErrorKind::Internal)
            }
            Self::Reference { .. }
            | Self::Ambiguous(_)
            | Self::Configuration { .. }
            | Self::NotKept { .. } => ErrorKind::InvalidArgument,
            Self::NotFound(_) | Self::NoPlatform { .. } => ErrorKind::NotFound,
            Self::Unauthorized { .. } => ErrorKind::Unauthorized,
            Self::Unreachable { .. } | Self::Status { .. } => ErrorKind::Unavailable,
            Self::Protocol { .. }
            | Self::WrongDigest { .. }
            | Self::WrongSize { .. }
            | Self::TooLarge { .. }
            | Self::Invalid { .. } => ErrorKind::Corrupt,
            Self::Unpack { source, .. } | Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::NoSpace,
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => ErrorKind::Corrupt,
                io::ErrorKind::Interrupted => ErrorKind::Cancelled,
                _ => ErrorKind::Internal,
            },
            Self::InUse { .. } => ErrorKind::InUse,
            Self::Cancelled => ErrorKind::Cancelled,
        }
    }

    /// The whole story, the levels joined by colons, as events tell it.
    #[must_use]
    pub fn message(&self) -> String {
        story(self)
    }

    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn invalid(what: impl Into<String>, why: impl ToString) -> Self {
        Self::Invalid { what: what.into(), why: why.to_string() }
    }
}

/// An error and its causes; a cause that is in the text already is not repeated.
fn story(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

fn tried(endpoints: &[(String, Error)]) -> String {
    let told: Vec<String> = endpoints.iter().map(|(url, error)| format!("{url}: {}", story(error))).collect();
    told.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_reads_as_containerd_would_say_it() {
        let name = "docker.io/library/nope:latest".to_owned();
        let error = Error::Pull {
            reference: name.clone(),
            source: Box::new(Error::Resolve {
                reference: name.clone(),
                source: Box::new(Error::NotFound(name)),
            }),
        };
        assert_eq!(
            error.message(),
            "failed to pull and unpack image \"docker.io/library/nope:latest\": failed to resolve reference \
             \"docker.io/library/nope:latest\": docker.io/library/nope:latest: not found"
        );
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn a_full_disk_is_told_apart() {
        let full = || io::Error::from(rustix::io::Errno::NOSPC);
        assert_eq!(Error::io("writing")(full()).kind(), ErrorKind::NoSpace);
        let unpack = Error::Unpack { layer: Digest::of(b""), source: full() };
        assert_eq!(unpack.kind(), ErrorKind::NoSpace);
        let several = Error::Endpoints(vec![("a".into(), Error::Cancelled), ("b".into(), unpack)]);
        assert_eq!(several.kind(), ErrorKind::NoSpace);
    }
}
