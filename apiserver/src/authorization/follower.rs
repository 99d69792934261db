//! Keeps the picture of roles and bindings in step with the store, for every question that is asked. Must never answer one
//! itself.

use std::sync::Arc;

use barque_api::kind::GroupResource;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::rbac::{Named, Policy};
use crate::registry::collections::{Collections, parse};
use crate::registry::follow::{Followed, follow};
use crate::storage::Storage;
use crate::watch_cache::object::Object;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Roles and bindings as they are now. Cloning copies pointers.
#[derive(Clone)]
pub struct Rbac {
    policy: Arc<RwLock<Policy>>,
    /// How many of the four collections were told once.
    in_step: watch::Receiver<usize>,
}

impl Rbac {
    /// Follows the four collections with `tasks` until `stop`.
    #[must_use]
    pub fn start<S: Storage>(
        collections: &Collections<S>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let policy = Arc::new(RwLock::new(Policy::default()));
        let (counted, in_step) = watch::channel(0);
        let counted = Arc::new(counted);
        let kinds = [
            ("roles", false),
            ("clusterroles", false),
            ("rolebindings", true),
            ("clusterrolebindings", true),
        ];
        for (resource, is_binding) in kinds {
            let Some(collection) = collections.collection(&GroupResource::new(GROUP, resource)) else {
                continue;
            };
            let (policy, counted) = (Arc::clone(&policy), Arc::clone(&counted));
            let mut was_in_step = false;
            let tell = move |followed: Followed| match followed {
                Followed::Is(object) => enter(&mut policy.write(), &object, is_binding),
                Followed::Gone(object) => leave(&mut policy.write(), &object, is_binding),
                Followed::InStep => {
                    if !std::mem::replace(&mut was_in_step, true) {
                        counted.send_modify(|count| *count += 1);
                    }
                }
            };
            tasks.spawn(follow(collection, stop.clone(), tell));
        }
        Self { policy, in_step }
    }

    /// Whether everything was told once.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        *self.in_step.borrow() == 4
    }

    /// Waits until everything was told once.
    pub async fn in_step(&self) {
        let mut in_step = self.in_step.clone();
        // The sender lives as long as the tasks; when they end, nobody asks any more.
        let _ = in_step.wait_for(|count| *count == 4).await;
    }

    /// Asks the roles and bindings as they are now.
    pub fn ask<T>(&self, question: impl FnOnce(&Policy) -> T) -> T {
        question(&self.policy.read())
    }
}

fn named(object: &Value) -> Named {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    Named { namespace: text("/metadata/namespace"), name: text("/metadata/name") }
}

fn enter(policy: &mut Policy, object: &Object, is_binding: bool) {
    match parse(object) {
        Ok(value) if is_binding => policy.binding_is(named(&value), &value),
        Ok(value) => policy.role_is(named(&value), &value),
        Err(status) => {
            tracing::error!("a role or binding is left out: {status}");
            leave(policy, object, is_binding);
        }
    }
}

fn leave(policy: &mut Policy, object: &Object, is_binding: bool) {
    let parts: Vec<&str> = std::str::from_utf8(object.key()).unwrap_or_default().rsplit('/').collect();
    let (Some(name), Some(before)) = (parts.first(), parts.get(1)) else { return };
    // Keys end in the namespace and the name; those of cluster roles in the collection and the name.
    let is_cluster = ["clusterroles", "clusterrolebindings"].contains(before);
    let namespace = if is_cluster { String::new() } else { (*before).to_owned() };
    let named = Named { namespace, name: (*name).to_owned() };
    if is_binding {
        policy.binding_is_gone(&named);
    } else {
        policy.role_is_gone(&named);
    }
}
