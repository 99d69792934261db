//! What was last seen of each pod, and what its worker was told: they differ when there is news. Must never ask the runtime.
//!
//! Two look at the same pod: its worker, whenever it observes, and the watch, which looks at all pods at once. A look that began
//! before another one ended knows less, and is not taken for news.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use barque_cri::v1;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::view::{Fingerprint, Listed};

/// When a look began, among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Look(u64);

/// One pod.
#[derive(Debug, Default)]
struct Pod {
    /// As of the newest look.
    latest: watch::Sender<Fingerprint>,
    /// What its worker was told.
    told: Fingerprint,
    /// Looks that began before this one know less.
    settled: u64,
}

/// All pods.
#[derive(Debug, Default)]
pub(super) struct Seen {
    looks: AtomicU64,
    pods: Mutex<HashMap<String, Pod>>,
}

impl Seen {
    /// A look begins.
    pub(super) fn begin(&self) -> Look {
        Look(self.looks.fetch_add(1, Ordering::SeqCst))
    }

    /// The worker of a pod was told this.
    pub(super) fn told(&self, uid: &str, listed: &Listed) {
        let (fingerprint, now) = (listed.fingerprint(), self.begin().0);
        let mut pods = self.pods.lock();
        let pod = pods.entry(uid.to_owned()).or_default();
        pod.settled = now;
        pod.told.clone_from(&fingerprint);
        pod.latest.send_if_modified(|latest| replace(latest, fingerprint));
    }

    /// All pods were looked at.
    pub(super) fn all(&self, look: Look, listed: Listed) {
        let there = listed.by_pod();
        let mut pods = self.pods.lock();
        let nothing = Listed::default();
        for (uid, pod) in pods.iter_mut().filter(|(_, pod)| pod.settled < look.0) {
            let fingerprint = there.get(uid).unwrap_or(&nothing).fingerprint();
            pod.latest.send_if_modified(|latest| replace(latest, fingerprint));
        }
    }

    /// Waits until there is news of a pod whose worker was told something.
    pub(super) async fn news(&self, uid: &str) {
        let subscribed = self.pods.lock().get(uid).map(|pod| (pod.latest.subscribe(), pod.told.clone()));
        let Some((mut latest, told)) = subscribed else { return std::future::pending().await };
        if latest.wait_for(|latest| *latest != told).await.is_err() {
            // The pod was forgotten, which its worker knows.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until a container does not run any more, or is gone.
    pub(super) async fn ended(&self, uid: &str, container: &str) {
        let running = i32::from(v1::ContainerState::ContainerRunning);
        let subscribed = self.pods.lock().get(uid).map(|pod| pod.latest.subscribe());
        let Some(mut latest) = subscribed else { return };
        let runs =
            |latest: &Fingerprint| latest.iter().any(|(id, state)| id == container && *state == running);
        // A pod that was forgotten runs no more.
        let _ = latest.wait_for(|latest| !runs(latest)).await;
    }

    /// Nobody asks for a pod any more.
    pub(super) fn forget(&self, uid: &str) {
        self.pods.lock().remove(uid);
    }
}

fn replace(latest: &mut Fingerprint, new: Fingerprint) -> bool {
    let differs = *latest != new;
    *latest = new;
    differs
}

/// What a runtime told of pods when it could be asked last: it may be away for a while, and its containers run on.
#[derive(Debug, Default)]
pub(super) struct LastKnown<T>(Mutex<BTreeMap<String, T>>);

impl<T: Clone> LastKnown<T> {
    pub(super) fn put(&self, uid: &str, known: T) {
        self.0.lock().insert(uid.to_owned(), known);
    }

    pub(super) fn get(&self, uid: &str) -> Option<T> {
        self.0.lock().get(uid).cloned()
    }

    pub(super) fn forget(&self, uid: &str) {
        self.0.lock().remove(uid);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn listed(state: v1::ContainerState) -> Listed {
        let labels = [(super::super::labels::POD_UID.to_owned(), "u".to_owned())].into();
        let container =
            v1::Container { id: "c".to_owned(), state: state.into(), labels, ..v1::Container::default() };
        Listed::new(Vec::new(), vec![container])
    }

    #[test]
    fn what_the_worker_was_not_told_is_news() {
        use v1::ContainerState::{ContainerExited, ContainerRunning};
        let seen = Seen::default();
        assert!(seen.news("u").now_or_never().is_none(), "nobody asked for it yet");
        seen.told("u", &listed(ContainerRunning));
        seen.all(seen.begin(), listed(ContainerRunning));
        assert!(seen.news("u").now_or_never().is_none());
        seen.all(seen.begin(), listed(ContainerExited));
        assert!(seen.news("u").now_or_never().is_some());
        seen.told("u", &listed(ContainerExited));
        assert!(seen.news("u").now_or_never().is_none());
        seen.all(seen.begin(), Listed::default());
        assert!(seen.news("u").now_or_never().is_some(), "it is gone");
        seen.forget("u");
        assert!(seen.news("u").now_or_never().is_none());
    }

    #[test]
    fn an_older_look_is_no_news() {
        use v1::ContainerState::{ContainerExited, ContainerRunning};
        let seen = Seen::default();
        seen.told("u", &listed(ContainerRunning));
        let look = seen.begin();
        seen.told("u", &listed(ContainerExited));
        seen.all(look, listed(ContainerRunning));
        assert!(seen.news("u").now_or_never().is_none());
    }
}
