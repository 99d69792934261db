//! For tests of plugins: collections with objects in them, and questions about requests.

use std::sync::Arc;
use std::time::Duration;

use barque_api::field_selector::FieldSelector;
use barque_api::kind::{GroupResource, GroupVersion, GroupVersionKind, GroupVersionResource};
use barque_api::metadata::Metadata;
use barque_api::time::Time;
use bytes::Bytes;
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::{Admission, Attributes, Operation};
use crate::authorization::{Action, Decision, User};
use crate::metrics::Metrics;
use crate::registry::collections::{Collections, Settings};
use crate::storage::encryption::Encryption;
use crate::storage::memory::Memory;
use crate::storage::{self, Expected, Storage, Write, Written};

/// Objects in memory, and admission over them. The right to do something is that its name is in the user's groups.
pub(super) struct Cluster {
    pub(super) admission: Admission<Memory>,
    pub(super) collections: Collections<Memory>,
    _stop: DropGuard,
}

impl Cluster {
    pub(super) async fn with(objects: &[Value]) -> Self {
        let stop = CancellationToken::new();
        let settings = Settings {
            storage: Memory::new(),
            root: "/registry".to_owned(),
            encryption: Encryption::none(),
            event_ttl: Duration::from_secs(3600),
        };
        let collections = Collections::start(settings, &TaskTracker::new(), &stop);
        let authorize = |user: &User, action: &Action, _: &FieldSelector| match action {
            Action::Resource { verb, group, resource, name, .. }
                if user.groups.contains(&format!("{verb} {resource}.{group} {name}")) =>
            {
                Decision::Allow(String::new())
            }
            _ => Decision::NoOpinion(String::new()),
        };
        let admission = Admission::new(collections.clone(), Arc::new(authorize), Metrics::new().admission);
        let cluster = Self { admission, collections, _stop: stop.drop_guard() };
        for object in objects {
            cluster.put(object).await;
        }
        cluster
    }

    /// Stores a new object, and waits until the cache has it.
    pub(super) async fn put(&self, object: &Value) {
        let version = GroupVersion::of_api_version(object["apiVersion"].as_str().unwrap()).unwrap();
        let kind = version.kind(object["kind"].as_str().unwrap());
        let endpoint = self.collections.catalog().of_kind(&kind).unwrap().clone();
        let collection = endpoint.collection.unwrap();
        let metadata = Metadata::of(object);
        let key = collection.keys.object(metadata.namespace(), metadata.name());
        let action = storage::Action::Put { value: Bytes::from(object.to_string()), lease: None };
        let write = Write { key: key.clone(), expected: Expected::Absent, action };
        let written = collection.storage.write(&write).await.unwrap();
        let Written::Done(revision) = written else { panic!("{object} is there already") };
        let at = crate::watch_cache::query::At::NotOlderThan(revision);
        collection.cache.get(&key, at).await.unwrap().unwrap();
    }

    /// An object as the store has it.
    pub(super) async fn newest(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Value {
        let resource = GroupResource::new(group, resource);
        self.collections.newest_object(&resource, namespace, name).await.unwrap().unwrap()
    }
}

/// What attributes borrow.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) operation: Operation,
    pub(super) user: User,
    pub(super) kind: GroupVersionKind,
    pub(super) resource: GroupVersionResource,
    pub(super) subresource: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) old: Option<Value>,
    pub(super) dry_run: bool,
}

impl Asked {
    /// A new object, by nobody, without a name.
    pub(super) fn create(group: &str, resource: &str, kind: &str) -> Self {
        Self {
            operation: Operation::Create,
            user: User::default(),
            kind: GroupVersionKind::new(group, "v1", kind),
            resource: GroupVersionResource::new(group, "v1", resource),
            subresource: "",
            namespace: String::new(),
            name: String::new(),
            old: None,
            dry_run: false,
        }
    }

    /// A new pod `p` in the namespace `a`.
    pub(super) fn pod() -> Self {
        Self::create("", "pods", "Pod").within("a").named("p")
    }

    pub(super) fn doing(mut self, operation: Operation) -> Self {
        self.operation = operation;
        self
    }

    pub(super) fn within(mut self, namespace: &str) -> Self {
        self.namespace = namespace.to_owned();
        self
    }

    pub(super) fn named(mut self, name: &str) -> Self {
        self.name = name.to_owned();
        self
    }

    pub(super) fn below(mut self, subresource: &'static str) -> Self {
        self.subresource = subresource;
        self
    }

    /// A change of this object.
    pub(super) fn over(mut self, old: Value) -> Self {
        self.operation = Operation::Update;
        self.old = Some(old);
        self
    }

    pub(super) fn by(mut self, name: &str, groups: &[&str]) -> Self {
        self.user = User {
            name: name.to_owned(),
            groups: groups.iter().map(ToString::to_string).collect(),
            ..User::default()
        };
        self
    }

    pub(super) fn attributes(&self) -> Attributes<'_> {
        Attributes {
            operation: self.operation,
            user: &self.user,
            kind: &self.kind,
            resource: &self.resource,
            subresource: self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            old: self.old.as_ref(),
            options: &Value::Null,
            dry_run: self.dry_run,
            now: Time::of_unix(1_767_355_200),
        }
    }
}
