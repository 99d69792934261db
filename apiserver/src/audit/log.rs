//! The file of audit lines and its one writer. Who has a line waits while too many are not written yet, so that nothing is
//! told late or not at all because the disk is slow. Must never drop a line while the writer runs.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rotation::{Limits, RotatingFile};

/// Lines that wait at most; who comes then waits.
const WAITING: usize = 1024;
/// Lines that are written at once at most.
const BATCH: usize = 256;
const MEBIBYTE: u64 = 1024 * 1024;

/// The flags `--audit-log-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// Where lines go; `-` is standard output.
    pub path: PathBuf,
    /// When a file is put aside, in MiB; 0 for never.
    pub max_size: u64,
    /// How many files that were put aside are kept; 0 for all.
    pub max_backup: usize,
    /// For how many days they are kept; 0 for ever.
    pub max_age: u64,
}

/// Takes lines.
#[derive(Clone, Debug)]
pub struct Log {
    lines: mpsc::Sender<Vec<u8>>,
}

/// The writer has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is closed")]
pub struct LogClosed;

impl Log {
    /// Opens the file and starts the writer. After `stop`, no line is taken any more, and those that were are written.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn start(config: &LogConfig, tasks: &TaskTracker, stop: CancellationToken) -> io::Result<Self> {
        let limits = Limits {
            size: config.max_size.saturating_mul(MEBIBYTE),
            backups: config.max_backup,
            days: config.max_age,
        };
        let target = if config.path.as_os_str() == "-" {
            Target::Output
        } else {
            Target::File(RotatingFile::open(&config.path, limits)?)
        };
        let (lines, receiver) = mpsc::channel(WAITING);
        tasks.spawn(write(target, receiver, stop));
        Ok(Self { lines })
    }

    /// Hands a line over; waits while too many wait.
    ///
    /// # Errors
    /// When the writer has ended.
    pub async fn write(&self, line: Vec<u8>) -> Result<(), LogClosed> {
        self.lines.send(line).await.map_err(|_| LogClosed)
    }
}

#[derive(Debug)]
enum Target {
    Output,
    File(RotatingFile),
}

impl Target {
    fn write(&mut self, lines: &[Vec<u8>]) -> io::Result<()> {
        match self {
            Self::Output => io::stdout().lock().write_all(&lines.concat()),
            Self::File(file) => file.write(lines, SystemTime::now()),
        }
    }
}

async fn write(mut target: Target, mut lines: mpsc::Receiver<Vec<u8>>, stop: CancellationToken) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut stopped = false;
    loop {
        let count = tokio::select! {
            () = stop.cancelled(), if !stopped => {
                stopped = true;
                lines.close();
                continue;
            }
            count = lines.recv_many(&mut batch, BATCH) => count,
        };
        if count == 0 {
            return;
        }
        // A disk may be slow: not on a thread that serves others.
        let written = spawn_blocking(move || {
            let result = target.write(&batch);
            batch.clear();
            (target, batch, result)
        });
        let result;
        (target, batch, result) = match written.await {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "the writer of the audit log failed");
                return;
            }
        };
        if let Err(error) = result {
            tracing::error!(%error, lines = count, "audit lines could not be written");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_line_that_was_taken_is_written_before_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let config = LogConfig { path: path.clone(), max_size: 100, max_backup: 0, max_age: 0 };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let log = Log::start(&config, &tasks, stop.clone()).unwrap();
        // More than can wait: the writer must take some meanwhile.
        let mut expected = String::new();
        for number in 0..3 * WAITING {
            let line = format!("{number}\n");
            expected.push_str(&line);
            log.write(line.into_bytes()).await.unwrap();
        }
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert_eq!(log.write(b"late\n".to_vec()).await, Err(LogClosed));
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_opened_is_an_error_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let config = LogConfig { path: folder.path().to_owned(), max_size: 0, max_backup: 0, max_age: 0 };
        let started = Log::start(&config, &TaskTracker::new(), CancellationToken::new());
        assert!(started.is_err());
    }
}
