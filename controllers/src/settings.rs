//! What single controllers are told besides their workers: what stands in files that flags name. Read once, at the start, but for
//! the certificates of API servers, which are followed.

use std::path::PathBuf;

use barque_client::servers::{ConnectError, authorities};

use crate::config::ValidConfig;
use crate::root_certificates::{Follower, RootCa};
use crate::signing_key::{KeyError, SigningKey};

/// What single controllers are told.
pub(crate) struct Settings {
    /// The certificates that pods trust API servers by, PEM; nothing when nobody knows any.
    pub(crate) root_ca: Option<RootCa>,
    /// What signs tokens that stand in secrets.
    pub(crate) token_key: Option<SigningKey>,
    /// How often the usage of every quota is counted anew.
    pub(crate) quota_sync: std::time::Duration,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It cannot be read.
    #[error("--{flag}: {path}")]
    Read {
        /// The flag that names it.
        flag: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: std::io::Error,
    },
    /// It has no certificate.
    #[error("--root-ca-file: {0} has no certificate in PEM")]
    Authority(PathBuf),
    /// It has no key that can be used.
    #[error("--service-account-private-key-file: {0}")]
    Key(PathBuf, #[source] KeyError),
    /// Nobody told which certificates to trust, and what the API servers are trusted by cannot be read.
    #[error("the certificates of the API servers")]
    Connect(#[from] ConnectError),
}

impl Settings {
    /// Reads the files; with it, who follows those that are followed.
    pub(crate) async fn read(config: &ValidConfig) -> Result<(Self, Option<Follower>), SettingsError> {
        let (root_ca, follower) = match &config.root_ca_file {
            Some(path) => {
                let (root_ca, follower) = RootCa::of_file(path).await?;
                (Some(root_ca), Some(follower))
            }
            None => {
                let text = authorities(&config.component.servers.source).await?;
                (Some(text).filter(|text| !text.is_empty()).map(RootCa::fixed), None)
            }
        };
        let token_key = match &config.service_account_private_key_file {
            Some(path) => {
                let text = file("service-account-private-key-file", path).await?;
                Some(SigningKey::of_pem(&text).map_err(|error| SettingsError::Key(path.clone(), error))?)
            }
            None => None,
        };
        Ok((Self { root_ca, token_key, quota_sync: config.resource_quota_sync_period }, follower))
    }
}

async fn file(flag: &'static str, path: &PathBuf) -> Result<String, SettingsError> {
    tokio::fs::read_to_string(path).await.map_err(|error| SettingsError::Read {
        flag,
        path: path.clone(),
        error,
    })
}
