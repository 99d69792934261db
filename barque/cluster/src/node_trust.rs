//! A node follows whom its cluster trusts and who signs certificates, and says what it has. Must never replace what it trusts by
//! nothing.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

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
use crate::leaf::Signer;
use crate::node_join::{NodeFiles, NodeJoinError, certificate};
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
    /// What its object says that it has; nothing when there is no object.
    says: Option<Option<String>>,
}

/// Follows, until `stop`.
pub async fn follow(files: NodeFiles, node: String, client: Client, stop: CancellationToken) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let nodes: Api<Node> = Api::all(client.clone());
    let maps = watch_object(maps, TRUST).default_backoff().map(Either::Left);
    let nodes = watch_object(nodes, &node).default_backoff().map(Either::Right);
    let mut events = pin!(stream::select(maps, nodes));
    let mut heard = Heard::default();
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
                    heard.says = object.map(|object| object.annotations().get(ANNOTATION).cloned());
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
        let done = stop.run_until_cancelled(pass(&files, &node, &client, &heard)).await;
        retry = match done {
            None => return,
            Some(Ok(())) => None,
            Some(Err(error)) => {
                tracing::warn!("this node is behind in the rotation of authorities: {error}");
                Some(AGAIN)
            }
        };
    }
}

async fn pass(files: &NodeFiles, node: &str, client: &Client, heard: &Heard) -> Result<(), TrustError> {
    if let Some(trust) = &heard.trust {
        if files::read(&files.authority())?.as_ref() != Some(&trust.bundle) {
            files::write(&files.authority(), trust.bundle.as_bytes(), Readers::All)?;
            tracing::info!("the authorities that this node trusts are others");
        }
        let seen = seen(files, &trust.bundle)?;
        // Who signs is trusted before it signs, or it is another cluster's.
        if seen.trusts.contains(&trust.signer) && !seen.shows.contains(&trust.signer) {
            let (certificate, key) = certificate(client, node).await?;
            if !Seen::of(&trust.bundle, [certificate.as_str()].into_iter()).shows.contains(&trust.signer) {
                return Err(TrustError::OtherSigner);
            }
            files.keep_pair(&certificate, &key)?;
            tracing::info!("the certificate of this node is of another authority now");
        }
    }
    let Some(says) = &heard.says else { return Ok(()) };
    let bundle = files::read(&files.authority())?.unwrap_or_default();
    let report = Report(BTreeMap::from([(word(Signer::Cluster).to_owned(), seen(files, &bundle)?)])).text();
    if says.as_ref() == Some(&report) {
        return Ok(());
    }
    let said = json!({"metadata": {"annotations": {ANNOTATION: report}}});
    let nodes: Api<Node> = Api::all(client.clone());
    let patched = nodes.patch(node, &PatchParams::default(), &Patch::Merge(said)).await;
    patched.map(drop).map_err(|error| TrustError::Told(Box::new(error)))
}

fn seen(files: &NodeFiles, bundle: &str) -> Result<Seen, FileError> {
    let shown = files::read(&files.pair())?;
    Ok(Seen::of(bundle, shown.iter().map(String::as_str)))
}
