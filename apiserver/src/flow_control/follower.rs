//! Keeps the limits in step with the schemas and levels in the store. Must never publish half of them: until both
//! collections were told once, what every cluster has holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::kind::GroupResource;
use parking_lot::Mutex;
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

/// Follows both collections with `tasks` until `stop`.
pub fn start<S: Storage>(
    limits: &Limits,
    collections: &Collections<S>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let picture = Arc::new(Mutex::new(Picture::default()));
    for (resource, meaning) in FOLLOWED {
        let Some(collection) = collections.collection(&GroupResource::new(GROUP, resource)) else {
            tracing::error!(resource, "is not served; requests are limited by what every cluster has");
            continue;
        };
        let (limits, picture, named) = (limits.clone(), Arc::clone(&picture), Arc::clone(&collection));
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
            }
        };
        tasks.spawn(follow(collection, stop.clone(), tell));
    }
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
