//! Deletes what is in a namespace, collection by collection, and tells what is left. Must never touch another namespace.

use std::sync::Arc;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::{Client, ResourceExt as _};

use super::leftovers::{Leftovers, Rest, estimate};
use crate::act::failure;
use crate::discovery::{Collection, Discovered, discover};
use crate::plan::{Failure, Verdict};

/// How many collections of one namespace are deleted at once.
const AT_ONCE: usize = 8;
/// How often a collection is tried in one pass. A pass ends well only if all of them do, and of so many one may fail every time
/// when servers are troubled.
const TRIES: usize = 3;

/// Deletes everything, pods first: nothing else goes before the last of them. `pods` are those that are known, `passed` the
/// seconds since the namespace was deleted.
pub(super) async fn remove(client: &Client, namespace: &str, pods: &[Arc<Pod>], passed: i64) -> Leftovers {
    let mut leftovers = Leftovers::default();
    let discovered = discover(client).await.unwrap_or_else(|error| {
        leftovers.discovery = Some(error.to_string());
        Discovered::default()
    });
    let stale = discovered.stale();
    if !stale.is_empty() {
        leftovers.discovery = Some(failed_groups(&stale));
    }
    let unreadable = discovered.unreadable();
    if !unreadable.is_empty() {
        leftovers.unreadable = Some(unreadable.join(", "));
    }
    let mut collections = discovered.preferred();
    collections.retain(|collection| collection.namespaced && collection.can(&["delete"]));
    let is_pods = |collection: &Arc<Collection>| collection.group.is_empty() && collection.resource == "pods";
    let (first, then): (Vec<_>, Vec<_>) = collections.into_iter().partition(is_pods);
    let estimate = estimate(pods.iter().map(|pod| &**pod), passed);
    for collection in first {
        let rest = empty(client, &collection, namespace, estimate).await;
        let failed = rest.is_err();
        leftovers.add(&collection, namespace, rest);
        if failed || !leftovers.remaining.is_empty() {
            return leftovers;
        }
    }
    let mut rests = stream::iter(then)
        .map(|collection| async move {
            let rest = empty(client, &collection, namespace, 0).await;
            (collection, rest)
        })
        .buffer_unordered(AT_ONCE);
    while let Some((collection, rest)) = rests.next().await {
        leftovers.add(&collection, namespace, rest);
    }
    leftovers
}

/// As client-go words it.
fn failed_groups(stale: &[String]) -> String {
    let each: Vec<_> =
        stale.iter().map(|version| format!("{version}: stale GroupVersion discovery: {version}")).collect();
    format!(
        "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
        stale.len(),
        each.join(", ")
    )
}

/// Deletes a collection; what is there afterwards.
async fn empty(
    client: &Client,
    collection: &Collection,
    namespace: &str,
    estimate: i64,
) -> Result<Rest, String> {
    let objects =
        Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &collection.api_resource());
    let mut tries = 1;
    let left = loop {
        match try_to_empty(&objects, collection).await {
            // It would be the same again.
            Err(Failure { verdict: Verdict::Refused | Verdict::Gone | Verdict::Terminating, message }) => {
                return Err(message);
            }
            Err(_) if tries < TRIES => tries += 1,
            left => break left.map_err(|failure| failure.message)?,
        }
    };
    Ok(Rest { objects: left.into_iter().map(|(_, finalizers)| finalizers).collect(), estimate })
}

/// Names and finalizers of what is left.
async fn try_to_empty(
    objects: &Api<DynamicObject>,
    collection: &Collection,
) -> Result<Vec<(String, Vec<String>)>, Failure> {
    let whole = collection.can(&["deletecollection"]);
    if !whole || !delete_all(objects).await? {
        for (name, _) in list(objects, collection).await?.unwrap_or_default() {
            let deleted = objects.delete(&name, &DeleteParams::background()).await;
            unless_unknown(deleted.map(|_| ()))?;
        }
    }
    Ok(list(objects, collection).await?.unwrap_or_default())
}

/// Whether the collection could be deleted as one.
async fn delete_all(objects: &Api<DynamicObject>) -> Result<bool, Failure> {
    let params = DeleteParams::background();
    unless_unknown(objects.delete_collection(&params, &ListParams::default()).await.map(|_| ()))
}

/// Names and finalizers of all objects; nothing when they cannot be listed.
async fn list(
    objects: &Api<DynamicObject>,
    collection: &Collection,
) -> Result<Option<Vec<(String, Vec<String>)>>, Failure> {
    if !collection.can(&["list"]) {
        return Ok(None);
    }
    match objects.list_metadata(&ListParams::default()).await {
        Ok(list) => {
            let told = list.items.iter().map(|one| (one.name_any(), one.finalizers().to_vec()));
            Ok(Some(told.collect()))
        }
        Err(error) => unless_unknown(Err(error)).map(|_| None),
    }
}

/// False where the API knows no such thing: discovery may tell of what cannot be done.
fn unless_unknown(result: Result<(), kube::Error>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => Ok(false),
        Err(error) => Err(failure(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_that_do_not_answer_are_named() {
        let told = failed_groups(&["metrics.k8s.io/v1beta1".to_owned(), "x.org/v1".to_owned()]);
        let expected = "Discovery failed for some groups, 2 failing: unable to retrieve the complete list of server APIs: \
                        metrics.k8s.io/v1beta1: stale GroupVersion discovery: metrics.k8s.io/v1beta1, x.org/v1: stale \
                        GroupVersion discovery: x.org/v1";
        assert_eq!(told, expected);
    }
}
