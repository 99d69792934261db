//! One blob from a registry into a file: hashed as it comes, resumed where it broke, bounded by the size it should have. Must never
//! leave a file that looks complete and is not: whoever called names it only after this has checked it.

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::CONTENT_RANGE;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use crate::credentials::Credential;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::manifest::Descriptor;
use crate::progress::{Event, Progress};
use crate::registries::Endpoint;
use crate::registry::{Query, Registry, next_chunk};

/// Chunks between the network and the disk.
const AHEAD: usize = 16;
const LONGEST_DELAY: Duration = Duration::from_secs(10);

/// Somewhere to get content, as somebody.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) endpoint: Endpoint,
    pub(crate) credential: Option<Credential>,
}

/// How often a broken download is tried.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Retries {
    pub(crate) attempts: u32,
    /// Before the second attempt; it doubles.
    pub(crate) delay: Duration,
}

impl Retries {
    /// Before an attempt, the second is 2.
    pub(crate) fn delay_before(self, attempt: u32) -> Duration {
        self.delay.saturating_mul(1 << attempt.saturating_sub(2).min(16)).min(LONGEST_DELAY)
    }
}

/// Downloads a blob from the first of `sources` that has it.
pub(crate) async fn download(
    registry: &Registry,
    sources: &[Source],
    blob: &Descriptor,
    to: &Path,
    retries: Retries,
    progress: &dyn Progress,
) -> Result<()> {
    let file = File::options().create_new(true).write(true).open(to);
    let file = file.map_err(Error::io(format!("making {}", to.display())))?;
    let mut partial = Partial { file, hash: Sha256::new(), written: 0 };
    let mut failed = Vec::new();
    for source in sources {
        let mut attempt = 1;
        let error = loop {
            let error = match fetch(registry, source, blob, &mut partial, progress).await {
                Ok(()) => match partial.check(blob) {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if !is_transient(&error) {
                // Whatever it was, its beginning is not to be trusted.
                partial.restart().map_err(Error::io(format!("writing {}", to.display())))?;
                break error;
            }
            if attempt == retries.attempts {
                break error;
            }
            attempt += 1;
            progress.event(Event::Retrying { layer: blob.digest.clone(), attempt, reason: error.message() });
            tokio::time::sleep(retries.delay_before(attempt)).await;
        };
        if matches!(error, Error::Io { .. }) {
            return Err(error);
        }
        failed.push((source.endpoint.base.url(), error));
    }
    match failed.pop() {
        Some((_, error)) if failed.is_empty() => Err(error),
        Some(last) => Err(Error::Endpoints(failed.into_iter().chain([last]).collect())),
        None => Err(Error::NotFound(blob.digest.to_string())),
    }
}

/// Whether the same question may have another answer soon.
pub(crate) fn is_transient(error: &Error) -> bool {
    match error {
        Error::Unreachable { .. } => true,
        Error::Status { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
        _ => false,
    }
}

/// What has come of a blob.
struct Partial {
    file: File,
    hash: Sha256,
    written: u64,
}

impl Partial {
    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hash = Sha256::new();
        self.written = 0;
        Ok(())
    }

    fn check(&mut self, blob: &Descriptor) -> Result<()> {
        let what = || blob.digest.to_string();
        if self.written != blob.size {
            return Err(Error::WrongSize { what: what(), found: self.written, expected: blob.size });
        }
        let found = Digest::from_hash(&self.hash.clone().finalize());
        if found != blob.digest {
            return Err(Error::WrongDigest { what: what(), found, expected: blob.digest.clone() });
        }
        Ok(())
    }

    fn append(&mut self, chunk: &Bytes) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hash.update(chunk);
        self.written += chunk.len() as u64;
        Ok(())
    }
}

/// One attempt, beginning where the last one broke.
async fn fetch(
    registry: &Registry,
    source: &Source,
    blob: &Descriptor,
    partial: &mut Partial,
    progress: &dyn Progress,
) -> Result<()> {
    if partial.written == blob.size {
        return Ok(());
    }
    let url = || source.endpoint.base.url();
    let broken = |source| Error::Unreachable { method: "GET", url: url(), source };
    let path = format!("blobs/{}", blob.digest);
    let query = Query {
        endpoint: &source.endpoint,
        credential: source.credential.as_ref(),
        what: blob.digest.as_str(),
        path: &path,
        accept: None,
        from: partial.written,
    };
    let answer = match registry.get(&query).await {
        Err(Error::Status { status: StatusCode::RANGE_NOT_SATISFIABLE, .. }) => {
            partial.restart().map_err(Error::io("beginning a blob again"))?;
            return Err(broken("it does not continue where it broke".into()));
        }
        answer => answer?,
    };
    let range = answer.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let continues = answer.status() == StatusCode::PARTIAL_CONTENT
        && range.starts_with(&format!("bytes {}-", partial.written));
    if answer.status() == StatusCode::PARTIAL_CONTENT && !continues {
        return Err(Error::Protocol {
            url: url(),
            why: format!("another range than was asked for: {range:?}"),
        });
    }
    if !continues {
        partial.restart().map_err(Error::io("beginning a blob again"))?;
    }

    let mut expected = blob.size - partial.written;
    let mut body = answer.into_body();
    let (chunks, mut received) = mpsc::channel::<Bytes>(AHEAD);
    let done_before = partial.written;
    let taken = Partial {
        file: partial.file.try_clone().map_err(Error::io("writing a blob"))?,
        hash: partial.hash.clone(),
        written: partial.written,
    };
    // Ends when the sender is dropped, also with this future.
    let writing = tokio::task::spawn_blocking(move || {
        let mut taken = taken;
        let mut outcome = Ok(());
        while let Some(chunk) = received.blocking_recv() {
            outcome = taken.append(&chunk);
            if outcome.is_err() {
                break;
            }
        }
        (taken, outcome)
    });
    let outcome = loop {
        match next_chunk(&mut body).await {
            Ok(Some(chunk)) => {
                let length = chunk.len() as u64;
                if length > expected {
                    let found = blob.size - expected + length;
                    break Err(Error::WrongSize {
                        what: blob.digest.to_string(),
                        found,
                        expected: blob.size,
                    });
                }
                expected -= length;
                let done = blob.size - expected;
                progress.event(Event::Downloading { layer: blob.digest.clone(), done, total: blob.size });
                if chunks.send(chunk).await.is_err() {
                    break Ok(());
                }
            }
            Ok(None) if expected > 0 => {
                let why = format!("it ended after {} of {} bytes", blob.size - expected, blob.size);
                break Err(broken(why.into()));
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(broken(Box::new(error))),
        }
    };
    drop(chunks);
    let (taken, written) =
        writing.await.map_err(|error| Error::io("writing a blob")(io::Error::other(error)))?;
    tracing::trace!("{}: {} bytes more", blob.digest, taken.written - done_before);
    *partial = taken;
    written.map_err(Error::io(format!("failed to write {}", blob.digest)))?;
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound() {
        let retries = Retries { attempts: 9, delay: Duration::from_millis(100) };
        assert_eq!(retries.delay_before(2), Duration::from_millis(100));
        assert_eq!(retries.delay_before(4), Duration::from_millis(400));
        assert_eq!(retries.delay_before(u32::MAX), LONGEST_DELAY);
    }
}
