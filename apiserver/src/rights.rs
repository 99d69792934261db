//! Keeps the picture of who may what in step with the store, for every question that is asked: roles and bindings, and what
//! belongs to which node. Must never answer a question by itself.

use std::sync::Arc;

use barque_api::field_selector::FieldSelector;
use barque_api::kind::GroupResource;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authorization::chain::{AllowedPaths, Authorizer, Chain, KnownRules};
use crate::authorization::node::Graph;
use crate::authorization::rbac::{Named, Policy};
use crate::authorization::{Action, Decision, User};
use crate::registry::collections::{Collection, Collections, parse};
use crate::registry::follow::{Followed, follow};
use crate::storage::Storage;
use crate::watch_cache::object::Object;

const RBAC: &str = "rbac.authorization.k8s.io";

/// What is remembered.
#[derive(Default)]
struct Picture {
    policy: RwLock<Policy>,
    graph: RwLock<Graph>,
}

/// What an object of a followed collection means.
#[derive(Clone, Copy)]
enum Meaning {
    Role,
    Binding,
    Pod,
    Volume,
    Attachment,
    Slice,
}

/// The collections, and what their objects mean.
const FOLLOWED: [(&str, &str, Meaning); 8] = [
    (RBAC, "roles", Meaning::Role),
    (RBAC, "clusterroles", Meaning::Role),
    (RBAC, "rolebindings", Meaning::Binding),
    (RBAC, "clusterrolebindings", Meaning::Binding),
    ("", "pods", Meaning::Pod),
    ("", "persistentvolumes", Meaning::Volume),
    ("storage.k8s.io", "volumeattachments", Meaning::Attachment),
    ("resource.k8s.io", "resourceslices", Meaning::Slice),
];

/// Who may what, as it is now. Cloning copies pointers.
#[derive(Clone)]
pub struct Authorization {
    picture: Arc<Picture>,
    allowed: Arc<AllowedPaths>,
    /// How many collections were told once.
    in_step: watch::Receiver<usize>,
}

impl Authorization {
    /// Follows what it depends on with `tasks` until `stop`; everybody may use the paths that are `allowed`.
    #[must_use]
    pub fn start<S: Storage>(
        collections: &Collections<S>,
        allowed: AllowedPaths,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let picture = Arc::new(Picture::default());
        let (counted, in_step) = watch::channel(0);
        let counted = Arc::new(counted);
        for (group, resource, meaning) in FOLLOWED {
            let Some(collection) = collections.collection(&GroupResource::new(group, resource)) else {
                continue;
            };
            let (picture, counted) = (Arc::clone(&picture), Arc::clone(&counted));
            let named = Arc::clone(&collection);
            let mut was_in_step = false;
            let tell = move |followed: Followed| match followed {
                Followed::Is(object) => picture.enter(meaning, &object, &named),
                Followed::Gone(object) => picture.leave(meaning, &object, &named),
                Followed::InStep => {
                    if !std::mem::replace(&mut was_in_step, true) {
                        counted.send_modify(|count| *count += 1);
                    }
                }
            };
            tasks.spawn(follow(collection, stop.clone(), tell));
        }
        Self { picture, allowed: Arc::new(allowed), in_step }
    }

    /// Whether everything was told once.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        *self.in_step.borrow() == FOLLOWED.len()
    }

    /// Asks those who decide, as they are now.
    pub fn ask<T>(&self, question: impl FnOnce(&Chain<'_>) -> T) -> T {
        let (policy, graph) = (self.picture.policy.read(), self.picture.graph.read());
        question(&Chain { always_allowed: &self.allowed, node: Some(&graph), rbac: &policy })
    }
}

impl Authorizer for Authorization {
    fn decide(&self, user: &User, action: &Action, fields: &FieldSelector) -> Decision {
        self.ask(|chain| chain.decide(user, action, fields))
    }

    fn rules(&self, user: &User, namespace: &str) -> KnownRules {
        self.ask(|chain| chain.rules(user, namespace))
    }
}

impl Picture {
    fn enter<S: Storage>(&self, meaning: Meaning, object: &Object, of: &Collection<S>) {
        let value: Value = match parse(object) {
            Ok(value) => value,
            Err(status) => {
                tracing::error!("what cannot be read gives no rights: {status}");
                return self.leave(meaning, object, of);
            }
        };
        match meaning {
            Meaning::Role => self.policy.write().role_is(named(object, of), &value),
            Meaning::Binding => self.policy.write().binding_is(named(object, of), &value),
            Meaning::Pod => self.graph.write().pod_is(&value),
            Meaning::Volume => self.graph.write().volume_is(&value),
            Meaning::Attachment => self.graph.write().attachment_is(&value),
            Meaning::Slice => self.graph.write().slice_is(&value),
        }
    }

    fn leave<S: Storage>(&self, meaning: Meaning, object: &Object, of: &Collection<S>) {
        let named = named(object, of);
        match meaning {
            Meaning::Role => self.policy.write().role_is_gone(&named),
            Meaning::Binding => self.policy.write().binding_is_gone(&named),
            Meaning::Pod => self.graph.write().pod_is_gone(&named.namespace, &named.name),
            Meaning::Volume => self.graph.write().volume_is_gone(&named.name),
            Meaning::Attachment => self.graph.write().attachment_is_gone(&named.name),
            Meaning::Slice => self.graph.write().slice_is_gone(&named.name),
        }
    }
}

fn named<S: Storage>(object: &Object, of: &Collection<S>) -> Named {
    let (namespace, name) = of.keys.names(object.key()).unwrap_or_default();
    Named { namespace: namespace.to_owned(), name: name.to_owned() }
}
