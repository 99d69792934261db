//! References to images, as Docker and containerd read them: `busybox`, `quay.io/team/app:v1`, `app@sha256:...`. Pure; never asks a
//! registry.

use std::fmt;
use std::str::FromStr;

use crate::digest::{Digest, DigestError};

/// The registry of names without one.
pub(crate) const DEFAULT_REGISTRY: &str = "docker.io";
const DEFAULT_TAG: &str = "latest";
/// Of a name without tag and digest (distribution/reference).
const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// The name of an image in full: a registry, a repository, and a tag, a digest or both.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a text names no image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// There is nothing before the tag or digest.
    #[error("the name of an image is missing")]
    Empty,
    /// A repository is lower case.
    #[error("the repository {0:?} must be lower case")]
    UpperCase(String),
    /// A repository is made of `[a-z0-9]`, separated by `.`, `_`, `__`, `-` or `/`.
    #[error("the repository {0:?} must be words of a-z and 0-9, separated by '/', '.', '_', '__' or '-'")]
    Repository(String),
    /// A registry is a host with or without a port.
    #[error("the registry {0:?} must be a host name or address, with or without a port")]
    Registry(String),
    /// A tag is at most 128 of `[A-Za-z0-9_.-]`, and begins with none of `.-`.
    #[error(
        "the tag {0:?} must be at most 128 of a-z, A-Z, 0-9, '_', '.' and '-', not beginning with '.' or '-'"
    )]
    Tag(String),
    /// What follows `@` is no digest.
    #[error("the part after '@' is wrong")]
    Digest(#[source] DigestError),
    /// Only names up to 255 bytes exist.
    #[error("the name of an image must not be longer than 255 bytes")]
    TooLong,
    /// 64 hexadecimal digits alone are the id of an image.
    #[error("{0:?} is the id of an image, not a name")]
    Id(String),
}

impl Reference {
    /// The registry, as `docker.io` or `localhost:5000`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in that registry, as `library/busybox`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag; there is a tag or a digest.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest or index.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository, as `docker.io/library/busybox`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository, by digest alone.
    #[must_use]
    pub fn by_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// As people write it: without what is the default.
    #[must_use]
    pub fn familiar(&self) -> String {
        let text = self.to_string();
        let short = text.strip_prefix("docker.io/").unwrap_or(&text);
        let short =
            if short.len() < text.len() { short.strip_prefix("library/").unwrap_or(short) } else { short };
        short.to_owned()
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(ReferenceError::Id(text.to_owned()));
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(ReferenceError::Digest)?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // What follows the last colon is a port when there is a slash in it.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if name.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag(tag.to_owned()));
        }
        let (registry, repository) = match name.split_once('/') {
            Some((first, rest)) if is_registry_like(first) => (first, rest),
            _ => (DEFAULT_REGISTRY, name),
        };
        if !is_registry(registry) {
            return Err(ReferenceError::Registry(registry.to_owned()));
        }
        let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
        if repository.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err(ReferenceError::UpperCase(repository.to_owned()));
        }
        if !repository.split('/').all(is_path_component) {
            return Err(ReferenceError::Repository(repository.to_owned()));
        }
        let repository = if registry == DEFAULT_REGISTRY && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if registry.len() + 1 + repository.len() > LONGEST_NAME {
            return Err(ReferenceError::TooLong);
        }
        let tag = match (tag, &digest) {
            (None, None) => Some(DEFAULT_TAG),
            (tag, _) => tag,
        };
        Ok(Self { registry: registry.to_owned(), repository, tag: tag.map(str::to_owned), digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// Whether the first part of a name is a registry: a repository has no dot, colon or capital there.
fn is_registry_like(first: &str) -> bool {
    first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|byte| byte.is_ascii_uppercase())
}

fn is_registry(registry: &str) -> bool {
    let (host, port) = match registry.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) => {
                if address.parse::<core::net::Ipv6Addr>().is_err() {
                    return false;
                }
                (None, if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or("")) })
            }
            None => return false,
        },
        None => match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.is_none_or(|host| host.split('.').all(is_label))
        && port.is_none_or(|port| port.parse::<u16>().is_ok())
}

fn is_tag(tag: &str) -> bool {
    tag.len() <= LONGEST_TAG
        && !tag.is_empty()
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// Words of letters and digits between separators: one dot, one or two underscores, any number of dashes.
fn is_path_component(component: &str) -> bool {
    let is_word = |byte: char| matches!(byte, 'a'..='z' | '0'..='9');
    if !component.starts_with(is_word) || !component.ends_with(is_word) {
        return false;
    }
    component.split(is_word).all(|separator| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        let digest = format!("@sha256:{HEX}");
        for (text, full, familiar) in [
            ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
            ("team/app", "docker.io/team/app:latest", "team/app:latest"),
            ("docker.io/team/app:v1", "docker.io/team/app:v1", "team/app:v1"),
            ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
            ("Registry/app", "Registry/app:latest", "Registry/app:latest"),
            (
                "quay.io/a/b/c__d.e--f:V_1.0-x",
                "quay.io/a/b/c__d.e--f:V_1.0-x",
                "quay.io/a/b/c__d.e--f:V_1.0-x",
            ),
            ("[::1]:5000/app:x", "[::1]:5000/app:x", "[::1]:5000/app:x"),
            ("quay.io/library/a", "quay.io/library/a:latest", "quay.io/library/a:latest"),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!((reference.to_string().as_str(), reference.familiar().as_str()), (full, familiar));
            assert_eq!(full.parse::<Reference>().unwrap(), reference);
        }
        let by_digest: Reference = format!("busybox{digest}").parse().unwrap();
        assert_eq!(by_digest.to_string(), format!("docker.io/library/busybox{digest}"));
        assert_eq!(by_digest.tag(), None);
        let both: Reference = format!("busybox:1{digest}").parse().unwrap();
        assert_eq!((both.tag(), both.digest().unwrap().hex()), (Some("1"), HEX));
    }

    #[test]
    fn what_names_no_image_is_said() {
        let long = "a".repeat(256);
        for (text, part) in [
            ("", "missing"),
            (":v1", "missing"),
            ("@sha256:1", "'@'"),
            ("Busybox", "lower case"),
            ("a//b", "words"),
            ("a/", "words"),
            ("/a", "words"),
            ("-a", "words"),
            ("a..b", "words"),
            ("a___b", "words"),
            ("a:", "tag"),
            ("a:.x", "tag"),
            ("a b", "words"),
            ("quay.io:port/a", "registry"),
            ("quay.io:99999/a", "registry"),
            ("-x.io/a", "registry"),
            ("[::g]/a", "registry"),
            ("https://quay.io/a", "registry"),
            (HEX, "id"),
            (&long, "255"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_refused_or_reads_the_same_again(text in "[a-zA-Z0-9:/@._\\-\\[\\]]{0,40}") {
            if let Ok(reference) = text.parse::<Reference>() {
                proptest::prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
                proptest::prop_assert_eq!(&reference.familiar().parse::<Reference>().unwrap(), &reference);
            }
        }
    }
}
