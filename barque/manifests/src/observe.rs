//! The files that the cluster has, from one watch of their Secrets. Must never tell a part of a list as the whole.

use std::sync::Arc;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;

use crate::publish::All;
use crate::published::{NAMESPACE, Published, TYPE};

/// What the cluster has; nothing until all of it is known.
pub(crate) type Seen = Option<Arc<All>>;

/// Follows them for ever.
pub(crate) async fn follow(client: Client, tell: watch::Sender<Seen>) {
    let secrets = Api::<Secret>::namespaced(client, NAMESPACE);
    let config = Config::default().fields(&format!("type={TYPE}"));
    let mut events = watcher(secrets, config).default_backoff().boxed();
    let mut list = All::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => list.clear(),
            Ok(Event::InitApply(secret)) => list.extend(named(secret)),
            Ok(Event::InitDone) => drop(tell.send_replace(Some(Arc::new(std::mem::take(&mut list))))),
            Ok(Event::Apply(secret)) => change(&tell, |all| all.extend(named(secret))),
            Ok(Event::Delete(secret)) => {
                let name = secret.metadata.name.unwrap_or_default();
                change(&tell, |all| drop(all.remove(&name)));
            }
            Err(error) => tracing::warn!(%error, "the watch of manifests broke off and begins anew"),
        }
    }
}

fn named(secret: Secret) -> Option<(String, Published)> {
    Published::read(secret).map(|published| (published.name.clone(), published))
}

fn change(tell: &watch::Sender<Seen>, change: impl FnOnce(&mut All)) {
    tell.send_modify(|all| change(Arc::make_mut(all.get_or_insert_default())));
}
