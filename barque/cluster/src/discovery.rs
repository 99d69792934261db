//! The first words with a cluster: its authority is asked for from who cannot be verified yet, and believed only when it is the one
//! that the token names; from then on everybody is verified. Must never send the token to who was not verified.

use std::time::{Duration, Instant};

use barque_api::certificate_bundle::certificates;
pub(crate) use barque_client::error_story::told;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Uri;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::config::{AuthInfo, Kubeconfig};
use kube::{Client, Config};

use crate::authority::{Pin, der};
use crate::objects::CLUSTER_INFO;
use crate::settings::{self, ClusterSettings, SettingsError};
use crate::token::Token;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// A cluster that has just begun has what others join it by within this time, and is asked as often.
const BIRTH: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_millis(500);

/// Why a machine cannot join.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// Nobody there, or nobody who serves an API.
    #[error("--join={url}: {what}: {}", told(error))]
    Asked {
        /// Who was asked.
        url: String,
        /// For what.
        what: &'static str,
        /// What came.
        error: Box<kube::Error>,
    },
    /// The answer is none.
    #[error("--join={url}: {what} cannot be understood: {why}")]
    Answer {
        /// Who was asked.
        url: String,
        /// For what.
        what: &'static str,
        /// What is wrong.
        why: String,
    },
    /// Another cluster, or somebody in between.
    #[error(
        "--join={0} shows the authority of another cluster than --token names: either the token belongs to another cluster, or \
         somebody stands between; `barque token create` on a master prints a token of its cluster"
    )]
    OtherCluster(String),
    /// The settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
}

/// A cluster that is believed, and believes.
pub struct Contact {
    /// Who was asked.
    pub url: Uri,
    /// The cluster's authority, PEM; several while it is exchanged for another one.
    pub authority: String,
    /// Speaks with the token.
    pub client: Client,
}

/// Finds out whom to believe.
///
/// # Errors
/// When nobody answers, or the token names another cluster.
pub async fn contact(url: &Uri, token: &Token) -> Result<Contact, DiscoveryError> {
    const WHAT: &str = "the cluster's authority";
    let asked = |error| DiscoveryError::Asked { url: plain(url), what: WHAT, error: Box::new(error) };
    let wrong = |why: String| DiscoveryError::Answer { url: plain(url), what: WHAT, why };

    let mut config = bounded(url);
    config.accept_invalid_certs = true;
    let maps: Api<ConfigMap> = Api::namespaced(Client::try_from(config).map_err(asked)?, "kube-public");
    let map = at_birth(&maps).await.map_err(asked)?;
    let shown = authorities(&map).map_err(wrong)?;
    // Of several, the one that the token names is believed, and no other one: anybody can put it beside another.
    let named = certificates(&shown).into_iter().filter_map(|one| der(&one).ok());
    let Some(certificate) = named.into_iter().find(|one| Pin::of(one) == token.pin) else {
        return Err(DiscoveryError::OtherCluster(plain(url)));
    };

    let mut config = bounded(url);
    config.root_cert = Some(vec![certificate.to_vec()]);
    // The others are believed by what a server says that was verified; anybody may ask for it.
    let anybody = Client::try_from(config.clone()).map_err(asked)?;
    let maps: Api<ConfigMap> = Api::namespaced(anybody, "kube-public");
    let authority = authorities(&maps.get(CLUSTER_INFO).await.map_err(asked)?).map_err(wrong)?;
    config.auth_info = AuthInfo { token: Some(token.credential.bearer().into()), ..AuthInfo::default() };
    Ok(Contact { url: url.clone(), authority, client: Client::try_from(config).map_err(asked)? })
}

/// The authorities that a map shows, PEM; what is wrong with it when there are none.
fn authorities(map: &ConfigMap) -> Result<String, String> {
    let text = map.data.as_ref().and_then(|data| data.get("kubeconfig"));
    let kubeconfig =
        Kubeconfig::from_yaml(text.ok_or("it is missing")?).map_err(|error| error.to_string())?;
    let cluster = kubeconfig.clusters.first().and_then(|named| named.cluster.as_ref());
    let encoded = cluster.and_then(|it| it.certificate_authority_data.as_deref()).unwrap_or_default();
    let text = STANDARD.decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| !certificates(text).is_empty()).ok_or_else(|| "it is no certificate".to_owned())
}

/// What strangers may read of a cluster. One whose API serves already, but whose first master has not written it yet, is waited for.
async fn at_birth(maps: &Api<ConfigMap>) -> Result<ConfigMap, kube::Error> {
    let begun = Instant::now();
    loop {
        match maps.get(CLUSTER_INFO).await {
            Err(kube::Error::Api(status)) if is_missing(status.code) && begun.elapsed() < BIRTH => {
                tracing::info!("the cluster has just begun: what others join it by is not there yet");
                tokio::time::sleep(AGAIN).await;
            }
            outcome => return outcome,
        }
    }
}

/// It is not there, or nobody may read it yet.
const fn is_missing(code: u16) -> bool {
    matches!(code, 403 | 404)
}

/// A URL without the slash that stands for no path.
pub(crate) fn plain(url: &Uri) -> String {
    url.to_string().trim_end_matches('/').to_owned()
}

fn bounded(url: &Uri) -> Config {
    let mut config = Config::new(url.clone());
    config.connect_timeout = Some(PATIENCE);
    config.read_timeout = Some(PATIENCE);
    config
}

impl Contact {
    /// What is the same for all of the cluster.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn settings(&self) -> Result<ClusterSettings, DiscoveryError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), settings::NAMESPACE);
        let map =
            maps.get(settings::NAME).await.map_err(|error| self.asked("the cluster's settings", error))?;
        Ok(ClusterSettings::of(&map.data.unwrap_or_default())?)
    }

    /// The URLs of the masters' API servers, by name.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn masters(&self) -> Result<Vec<Uri>, DiscoveryError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), settings::NAMESPACE);
        let map = maps.get(settings::MASTERS).await.map_err(|error| self.asked("the masters", error))?;
        Ok(urls(map).collect())
    }

    /// The error of a question.
    pub(crate) fn asked(&self, what: &'static str, error: kube::Error) -> DiscoveryError {
        DiscoveryError::Asked { url: plain(&self.url), what, error: Box::new(error) }
    }

    /// The error of an answer.
    pub(crate) fn wrong(&self, what: &'static str, why: impl ToString) -> DiscoveryError {
        DiscoveryError::Answer { url: plain(&self.url), what, why: why.to_string() }
    }
}
/// The URLs of the masters' API servers, as the map of them has them.
pub(crate) fn urls(masters: ConfigMap) -> impl Iterator<Item = Uri> {
    masters.data.unwrap_or_default().into_values().filter_map(|url| url.parse().ok())
}
