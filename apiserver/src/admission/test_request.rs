//! For tests of webhooks and policies: collections with objects in them, and requests.

use std::sync::Arc;
use std::time::Duration;

use barque_api::field_selector::FieldSelector;
use barque_api::kind::{GroupVersion, GroupVersionKind, GroupVersionResource};
use barque_api::metadata::Metadata;
use barque_api::time::Time;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Attributes, Authorize, Operation};
use crate::authorization::{Action as Wish, Decision, User};
use crate::registry::collections::{Collections, Settings};
use crate::storage::encryption::Encryption;
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Storage, Write};

/// Objects in memory.
pub(super) struct Objects {
    pub(super) collections: Collections<Memory>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Objects {
    pub(super) fn new() -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = Settings {
            storage: Memory::new(),
            root: "/registry".to_owned(),
            encryption: Encryption::none(),
            event_ttl: Duration::from_secs(3600),
        };
        let collections = Collections::start(settings, &tasks, &stop);
        Self { collections, tasks, stop }
    }

    /// Stores a new object of a built-in kind, with its defaults.
    pub(super) async fn put(&self, mut object: Value) {
        let version = GroupVersion::of_api_version(object["apiVersion"].as_str().unwrap()).unwrap();
        let kind = version.kind(object["kind"].as_str().unwrap());
        let endpoint = self.collections.catalog().of_kind(&kind).unwrap().clone();
        endpoint.served.default(&mut object);
        let collection = endpoint.collection.unwrap();
        let metadata = Metadata::of(&object);
        let key = collection.keys.object(metadata.namespace(), metadata.name());
        let action = Action::Put { value: Bytes::from(object.to_string()), lease: None };
        collection.storage.write(&Write { key, expected: Expected::Absent, action }).await.unwrap();
    }

    pub(super) async fn namespace(&self, name: &str) {
        let labels = json!({"name": name});
        self.put(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
        )
        .await;
    }

    pub(super) async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// A request.
#[derive(Clone)]
pub(super) struct Ask {
    pub(super) operation: Operation,
    pub(super) user: User,
    pub(super) kind: GroupVersionKind,
    pub(super) resource: GroupVersionResource,
    pub(super) namespace: &'static str,
    pub(super) old: Option<Value>,
    pub(super) dry_run: bool,
}

impl Ask {
    /// `x` is created in the namespace `a`.
    pub(super) fn create(group: &str, version: &str, resource: &str, kind: &str) -> Self {
        Self {
            operation: Operation::Create,
            user: User { name: "u".to_owned(), groups: vec!["g".to_owned()], ..User::default() },
            kind: GroupVersionKind::new(group, version, kind),
            resource: GroupVersionResource::new(group, version, resource),
            namespace: "a",
            old: None,
            dry_run: false,
        }
    }

    pub(super) fn config_map() -> Self {
        Self::create("", "v1", "configmaps", "ConfigMap")
    }

    pub(super) fn attributes(&self) -> Attributes<'_> {
        Attributes {
            operation: self.operation,
            user: &self.user,
            kind: &self.kind,
            resource: &self.resource,
            subresource: "",
            namespace: self.namespace,
            name: "x",
            old: self.old.as_ref(),
            options: &Value::Null,
            dry_run: self.dry_run,
            now: Time::of_unix(1_767_355_200),
        }
    }
}

/// Whoever wants to do `yes` may.
pub(super) fn only_yes() -> Authorize {
    Arc::new(|_: &User, action: &Wish, _: &FieldSelector| match action {
        Wish::Resource { verb, .. } | Wish::Path { verb, .. } if verb == "yes" => {
            Decision::Allow("it is yes".to_owned())
        }
        _ => Decision::NoOpinion(String::new()),
    })
}

/// A future as servers need it: one that threads can hand to each other.
pub(super) fn sendable<F: Future + Send>(future: F) -> F {
    future
}

/// A ConfigMap `x` in the namespace `a`.
pub(super) fn config_map(data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "a"}, "data": data})
}
