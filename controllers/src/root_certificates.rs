//! The certificates that pods trust API servers by, as the file of `--root-ca-file` has them now. Must never let a file that cannot
//! be used replace what could.

use std::path::{Path, PathBuf};

use barque_inotify::{Changes, WatchFlags};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::sync::watch;

use crate::settings::SettingsError;

/// PEM, followed. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct RootCa(watch::Receiver<String>);

/// Keeps a [`RootCa`] in step with its file.
pub(crate) struct Follower {
    path: PathBuf,
    tell: watch::Sender<String>,
    changes: Changes,
}

impl RootCa {
    /// That does not change.
    pub(crate) fn fixed(certificates: String) -> Self {
        Self(watch::channel(certificates).1)
    }

    /// What a file says, and who follows it.
    ///
    /// # Errors
    /// When it cannot be read, or has no certificate.
    pub(crate) async fn of_file(path: &Path) -> Result<(Self, Follower), SettingsError> {
        // Before reading: a change in between is then told.
        let directory = path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let wanted = WatchFlags::CLOSE_WRITE | WatchFlags::MOVE | WatchFlags::CREATE;
        let changes = Changes::of(directory, wanted).map_err(|error| unreadable(path, error))?;
        let (tell, told) = watch::channel(read(path).await?);
        Ok((Self(told), Follower { path: path.to_owned(), tell, changes }))
    }

    /// As it is now.
    pub(crate) fn current(&self) -> String {
        self.0.borrow().clone()
    }

    /// Waits until it is another one than at the last call; for ever when nobody follows.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Follower {
    /// Ends only when the kernel does not tell of changes any more.
    pub(crate) async fn run(self) {
        loop {
            if let Err(error) = self.changes.next().await {
                tracing::error!(%error, "--root-ca-file is not followed any more");
                return;
            }
            match read(&self.path).await {
                Ok(text) => {
                    let is_new = self.tell.send_if_modified(|known| {
                        let is_new = *known != text;
                        *known = text;
                        is_new
                    });
                    if is_new {
                        tracing::info!("the certificates that pods trust API servers by are others");
                    }
                }
                Err(error) => tracing::warn!(%error, "--root-ca-file cannot be used; what it said stays"),
            }
        }
    }
}

fn unreadable(path: &Path, error: std::io::Error) -> SettingsError {
    SettingsError::Read { flag: "root-ca-file", path: path.to_owned(), error }
}

async fn read(path: &Path) -> Result<String, SettingsError> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| unreadable(path, error))?;
    match CertificateDer::pem_slice_iter(text.as_bytes()).next() {
        Some(Ok(_)) => Ok(text),
        _ => Err(SettingsError::Authority(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pem() -> String {
        let key = rcgen::KeyPair::generate().unwrap();
        rcgen::CertificateParams::default().self_signed(&key).unwrap().pem()
    }

    #[tokio::test]
    async fn a_file_is_followed_as_long_as_it_is_good() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        assert!(matches!(RootCa::of_file(&path).await, Err(SettingsError::Read { .. })));
        let (first, second) = (pem(), pem());
        std::fs::write(&path, &first).unwrap();
        let (mut certificates, follower) = RootCa::of_file(&path).await.unwrap();
        assert_eq!(certificates.current(), first);
        let following = tokio::spawn(follower.run());
        std::fs::write(&path, "nothing").unwrap();
        let new = directory.path().join("new");
        std::fs::write(&new, &second).unwrap();
        std::fs::rename(&new, &path).unwrap();
        certificates.changed().await;
        assert_eq!(certificates.current(), second);
        following.abort();
    }
}
