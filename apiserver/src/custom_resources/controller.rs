//! Carries out what becomes of definitions, on every server: serves those whose names were accepted, writes their conditions,
//! and empties those that go. Several servers decide the same from the same, and a write that another one was faster with is
//! left to what that one's event brings. Must never decide by itself.
//!
//! ```text
//! task         ends when   what it does
//! definitions  stop        follows all definitions, and looks at them when one changed or is due
//! drains       emptied     deletes the objects of a definition that goes; owned by the task above
//! ```

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::{GroupResource, GroupVersion};
use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::status::{Reason, Status};
use barque_api::time::Time;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::conditions::{self, Condition, Judged, judge};
use super::definition::{self, storage_version};
use super::drain::drain;
use super::webhook_conversion::WebhookConverter;
use super::{CLEANUP, definitions, text};
use crate::bootstrap;
use crate::clock;
use crate::registry::collections::{Collection, Collections, parse};
use crate::registry::follow::{Followed, follow};
use crate::registry::own_client::OwnClient;
use crate::registry::served::{Converter, Served};
use crate::storage::Storage;
use crate::webhook_client::WebhookClient;

/// Where there are several servers, all have this many seconds to hear of accepted names.
const ESTABLISH_SECONDS: i64 = 5;
/// What failed is tried again after this.
const RETRY: Duration = Duration::from_secs(1);

/// Whether the definitions that there were at the start are served.
#[derive(Clone, Debug)]
pub struct Definitions(watch::Receiver<bool>);

impl Definitions {
    /// Whether they are.
    #[must_use]
    pub fn are_served(&self) -> bool {
        *self.0.borrow()
    }
}

