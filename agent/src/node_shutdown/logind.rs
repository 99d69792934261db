//! What systemd-logind is asked, over the system's D-Bus: to hold a shutdown up, for how long it does, and when one begins. Must
//! never decide what is done then.
//!
//! The interface is `org.freedesktop.login1(5)`, its limit that of `logind.conf(5)`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use zbus::proxy::{Builder, CacheProperties};
use zbus::zvariant::OwnedFd;
use zbus::{Connection, Proxy};

use super::bus;

/// The file that raises the limit.
const FILE: &str = "99-barque.conf";
/// `SIGHUP`, at which logind reads its files again.
const HANGUP: i32 = 1;

/// Why logind is not there or not of help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogindError {
    /// There is no bus, nobody of that name on it, or it refuses.
    #[error("systemd-logind cannot be asked over D-Bus")]
    Bus(#[from] zbus::Error),
    /// The connection is gone.
    #[error("D-Bus tells nothing any more")]
    Ended,
}

/// Why the limit was not raised.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RaiseError {
    /// A file cannot be written.
    #[error("{0} cannot be written")]
    File(PathBuf, #[source] io::Error),
    /// Nobody makes logind read it.
    #[error("systemd does not have systemd-logind read it")]
    Reload(#[from] zbus::Error),
}

/// logind, over one connection; its tasks end with it.
pub(crate) struct Logind {
    connection: Connection,
    manager: Proxy<'static>,
}

/// While this is there the machine does not go down, for as long as logind allows.
pub(crate) struct Inhibitor {
    _descriptor: OwnedFd,
}

impl Logind {
    /// Connects to the system's bus.
    pub(crate) async fn connect() -> Result<Self, LogindError> {
        let connection = bus::connect().await?;
        let manager = Builder::new(&connection)
            .destination("org.freedesktop.login1")?
            .path("/org/freedesktop/login1")?
            .interface("org.freedesktop.login1.Manager")?
            // What it allows changes without a signal when its files are read again.
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        Ok(Self { connection, manager })
    }

    /// How long it lets a shutdown be held up.
    pub(crate) async fn longest_delay(&self) -> Result<Duration, LogindError> {
        let micros: u64 = self.manager.get_property("InhibitDelayMaxUSec").await?;
        Ok(Duration::from_micros(micros))
    }

    /// Whether the machine goes down already.
    pub(crate) async fn is_shutting_down(&self) -> Result<bool, LogindError> {
        Ok(self.manager.get_property("PreparingForShutdown").await?)
    }

    /// When the machine begins to go down, and when it does not after all. It ends with the connection.
    pub(crate) async fn shutdowns(&self) -> Result<impl Stream<Item = bool> + Unpin + use<>, LogindError> {
        let signals = self.manager.receive_signal("PrepareForShutdown").await?;
        Ok(signals.filter_map(|signal| {
            let begins: Result<bool, _> = signal.body().deserialize();
            if let Err(error) = &begins {
                tracing::warn!(%error, "systemd-logind tells of a shutdown, and it cannot be read");
            }
            std::future::ready(begins.ok())
        }))
    }

    /// Holds up the next shutdown.
    pub(crate) async fn inhibit(&self) -> Result<Inhibitor, LogindError> {
        let words = ("shutdown", "barque agent", "Pods of this node end first", "delay");
        Ok(Inhibitor { _descriptor: self.manager.call("Inhibit", &words).await? })
    }

    /// Has it allow so long, by a file in this directory, which is one of those of `logind.conf.d`. That it does so by now is not
    /// said.
    pub(crate) async fn raise(&self, directory: &Path, delay: Duration) -> Result<(), RaiseError> {
        let path = directory.join(FILE);
        let seconds = delay.as_secs() + u64::from(delay.subsec_nanos() > 0);
        let text = format!(
            "# So that pods can end before the machine goes down.\n[Login]\nInhibitDelayMaxSec={seconds}\n"
        );
        let written = async {
            tokio::fs::create_dir_all(directory).await?;
            tokio::fs::write(&path, text).await
        };
        written.await.map_err(|error| RaiseError::File(path, error))?;
        let systemd: Proxy<'_> = Builder::new(&self.connection)
            .destination("org.freedesktop.systemd1")?
            .path("/org/freedesktop/systemd1")?
            .interface("org.freedesktop.systemd1.Manager")?
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let (): () = systemd.call("KillUnit", &("systemd-logind.service", "all", HANGUP)).await?;
        Ok(())
    }
}
