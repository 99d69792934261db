//! Addresses of services in the store: having one means having made the IPAddress object with its name, which the store lets
//! only one do. Must never take a cache for the truth: it only says which addresses are not worth trying.

use core::net::IpAddr;
use std::collections::HashSet;
use std::sync::Arc;

use barque_api::kind::GroupResource;
use barque_api::status::{Reason, Status};
use barque_api::time::Time;
use bytes::Bytes;
use serde_json::Value;

use super::ip_objects::{address_object, owner_of, ranges};
use super::ip_range::{Family, IpRange};
use super::service::Owner;
use crate::registry::collections::{Collection, Collections};
use crate::registry::deletion::{self, DeleteOptions, Deletion, Manner};
use crate::registry::uid::new_uid;
use crate::storage::{Action, Entry, Expected, Storage, Write, Written};
use crate::watch_cache::query::{At, ListQuery};
use crate::watch_cache::registry::Selection;

/// How often a release is tried again that somebody else's change got in the way of.
const TRIES: usize = 10;

/// An address cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AddressError {
    /// Somebody has it.
    #[error("provided IP is already allocated")]
    Allocated,
    /// It is in none of the cluster's networks, or is the first or last of one.
    #[error("the provided network does not match the current range")]
    Mismatched,
    /// All are taken.
    #[error("range is full")]
    Full,
}

/// For whom something is done, and when.
#[derive(Clone, Copy)]
pub(super) struct For<'a> {
    pub(super) owner: &'a Owner,
    pub(super) now: Time,
    /// Nothing is written.
    pub(super) dry_run: bool,
}

/// See the module's description.
pub(super) struct Addresses<S: Storage> {
    pub(super) collections: Collections<S>,
    /// What the flag says.
    pub(super) configured: Vec<IpRange>,
}

impl<S: Storage> Addresses<S> {
    /// The collection of IPAddresses.
    pub(super) fn collection(&self) -> Result<Arc<Collection<S>>, Status> {
        let found = self.collections.collection(&resource());
        found.ok_or_else(|| Status::internal("the collection of IPAddresses is not open"))
    }

    /// The networks from which addresses are taken now.
    pub(super) async fn ranges(&self) -> Result<Vec<IpRange>, Status> {
        let cidrs = GroupResource::new("networking.k8s.io", "servicecidrs");
        Ok(ranges(&self.configured, &self.collections.objects(&cidrs, "").await?))
    }

    /// Takes this address.
    pub(super) async fn take(&self, ip: IpAddr, who: For<'_>) -> Result<Result<(), AddressError>, Status> {
        if !self.ranges().await?.iter().any(|range| range.contains(ip)) {
            return Ok(Err(AddressError::Mismatched));
        }
        let is_free = if who.dry_run {
            let collection = self.collection()?;
            let got = collection.storage.get(&collection.keys.object("", &ip.to_string())).await;
            got.map_err(|error| error.to_status())?.entry.is_none()
        } else {
            self.make(ip, who.owner, who.now).await?.is_ok()
        };
        Ok(if is_free { Ok(()) } else { Err(AddressError::Allocated) })
    }

    /// Takes an address of this family that is free.
    pub(super) async fn take_any(
        &self,
        family: Family,
        who: For<'_>,
    ) -> Result<Result<IpAddr, AddressError>, Status> {
        let collection = self.collection()?;
        let ranges: Vec<_> =
            self.ranges().await?.into_iter().filter(|range| range.family() == family).collect();
        for ip in ranges.iter().flat_map(|range| range.candidates(rand::random())) {
            tokio::task::coop::consume_budget().await;
            if is_known(&collection, ip).await? {
                continue;
            }
            if who.dry_run || self.make(ip, who.owner, who.now).await?.is_ok() {
                return Ok(Ok(ip));
            }
        }
        // The cache may not know yet what was given back.
        let list = collection.cache.list(&ListQuery::default(), &Selection::default()).await?;
        let taken: HashSet<_> = list.objects.iter().map(|object| object.key()).collect();
        for ip in ranges.iter().flat_map(|range| range.candidates(rand::random())) {
            tokio::task::coop::consume_budget().await;
            let is_taken = taken.contains(&collection.keys.object("", &ip.to_string()));
            if !is_taken && (who.dry_run || self.make(ip, who.owner, who.now).await?.is_ok()) {
                return Ok(Ok(ip));
            }
        }
        Ok(Err(AddressError::Full))
    }

    /// Makes the object of an address; answers the one that is there already, if it is still there.
    pub(super) async fn make(
        &self,
        ip: IpAddr,
        owner: &Owner,
        now: Time,
    ) -> Result<Result<(), Option<Value>>, Status> {
        let collection = self.collection()?;
        let object = address_object(ip, owner, &new_uid(), now);
        let value = serde_json::to_vec(&object).map_err(Status::internal)?.into();
        let write = Write {
            key: collection.keys.object("", &ip.to_string()),
            expected: Expected::Absent,
            action: Action::Put { value, lease: None },
        };
        match collection.storage.write(&write).await.map_err(|error| error.to_status())? {
            Written::Done(_) => Ok(Ok(())),
            Written::Differs(entry) => entry.as_ref().map(read).transpose().map(Err),
        }
    }

    /// Gives an address back, if it is this service's.
    pub(super) async fn release(&self, ip: IpAddr, owner: &Owner, now: Time) -> Result<(), Status> {
        let collection = self.collection()?;
        let key = collection.keys.object("", &ip.to_string());
        for _ in 0..TRIES {
            let got = collection.storage.get(&key).await.map_err(|error| error.to_status())?;
            let Some(entry) = got.entry else { return Ok(()) };
            if owner_of(&read(&entry)?).as_ref() != Some(owner) || remove(&collection, &entry, now).await? {
                return Ok(());
            }
        }
        Err(Status::internal(format!("the IPAddress {ip} changes too often to be released")))
    }
}

/// Deletes this version of an IPAddress, as a client would: one with finalizers is only marked. Whether it was still this one.
pub(super) async fn remove<S: Storage>(
    collection: &Collection<S>,
    entry: &Entry,
    now: Time,
) -> Result<bool, Status> {
    let object = read(entry)?;
    let resource = resource();
    let plan = deletion::plan(&object, &resource, Manner::of(&resource), &DeleteOptions::default(), now)?;
    let action = match plan {
        Deletion::Pending => return Ok(true),
        Deletion::Remove => Action::Delete,
        Deletion::Mark(marked) => {
            let value: Bytes = serde_json::to_vec(&marked).map_err(Status::internal)?.into();
            Action::Put { value, lease: None }
        }
    };
    let write = Write { key: entry.key.clone(), expected: Expected::At(entry.revision), action };
    let written = collection.storage.write(&write).await.map_err(|error| error.to_status())?;
    Ok(matches!(written, Written::Done(_)))
}

/// Whether the cache knows it. One that cannot be read is there too.
async fn is_known<S: Storage>(collection: &Collection<S>, ip: IpAddr) -> Result<bool, Status> {
    let key = collection.keys.object("", &ip.to_string());
    match collection.cache.get(&key, At::Any).await {
        Ok(found) => Ok(found.is_some()),
        Err(status) if status.reason == Reason::InternalError => Ok(true),
        Err(status) => Err(status),
    }
}

fn resource() -> GroupResource {
    GroupResource::new("networking.k8s.io", "ipaddresses")
}

fn read(entry: &Entry) -> Result<Value, Status> {
    serde_json::from_slice(&entry.value).map_err(|error| {
        let key = String::from_utf8_lossy(&entry.key);
        Status::internal(format!("the stored object {key} cannot be read: {error}"))
    })
}
