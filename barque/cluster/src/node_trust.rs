//! A node follows whom its cluster trusts and who signs certificates, has the ones that it should, and says what it has. Must never
//! replace what it trusts by nothing.

use core::net::IpAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use barque_api::node_certificate::{self, OF_CLUSTER};
use futures::StreamExt as _;
use futures::future::Either;
use futures::stream;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::watch_object;
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::discovery::told;
use crate::files::{self, FileError, Readers};
use crate::leaf::{self, Signer};
use crate::node_join::{NodeFiles, NodeJoinError, certificate};
use crate::node_serving::{Of, Serving};
use crate::rotation::objects::{ANNOTATION, NodeTrust, TRUST};
use crate::rotation::report::{Report, Seen, word};
use crate::settings::NAMESPACE;

/// How long until it is tried again when it failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Why a node is behind.
#[derive(Debug, thiserror::Error)]
enum TrustError {
    #[error(transparent)]
    File(#[from] FileError),
    #[error(transparent)]
    Join(#[from] NodeJoinError),
    #[error("it was signed by another authority than the one that should")]
    OtherSigner,
    #[error("the node's object cannot be written: {}", told(.0))]
    Told(Box<kube::Error>),
}

/// What a node has heard of.
#[derive(Default)]
struct Heard {
    trust: Option<NodeTrust>,
    /// Nothing when there is no object.
    object: Option<Said>,
}

/// What a node's object says.
struct Said {
    /// Of what it trusts and shows.
    report: Option<String>,
    /// Of the certificate by which its agent serves.
    serving: Option<String>,
    addresses: BTreeSet<IpAddr>,
}

impl Said {
    fn of(object: &Node) -> Self {
        let said = |name: &str| object.annotations().get(name).cloned();
        let status =
            object.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let addresses = status.iter().map(|one| (one.type_.as_str(), one.address.as_str()));
        Self {
            report: said(ANNOTATION),
            serving: said(node_certificate::ANNOTATION),
            addresses: node_certificate::addresses(addresses),
        }
    }
}

/// Follows, until `stop`. `serves` says whether the agent shows the certificate that is in the node's files for that.
pub async fn follow(files: NodeFiles, node: String, client: Client, serves: bool, stop: CancellationToken) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let nodes: Api<Node> = Api::all(client.clone());
    let maps = watch_object(maps, TRUST).default_backoff().map(Either::Left);
    let nodes = watch_object(nodes, &node).default_backoff().map(Either::Right);
    let mut events = pin!(stream::select(maps, nodes));
    let mut heard = Heard::default();
    let mut node = Follower { files, node, client, serving: serves.then(Serving::default) };
    let mut retry: Option<Duration> = None;
    loop {
        let later = async {
            match retry {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            event = events.next() => match event {
                Some(Either::Left(Ok(map))) => {
                    heard.trust = map.and_then(|map| NodeTrust::of(&map.data.unwrap_or_default()));
                }
                Some(Either::Right(Ok(object))) => {
                    heard.object = object.as_ref().map(Said::of);
                }
                // They begin again by themselves, after a while.
                Some(Either::Left(Err(error)) | Either::Right(Err(error))) => {
                    tracing::debug!(%error, "the watch of whom the cluster trusts");
                    continue;
                }
                None => return,
            },
            () = later => {}
        }
        let done = stop.run_until_cancelled(node.pass(&heard)).await;
        retry = match done {
            None => return,
            Some(Ok(next)) => next,
            Some(Err(error)) => {
                tracing::warn!("this node is behind in the rotation of authorities: {error}");
                Some(AGAIN)
            }
        };
    }
}

/// Who has what it should.
struct Follower {
    files: NodeFiles,
    node: String,
    client: Client,
    /// Nothing when nothing is served, or by a certificate of somebody else's.
    serving: Option<Serving>,
}

impl Follower {
    /// What is to be done now; when to look again though nothing is heard.
    async fn pass(&mut self, heard: &Heard) -> Result<Option<Duration>, TrustError> {
        if let Some(trust) = &heard.trust {
            self.trust(trust).await?;
        }
        let Some(said) = &heard.object else { return Ok(None) };
        // First: from here on, nobody who has none is taken for this node.
        let serving = self.serving.as_ref().map(|_| OF_CLUSTER);
        if said.serving.as_deref() != serving {
            self.say(node_certificate::ANNOTATION, serving).await?;
        }
        let mut next = None;
        if let Some(serving) = self.serving.as_mut().filter(|_| !said.addresses.is_empty()) {
            let of = Of {
                files: &self.files,
                node: &self.node,
                client: &self.client,
                trust: heard.trust.as_ref(),
                addresses: &said.addresses,
            };
            next = Some(serving.look(&of).await);
        }
        let bundle = files::read(&self.files.authority())?.unwrap_or_default();
        let seen = seen(&self.files, &bundle, self.serving.is_some())?;
        let report = Report(BTreeMap::from([(word(Signer::Cluster).to_owned(), seen)])).text();
        if said.report.as_ref() != Some(&report) {
            self.say(ANNOTATION, Some(&report)).await?;
        }
        Ok(next)
    }

    /// Brings whom the node trusts, and its certificate as a client, to what the cluster says.
    async fn trust(&self, trust: &NodeTrust) -> Result<(), TrustError> {
        if files::read(&self.files.authority())?.as_ref() != Some(&trust.bundle) {
            files::write(&self.files.authority(), trust.bundle.as_bytes(), Readers::All)?;
            tracing::info!("the authorities that this node trusts are others");
        }
        let seen = seen(&self.files, &trust.bundle, false)?;
        // Who signs is trusted before it signs, or it is another cluster's.
        if seen.trusts.contains(&trust.signer) && !seen.shows.contains(&trust.signer) {
            let (certificate, key) = certificate(&self.client, &self.node).await?;
            if !Seen::of(&trust.bundle, [certificate.as_str()].into_iter()).shows.contains(&trust.signer) {
                return Err(TrustError::OtherSigner);
            }
            self.files.keep_pair(&certificate, &key)?;
            tracing::info!("the certificate of this node is of another authority now");
        }
        Ok(())
    }

    async fn say(&self, annotation: &str, value: Option<&str>) -> Result<(), TrustError> {
        let said = json!({"metadata": {"annotations": {annotation: value}}});
        let nodes: Api<Node> = Api::all(self.client.clone());
        let patched = nodes.patch(&self.node, &PatchParams::default(), &Patch::Merge(said)).await;
        patched.map(drop).map_err(|error| TrustError::Told(Box::new(error)))
    }
}

/// Whom the node trusts, and who signed what it shows; what signs itself is nobody's.
fn seen(files: &NodeFiles, bundle: &str, serves: bool) -> Result<Seen, FileError> {
    let shown = [Some(files.pair()), serves.then(|| files.serving())];
    let shown: Vec<String> = shown
        .into_iter()
        .flatten()
        .filter_map(|path| files::read(&path).transpose())
        .collect::<Result<_, _>>()?;
    let signs_itself = |pem: &str| leaf::facts(pem).is_ok_and(|facts| facts.issuer == facts.subject);
    Ok(Seen::of(bundle, shown.iter().map(String::as_str).filter(|pem| !signs_itself(pem))))
}
