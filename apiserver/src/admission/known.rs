//! Configurations of webhooks and policies as they are now: each object of a collection read once when it changes, and all of
//! them by name. Must never answer before all were read that there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::registry::collections::{Collections, parse};
use crate::registry::follow::{Followed, follow};
use crate::storage::Storage;

/// How long a request waits until all were read once.
const PATIENCE: Duration = Duration::from_secs(10);

type ByName<T> = BTreeMap<String, Arc<T>>;

/// What the objects of a collection without namespaces say. Cloning copies pointers.
pub(super) struct Known<T> {
    all: Arc<ArcSwap<ByName<T>>>,
    in_step: watch::Receiver<bool>,
}

impl<T> Clone for Known<T> {
    fn clone(&self) -> Self {
        Self { all: Arc::clone(&self.all), in_step: self.in_step.clone() }
    }
}

impl<T: Send + Sync + 'static> Known<T> {
    /// Follows a collection with `tasks` until `stop`; `read` says what an object means.
    pub(super) fn start<S: Storage>(
        collections: &Collections<S>,
        resource: &GroupResource,
        read: fn(&Value) -> T,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let all = Arc::new(ArcSwap::from_pointee(ByName::new()));
        let (tell_step, in_step) = watch::channel(false);
        if let Some(collection) = collections.collection(resource) {
            let all = Arc::clone(&all);
            let tell = move |followed: Followed| match followed {
                Followed::Is(object) => match parse(&object) {
                    Ok(object) => {
                        let mut next = ByName::clone(&all.load());
                        next.insert(Metadata::of(&object).name().to_owned(), Arc::new(read(&object)));
                        all.store(Arc::new(next));
                    }
                    Err(error) => tracing::error!("a configuration is not followed: {error}"),
                },
                Followed::Gone(object) => {
                    let Ok(object) = parse(&object) else { return };
                    let mut next = ByName::clone(&all.load());
                    next.remove(Metadata::of(&object).name());
                    all.store(Arc::new(next));
                }
                Followed::InStep => {
                    tell_step.send_replace(true);
                }
            };
            tasks.spawn(follow(collection, stop.clone(), tell));
        }
        Self { all, in_step }
    }

    /// All of them by name, as they are now; nothing when it takes too long until they were read once.
    pub(super) async fn now(&self) -> Option<Arc<ByName<T>>> {
        let mut in_step = self.in_step.clone();
        let waited = tokio::time::timeout(PATIENCE, in_step.wait_for(|yes| *yes)).await;
        matches!(waited, Ok(Ok(_))).then(|| self.all.load_full())
    }
}
