//! The file that a detached process logs to: followed until it says something, and its last lines. Must never keep more of it
//! than a line.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use barque_inotify::{Changes, WatchFlags};
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;

/// No line that matters is longer, in bytes.
const LONGEST_LINE: usize = 64 << 10;
/// As much of the end is looked at for the last lines, in bytes.
const END: u64 = 16 << 10;

/// A log that is followed.
#[derive(Debug)]
pub(crate) struct Follower {
    file: File,
    changes: Changes,
    /// The line that is not whole yet.
    line: Vec<u8>,
}

impl Follower {
    /// Follows what is written from here on; the file must be there.
    pub(crate) async fn from_end(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        // Before the first look, so that nothing is missed between that and waiting.
        let changes = Changes::of(directory, WatchFlags::MODIFY)?;
        let mut file = File::open(path).await?;
        tokio::io::AsyncSeekExt::seek(&mut file, SeekFrom::End(0)).await?;
        Ok(Self { file, changes, line: Vec::new() })
    }

    /// Waits for a line that has this text.
    pub(crate) async fn until(&mut self, text: &str) -> io::Result<()> {
        let mut buffer = vec![0; 8 << 10];
        loop {
            let read = self.file.read(&mut buffer).await?;
            if read == 0 {
                self.changes.next().await?;
                continue;
            }
            for byte in &buffer[..read] {
                if *byte != b'\n' {
                    self.line.push(*byte);
                    self.line.truncate(LONGEST_LINE);
                    continue;
                }
                let is_it = String::from_utf8_lossy(&self.line).contains(text);
                self.line.clear();
                if is_it {
                    return Ok(());
                }
            }
        }
    }
}

/// The last lines of a log, or why there are none.
pub(crate) fn last_lines(path: &Path, count: usize) -> String {
    let read = || {
        let mut file = std::fs::File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(END)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        io::Result::Ok(bytes)
    };
    match read() {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(count)..].join("\n")
        }
        Err(error) => format!("({}: {error})", path.display()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn only_what_comes_is_found_also_when_it_comes_in_parts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        std::fs::write(&path, "it is ready from before\n").unwrap();
        let mut follower = Follower::from_end(&path).await.unwrap();
        let mut log = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
        let (send, mut received) = tokio::sync::oneshot::channel();
        let followed = tokio::spawn(async move {
            let told = follower.until("is ready").await;
            let _ = send.send(());
            told
        });
        log.write_all(b"one\nit is re").unwrap();
        assert!(received.try_recv().is_err());
        log.write_all(b"ady at last\n").unwrap();
        followed.await.unwrap().unwrap();
    }

    #[test]
    fn the_end_of_a_log_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        assert!(last_lines(&path, 2).contains("No such file"));
        std::fs::write(&path, "a\nb\nc\n").unwrap();
        assert_eq!(last_lines(&path, 2), "b\nc");
        assert_eq!(last_lines(&path, 9), "a\nb\nc");
    }
}
