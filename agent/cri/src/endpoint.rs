//! Where a runtime listens, as `unix:///run/containerd/containerd.sock`. Pure; must never look whether somebody does.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The socket of a runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(PathBuf);

/// What was said is no socket, in a sentence that goes behind what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a socket such as unix:///run/containerd/containerd.sock")]
pub struct EndpointError;

impl Endpoint {
    /// The path of the socket.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl From<PathBuf> for Endpoint {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// `unix://` and an absolute path, or the path alone, as the kubelet takes them.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let path = match text.split_once("://") {
            Some(("unix", path)) => path,
            Some(_) => return Err(EndpointError),
            None => text,
        };
        let path = Path::new(path);
        if !path.is_absolute() || path.file_name().is_none() {
            return Err(EndpointError);
        }
        Ok(Self(path.to_owned()))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix://{}", self.0.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_named_with_its_scheme_or_by_its_path() {
        for text in ["unix:///run/c.sock", "/run/c.sock"] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(
                (endpoint.path(), endpoint.to_string().as_str()),
                (Path::new("/run/c.sock"), "unix:///run/c.sock")
            );
        }
        for text in
            ["", "/", "unix://", "unix://run/c.sock", "tcp://127.0.0.1:1", "npipe:////./pipe/c", "c.sock"]
        {
            assert_eq!(text.parse::<Endpoint>(), Err(EndpointError), "{text}");
        }
    }
}
