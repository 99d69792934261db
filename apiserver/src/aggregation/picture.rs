//! What is known of `APIService` objects, CustomResourceDefinitions and of what services told, and what follows of it: where
//! requests go, and what discovery tells of others. Must never look anything up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use arc_swap::ArcSwap;
use barque_api::kind::GroupVersion;
use barque_api::resources::priority::Priority;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::dial::{Dialer, Verifier};
use super::registration::{Place, Registration, ServicePort};
use crate::discovery::{Elsewhere, Told, own_priority};

/// Where requests for a group and version go that this server does not serve.
pub struct Route {
    /// The `APIService`.
    pub name: String,
    /// What is served there.
    pub group_version: GroupVersion,
    /// How early clients look there.
    pub priority: Priority,
    /// The service.
    pub at: ServicePort,
    /// Whether it answers.
    pub available: bool,
    /// Who judges its certificate, or why nobody can.
    pub verifier: Result<Verifier, String>,
}

/// What a service told of a group and version.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) resources: Value,
    pub(super) openapi: Option<String>,
}

struct Known {
    object: Arc<Value>,
    route: Option<Arc<Route>>,
    /// Where something of this server stands, if not where it does by itself.
    stands: Option<(GroupVersion, Priority)>,
}

#[derive(Default)]
struct State {
    services: BTreeMap<String, Known>,
    definitions: HashMap<String, BTreeSet<GroupVersion>>,
    /// By name, with whether it is what the service would tell now.
    found: HashMap<String, (Found, bool)>,
    services_in_step: bool,
    definitions_in_step: bool,
}

/// See the module's description.
#[derive(Default)]
pub(super) struct Picture {
    state: Mutex<State>,
    routes: ArcSwap<Vec<Arc<Route>>>,
    elsewhere: ArcSwap<Elsewhere>,
    changed: Mutex<HashSet<String>>,
    /// There are names in `changed`.
    pub(super) look: Notify,
    /// What definitions serve changed, or an `APIService`.
    pub(super) register: Notify,
}

impl Picture {
    /// An `APIService` is there, or changed.
    pub(super) fn service_is(&self, name: &str, object: Value, dialer: &Dialer) {
        let read = Registration::of(&object);
        let stands = read.as_ref().and_then(stands);
        let route = read.and_then(|read| route(read, dialer)).map(Arc::new);
        let is_local = route.is_none();
        let mut state = self.state.lock();
        let known = Known { object: Arc::new(object), route, stands };
        let before = state.services.insert(name.to_owned(), known);
        // A new status is no reason to ask a service again: this server writes it itself.
        let same = before.is_some_and(|before| before.object["spec"] == state.services[name].object["spec"]);
        if !same {
            state.found.remove(name);
        }
        self.publish(&state);
        drop(state);
        if is_local || !same {
            self.look_at(name);
        }
        self.register.notify_one();
    }

    /// It is gone.
    pub(super) fn service_is_gone(&self, name: &str) {
        let mut state = self.state.lock();
        state.services.remove(name);
        state.found.remove(name);
        self.publish(&state);
        drop(state);
        self.look_at(name);
        self.register.notify_one();
    }

    /// Everything was told once.
    pub(super) fn services_are_in_step(&self) {
        self.state.lock().services_in_step = true;
        self.register.notify_one();
    }

    pub(super) fn is_in_step(&self) -> bool {
        self.state.lock().services_in_step
    }

    /// A definition serves these; none for one that is gone.
    pub(super) fn definition_is(&self, name: &str, served: BTreeSet<GroupVersion>) {
        self.state.lock().definitions.insert(name.to_owned(), served);
        self.register.notify_one();
    }

    pub(super) fn definitions_are_in_step(&self) {
        self.state.lock().definitions_in_step = true;
        self.register.notify_one();
    }

    /// Something about a service of the cluster, or about those behind it, changed.
    pub(super) fn place_changed(&self, namespace: &str, name: &str) {
        for route in self.routes.load().iter() {
            if route.at.namespace == namespace && route.at.name == name {
                self.look_at(&route.name);
            }
        }
    }

    fn look_at(&self, name: &str) {
        self.changed.lock().insert(name.to_owned());
        self.look.notify_one();
    }

    /// Those that changed since this was asked last.
    pub(super) fn take_changed(&self) -> HashSet<String> {
        std::mem::take(&mut *self.changed.lock())
    }

    /// An `APIService`, and where it leads if that is not here.
    pub(super) fn service(&self, name: &str) -> Option<(Arc<Value>, Option<Arc<Route>>)> {
        let state = self.state.lock();
        let known = state.services.get(name)?;
        Some((Arc::clone(&known.object), known.route.clone()))
    }

    /// What definitions serve, and all `APIService` objects; nothing before both are known.
    pub(super) fn registered(&self) -> Option<(BTreeSet<GroupVersion>, Vec<Arc<Value>>)> {
        let state = self.state.lock();
        if !(state.services_in_step && state.definitions_in_step) {
            return None;
        }
        let wanted = state.definitions.values().flatten().cloned().collect();
        Some((wanted, state.services.values().map(|known| Arc::clone(&known.object)).collect()))
    }

    /// A service told this; nothing if it did not answer, and what it told before may be out of date.
    pub(super) fn found(&self, name: &str, found: Option<Found>) {
        let mut state = self.state.lock();
        match found {
            Some(found) if state.services.contains_key(name) => {
                state.found.insert(name.to_owned(), (found, true));
            }
            _ => {
                if let Some((_, fresh)) = state.found.get_mut(name) {
                    *fresh = false;
                }
            }
        }
        self.publish(&state);
    }

    pub(super) fn route(&self, group: &str, version: &str) -> Option<Arc<Route>> {
        let routes = self.routes.load();
        let mut routes = routes.iter();
        let found = routes
            .find(|route| &*route.group_version.group == group && &*route.group_version.version == version);
        found.cloned()
    }

    pub(super) fn elsewhere(&self) -> Arc<Elsewhere> {
        self.elsewhere.load_full()
    }

    fn publish(&self, state: &State) {
        let routes: Vec<_> = state.services.values().filter_map(|known| known.route.clone()).collect();
        let versions: Vec<_> = routes
            .iter()
            .map(|route| {
                let found = state.found.get(&route.name);
                let fresh = route.available && found.is_some_and(|(_, fresh)| *fresh);
                let found = found.map(|(found, _)| found);
                Arc::new(Told {
                    group_version: route.group_version.clone(),
                    priority: route.priority,
                    resources: found.map_or_else(|| json!([]), |found| found.resources.clone()),
                    fresh,
                    openapi: found.and_then(|found| found.openapi.clone()),
                })
            })
            .collect();
        self.routes.store(Arc::new(routes));
        let now = self.elsewhere.load();
        let priorities = state.services.values().filter_map(|known| known.stands.clone()).collect();
        if now.versions != versions || now.priorities != priorities {
            let generation = now.generation + 1;
            self.elsewhere.store(Arc::new(Elsewhere { generation, versions, priorities }));
        }
    }
}

fn stands(read: &Registration) -> Option<(GroupVersion, Priority)> {
    let moved = read.place == Place::Here && read.priority != own_priority(&read.group_version);
    moved.then(|| (read.group_version.clone(), read.priority))
}

fn route(read: Registration, dialer: &Dialer) -> Option<Route> {
    let Place::Service { at, trust } = read.place else { return None };
    Some(Route {
        name: read.name,
        group_version: read.group_version,
        priority: read.priority,
        at,
        available: read.available,
        verifier: dialer.verifier(&trust),
    })
}
