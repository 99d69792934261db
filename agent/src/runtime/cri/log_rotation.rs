//! Logs of containers that run are rotated: runtimes write them and leave their size to whoever asks for them, as the kubelet does.
//! Must never touch the log of one that has ended.
//!
//! A log that is full gets a name with the time, the runtime is told to begin a new one, and the oldest are removed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use barque_containers::log_rotation::{rotated_name, superfluous};
use barque_cri::{Client, CriError, v1};
use k8s_openapi::jiff::Timestamp;
use tokio::fs;
use tokio::time::{MissedTickBehavior, interval};

use super::labels::POD_UID;

/// When logs are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogRotation {
    /// A file of so many bytes is full.
    pub file_bytes: u64,
    /// So many files are kept of a container, with the one that is written.
    pub files: u32,
    /// How often their sizes are looked at.
    pub period: Duration,
}

/// Why a log was not rotated.
#[derive(Debug, thiserror::Error)]
enum RotationError {
    #[error("{0}")]
    File(PathBuf, #[source] io::Error),
    #[error(transparent)]
    Runtime(#[from] CriError),
}

/// Rotates the logs of a runtime.
pub(super) struct Rotator {
    client: Client,
    rotation: LogRotation,
    /// Where containers that run have their logs, by their ids.
    logs: HashMap<String, PathBuf>,
}

impl Rotator {
    pub(super) fn new(client: Client, rotation: LogRotation) -> Self {
        Self { client, rotation, logs: HashMap::new() }
    }

    /// Looks for ever.
    pub(super) async fn run(mut self) {
        let mut looks = interval(self.rotation.period);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            if let Err(error) = self.look().await {
                // Its watch says that it is away.
                tracing::debug!(%error, "logs are not looked at");
            }
        }
    }

    async fn look(&mut self) -> Result<(), CriError> {
        let state = Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning.into() });
        let filter = Some(v1::ContainerFilter { state, ..v1::ContainerFilter::default() });
        let running = self.client.list_containers(v1::ListContainersRequest { filter }).await?.containers;
        self.logs.retain(|id, _| running.iter().any(|container| container.id == *id));
        for container in running.iter().filter(|container| container.labels.contains_key(POD_UID)) {
            let Some(log) = self.log_of(&container.id).await? else { continue };
            if let Err(error) = self.check(&container.id, &log).await {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(container = container.id, %error, source, "a log is not rotated");
            }
        }
        Ok(())
    }

    /// Where a container has its log; nothing for one that is gone, or has none.
    async fn log_of(&mut self, id: &str) -> Result<Option<PathBuf>, CriError> {
        if let Some(log) = self.logs.get(id) {
            return Ok(Some(log.clone()));
        }
        let request = v1::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
        let status = match self.client.container_status(request).await {
            Ok(told) => told.status,
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let log = status.map(|status| PathBuf::from(status.log_path)).filter(|log| log.is_absolute());
        if let Some(log) = &log {
            self.logs.insert(id.to_owned(), log.clone());
        }
        Ok(log)
    }

    /// Rotates a log that is full; one that somebody took away is begun anew.
    async fn check(&self, id: &str, log: &Path) -> Result<(), RotationError> {
        match fs::metadata(log).await {
            Ok(metadata) if metadata.len() < self.rotation.file_bytes => Ok(()),
            Ok(_) => self.rotate(id, log).await,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(self.reopen(id).await?),
            Err(error) => Err(RotationError::File(log.to_owned(), error)),
        }
    }

    async fn rotate(&self, id: &str, log: &Path) -> Result<(), RotationError> {
        let (Some(directory), Some(name)) = (log.parent(), log.file_name().and_then(|name| name.to_str()))
        else {
            return Ok(());
        };
        let now_ns = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let full = directory.join(rotated_name(name, now_ns));
        let of = |path: &Path| {
            let path = path.to_owned();
            move |error| RotationError::File(path, error)
        };
        fs::rename(log, &full).await.map_err(of(log))?;
        if let Err(error) = self.reopen(id).await {
            // Until it can be rotated, it grows where it is looked for.
            fs::rename(&full, log).await.map_err(of(&full))?;
            return Err(error.into());
        }
        let (mut names, mut entries) = (Vec::new(), fs::read_dir(directory).await.map_err(of(directory))?);
        while let Some(entry) = entries.next_entry().await.map_err(of(directory))? {
            names.extend(entry.file_name().into_string());
        }
        for old in superfluous(name, names, self.rotation.files) {
            let old = directory.join(old);
            fs::remove_file(&old).await.map_err(of(&old))?;
        }
        Ok(())
    }

    async fn reopen(&self, id: &str) -> Result<(), CriError> {
        let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
        self.client.reopen_container_log(request).await.map(drop)
    }
}
