//! Images that nobody uses go when the disk fills, as the kubelet collects them. Must never decide which: that is a plan's.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use barque_images::{CollectPolicy, ImageStore};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::Node;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::tell::{Teller, about_node, warning};

/// How often the disk is looked at, as the kubelet does.
const PERIOD: Duration = Duration::from_secs(300);

/// Who keeps the images of a node.
pub(crate) trait ImageKeeper: Send + Sync + 'static {
    /// Removes what a policy says. Says how many bytes more should be free, which nothing that may go would give, or what went
    /// wrong in a sentence.
    fn collect(&self, policy: CollectPolicy) -> BoxFuture<'_, Result<u64, String>>;
}

impl ImageKeeper for ImageStore {
    fn collect(&self, policy: CollectPolicy) -> BoxFuture<'_, Result<u64, String>> {
        let store = self.clone();
        // Containers hold their images by name, so that nothing else need be known.
        let work = move || ImageStore::collect(&store, &BTreeSet::new(), policy);
        async move {
            match tokio::task::spawn_blocking(work).await {
                Ok(Ok(collected)) => Ok(collected.short_by_bytes),
                Ok(Err(error)) => Err(error.message()),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }
}

/// Collects until the token is cancelled.
pub(crate) async fn run(
    keeper: Arc<dyn ImageKeeper>,
    policy: CollectPolicy,
    node: Node,
    teller: Arc<dyn Teller>,
    stop: CancellationToken,
) {
    let mut turns = interval(PERIOD);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(turns.tick()).await.is_some() {
        // What was begun is done: half of a collection is one, too.
        match keeper.collect(policy).await {
            Ok(0) => {}
            Ok(short_by_bytes) => {
                let text = format!(
                    "Failed to garbage collect required amount of images. {short_by_bytes} bytes more should be free, but nothing else can go."
                );
                teller.tell(about_node(&node), warning("FreeDiskSpaceFailed", text));
            }
            Err(error) => teller.tell(about_node(&node), warning("ImageGCFailed", error)),
        }
    }
}
