//! What happens in the cluster, as changes for the one who keeps it: a watch for each kind. Must never poll, nor take a part of a
//! list for the whole.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;

use futures::StreamExt as _;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{
    Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ReplicationController, Service,
};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::storage::v1::{CSINode, StorageClass};
use kube::core::ObjectMeta;
use kube::runtime::watcher::{Config, Error, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc::Sender;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Pods that have ended take nothing, and there may be many.
const LIVING_PODS: &str = "status.phase!=Succeeded,status.phase!=Failed";

/// An object by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Named {
    /// Empty for kinds that have none.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// An object that went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) kind: Kind,
    pub(crate) named: Named,
    pub(crate) uid: String,
}

/// What happened.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// An object is there, or different.
    There(Object),
    /// An object is gone.
    Gone(Gone),
    /// All objects of a kind have been told.
    Complete(Kind),
}

/// Names the kinds that matter: each with its type, and what narrows the watch.
macro_rules! kinds {
    ($($kind:ident: $type:ty $(, $fields:expr)?;)*) => {
        /// A kind of object that decisions depend on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum Kind { $(
            #[doc = stringify!($kind)]
            $kind,
        )* }

        /// An object that decisions depend on.
        #[derive(Clone, Debug)]
        pub(crate) enum Object { $(
            #[doc = stringify!($kind)]
            $kind(Box<$type>),
        )* }

        impl Kind {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind),*];
        }

        $(impl Observed for $type {
            const KIND: Kind = Kind::$kind;
            const FIELDS: Option<&'static str> = { let fields: &[&str] = &[$($fields)?]; fields.first().copied() };

            fn into_object(mut self) -> Object {
                // Nobody here reads it, and it is large.
                self.metadata.managed_fields = None;
                Object::$kind(Box::new(self))
            }
        })*

        /// Starts a watch for each kind. Each ends with the token, or with who takes the changes.
        pub(crate) fn watch_all(
            tasks: &mut JoinSet<()>,
            client: &Client,
            changes: &Sender<Change>,
            stop: &CancellationToken,
        ) { $({
            let (client, changes, stop) = (client.clone(), changes.clone(), stop.clone());
            tasks.spawn(async move {
                stop.run_until_cancelled(follow::<$type>(client, changes)).await;
            });
        })* }

        /// Reads everything once.
        ///
        /// # Errors
        /// When a list cannot be read.
        pub(crate) async fn read_all(client: &Client) -> kube::Result<Vec<Object>> {
            let mut all = Vec::new();
            $(all.extend(list::<$type>(client).await?);)*
            Ok(all)
        }
    };
}

kinds! {
    // Pods are told last: they are compiled with what the others say.
    Namespace: Namespace;
    Service: Service;
    ReplicationController: ReplicationController;
    ReplicaSet: ReplicaSet;
    StatefulSet: StatefulSet;
    Budget: PodDisruptionBudget;
    Class: StorageClass;
    Volume: PersistentVolume;
    Claim: PersistentVolumeClaim;
    CsiNode: CSINode;
    Node: Node;
    Pod: Pod, LIVING_PODS;
}

/// A type of objects that decisions depend on.
trait Observed: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Unpin + 'static {
    const KIND: Kind;
    const FIELDS: Option<&'static str>;

    fn into_object(self) -> Object;
}

/// Objects that were told, so that what is missing in the next list is known to be gone.
#[derive(Debug, Default)]
struct Known {
    uids: HashMap<Named, String>,
    /// Of the list that is being told.
    seen: HashSet<Named>,
}

impl Known {
    /// One that is there. What it took the place of is gone.
    fn there(&mut self, kind: Kind, metadata: &ObjectMeta) -> Option<Gone> {
        let named = named(metadata);
        let uid = metadata.uid.clone().unwrap_or_default();
        self.seen.insert(named.clone());
        let old = self.uids.insert(named.clone(), uid.clone()).filter(|old| *old != uid)?;
        Some(Gone { kind, named, uid: old })
    }

    fn gone(&mut self, kind: Kind, metadata: &ObjectMeta) -> Option<Gone> {
        let named = named(metadata);
        let uid = self.uids.remove(&named)?;
        Some(Gone { kind, named, uid })
    }

