//! Namespaces that are deleted: what is in them goes, pods before everything else, and then they do. Must never let one go
//! while something is in it.

mod conditions;
mod content;
mod leftovers;

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api as Collection;
use kube::api::PostParams;

use crate::act::{Api as _, KubeApi, MANAGER, failure};
use crate::cache::Caches;
use crate::controller::{Walker, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Failure, Verdict};
use crate::reconcile::Next;
use leftovers::Leftovers;

/// Whoever empties a namespace stands here in its spec.
const FINALIZER: &str = "kubernetes";
/// By then every API server knows that the namespace goes, and has stored what it had let in before.
const GRACE: Duration = Duration::from_secs(5);
/// A deletion that fails is tried again at least so often.
const LONGEST: Duration = Duration::from_secs(60);
/// How often a write is tried again that somebody else's got in the way of.
const TRIES: usize = 5;

/// The controller of namespaces that are deleted.
pub(crate) struct Namespaces;

impl Walker for Namespaces {
    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped_after::<Namespace>(GRACE, |change, _| {
            let going = change.new.iter().filter(|namespace| namespace.is_deleting());
            going.map(|namespace| namespace.key()).collect()
        });
        watches.all(|caches| {
            let all = caches.of::<Namespace>().all();
            all.iter().filter(|namespace| namespace.is_deleting()).map(|namespace| namespace.key()).collect()
        });
        // Everything else waits for the last pod; that it is gone need not be found out by asking again.
        watches.mapped::<Pod>(|change, caches| {
            let (Some(old), None) = (&change.old, &change.new) else { return Vec::new() };
            let key = Key::new("", &old.key().namespace);
            let going = caches.of::<Namespace>().get(&key).is_some_and(|namespace| namespace.is_deleting());
            let last = going && caches.of::<Pod>().in_namespace(&key.name).is_empty();
            last.then_some(key).into_iter().collect()
        });
    }

    async fn pass(&self, key: &Key, caches: &Caches, api: &KubeApi, now: Timestamp) -> Next {
        if caches.of::<Namespace>().get(key).is_none_or(|namespace| !namespace.is_deleting()) {
            return Next::Settled(None);
        }
        match empty(&key.name, caches, api, now).await {
            Ok(None) => Next::Settled(None),
            Ok(Some(seconds)) => {
                Next::Later(Duration::from_secs(u64::try_from(seconds / 2 + 1).unwrap_or_default()))
            }
            Err(problem) => {
                tracing::warn!(namespace = key.name, problem, "a namespace is not empty yet");
                Next::Retry(Some(LONGEST))
            }
        }
    }
}

/// Empties a namespace, and lets it go when it is empty. Otherwise it says in about how many seconds that may be, or what is
/// wrong.
async fn empty(name: &str, caches: &Caches, api: &KubeApi, now: Timestamp) -> Result<Option<i64>, String> {
    let namespaces = Collection::<Namespace>::all(api.client().clone());
    let told = |error: kube::Error| failure(&error).message;
    let Some(mut namespace) = namespaces.get_opt(name).await.map_err(told)? else { return Ok(None) };
    let Some(deleted) = namespace.metadata.deletion_timestamp.clone() else { return Ok(None) };
    if phase(&namespace) != "Terminating" {
        let mut after = namespace.clone();
        after.status.get_or_insert_default().phase = Some("Terminating".to_owned());
        write_status(api, &namespace, &after).await.map_err(|failure| failure.message)?;
        let Some(newer) = namespaces.get_opt(name).await.map_err(told)? else { return Ok(None) };
        namespace = newer;
    }
    if finalizers(&namespace).is_empty() {
        return Ok(None);
    }
    let passed = now.duration_since(deleted.0).as_secs();
    let leftovers = content::remove(api.client(), name, &caches.of::<Pod>().in_namespace(name), passed).await;
    let mut after = namespace.clone();
    conditions::update(after.status.get_or_insert_default(), &leftovers, now);
    if let Err(Failure { message, .. }) = write_status(api, &namespace, &after).await {
        // What is told may be late; what is done may not.
        tracing::debug!(namespace = name, message, "the status of a namespace is not written");
    }
    let Leftovers { estimate, .. } = leftovers;
    match leftovers.problem() {
        Some(problem) => Err(problem),
        None if estimate > 0 => Ok(Some(estimate)),
        None => finalize(&namespaces, namespace.uid(), name).await.map(|()| None),
    }
}

fn phase(namespace: &Namespace) -> &str {
    namespace.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn finalizers(namespace: &Namespace) -> &[String] {
    namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_deref()).unwrap_or_default()
}

async fn write_status(api: &KubeApi, before: &Namespace, after: &Namespace) -> Result<(), Failure> {
    match Action::update_status(before, after) {
        Some(action) => api.perform(&action).await.map(|_| ()),
        None => Ok(()),
    }
}

/// It is empty: its finalizer of ours goes, and with it the namespace, unless somebody else has one.
async fn finalize(namespaces: &Collection<Namespace>, uid: &str, name: &str) -> Result<(), String> {
    for _ in 0..TRIES {
        let found = namespaces.get_opt(name).await.map_err(|error| failure(&error).message)?;
        let Some(mut namespace) = found.filter(|found| found.uid() == uid) else { return Ok(()) };
        let kept = finalizers(&namespace).iter().filter(|one| *one != FINALIZER).cloned().collect();
        namespace.spec.get_or_insert_default().finalizers = Some(kept);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match namespaces.replace_subresource("finalize", name, &params, &namespace).await {
            Ok(_) => return Ok(()),
            Err(error) => match failure(&error) {
                Failure { verdict: Verdict::Gone, .. } => return Ok(()),
                Failure { verdict: Verdict::Outdated, .. } => {}
                Failure { message, .. } => return Err(message),
            },
        }
    }
    Err("it changes too often to be finalized".to_owned())
}
