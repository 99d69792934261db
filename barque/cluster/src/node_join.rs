//! A machine becomes a node: it gets a certificate from the cluster (Kubernetes: TLS bootstrapping), and another one before that
//! ends. Must never send its key anywhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, SystemTime};

use barque_api::node_certificate::user;
use futures::StreamExt as _;
use http::Uri;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::wait::await_condition;
use kube::runtime::watcher::watch_object;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::authority::{AuthorityError, Subject, request};
use crate::discovery::{DiscoveryError, contact, plain, told, urls};
use crate::files::{self, FileError, Readers};
use crate::kubeconfig;
use crate::leaf;
use crate::settings::{self, ClusterSettings};
use crate::token::Token;

/// How long approving and signing may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long until it is tried again when it failed.
const AGAIN: Duration = Duration::from_secs(60);
/// A clock that is set shows up no later than this.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);
/// Who signs certificates of nodes as clients.
const SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";

/// Why it does not become one.
#[derive(Debug, thiserror::Error)]
pub enum NodeJoinError {
    /// The first words.
    #[error(transparent)]
    Discovery(#[from] DiscoveryError),
    /// Its files.
    #[error(transparent)]
    File(#[from] FileError),
    /// What is in its files.
    #[error("{}: {why}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The request cannot be made.
    #[error(transparent)]
    Request(#[from] AuthorityError),
    /// The API server does not take it.
    #[error("a certificate for this node cannot be asked for: {}", told(.0))]
    Asked(Box<kube::Error>),
    /// It is refused.
    #[error("the certificate of this node is refused: {why} (`kubectl get csr {name}` shows the request)")]
    Refused {
        /// The request.
        name: String,
        /// Why.
        why: String,
    },
    /// Nobody signed.
    #[error(
        "nobody signed the certificate of this node within {} s; does a controller manager run, and may the token's group have \
         it? `kubectl get csr {name}` shows the request",
        PATIENCE.as_secs()
    )]
    NotSigned {
        /// The request.
        name: String,
    },
}

/// What a node knows of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeCluster {
    /// What is the same for all of the cluster.
    pub settings: ClusterSettings,
}

/// A node's files.
#[derive(Clone, Debug)]
pub struct NodeFiles(PathBuf);

impl NodeFiles {
    /// In this directory, which need not be there yet.
    #[must_use]
    pub fn at(directory: PathBuf) -> Self {
        Self(directory)
    }

    /// Whom the agent speaks to, and as who.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.0.join("kubeconfig")
    }

    /// The cluster's authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    /// Certificate and key in one, so that both change at once.
    pub(crate) fn pair(&self) -> PathBuf {
        self.0.join("client.pem")
    }

    /// Certificate and key by which its agent serves, in one as well.
    #[must_use]
    pub fn serving(&self) -> PathBuf {
        self.0.join("serving.pem")
    }

    /// URLs of API servers, one a line.
    #[must_use]
    pub fn servers(&self) -> PathBuf {
        self.0.join("servers")
    }

    fn keep_servers(&self, urls: impl Iterator<Item = Uri>) -> Result<bool, FileError> {
        let lines: BTreeSet<String> = urls.map(|url| plain(&url)).collect();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let is_new = !lines.is_empty() && files::read(&self.servers())?.as_deref() != Some(text.as_str());
        if is_new {
            files::write(&self.servers(), text.as_bytes(), Readers::All)?;
        }
        Ok(is_new)
    }

    fn cluster(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// What was learned when this machine became a node of this name; nothing when it has not, or its certificate has ended.
    ///
    /// # Errors
    /// When a file is there and cannot be read or understood.
    pub fn known(&self, node: &str, now: SystemTime) -> Result<Option<NodeCluster>, NodeJoinError> {
        let (Some(pair), Some(text)) = (files::read(&self.pair())?, files::read(&self.cluster())?) else {
            return Ok(None);
        };
        let content = |path: PathBuf, why: String| NodeJoinError::Content { path, why };
        let facts = leaf::facts(&pair).map_err(|error| content(self.pair(), error.to_string()))?;
        if facts.common_name != user(node) || facts.until <= now {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).map_err(|error| content(self.cluster(), error.to_string()))
    }

    pub(crate) fn keep_pair(&self, certificate: &str, key: &str) -> Result<(), FileError> {
        files::write(&self.pair(), format!("{certificate}{key}").as_bytes(), Readers::Owner)
    }

    pub(crate) fn keep_serving(&self, certificate: &str, key: &str) -> Result<(), FileError> {
        files::write(&self.serving(), format!("{certificate}{key}").as_bytes(), Readers::Owner)
    }
}

/// Becomes a node of the cluster of this master, and writes down what is needed for it.
///
/// # Errors
/// When the master cannot be reached, is of another cluster, or nobody signs.
pub async fn join(
    files: &NodeFiles,
    node: &str,
    url: &Uri,
    token: &Token,
) -> Result<NodeCluster, NodeJoinError> {
    let contact = contact(url, token).await?;
    let settings = contact.settings().await?;
    let masters = contact.masters().await?;
    let (certificate, key) = certificate(&contact.client, node).await?;
    files::write(&files.authority(), contact.authority.as_bytes(), Readers::All)?;
    files.keep_servers(masters.into_iter())?;
    let cluster = NodeCluster { settings };
    let text = serde_json::to_string_pretty(&cluster).expect("texts and numbers can be written as JSON");
    files::write(&files.cluster(), text.as_bytes(), Readers::All)?;
    let config = kubeconfig::with_files(&plain(url), &files.authority(), &files.pair(), &files.pair());
    files::write(&files.kubeconfig(), config.as_bytes(), Readers::All)?;
    // Last: with it, this machine is a node.
    files.keep_pair(&certificate, &key)?;
    Ok(cluster)
}