    /// A list begins.
    fn begin(&mut self) {
        self.seen.clear();
    }

    /// A list is complete: what was not in it is gone.
    fn complete(&mut self, kind: Kind) -> Vec<Gone> {
        let seen = std::mem::take(&mut self.seen);
        let missing = self.uids.extract_if(|named, _| !seen.contains(named));
        missing.map(|(named, uid)| Gone { kind, named, uid }).collect()
    }
}

fn named(metadata: &ObjectMeta) -> Named {
    Named {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// Follows a kind until nobody takes the changes. Lists are streamed; a server that cannot is asked for pages.
async fn follow<K: Observed>(client: Client, changes: Sender<Change>) {
    let api = Api::<K>::all(client);
    let mut known = Known::default();
    let mut streaming = true;
    loop {
        let mut config = if streaming { Config::default().streaming_lists() } else { Config::default() };
        config.field_selector = K::FIELDS.map(str::to_owned);
        let mut events = watcher(api.clone(), config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            let told: Vec<Change> = match event {
                Ok(Event::Init) => {
                    known.begin();
                    Vec::new()
                }
                Ok(Event::InitApply(object) | Event::Apply(object)) => {
                    let replaced = known.there(K::KIND, object.meta()).map(Change::Gone);
                    replaced.into_iter().chain([Change::There(object.into_object())]).collect()
                }
                Ok(Event::Delete(object)) => {
                    known.gone(K::KIND, object.meta()).map(Change::Gone).into_iter().collect()
                }
                Ok(Event::InitDone) => {
                    let gone = known.complete(K::KIND).into_iter().map(Change::Gone);
                    gone.chain([Change::Complete(K::KIND)]).collect()
                }
                Err(error) if streaming && cannot_stream(&error) => {
                    tracing::info!(kind = ?K::KIND, "the server does not stream lists; they are read in pages");
                    streaming = false;
                    break;
                }
                Err(error) => {
                    tracing::warn!(kind = ?K::KIND, %error, "a watch broke off and begins anew");
                    Vec::new()
                }
            };
            for change in told {
                if changes.send(change).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// Whether the server refused the form of the watch, as those before 1.32 do unless told otherwise.
fn cannot_stream(error: &Error) -> bool {
    match error {
        Error::WatchStartFailed(kube::Error::Api(status)) | Error::WatchError(status) => {
            matches!(status.code, 400 | 422)
        }
        _ => false,
    }
}

async fn list<K: Observed>(client: &Client) -> kube::Result<Vec<Object>> {
    let api = Api::<K>::all(client.clone());
    let mut params = kube::api::ListParams::default().limit(500);
    params.field_selector = K::FIELDS.map(str::to_owned);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items.into_iter().map(Observed::into_object));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(name: &str, uid: &str) -> ObjectMeta {
        ObjectMeta { name: Some(name.into()), uid: Some(uid.into()), ..ObjectMeta::default() }
    }

    #[test]
    fn what_a_watch_missed_is_found_in_the_next_list() {
        let mut known = Known::default();
        let told = |gone: Option<Gone>| gone.map(|gone| (gone.named.name, gone.uid));
        known.begin();
        for (name, uid) in [("a", "1"), ("b", "2"), ("c", "3")] {
            assert_eq!(known.there(Kind::Pod, &metadata(name, uid)), None);
        }
        assert_eq!(known.complete(Kind::Pod), []);
        assert_eq!(told(known.gone(Kind::Pod, &metadata("c", "3"))), Some(("c".into(), "3".into())));
        assert_eq!(known.gone(Kind::Pod, &metadata("c", "3")), None);
        // The watch breaks off; meanwhile one goes, and another one takes its name.
        known.begin();
        let replaced = known.there(Kind::Pod, &metadata("a", "9"));
        assert_eq!(told(replaced), Some(("a".into(), "1".into())));
        let gone = known.complete(Kind::Pod);
        assert_eq!(gone.len(), 1);
        assert_eq!(told(gone.into_iter().next()), Some(("b".into(), "2".into())));
    }
}