/// Starts the task.
#[must_use]
pub fn start<S: Storage>(
    client: &OwnClient<S>,
    collections: &Collections<S>,
    webhooks: &WebhookClient<S>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Definitions {
    let (in_step, served) = watch::channel(false);
    let resource = definitions().group_resource();
    let Some(collection) = collections.collection(&resource) else { return Definitions(served) };
    let controller = Controller {
        client: client.clone(),
        collections: collections.clone(),
        webhooks: webhooks.clone(),
        stop: stop.clone(),
        settled: HashMap::new(),
        offers: BTreeMap::new(),
        drains: JoinSet::new(),
        draining: HashSet::new(),
        drained: HashSet::new(),
        failed: HashMap::new(),
        in_step,
    };
    tasks.spawn(controller.run(collection));
    Definitions(served)
}

/// All definitions, as events tell them.
#[derive(Default)]
struct Picture {
    definitions: BTreeMap<String, Arc<Value>>,
    in_step: bool,
}

impl Picture {
    fn take(&mut self, followed: &Followed) {
        match followed {
            Followed::Is(object) => match parse(object) {
                Ok(value) => {
                    self.definitions.insert(Metadata::of(&value).name().to_owned(), Arc::new(value));
                }
                Err(status) => tracing::error!("a definition is left as it was: {status}"),
            },
            Followed::Gone(object) => {
                let key = String::from_utf8_lossy(object.key());
                self.definitions.remove(key.rsplit('/').next().unwrap_or_default());
            }
            Followed::InStep => self.in_step = true,
        }
    }
}

/// What is served of a definition, and what that follows from.
struct Offer {
    /// The definition that was looked at last.
    of: Arc<Value>,
    from: Value,
    served: Vec<Arc<Served>>,
}

struct Controller<S: Storage> {
    client: OwnClient<S>,
    collections: Collections<S>,
    webhooks: WebhookClient<S>,
    stop: CancellationToken,
    /// Versions of definitions that are as they should be, whatever others do.
    settled: HashMap<String, String>,
    offers: BTreeMap<String, Offer>,
    drains: JoinSet<(String, Result<(), Status>)>,
    /// By UID.
    draining: HashSet<String>,
    /// By UID.
    drained: HashSet<String>,
    /// Why a collection could not be emptied, and when that is tried again; by UID.
    failed: HashMap<String, (Instant, String)>,
    in_step: watch::Sender<bool>,
}

impl<S: Storage> Controller<S> {
    async fn run(self, collection: Arc<Collection<S>>) {
        let (picture, changed) = (Mutex::new(Picture::default()), Notify::new());
        let tell = |followed: Followed| {
            picture.lock().take(&followed);
            changed.notify_one();
        };
        let stop = self.stop.clone();
        tokio::join!(follow(collection, stop, tell), self.work(&picture, &changed));
    }

    async fn work(mut self, picture: &Mutex<Picture>, changed: &Notify) {
        let stop = self.stop.clone();
        let mut due: Option<Instant> = None;
        loop {
            let at = due.unwrap_or_else(Instant::now);
            tokio::select! {
                () = stop.cancelled() => break,
                () = changed.notified() => {}
                () = tokio::time::sleep_until(at), if due.is_some() => {}
                Some(ended) = self.drains.join_next() => self.end_drain(ended),
            }
            let all = {
                let picture = picture.lock();
                picture.in_step.then(|| picture.definitions.clone())
            };
            if let Some(all) = all {
                let looked = stop.run_until_cancelled(self.look(&all)).await;
                due = looked.flatten().map(|wait| Instant::now() + wait);
            }
        }
        self.drains.shutdown().await;
    }

    fn end_drain(&mut self, ended: Result<(String, Result<(), Status>), tokio::task::JoinError>) {
        match ended {
            Ok((uid, result)) => {
                self.draining.remove(&uid);
                match result {
                    Ok(()) => {
                        self.drained.insert(uid);
                    }
                    Err(status) => {
                        self.failed.insert(uid, (Instant::now() + RETRY, status.message));
                    }
                }
            }
            Err(error) => {
                tracing::error!("a drain failed: {error}");
                // Whose it was is not known; they are begun again where they still have to be.
                self.draining.clear();
            }
        }
    }

    /// Looks at all definitions; answers when to look again although nothing happens.
    async fn look(&mut self, all: &BTreeMap<String, Arc<Value>>) -> Option<Duration> {
        let time = clock::now();
        let uids: HashSet<&str> = all.values().map(|one| Metadata::of(one).uid()).collect();
        self.drained.retain(|uid| uids.contains(uid.as_str()));
        self.failed.retain(|uid, _| uids.contains(uid.as_str()));
        self.settled.retain(|name, _| all.contains_key(name));

        let (wanted, mut waits) = self.judge_all(all, time).await;
        self.serve(&wanted);
        self.in_step.send_if_modified(|in_step| !std::mem::replace(in_step, true));
        let mut later = |wait: Duration| waits = Some(waits.map_or(wait, |other| other.min(wait)));
        for (name, judged) in wanted {
            let Some(stored) = all.get(&name) else { continue };
            let is_going = is_going(&judged);
            if !is_going && Arc::ptr_eq(&judged, stored) {
                continue;
            }
            let mut definition = Arc::unwrap_or_clone(judged);
            if is_going {
                self.terminate(&mut definition, time);
            }
            if definition == **stored {
                continue;
            }
            match self.client.update(&definitions(), "", &name, "status", definition).await {
                Ok(_) => {}
                // Somebody else was faster: the event of that brings it up again.
                Err(status) if matches!(status.reason, Reason::Conflict | Reason::NotFound) => {}
                Err(status) => {
                    tracing::warn!(name, "the status of a definition cannot be written yet: {status}");
                    later(RETRY);
                }
            }
        }
        // What could not be emptied is begun again.
        let waits_for_drain = all.values().any(|one| must_drain(one) && !self.is_looked_after(one));
        if waits_for_drain {
            later(RETRY);
        }
        waits
    }

    fn is_looked_after(&self, definition: &Value) -> bool {
        let uid = Metadata::of(definition).uid();
        self.draining.contains(uid) || self.drained.contains(uid)
    }

    /// All definitions as their statuses should be.
    async fn judge_all(
        &mut self,
        all: &BTreeMap<String, Arc<Value>>,
        time: Time,
    ) -> (BTreeMap<String, Arc<Value>>, Option<Duration>) {
        let mut wanted = all.clone();
        let version = |one: &Value| Metadata::of(one).resource_version().to_owned();
        let mut open: Vec<&String> = all
            .iter()
            .filter(|(name, one)| self.settled.get(*name) != Some(&version(one)))
            .map(|(name, _)| name)
            .collect();
        let mut waits: Option<Duration> = None;
        if open.is_empty() {
            return (wanted, waits);
        }
        // Who came first has the name.
        open.sort_by_key(|name| (text(&all[*name], "/metadata/creationTimestamp"), *name));
        let delay = self.delay().await;
        for name in open {
            let Judged { definition, established_at } =
                judge(&all[name], wanted.values().map(|one| &**one), time, delay);
            if let Some(at) = established_at {
                let seconds = u64::try_from(at.unix() - time.unix()).unwrap_or_default().max(1);
                let wait = Duration::from_secs(seconds);
                waits = Some(waits.map_or(wait, |other| other.min(wait)));
            } else if definition == *all[name] && conditions::holds(&definition, "NamesAccepted") {
                self.settled.insert(name.clone(), version(&definition));
            }
            if definition != *all[name] {
                wanted.insert(name.clone(), Arc::new(definition));
            }
        }
        (wanted, waits)
    }

    /// How long names wait before they are established.
    async fn delay(&self) -> i64 {
        let leases = GroupResource::new("coordination.k8s.io", "leases");
        let servers = self.collections.objects(&leases, "kube-system").await;
        let count = servers.map_or(0, |all| bootstrap::live(all.iter(), clock::now_micros()).len());
        if count > 1 { ESTABLISH_SECONDS } else { 0 }
    }

    /// Serves what is accepted, if that is not what is served already. That comes before anybody is told of it.
    fn serve(&mut self, wanted: &BTreeMap<String, Arc<Value>>) {
        let mut changed = false;
        let is_offered = |one: &Arc<Value>| definition::is_served(one) && !definition::is_builtin(one);
        let mut replaced: Vec<Arc<Served>> = Vec::new();
        self.offers.retain(|name, offer| {
            let stays = wanted.get(name).is_some_and(is_offered);
            if !stays {
                replaced.append(&mut offer.served);
            }
            changed |= !stays;
            stays
        });
        for (name, definition) in wanted.iter().filter(|(_, one)| is_offered(one)) {
            if self.offers.get(name).is_some_and(|offer| Arc::ptr_eq(&offer.of, definition)) {
                continue;
            }
            let from = origin(definition);
            if let Some(offer) = self.offers.get_mut(name)
                && offer.from == from
            {
                offer.of = Arc::clone(definition);
                continue;
            }
            let converter = WebhookConverter::of(definition, &self.webhooks);
            let converter = converter.map(|one| Arc::new(one) as Arc<dyn Converter>);
            let served = definition::served(definition, converter).unwrap_or_else(|errors| {
                tracing::warn!(name, "a definition cannot be served: {errors:?}");
                Vec::new()
            });
            let offer = Offer { of: Arc::clone(definition), from, served };
            let before = self.offers.insert(name.clone(), offer);
            replaced.extend(before.into_iter().flat_map(|offer| offer.served));
            changed = true;
        }
        if changed {
            self.collections.set_custom(self.offers.values().flat_map(|one| one.served.clone()).collect());
        }
        for served in replaced {
            served.end();
        }
    }

    /// The next step of a definition that goes.
    fn terminate(&mut self, definition: &mut Value, time: Time) {
        let uid = Metadata::of(definition).uid().to_owned();
        let ended = if definition::is_builtin(definition) {
            Some(("OverlappingBuiltInResource", "instances overlap with built-in resources in storage"))
        } else if !conditions::holds(definition, "Established") {
            Some(("NeverEstablished", "resource was never established"))
        } else if self.drained.contains(&uid) {
            Some(("InstanceDeletionCompleted", "removed all instances"))
        } else {
            None
        };
        let failed = self.failed.get(&uid);
        let (status, reason, message) = match (ended, failed) {
            (Some((reason, message)), _) => ("False", reason, message.to_owned()),
            (None, Some((_, why))) => {
                ("True", "InstanceDeletionFailed", format!("could not issue all deletes: {why}"))
            }
            (None, None) => {
                ("True", "InstanceDeletionInProgress", "CustomResource deletion is in progress".to_owned())
            }
        };
        conditions::set(definition, &Condition { kind: "Terminating", status, reason, message }, time);
        let rests = failed.is_some_and(|(until, _)| *until > Instant::now());
        if ended.is_some() {
            if let Some(mut metadata) = MetadataMut::of(definition) {
                metadata.remove_finalizer(CLEANUP);
            }
            return;
        }
        if !rests
            && let Some(version) = storage_version(definition)
            && self.draining.insert(uid.clone())
        {
            let plural = text(definition, "/status/acceptedNames/plural");
            let resource = GroupVersion::new(text(definition, "/spec/group"), version).resource(plural);
            let drained = drain(self.client.clone(), self.collections.clone(), resource, self.stop.clone());
            self.drains.spawn(async move { (uid, drained.await) });
        }
    }
}

/// Whether a definition goes, and waits for its objects.
fn is_going(definition: &Value) -> bool {
    let metadata = Metadata::of(definition);
    metadata.is_deleting() && metadata.has_finalizer(CLEANUP)
}

fn must_drain(definition: &Value) -> bool {
    is_going(definition)
        && conditions::holds(definition, "Established")
        && !definition::is_builtin(definition)
}

/// What decides how a definition is served.
fn origin(definition: &Value) -> Value {
    let part = |pointer: &str| definition.pointer(pointer).cloned().unwrap_or_default();
    serde_json::json!([part("/spec"), part("/status/acceptedNames"), Metadata::of(definition).is_deleting(),])
}
