//! The repair of what a server left that died between taking something and storing its service, and of what was changed by hand:
//! every ten minutes all services are held against what is taken. What to do is decided by pure plans; this only carries them
//! out. Must never work from what is not fresh.

use std::collections::BTreeSet;
use std::time::Duration;

use barque_api::kind::GroupResource;
use barque_api::resource_version::ResourceVersion;
use barque_api::status::Status;
use barque_api::time::Time;
use tokio_util::sync::CancellationToken;

use super::ServiceAllocator;
use super::address_repair::{GRACE_S, Step, plan_addresses};
use super::addresses::remove;
use super::ip_objects::owner_of;
use super::service::Owner;
use crate::clock;
use crate::storage::{Entry, Storage};

/// Between two repairs.
const INTERVAL: Duration = Duration::from_mins(10);
/// After one that left addresses alone because they were young.
const SOON: Duration = Duration::from_secs(GRACE_S.unsigned_abs());
/// After one that failed.
const RETRY: Duration = Duration::from_secs(10);

/// What a repair left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// Addresses that no service has, which are so young that one may be on its way.
    Young,
}

/// Repairs, and remembers what it saw the last time.
pub struct Repair<S: Storage> {
    allocator: ServiceAllocator<S>,
    /// Ports that nobody had at the last repair.
    suspects: BTreeSet<u16>,
}

impl<S: Storage> Repair<S> {
    /// Of what this allocator gives.
    #[must_use]
    pub const fn new(allocator: ServiceAllocator<S>) -> Self {
        Self { allocator, suspects: BTreeSet::new() }
    }

    /// Repairs at once and every ten minutes, until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let Some(repaired) = stop.run_until_cancelled(self.once(clock::now())).await else { return };
            let pause = match repaired {
                Ok(Rest::Nothing) => INTERVAL,
                Ok(Rest::Young) => SOON,
                Err(error) => {
                    tracing::warn!(%error, "services' addresses and ports could not be repaired; trying again soon");
                    RETRY
                }
            };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Repairs once.
    ///
    /// # Errors
    /// When the store or the caches fail; what was done until then stays done.
    pub async fn once(&mut self, now: Time) -> Result<Rest, Status> {
        let rest = self.repair_addresses(now).await?;
        let plan = self.allocator.0.ports.repair(&self.suspects).await?;
        tell(&plan.complaints);
        self.suspects = plan.suspects;
        Ok(rest)
    }

    async fn repair_addresses(&self, now: Time) -> Result<Rest, Status> {
        // Services are read after addresses: the service of an address that was read is among them, or not made yet.
        let collections = &self.allocator.0.addresses.collections;
        let resource = GroupResource::new("networking.k8s.io", "ipaddresses");
        let addresses = collections.newest_objects(&resource, "").await?;
        let services = collections.newest_objects(&GroupResource::new("", "services"), "").await?;
        let ranges = self.allocator.0.addresses.ranges().await?;
        let plan = plan_addresses(&services, &addresses, &ranges, now);
        tell(&plan.complaints);
        for step in plan.steps {
            match step {
                Step::Make { ip, owner } => self.make(ip, &owner, now).await?,
                Step::Remake { ip, owner, version } => {
                    if self.remove(&ip.to_string(), &version, now).await? {
                        self.make(ip, &owner, now).await?;
                    }
                }
                Step::Release { name, version } => {
                    self.remove(&name, &version, now).await?;
                }
            }
        }
        Ok(plan.rest)
    }

    /// Makes the object of an address that a service has.
    async fn make(&self, ip: core::net::IpAddr, owner: &Owner, now: Time) -> Result<(), Status> {
        if let Err(there) = self.allocator.0.addresses.make(ip, owner, now).await?
            && there.as_ref().and_then(owner_of).as_ref() != Some(owner)
        {
            tracing::warn!(%ip, service = %owner, "somebody else took the address of a service; please recreate it");
        }
        Ok(())
    }

    /// Deletes this version of an object; false when another one stands there.
    async fn remove(&self, name: &str, version: &str, now: Time) -> Result<bool, Status> {
        let collection = self.allocator.0.addresses.collection()?;
        let got = collection.storage.get(&collection.keys.object("", name)).await;
        let same = |entry: &Entry| ResourceVersion::of_revision(entry.revision.0).to_string() == version;
        match got.map_err(|error| error.to_status())?.entry.filter(same) {
            Some(entry) => remove(&collection, &entry, now).await,
            None => Ok(false),
        }
    }
}

fn tell(complaints: &[String]) {
    for complaint in complaints {
        tracing::warn!("{complaint}");
    }
}
