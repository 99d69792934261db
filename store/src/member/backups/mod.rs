//! The snapshots that a member takes by itself (`--snapshot-schedule`), each of its own state and into its own files.
//!
//! A file gets its name after it was synced and read again completely. What goes wrong is logged, counted and told to
//! those who ask, and tried again; nothing else of the member ever waits for it or ends because of it. The last good
//! file is never removed.

mod files;
mod name;
mod plan;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

pub use self::files::prepare_directory;
use self::name::BackupName;
use self::plan::{Kept, Past, next_run, too_many};
use super::maintenance::ATTEMPTS;
use crate::config::{self, ConfigError};
use crate::ids::MemberId;
use crate::metrics::BackupMetrics;
use crate::raft::snapshots::Snapshots;
use crate::rpc::backend::{ScheduledSnapshot, ScheduledSnapshots};
use crate::snapshot::{self, SnapshotError};
use crate::state::newest_picture::from_newest_picture;
use crate::state::published::Published;

/// The clock of the wall may be set while a timer runs; it is looked at this often.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// A snapshot could not be taken, or an older one is not what it was.
#[derive(Debug, thiserror::Error)]
enum BackupError {
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    #[error("the directory of snapshots {dir} cannot be used: {source}")]
    Directory { dir: String, source: io::Error },
    #[error("this member's data differ from the majority's (alarm CORRUPT), so they are no snapshot")]
    Corrupt,
}

/// What a member knows of its own snapshots.
#[derive(Debug)]
pub struct Backups {
    plan: config::Backups,
    member: MemberId,
    metrics: BackupMetrics,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The oldest first.
    kept: Vec<Kept>,
    next_ms: Option<i64>,
    /// When, and what.
    last_error: Option<(i64, String)>,
}

impl Backups {
    /// Looks at what earlier runs left, and removes what they did not finish.
    ///
    /// # Errors
    /// `SnapshotDir` when the directory cannot be used.
    pub fn open(
        plan: config::Backups,
        member: MemberId,
        metrics: BackupMetrics,
    ) -> Result<Self, ConfigError> {
        prepare_directory(&plan.dir)?;
        let kept = files::look_through(&plan.dir, member).map_err(|error| ConfigError::SnapshotDir {
            dir: plan.dir.clone(),
            why: format!("it cannot be looked through: {error}"),
        })?;
        Ok(Self { plan, member, metrics, state: Mutex::new(State { kept, ..State::default() }) })
    }

    /// For an administrator.
    #[must_use]
    pub fn told(&self) -> ScheduledSnapshots {
        let state = self.state.lock();
        let told = |kept: &Kept| ScheduledSnapshot {
            name: kept.name.file_name().unwrap_or_default(),
            size_bytes: kept.size_bytes,
            revision: kept.name.revision,
            taken_ms: kept.name.taken_ms,
            verified: kept.verified,
        };
        ScheduledSnapshots {
            schedule: self.plan.schedule.to_string(),
            retention: self.plan.retention,
            directory: self.plan.dir.display().to_string(),
            next_ms: state.next_ms,
            last_error: state.last_error.clone(),
            snapshots: state.kept.iter().map(told).collect(),
        }
    }

    fn failed(&self, error: &BackupError) {
        tracing::error!(%error, "a scheduled snapshot failed");
        self.metrics.failures.inc();
        self.state.lock().last_error = Some((now_ms(), error.to_string()));
    }

    /// Reads the files of earlier runs, the newest first. A damaged one stays, and counts for nothing.
    fn verify_all(&self, stop: &CancellationToken) {
        let names: Vec<BackupName> = self.state.lock().kept.iter().map(|kept| kept.name).rev().collect();
        let mut newest = true;
        for name in names {
            let read = self
                .path_of(name)
                .and_then(|path| Ok(snapshot::verify_while(&path, &|| !stop.is_cancelled())?));
            match read {
                Ok(_) => {
                    let size_bytes = self.verified(name);
                    if std::mem::take(&mut newest) {
                        self.tell_last_good(name, size_bytes);
                    }
                }
                Err(BackupError::Snapshot(SnapshotError::Stopped)) => return,
                Err(error) => {
                    tracing::error!(%error, "a scheduled snapshot of an earlier run is no good");
                    self.state.lock().last_error = Some((now_ms(), error.to_string()));
                }
            }
        }
    }

    fn verified(&self, name: BackupName) -> u64 {
        let mut state = self.state.lock();
        let found = state.kept.iter_mut().find(|kept| kept.name == name);
        found.map_or(0, |kept| {
            kept.verified = true;
            kept.size_bytes
        })
    }

