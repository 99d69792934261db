//! What the pods' volumes hold, remembered: finding out may mean looking at every file. Must never look more often than once a
//! minute, as the kubelet (`volumeStatsAggPeriod`), however many ask.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::containers::{KnownPods, PodStreams};
use super::stats::VolumeStats;

/// For so long what was found is told.
const PERIOD: Duration = Duration::from_secs(60);
/// Pods that are looked at at once.
const AT_ONCE: usize = 4;

/// Pods with what their volumes hold.
pub(super) type Held = Vec<(Arc<Pod>, Vec<VolumeStats>)>;

/// What was found, and when.
#[derive(Default)]
pub(super) struct RememberedVolumes(Mutex<Option<(Instant, Arc<Held>)>>);

impl RememberedVolumes {
    /// What the volumes of all pods hold, as far as it was looked at not too long ago. Who asks meanwhile waits.
    pub(super) async fn get<P: PodStreams>(&self, pods: &dyn KnownPods, streams: &P) -> Arc<Held> {
        let mut known = self.0.lock().await;
        if let Some((found_at, held)) = &*known
            && found_at.elapsed() < PERIOD
        {
            return held.clone();
        }
        let each = futures::stream::iter(pods.all()).map(async |pod| {
            let held = streams.volumes(&pod).await;
            (pod, held)
        });
        let held: Arc<Held> = Arc::new(each.buffer_unordered(AT_ONCE).collect().await);
        *known = Some((Instant::now(), held.clone()));
        held
    }
}
