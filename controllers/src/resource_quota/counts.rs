//! How many objects there are of collections that some quota counts, by their metadata alone. Must never watch what no quota asks
//! for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{AbortHandle, JoinSet};

use super::usage::{bounds, counted_by};
use crate::controller_manager::Parts;
use crate::discovery::{Collection, Discovered, Followed};
use crate::kind::Object as _;
use crate::metadata_watch::{self, Told};
use crate::queue::WorkQueue;

/// Names of the objects of one collection, by namespace.
type Names = HashMap<String, HashSet<String>>;

/// Objects of all collections that are counted, by `resource.group`. One that has told nothing yet is not there.
#[derive(Default)]
pub(crate) struct Counts {
    of: Mutex<HashMap<String, Names>>,
    asked: Notify,
}

impl Counts {
    /// Quotas may ask for something else now.
    pub(super) fn asked(&self) {
        self.asked.notify_one();
    }

    /// How many objects of a collection are in a namespace; nothing when that is not known.
    pub(super) fn count(&self, collection: &str, namespace: &str) -> Option<usize> {
        let all = self.of.lock();
        Some(all.get(collection)?.get(namespace).map_or(0, HashSet::len))
    }

    /// Takes in what a watch tells; the namespaces where there are fewer now, or nothing for all of them.
    fn take(&self, collection: &str, told: Told) -> Option<Vec<String>> {
        let place = |meta: ObjectMeta| (meta.namespace.unwrap_or_default(), meta.name.unwrap_or_default());
        let mut all = self.of.lock();
        match told {
            Told::All(list) => {
                let mut names = Names::new();
                for (namespace, name) in list.into_iter().map(place) {
                    names.entry(namespace).or_default().insert(name);
                }
                all.insert(collection.to_owned(), names);
                None
            }
            Told::Is(meta) => {
                let (namespace, name) = place(meta);
                all.entry(collection.to_owned()).or_default().entry(namespace).or_default().insert(name);
                Some(Vec::new())
            }
            Told::Gone(meta) => {
                let (namespace, name) = place(meta);
                let names = all.entry(collection.to_owned()).or_default();
                if let Some(there) = names.get_mut(&namespace) {
                    there.remove(&name);
                    if there.is_empty() {
                        names.remove(&namespace);
                    }
                }
                Some(vec![namespace])
            }
        }
    }

    fn forget(&self, collection: &str) {
        self.of.lock().remove(collection);
    }
}

/// Watches what quotas ask for, for ever. Quotas about what there is less of go into the queue.
pub(crate) async fn follow(parts: Parts, mut discovered: Followed, counts: Arc<Counts>, queue: WorkQueue) {
    let mut running: BTreeMap<String, (Arc<Collection>, AbortHandle)> = BTreeMap::new();
    // Ends with this future.
    let mut tasks = JoinSet::new();
    loop {
        let served = discovered.borrow_and_update().clone();
        if let Some(served) = served {
            let quotas = parts.caches.of::<ResourceQuota>().all();
            let wanted = wanted(quotas.iter().map(|quota| &**quota), &served);
            let stale = served.stale();
            running.retain(|name, (collection, task)| {
                let asked = wanted.get(name);
                let stays = asked.is_some_and(|one| one == collection)
                    || asked.is_none() && stale.contains(&collection.api_version());
                if !stays {
                    task.abort();
                    counts.forget(name);
                }
                stays
            });
            while tasks.try_join_next().is_some() {}
            for (name, collection) in wanted {
                if running.contains_key(&name) {
                    continue;
                }
                let (client, caches) = (parts.client.clone(), parts.caches.clone());
                let (counts, queue) = (counts.clone(), queue.clone());
                let (own, watched) = (name.clone(), collection.clone());
                let task = tasks.spawn(async move {
                    metadata_watch::follow(client, &watched, |told| {
                        let less = counts.take(&own, told);
                        let quotas = caches.of::<ResourceQuota>().all();
                        for quota in quotas.iter().filter(|quota| asks_for(quota, &own)) {
                            let key = quota.key();
                            if less.as_ref().is_none_or(|less| less.contains(&key.namespace)) {
                                queue.add(key);
                            }
                        }
                    })
                    .await;
                });
                running.insert(name, (collection, task));
            }
        }
        tokio::select! {
            changed = discovered.changed() => {
                if changed.is_err() {
                    // The process ends.
                    return std::future::pending().await;
                }
            }
            () = counts.asked.notified() => {}
        }
    }
}

/// Whether a quota counts objects of a collection.
fn asks_for(quota: &ResourceQuota, collection: &str) -> bool {
    bounds(quota).keys().filter_map(|name| counted_by(name)).any(|one| one.to_string() == collection)
}

/// The collections that quotas count, of those that are served.
fn wanted<'a>(
    quotas: impl Iterator<Item = &'a ResourceQuota>,
    served: &Discovered,
) -> BTreeMap<String, Arc<Collection>> {
    let asked: HashSet<String> = quotas
        .flat_map(|quota| bounds(quota).into_keys())
        .filter_map(|name| counted_by(&name))
        .map(|resource| resource.to_string())
        .collect();
    let can = ["create", "delete", "list", "watch"];
    let all = served.preferred().into_iter().filter(|one| one.namespaced && one.can(&can));
    all.map(|one| (one.group_resource(), one)).filter(|(name, _)| asked.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::discovery::served;

    fn object(namespace: &str, name: &str) -> ObjectMeta {
        ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() }
    }

    #[test]
    fn counts_follow_what_is_told() {
        let counts = Counts::default();
        assert_eq!(counts.count("ships.x.org", "a"), None);
        assert_eq!(counts.take("ships.x.org", Told::All(vec![object("a", "1"), object("b", "1")])), None);
        let is = |namespace, name| counts.take("ships.x.org", Told::Is(object(namespace, name)));
        assert_eq!((is("a", "2"), is("a", "2")), (Some(vec![]), Some(vec![])));
        assert_eq!((counts.count("ships.x.org", "a"), counts.count("ships.x.org", "c")), (Some(2), Some(0)));
        assert_eq!(counts.take("ships.x.org", Told::Gone(object("a", "1"))), Some(vec!["a".to_owned()]));
        assert_eq!(counts.count("ships.x.org", "a"), Some(1));
        counts.take("ships.x.org", Told::All(vec![]));
        assert_eq!(counts.count("ships.x.org", "b"), Some(0));
        counts.forget("ships.x.org");
        assert_eq!(counts.count("ships.x.org", "b"), None);
    }

    #[test]
    fn only_what_is_asked_for_and_served_is_watched() {
        let served = served(
            &[
                ("v1", "configmaps", "ConfigMap", true),
                ("v1", "secrets", "Secret", true),
                ("x.org/v1", "as", "A", true),
            ],
            &[],
        );
        let hard = json!({"configmaps": "1", "count/as.x.org": "2", "count/bs.x.org": "2", "pods": "3"});
        let quota: ResourceQuota =
            serde_json::from_value(json!({"metadata": {"name": "q"}, "spec": {"hard": hard}})).unwrap();
        let wanted = wanted(std::iter::once(&quota), &served);
        assert_eq!(wanted.keys().collect::<Vec<_>>(), ["as.x.org", "configmaps"]);
        assert!(asks_for(&quota, "as.x.org") && !asks_for(&quota, "secrets"));
    }
}