    fn tell_last_good(&self, name: BackupName, size_bytes: u64) {
        self.metrics.last_success_timestamp_seconds.set(name.taken_ms / 1000);
        self.metrics.size_bytes.set(i64::try_from(size_bytes).unwrap_or(i64::MAX));
    }

    fn path_of(&self, name: BackupName) -> Result<std::path::PathBuf, BackupError> {
        files::path_of(&self.plan.dir, name).map_err(self.directory())
    }

    fn directory(&self) -> impl FnOnce(io::Error) -> BackupError {
        let dir = self.plan.dir.display().to_string();
        move |source| BackupError::Directory { dir, source }
    }

    /// Writes one, reads it again, gives it its name, and removes those that are too many then.
    fn take(
        &self,
        snapshots: &Snapshots,
        published: &Published,
        stop: &CancellationToken,
    ) -> Result<BackupName, BackupError> {
        let began = Instant::now();
        let taken_ms = now_ms();
        let go_on = || !stop.is_cancelled();
        let (name, size_bytes) = from_newest_picture(published, ATTEMPTS, |picture, watched| {
            if picture.is_corrupt(self.member) {
                return Err(BackupError::Corrupt);
            }
            let name = BackupName { member: self.member, taken_ms, revision: picture.view.revision() };
            let path = self.path_of(name)?;
            let items = watched.watch(picture.view.items());
            let written = snapshot::write_verified(&path, &snapshots.manifest(picture, None), items, &go_on)?;
            Ok((name, written.size_bytes))
        })?;
        let took = began.elapsed();
        self.metrics.duration_seconds.observe(took.as_secs_f64());
        self.tell_last_good(name, size_bytes);
        tracing::info!(revision = %name.revision, size_bytes, took_ms = took.as_millis() as u64, "took a snapshot");
        let remove = {
            let mut state = self.state.lock();
            state.kept.push(Kept { name, size_bytes, verified: true });
            state.kept.sort_unstable_by_key(|kept| kept.name);
            too_many(&state.kept, self.plan.retention)
        };
        files::remove(&self.plan.dir, &remove).map_err(self.directory())?;
        let mut state = self.state.lock();
        state.kept.retain(|kept| !remove.contains(&kept.name));
        state.last_error = None;
        Ok(name)
    }

    /// Takes snapshots when they are due, until `stop`.
    pub async fn run(
        self: Arc<Self>,
        snapshots: Arc<Snapshots>,
        published: Arc<Published>,
        stop: CancellationToken,
    ) {
        let mut now = now_ms();
        let mut past = Past { started_ms: now, taken_ms: None, failed_ms: None };
        let (this, token) = (Arc::clone(&self), stop.clone());
        if tokio::task::spawn_blocking(move || this.verify_all(&token)).await.is_err() {
            return;
        }
        past.taken_ms = self.newest_good(now);
        loop {
            let next_ms = next_run(&self.plan.schedule, past);
            self.state.lock().next_ms = next_ms;
            // Beyond the end of calendars nothing is due any more.
            let Some(next_ms) = next_ms else { return stop.cancelled().await };
            while now < next_ms {
                let sleep = u64::try_from(next_ms - now).map_or(LONGEST_SLEEP, Duration::from_millis);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(sleep.min(LONGEST_SLEEP)) => {}
                }
                let seen = now;
                now = now_ms();
                if now < seen {
                    past.clock_was_set_back(now);
                    break;
                }
            }
            if now < next_ms {
                continue;
            }
            let (this, token) = (Arc::clone(&self), stop.clone());
            let (snapshots, published) = (Arc::clone(&snapshots), Arc::clone(&published));
            let taken = tokio::task::spawn_blocking(move || this.take(&snapshots, &published, &token)).await;
            now = now_ms();
            match taken {
                Ok(Ok(name)) => {
                    past.taken_ms = Some(name.taken_ms);
                    past.failed_ms = None;
                }
                Ok(Err(BackupError::Snapshot(SnapshotError::Stopped))) | Err(_) => return,
                Ok(Err(error)) => {
                    self.failed(&error);
                    past.failed_ms = Some(now);
                }
            }
        }
    }

    fn newest_good(&self, now_ms: i64) -> Option<i64> {
        let state = self.state.lock();
        let good = state.kept.iter().filter(|kept| kept.verified).map(|kept| kept.name.taken_ms);
        good.filter(|taken_ms| *taken_ms <= now_ms).max()
    }
}

fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}
