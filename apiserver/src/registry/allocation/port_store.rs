//! The map of node ports in the store. Every change is made to what the store has, and written if that is still what it has,
//! so several servers never give one port away twice. Must never begin with an empty map where services have ports.

use std::collections::BTreeSet;

use barque_api::kind::GroupResource;
use barque_api::status::Status;
use bytes::Bytes;
use serde_json::Value;
use tokio::sync::Mutex;

use super::port_map::PortMap;
use super::port_repair::{PortPlan, plan_ports};
use super::settings::PortRange;
use crate::registry::collections::Collections;
use crate::storage::encryption::Encrypted;
use crate::storage::{Action, Entry, Expected, Storage, Write, Written};

/// How often a change is tried again that another server's got in the way of. Each time, somebody got on.
const TRIES: usize = 100;

/// See the module's description.
pub(super) struct PortStore<S: Storage> {
    collections: Collections<S>,
    storage: Encrypted<S>,
    key: Bytes,
    range: PortRange,
    /// Changes of this server get in each other's way here and not in the store.
    turn: Mutex<()>,
}

/// The map as it was read.
struct Stored {
    /// With fields that are not understood.
    object: Value,
    map: Option<PortMap>,
    expected: Expected,
}

impl<S: Storage> PortStore<S> {
    /// Where Kubernetes keeps it.
    pub(super) fn new(collections: Collections<S>, range: PortRange) -> Self {
        let root = collections.root().trim_end_matches('/');
        let key = format!("{root}/ranges/servicenodeports").into();
        let storage = collections.encrypted(&GroupResource::new("", "servicenodeportallocations"));
        Self { collections, storage, key, range, turn: Mutex::new(()) }
    }

    /// Changes the map; with `dry_run` only as far as to see what would be. Before there is one, it is made of what
    /// services have.
    ///
    /// # Errors
    /// That of the store, or that the map is of another range than this server's. What `change` refuses is handed on.
    pub(super) async fn change<T, E>(
        &self,
        dry_run: bool,
        mut change: impl FnMut(&mut PortMap) -> Result<T, E>,
    ) -> Result<Result<T, E>, Status> {
        let _turn = self.turn.lock().await;
        let got = self.storage.get(&self.key).await.map_err(|error| error.to_status())?;
        let mut stored = read(got.entry)?;
        for _ in 0..TRIES {
            let before = match stored.map.take() {
                Some(map) => self.of_range(map)?,
                None => plan_ports(None, self.range, &self.services().await?, &BTreeSet::new()).map,
            };
            let mut after = before.clone();
            let done = match change(&mut after) {
                Ok(done) => done,
                Err(refusal) => return Ok(Err(refusal)),
            };
            if dry_run || after == before {
                return Ok(Ok(done));
            }
            match self.write(&mut stored, &after).await? {
                None => return Ok(Ok(done)),
                Some(entry) => stored = read(entry)?,
            }
        }
        Err(self.too_busy())
    }

    /// Brings the map in line with what services have. Ports that nobody had at the last repair are in `suspects`; what is
    /// answered are those of this one, with what is to be told.
    ///
    /// # Errors
    /// That of the store.
    pub(super) async fn repair(&self, suspects: &BTreeSet<u16>) -> Result<PortPlan, Status> {
        for _ in 0..TRIES {
            let got = self.storage.get(&self.key).await.map_err(|error| error.to_status())?;
            let mut stored = read(got.entry)?;
            // Services are read after the map: one whose ports were taken before it was read is among them, or not made yet.
            let plan = plan_ports(stored.map.as_ref(), self.range, &self.services().await?, suspects);
            if stored.map.as_ref() == Some(&plan.map) || self.write(&mut stored, &plan.map).await?.is_none() {
                return Ok(plan);
            }
        }
        Err(self.too_busy())
    }

    /// All services as the store has them now.
    async fn services(&self) -> Result<Vec<Value>, Status> {
        self.collections.newest_objects(&GroupResource::new("", "services"), "").await
    }

    /// Writes the map in place of what was read; what stands there instead, if that is something else by now.
    async fn write(&self, stored: &mut Stored, map: &PortMap) -> Result<Option<Option<Entry>>, Status> {
        map.store(&mut stored.object);
        let value = serde_json::to_vec(&stored.object).map_err(Status::internal)?.into();
        let action = Action::Put { value, lease: None };
        let write = Write { key: self.key.clone(), expected: stored.expected, action };
        match self.storage.write(&write).await.map_err(|error| error.to_status())? {
            Written::Done(_) => Ok(None),
            Written::Differs(entry) => Ok(Some(entry)),
        }
    }

    /// The map, if it is of this server's range. One of another range becomes one of this at the next repair.
    fn of_range(&self, map: PortMap) -> Result<PortMap, Status> {
        if map.range() == self.range {
            return Ok(map);
        }
        Err(Status::internal("the provided range does not match the current range"))
    }

    fn too_busy(&self) -> Status {
        Status::too_many_requests("node ports are changed too often, please try again", 1)
    }
}

fn read(entry: Option<Entry>) -> Result<Stored, Status> {
    let Some(entry) = entry else {
        return Ok(Stored { object: Value::Null, map: None, expected: Expected::Absent });
    };
    let wrong = |why: String| Status::internal(format!("the stored node ports cannot be read: {why}"));
    let object: Value = serde_json::from_slice(&entry.value).map_err(|error| wrong(error.to_string()))?;
    let map = PortMap::of_stored(&object).map_err(wrong)?;
    Ok(Stored { object, map: Some(map), expected: Expected::At(entry.revision) })
}
