//! Follows what the API serves: asks again when a custom kind or a registered server comes, changes or goes. Must never ask by
//! the clock alone, but where nothing else can tell: what servers of others serve.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::APIService;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::{Discovered, discover};
use crate::kind::Object;

/// When nothing has changed.
const REPAIR: Duration = Duration::from_secs(10 * 60);
/// While servers of others are registered, which tell nobody when they change; as upstream asks always.
const FOREIGN: Duration = Duration::from_secs(30);
/// When what was defined is not served yet; it doubles.
const AGAIN: Duration = Duration::from_millis(50);

/// A custom kind as it is defined.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Custom {
    group: String,
    resource: String,
    versions: Vec<String>,
    established: bool,
}

impl Custom {
    fn of(defined: &CustomResourceDefinition) -> Self {
        let conditions = defined.status.as_ref().and_then(|status| status.conditions.as_ref());
        let established = conditions
            .is_some_and(|all| all.iter().any(|one| one.type_ == "Established" && one.status == "True"));
        let served = defined.spec.versions.iter().filter(|version| version.served);
        Self {
            group: defined.spec.group.clone(),
            resource: defined.spec.names.plural.clone(),
            versions: served.map(|version| version.name.clone()).collect(),
            established,
        }
    }
}

/// What is known of changes to come.
#[derive(Debug, Default)]
struct Defined {
    customs: BTreeMap<String, Custom>,
    /// Whose names, and whether a server of others is behind it.
    services: BTreeMap<String, bool>,
    /// Custom kinds that were there and are not any more.
    gone: Vec<Custom>,
}

impl Defined {
    fn define(&mut self, name: String, custom: Option<Custom>) {
        let before = match &custom {
            Some(custom) => self.customs.insert(name, custom.clone()),
            None => self.customs.remove(&name),
        };
        self.gone.retain(|gone| Some(gone) != custom.as_ref());
        if custom.is_none() {
            self.gone.extend(before);
        }
    }

    /// Whether all is served that is defined, and nothing that is not any more.
    fn agrees(&self, discovered: &Discovered) -> bool {
        let serves =
            |custom: &Custom, version: &String| discovered.serves(&custom.group, version, &custom.resource);
        let defined = self.customs.values().filter(|custom| custom.established);
        let mut missing =
            defined.flat_map(|custom| custom.versions.iter().map(move |version| (custom, version)));
        missing.all(|(custom, version)| serves(custom, version))
            && !self.gone.iter().any(|custom| custom.versions.iter().any(|version| serves(custom, version)))
    }

    /// How long until it is asked again though nothing has changed.
    fn wait(&self, discovered: Option<&Discovered>, misses: u32) -> Duration {
        match discovered {
            Some(discovered) if self.agrees(discovered) => {
                let foreign = self.services.values().any(|foreign| *foreign);
                if foreign || !discovered.stale().is_empty() { FOREIGN } else { REPAIR }
            }
            _ => AGAIN.saturating_mul(1 << misses.min(10)).min(FOREIGN),
        }
    }
}

/// Follows for ever; whatever is different from before is sent.
pub(crate) async fn follow(client: Client, tell: watch::Sender<Option<Arc<Discovered>>>) {
    let mut customs = watched(Api::<CustomResourceDefinition>::all(client.clone()));
    let mut services = watched(Api::<APIService>::all(client.clone()));
    let mut defined = Defined::default();
    let (mut next, mut misses) = (Instant::now(), 0);
    loop {
        tokio::select! {
            biased;
            Some(event) = customs.next() => {
                misses = 0;
                if changed(event, |name, object| {
                    defined.define(name, object.map(|object| Custom::of(&object)));
                }) {
                    next = Instant::now();
                }
            }
            Some(event) = services.next() => {
                if changed(event, |name, object| match object {
                    Some(service) => {
                        let foreign = service.spec.is_some_and(|spec| spec.service.is_some());
                        defined.services.insert(name, foreign);
                    }
                    None => {
                        defined.services.remove(&name);
                    }
                }) {
                    next = Instant::now();
                }
            }
            () = sleep_until(next) => {
                let found = match discover(&client).await {
                    Ok(found) => Some(found),
                    Err(error) => {
                        tracing::warn!(%error, "it is not known what the API serves");
                        None
                    }
                };
                let wait = defined.wait(found.as_ref(), misses);
                if found.as_ref().is_some_and(|found| defined.agrees(found)) {
                    misses = 0;
                    defined.gone.clear();
                } else {
                    misses += 1;
                }
                next = Instant::now() + wait;
                if let Some(found) = found {
                    tell.send_if_modified(|before| {
                        let new = before.as_deref() != Some(&found);
                        if new {
                            *before = Some(Arc::new(found));
                        }
                        new
                    });
                }
            }
        }
    }
}

fn watched<K: Object>(api: Api<K>) -> impl Stream<Item = watcher::Result<Event<K>>> + Unpin {
    watcher(api, Config::default()).default_backoff().boxed()
}

/// Takes an event in; whether something may be served now that was not, or not any more.
fn changed<K: Object>(event: watcher::Result<Event<K>>, mut take: impl FnMut(String, Option<K>)) -> bool {
    match event {
        Ok(Event::Init) => false,
        Ok(Event::InitApply(object) | Event::Apply(object)) => {
            take(object.key().name, Some(object));
            true
        }
        Ok(Event::Delete(object)) => {
            take(object.key().name, None);
            true
        }
        Ok(Event::InitDone) => true,
        Err(error) => {
            tracing::debug!(%error, "a watch broke off and begins anew");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::served;
    use super::*;

    fn custom(versions: &[&str], established: bool) -> Custom {
        Custom {
            group: "x.org".to_owned(),
            resource: "as".to_owned(),
            versions: versions.iter().map(|version| (*version).to_owned()).collect(),
            established,
        }
    }

    #[test]
    fn it_is_asked_again_soon_until_what_is_defined_is_served() {
        let nothing = served(&[("v1", "pods", "Pod", true)], &[]);
        let first = served(&[("x.org/v1", "as", "A", true)], &[]);
        let both = served(&[("x.org/v1", "as", "A", true), ("x.org/v2", "as", "A", true)], &[]);
        let mut defined = Defined::default();
        assert_eq!(defined.wait(Some(&nothing), 0), REPAIR);
        assert_eq!(defined.wait(None, 0), AGAIN);
        defined.define("as.x.org".to_owned(), Some(custom(&["v1", "v2"], false)));
        assert_eq!(defined.wait(Some(&nothing), 0), REPAIR);
        defined.define("as.x.org".to_owned(), Some(custom(&["v1", "v2"], true)));
        assert_eq!(defined.wait(Some(&nothing), 0), AGAIN);
        assert_eq!(defined.wait(Some(&first), 3), AGAIN * 8);
        assert_eq!(defined.wait(Some(&first), 40), FOREIGN);
        assert_eq!(defined.wait(Some(&both), 0), REPAIR);
        defined.define("as.x.org".to_owned(), None);
        assert_eq!(defined.wait(Some(&both), 0), AGAIN);
        assert_eq!(defined.wait(Some(&nothing), 0), REPAIR);
        defined.services.insert("v1beta1.metrics.k8s.io".to_owned(), true);
        assert_eq!(defined.wait(Some(&nothing), 0), FOREIGN);
    }

    #[test]
    fn servers_that_do_not_answer_are_asked_for_again() {
        let stale = served(&[("x.org/v1", "as", "A", true)], &["x.org/v1"]);
        assert_eq!(Defined::default().wait(Some(&stale), 0), FOREIGN);
    }
}