/// A request that was made, and the key that it is for.
pub(crate) struct Asked {
    name: String,
    pub(crate) key: String,
}

/// A certificate of the node as a client, and its key.
pub(crate) async fn certificate(client: &Client, node: &str) -> Result<(String, String), NodeJoinError> {
    let subject = Subject {
        common_name: user(node),
        organizations: vec!["system:nodes".to_owned()],
        ..Subject::default()
    };
    let asked = ask(client, &subject, SIGNER, "client auth").await?;
    let certificate = signed(client, &asked, PATIENCE).await?;
    Ok((certificate, asked.key))
}

/// Asks for a certificate.
pub(crate) async fn ask(
    client: &Client,
    subject: &Subject,
    signer: &str,
    usage: &str,
) -> Result<Asked, NodeJoinError> {
    let (request, key) = request(subject)?;
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let wanted = CertificateSigningRequest {
        metadata: ObjectMeta { generate_name: Some("node-csr-".to_owned()), ..ObjectMeta::default() },
        spec: CertificateSigningRequestSpec {
            request: ByteString(request.into_bytes()),
            signer_name: signer.to_owned(),
            usages: Some(["digital signature", usage].map(str::to_owned).into()),
            ..CertificateSigningRequestSpec::default()
        },
        status: None,
    };
    let asked = |error| NodeJoinError::Asked(Box::new(error));
    let created = api.create(&PostParams::default(), &wanted).await.map_err(asked)?;
    Ok(Asked { name: created.metadata.name.unwrap_or_default(), key })
}

/// Waits so long for what was asked for.
pub(crate) async fn signed(
    client: &Client,
    asked: &Asked,
    patience: Duration,
) -> Result<String, NodeJoinError> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let (name, gone) = (asked.name.clone(), "it is gone");
    let decided = |csr: Option<&CertificateSigningRequest>| {
        csr.is_none_or(|csr| refusal(csr).is_some()) || certificate_of(csr).is_some()
    };
    let csr = match tokio::time::timeout(patience, await_condition(api, &name, decided)).await {
        Ok(Ok(csr)) => csr,
        Ok(Err(_)) | Err(_) => return Err(NodeJoinError::NotSigned { name }),
    };
    let why = csr.as_ref().map_or(Some(gone.to_owned()), refusal);
    certificate_of(csr.as_ref()).ok_or(NodeJoinError::Refused { name, why: why.unwrap_or_default() })
}

/// Why a request never gets a certificate.
fn refusal(csr: &CertificateSigningRequest) -> Option<String> {
    let conditions = csr.status.as_ref()?.conditions.as_ref()?;
    let last = conditions.iter().find(|it| matches!(it.type_.as_str(), "Denied" | "Failed"))?;
    Some(last.message.clone().or_else(|| last.reason.clone()).unwrap_or_default())
}

fn certificate_of(csr: Option<&CertificateSigningRequest>) -> Option<String> {
    let bytes = &csr?.status.as_ref()?.certificate.as_ref()?.0;
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

/// Follows which masters there are, and writes down their URLs, until `stop`: a node outlives those that were there when it joined.
pub async fn follow_masters(files: NodeFiles, client: Client, stop: CancellationToken) {
    let maps: Api<ConfigMap> = Api::namespaced(client, settings::NAMESPACE);
    let mut masters = pin!(watch_object(maps, settings::MASTERS).default_backoff());
    while let Some(Some(event)) = stop.run_until_cancelled(masters.next()).await {
        match event {
            Ok(Some(map)) => match files.keep_servers(urls(map)) {
                Ok(true) => tracing::info!("the masters of the cluster are others"),
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the masters of the cluster cannot be written down"),
            },
            Ok(None) => {}
            // It begins again by itself, after a while.
            Err(error) => tracing::debug!(%error, "the watch of masters"),
        }
    }
}

/// Gets another certificate when two thirds of the life of the one that is there are over, until `stop`.
pub async fn renew(files: NodeFiles, node: String, client: Client, stop: CancellationToken) {
    loop {
        let wait = match files::read(&files.pair()).ok().flatten().and_then(|pair| leaf::facts(&pair).ok()) {
            None => AGAIN,
            Some(facts) => {
                let due = leaf::renewal(&facts).duration_since(SystemTime::now()).unwrap_or_default();
                if due.is_zero() { renewed(&files, &node, &client, &stop).await } else { due.min(LOOK_EVERY) }
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// How long to wait then.
async fn renewed(files: &NodeFiles, node: &str, client: &Client, stop: &CancellationToken) -> Duration {
    let made = async {
        let (certificate, key) = certificate(client, node).await?;
        Ok::<_, NodeJoinError>(files.keep_pair(&certificate, &key)?)
    };
    match stop.run_until_cancelled(made).await {
        None => Duration::ZERO,
        Some(Ok(())) => {
            tracing::info!("the certificate of this node was made anew");
            Duration::from_secs(1)
        }
        Some(Err(error)) => {
            tracing::warn!(%error, "the certificate of this node cannot be made anew");
            AGAIN
        }
    }
}

/// Where a node's files are, below its root directory.
#[must_use]
pub fn directory(root: &Path) -> PathBuf {
    root.join("cluster")
}
