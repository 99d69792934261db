//! Images that nobody uses go when the disk fills, as the kubelet collects them. Must never decide which: that is the store's plan.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use barque_images::{CollectPolicy, ImageStore};
use k8s_openapi::api::core::v1::Node;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::tell::{Teller, about_node, warning};

/// How often the disk is looked at, as the kubelet does.
const PERIOD: Duration = Duration::from_secs(300);

/// Collects until the token is cancelled. Containers hold their images by name, so that nothing else need be known.
pub(crate) async fn run(store: ImageStore, node: Node, teller: Arc<dyn Teller>, stop: CancellationToken) {
    let mut turns = interval(PERIOD);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        let store = store.clone();
        let work = move || store.collect(&BTreeSet::new(), CollectPolicy::default());
        match tokio::task::spawn_blocking(work).await {
            Ok(Ok(collected)) if collected.short_by_bytes > 0 => {
                let text = format!(
                    "Failed to garbage collect required amount of images. {} bytes more should be free, but nothing else can go.",
                    collected.short_by_bytes
                );
                teller.tell(about_node(&node), warning("FreeDiskSpaceFailed", text));
            }
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                teller.tell(about_node(&node), warning("ImageGCFailed", error.message()));
            }
            Err(error) => tracing::error!(%error, "the collection of images broke off"),
        }
    }
}
