//! Keeps the limits in step with the schemas and levels in the store. Must never publish half of them: until both
//! collections were told once, what every cluster has holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::kind::GroupResource;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::classify::Configuration;
use super::level::Level;
use super::limits::Limits;
use super::schema::Schema;
use crate::registry::collections::{Collections, parse};
use crate::registry::follow::{Followed, follow};
use crate::storage::Storage;
use crate::watch_cache::object::Object;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

#[derive(Clone, Copy)]
enum Meaning {
    Schema,
    Level,
}

const FOLLOWED: [(&str, Meaning); 2] =
    [("flowschemas", Meaning::Schema), ("prioritylevelconfigurations", Meaning::Level)];

/// What was told so far, by names.
#[derive(Default)]
struct Picture {
    schemas: BTreeMap<String, Arc<Schema>>,
    levels: BTreeMap<String, Arc<Level>>,
    /// How many collections were told once.
    told: usize,
}

/// How far the limits are in step.
#[derive(Clone, Debug)]
pub struct InStep(watch::Receiver<u64>);

impl InStep {
    /// Whether what is in the store holds; `readyz` tells it as `poststarthook/priority-and-fairness-config-consumer`.
    #[must_use]
    pub fn is_reached(&self) -> bool {
        *self.0.borrow() > 0
    }
}

/// Follows both collections with `tasks` until `stop`.
#[must_use]
pub fn start<S: Storage>(
    limits: &Limits,
    collections: &Collections<S>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> InStep {
    let picture = Arc::new(Mutex::new(Picture::default()));
    let (published, in_step) = watch::channel(0);
    let published = Arc::new(published);
    for (resource, meaning) in FOLLOWED {
        let Some(collection) = collections.collection(&GroupResource::new(GROUP, resource)) else {
            tracing::error!(resource, "is not served; requests are limited by what every cluster has");
            continue;
        };
        let (limits, picture, named) = (limits.clone(), Arc::clone(&picture), Arc::clone(&collection));
        let published = Arc::clone(&published);
        let mut was_in_step = false;
        let tell = move |followed: Followed| {
            let mut picture = picture.lock();
            let name = |object: &Object| {
                named.keys.names(object.key()).map(|(_, name)| name.to_owned()).unwrap_or_default()
            };
            match followed {
                Followed::Is(object) => picture.enter(meaning, name(&object), &object),
                Followed::Gone(object) => picture.leave(meaning, &name(&object)),
                Followed::InStep => {
                    if !std::mem::replace(&mut was_in_step, true) {
                        picture.told += 1;
                    }
                }
            }
            if picture.told == FOLLOWED.len() {
                limits.configure(picture.configuration());
                published.send_modify(|count| *count += 1);
            }
        };
        tasks.spawn(follow(collection, stop.clone(), tell));
    }
    InStep(in_step)
}

impl Picture {
    fn enter(&mut self, meaning: Meaning, name: String, object: &Object) {
        let entered = parse(object).map_err(|status| status.to_string()).and_then(|value| {
            match meaning {
                Meaning::Schema => {
                    let schema = Schema::of(&value).map_err(|error| error.to_string())?;
                    self.schemas.insert(name.clone(), Arc::new(schema));
                }
                Meaning::Level => {
                    let level = Level::of(&value).map_err(|error| error.to_string())?;
                    self.levels.insert(name.clone(), Arc::new(level));
                }
            }
            Ok(())
        });
        if let Err(why) = entered {
            tracing::error!(name, why, "what cannot be read limits nothing");
            self.leave(meaning, &name);
        }
    }

    fn leave(&mut self, meaning: Meaning, name: &str) {
        match meaning {
            Meaning::Schema => drop(self.schemas.remove(name)),
            Meaning::Level => drop(self.levels.remove(name)),
        }
    }

    fn configuration(&self) -> Configuration {
        Configuration::new(self.schemas.values().cloned(), self.levels.values().cloned())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::authorization::User;
    use crate::flow_control::limits::Settings;
    use crate::http::request_info::{Query, request_info};
    use crate::metrics::Metrics;
    use crate::registry::collections;
    use crate::storage::encryption::Encryption;
    use crate::storage::memory::Memory;
    use crate::storage::{Action, Expected, Write, Written};

    async fn write(store: &Memory, key: &str, expected: Expected, action: Action) -> Expected {
        let write = Write { key: key.to_owned().into(), expected, action };
        match store.write(&write).await.unwrap() {
            Written::Done(revision) => Expected::At(revision),
            Written::Differs(found) => panic!("{found:?}"),
        }
    }

    fn put(kind: &str, spec: serde_json::Value) -> Action {
        let object = json!({
            "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind, "metadata": {"name": "a", "uid": kind}, "spec": spec,
        });
        Action::Put { value: object.to_string().into(), lease: None }
    }

    #[tokio::test]
    async fn schemas_and_levels_of_the_store_hold_and_go() {
        let store = Memory::new();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let level = put(
            "PriorityLevelConfiguration",
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5}}),
        );
        write(&store, "/registry/prioritylevelconfigurations/a", Expected::Absent, level).await;
        let everything = json!({"priorityLevelConfiguration": {"name": "a"}, "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
        }]});
        let key = "/registry/flowschemas/a";
        let written = write(&store, key, Expected::Absent, put("FlowSchema", everything)).await;
        let settings = collections::Settings {
            storage: store.clone(),
            root: "/registry".to_owned(),
            encryption: Encryption::none(),
            event_ttl: Duration::from_secs(3600),
        };
        let collections = Collections::start(settings, &tasks, &stop);
        let limits = Limits::new(Settings::default(), Arc::new(Metrics::new()));
        let mut in_step = start(&limits, &collections, &tasks, &stop);
        let info = request_info("GET", "/version", Query::default());
        let classified = || limits.classify(&User { name: "eva".into(), ..User::default() }, &info);

        in_step.0.wait_for(|published| *published > 0).await.unwrap();
        assert!(in_step.is_reached());
        let found = classified();
        assert_eq!((&*found.schema_uid, &*found.level_uid), ("FlowSchema", "PriorityLevelConfiguration"));
        assert_eq!(limits.admit(&found, 1).await.unwrap().seats(), 1);

        write(&store, key, written, Action::Delete).await;
        while &*classified().schema == "a" {
            in_step.0.changed().await.unwrap();
        }
        assert_eq!(&*classified().schema, "catch-all");
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
