//! `kvctl snapshot save`: a snapshot of one member into a file, checked while it arrives.
//!
//! The file gets its name when it is complete and on disk, and never takes the place of another.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use barque_proto::SNAPSHOT_ALIGNMENT_BYTES;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::Context;
use crate::connection::Pieces;
use crate::error::Failure;
use crate::go_duration;

/// Every snapshot ends with the SHA-256 of all bytes before.
const DIGEST_BYTES: usize = 32;

/// Arguments of `snapshot save`.
#[derive(Debug, Args)]
pub(crate) struct SaveArgs {
    /// The new file
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only what came after this revision, to go with a snapshot that has everything up to it (Barque only)
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(1..))]
    since: Option<i64>,
}

impl SaveArgs {
    pub(super) async fn run(self, context: &Context) -> Result<(), Failure> {
        let endpoints = context.connection.endpoints();
        if endpoints.len() != 1 {
            let named: Vec<_> = endpoints.iter().map(ToString::to_string).collect();
            return Err(Failure::Interrupted(format!(
                "snapshot must be requested to one selected node, not multiple [{}]",
                named.join(" ")
            )));
        }
        if fs::symlink_metadata(&self.file).is_ok() {
            return Err(exists(&self.file));
        }
        let saving = self.save(context);
        let saved = match context.connection.settings().command_timeout {
            // A large snapshot takes its time, unless it is said how much (etcdctl: the same).
            None => saving.await?,
            Some(within) => tokio::time::timeout(within, saving).await.map_err(|_| {
                Failure::Interrupted(format!(
                    "the snapshot of {} has not arrived within {}: raise --command-timeout, or leave it out",
                    endpoints[0],
                    go_duration::format(within)
                ))
            })??,
        };
        context.output.report(&saved)
    }

    async fn save(&self, context: &Context) -> Result<Saved, Failure> {
        let part = Part::create(&self.file)?;
        let connection = context.connection.patient();
        let pieces = match self.since {
            None => connection.snapshot().await?,
            Some(since) => connection.snapshot_since(since).await.map_err(|failure| {
                match failure {
                Failure::Server(error) if error.unimplemented => Failure::Unsupported(
                    "this server makes no increments: --since needs Barque; leave it out for a whole snapshot"
                        .into(),
                ),
                other => other,
            }
            })?,
        };
        self.receive(pieces, part).await
    }

    async fn receive(&self, mut pieces: Pieces, mut part: Part) -> Result<Saved, Failure> {
        let bar = if io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}") {
            bar.set_style(style);
        }
        let mut received = Received::default();
        let (mut revision, mut version) = (None, None);
        while let Some(piece) = pieces.next().await? {
            part.write(&piece.blob)?;
            received.add(&piece.blob);
            bar.set_length(received.size_bytes + piece.remaining_bytes);
            bar.set_position(received.size_bytes);
            revision = revision.or(piece.revision);
            version = version.or(piece.version);
        }
        bar.finish_and_clear();
        let size_bytes = received.size_bytes;
        let sha256 = received.finish(self.since.is_none()).map_err(Failure::Interrupted)?;
        part.publish()?;
        let file = self.file.display().to_string();
        Ok(Saved { file, size_bytes, sha256, version, revision, since: self.since })
    }
}

fn exists(file: &Path) -> Failure {
    let why = "it is there already; choose another name, or remove it first";
    Failure::io(file.display().to_string())(io::Error::new(io::ErrorKind::AlreadyExists, why))
}

