//! Asking a shim for something.

use std::path::Path;

use tokio::net::UnixStream;

use crate::error::Error;
use crate::store::SandboxDirectory;
use crate::streams::Streams;
use crate::wire::{self, Failure, Reply, Request};

/// A sandbox's shim.
#[derive(Debug, Clone)]
pub(crate) struct ShimClient {
    sandbox: String,
    directory: SandboxDirectory,
}

impl ShimClient {
    pub(crate) fn new(sandbox: &str, directory: SandboxDirectory) -> Self {
        Self { sandbox: sandbox.to_owned(), directory }
    }

    fn gone(&self) -> Error {
        Error::ShimGone(self.sandbox.clone())
    }

    pub(crate) async fn connect(&self) -> Result<UnixStream, Error> {
        let socket: &Path = &self.directory.socket();
        wire::connect(socket).await.map_err(|_| self.gone())
    }

    /// Sends a request; whom it is about is named in errors.
    async fn ask(&self, request: &Request) -> Result<UnixStream, Error> {
        let connection = self.connect().await?;
        wire::send(&connection, request, &[]).await.map_err(|_| self.gone())?;
        Ok(connection)
    }

    /// Has something done.
    pub(crate) async fn request(&self, subject: &str, request: &Request) -> Result<(), Error> {
        let connection = self.ask(request).await?;
        match wire::receive::<Reply>(&connection).await {
            Ok(Some((Reply::Done, _))) => Ok(()),
            Ok(Some((Reply::Failed(failure), _))) => Err(told(subject, failure)),
            _ => Err(self.gone()),
        }
    }

    /// Has something done that is answered with streams.
    pub(crate) async fn streams(&self, subject: &str, request: &Request) -> Result<Streams, Error> {
        let connection = self.ask(request).await?;
        match wire::receive::<Reply>(&connection).await {
            Ok(Some((Reply::Streams(kinds), descriptors))) => {
                Streams::received(connection, &self.sandbox, &kinds, descriptors)
                    .map_err(|source| Error::Io { action: "use the streams".to_owned(), source })
            }
            Ok(Some((Reply::Failed(failure), _))) => Err(told(subject, failure)),
            _ => Err(self.gone()),
        }
    }
}

fn told(subject: &str, failure: Failure) -> Error {
    match failure {
        Failure::NotFound => Error::NotFound(subject.to_owned()),
        Failure::Exists => Error::Exists(subject.to_owned()),
        Failure::State(story) => Error::State(story),
        Failure::Refused(story) => Error::Refused(story),
    }
}