/// The file as long as it is not complete; removed unless it gets its name.
struct Part {
    file: File,
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Part {
    fn create(target: &Path) -> Result<Self, Failure> {
        let mut path = target.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        // It holds everything that the store holds, users too.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path);
        let file = file.map_err(Failure::io(path.display().to_string()))?;
        Ok(Self { file, path, target: target.to_owned(), published: false })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.file.write_all(bytes).map_err(Failure::io(self.path.display().to_string()))
    }

    fn publish(mut self) -> Result<(), Failure> {
        let failed = |path: &Path| Failure::io(path.display().to_string());
        self.file.sync_all().map_err(failed(&self.path))?;
        match renameat_with(CWD, &self.path, CWD, &self.target, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists(&self.target)),
            // Not every file system can.
            Err(Errno::INVAL | Errno::NOSYS) if fs::symlink_metadata(&self.target).is_err() => {
                fs::rename(&self.path, &self.target).map_err(failed(&self.target))?;
            }
            Err(Errno::INVAL | Errno::NOSYS) => return Err(exists(&self.target)),
            Err(error) => return Err(failed(&self.target)(error.into())),
        }
        self.published = true;
        let dir = self.target.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed(dir))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.published {
            // Only wasted space when this fails; the next attempt begins it anew.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Adds up what arrives, and holds its last bytes back: they are the digest of the others.
#[derive(Default)]
struct Received {
    size_bytes: u64,
    hash: Sha256,
    last: Vec<u8>,
}

impl Received {
    fn add(&mut self, bytes: &[u8]) {
        self.size_bytes += bytes.len() as u64;
        self.last.extend_from_slice(bytes);
        let complete = self.last.len().saturating_sub(DIGEST_BYTES);
        self.hash.update(&self.last[..complete]);
        self.last.drain(..complete);
    }

    /// The digest in hexadecimal, if all has arrived as it was sent.
    fn finish(self, aligned: bool) -> Result<String, String> {
        if self.last.len() < DIGEST_BYTES
            || aligned && self.size_bytes % SNAPSHOT_ALIGNMENT_BYTES != DIGEST_BYTES as u64
        {
            return Err(format!(
                "sha256 checksum not found [bytes: {}]: the snapshot is not complete",
                self.size_bytes
            ));
        }
        if self.hash.finalize()[..] != self.last {
            return Err(
                "the snapshot did not arrive as it was sent (its SHA-256 differs): save it again".into()
            );
        }
        Ok(self.last.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What was saved.
#[derive(Debug, Serialize)]
struct Saved {
    file: String,
    size_bytes: u64,
    /// The digest at the file's end, of everything before.
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// The last one in it, if the server told.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
}

impl fmt::Display for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Snapshot saved at {}", self.file)?;
        if let Some(version) = &self.version {
            writeln!(f, "Server version {version}")?;
        }
        match (self.revision, self.since) {
            (Some(revision), Some(since)) => writeln!(f, "Revision {revision}, since {since}"),
            (Some(revision), None) => writeln!(f, "Revision {revision}"),
            (None, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(content: &[u8], pieces: usize) -> Received {
        let digest = Sha256::digest(content);
        let whole = [content, &digest[..]].concat();
        let mut received = Received::default();
        whole.chunks(pieces).for_each(|piece| received.add(piece));
        received
    }

    #[test]
    fn the_digest_is_found_however_the_file_is_cut_into_pieces() {
        for (content, aligned) in [(vec![7; 1024], true), (vec![8; 1000], false), (vec![], false)] {
            for pieces in [1, 31, 32, 33, 500, 5000] {
                received(&content, pieces).finish(aligned).unwrap();
            }
        }
    }

    #[test]
    fn what_is_not_complete_or_not_as_it_was_sent_is_told() {
        let mut cut = Received::default();
        cut.add(&[1; 20]);
        assert!(cut.finish(false).unwrap_err().starts_with("sha256 checksum not found [bytes: 20]"));
        assert!(received(&[7; 1000], 100).finish(true).unwrap_err().contains("[bytes: 1032]"));
        let mut more = received(&[7; 1000], 100);
        more.add(b"x");
        assert!(more.finish(false).unwrap_err().contains("SHA-256 differs"));
    }

    #[test]
    fn another_file_is_never_replaced_and_nothing_is_left_of_a_failure() {
        let dir = std::env::temp_dir().join(format!("kvctl-save-{:016x}", rand::random::<u64>()));
        fs::create_dir(&dir).unwrap();
        let target = dir.join("a.db");
        let mut part = Part::create(&target).unwrap();
        part.write(b"first").unwrap();
        part.publish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"first");
        let mut part = Part::create(&target).unwrap();
        part.write(b"second").unwrap();
        let failure = part.publish().unwrap_err();
        assert_eq!((failure.exit_code(), failure.to_string().contains("is there already")), (6, true));
        drop(Part::create(&dir.join("b.db")).unwrap());
        assert_eq!(fs::read(&target).unwrap(), b"first");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn etcdctls_line_comes_first() {
        let saved = |version: Option<&str>, revision, since| {
            let version = version.map(str::to_owned);
            let (file, sha256) = ("a.db".to_owned(), String::new());
            Saved { file, size_bytes: 1, sha256, version, revision, since }.to_string()
        };
        assert_eq!(saved(None, None, None), "Snapshot saved at a.db\n");
        assert_eq!(
            saved(Some("3.6.0"), Some(5), None),
            "Snapshot saved at a.db\nServer version 3.6.0\nRevision 5\n"
        );
        assert_eq!(saved(None, Some(5), Some(2)), "Snapshot saved at a.db\nRevision 5, since 2\n");
    }
}
