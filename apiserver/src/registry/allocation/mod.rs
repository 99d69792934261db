//! Addresses and node ports of services: what a service is to get is decided before it is stored, taken in the store first, and
//! given back when the service was not stored, or no longer has it. Any number of servers may do so at once.
//!
//! An address is had by who made the IPAddress object with its name, a port by who set its bit in the map of ports, each with a
//! guarded write. Between taking and storing a server may die: [`repair`] finds what it left. All else here but `addresses` and
//! `port_store` is pure. Must never give back what a service may have.

mod address_repair;
mod addresses;
mod carry;
mod families;
mod ip_objects;
pub mod ip_range;
mod node_ports;
mod port_map;
mod port_repair;
mod port_store;
mod refusal;
pub mod repair;
mod service;
pub mod settings;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::sync::Arc;

use barque_api::field::{FieldError, FieldPath};
use barque_api::status::{Reason, Status};
use barque_api::time::Time;
use serde_json::Value;

use self::addresses::{Addresses, For};
use self::ip_objects::wishes;
use self::ip_range::Family;
use self::port_store::PortStore;
use self::refusal::Refusal;
use self::service::{Addressing, Held, Owner};
use self::settings::ServiceNetwork;
use super::collections::Collections;
use super::pipeline::Request;
use crate::storage::Storage;

/// What became of a service for which something was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The store has it as it was before.
    Refused,
    /// The store has it.
    Stored,
    /// It was its last change: it is gone.
    Gone,
    /// A write may have been done or not. Nothing can be given back; the repair will see.
    Unknown,
}

impl Fate {
    /// Of a write that failed like this.
    #[must_use]
    pub fn of_failure(status: &Status) -> Self {
        if status.reason == Reason::Timeout { Self::Unknown } else { Self::Refused }
    }
}

/// What was taken for a service, and what of it is given back in which case; see [`ServiceAllocator::settle`].
#[derive(Clone, Debug, Default)]
#[must_use = "what was taken is to be settled"]
pub struct Reservation {
    owner: Owner,
    /// What was taken.
    taken: Held,
    /// What the service had and will not have.
    surplus: Held,
    /// What the service had.
    before: Held,
}

/// Gives addresses and ports to services, and takes them back. Cloning copies a pointer.
pub struct ServiceAllocator<S: Storage>(Arc<Inner<S>>);

struct Inner<S: Storage> {
    addresses: Addresses<S>,
    ports: PortStore<S>,
    /// The default first.
    families: Vec<Family>,
}

impl<S: Storage> Clone for ServiceAllocator<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> ServiceAllocator<S> {
    /// From these networks and ports.
    #[must_use]
    pub fn new(collections: Collections<S>, network: &ServiceNetwork) -> Self {
        Self(Arc::new(Inner {
            ports: PortStore::new(collections.clone(), network.node_ports),
            addresses: Addresses { collections, configured: network.ranges.clone() },
            families: network.families(),
        }))
    }

    /// Completes a new service, and takes what it gets; nothing happens to other objects, and with dry run nothing is taken.
    ///
    /// # Errors
    /// What it asks for that cannot be had, in which case nothing is kept.
    pub async fn create(&self, request: &Request<'_>, service: &mut Value) -> Result<Reservation, Status> {
        if !is_service(request) {
            return Ok(Reservation::default());
        }
        carry::align(service);
        self.reserve(request, service, None).await
    }

    /// Completes a service that replaces `old`, both as they are stored, and takes what it gets beside what it has.
    ///
    /// # Errors
    /// As [`ServiceAllocator::create`].
    pub async fn update(
        &self,
        request: &Request<'_>,
        service: &mut Value,
        old: &Value,
    ) -> Result<Reservation, Status> {
        if !is_service(request) {
            return Ok(Reservation::default());
        }
        if !request.subresource.is_empty() {
            // What it has does not change, but this may be its last change.
            return Ok(Reservation {
                owner: Owner::of(old),
                before: Held::of(old),
                ..Reservation::default()
            });
        }
        let old = carry::modern(old, self.default_family());
        carry::carry(service, &old);
        let reservation = self.reserve(request, service, Some(&old)).await?;
        carry::keep_generation(service, &old);
        Ok(reservation)
    }

    async fn reserve(
        &self,
        request: &Request<'_>,
        service: &mut Value,
        old: Option<&Value>,
    ) -> Result<Reservation, Status> {
        let mut reservation = Reservation {
            owner: Owner::of(service),
            before: old.map(Held::of).unwrap_or_default(),
            ..Reservation::default()
        };
        match self.take(request, service, old, &mut reservation).await {
            Ok(()) => {
                reservation.surplus = reservation.before.without(&Held::of(service));
                Ok(reservation)
            }
            Err(status) => {
                self.settle(reservation, Fate::Refused, request.now).await;
                Err(status)
            }
        }
    }

    /// Takes everything; what was taken is in the reservation also after a failure.
    async fn take(
        &self,
        request: &Request<'_>,
        service: &mut Value,
        old: Option<&Value>,
        reservation: &mut Reservation,
    ) -> Result<(), Status> {
        let kind = &request.served.kind;
        let refused = |refusal: Refusal| refusal.to_status(kind, &reservation.owner.name);
        let settled = families::settle(service, old, &self.0.families);
        let mut addressing = settled.map_err(|errors| refused(Refusal::Fields(errors)))?;
        let owner = reservation.owner.clone();
        let who = For { owner: &owner, now: request.now, dry_run: request.dry_run };
        if service::needs_ips(service) {
            let taken = &mut reservation.taken;
            self.take_addresses(request, &mut addressing, &reservation.before, who, taken).await?;
        }
        addressing.write(service);

        if node_ports::needs_any(service, old) {
            let change = |map: &mut port_map::PortMap| {
                let mut one = service.clone();
                let taken = node_ports::assign(&mut one, old, map, &mut rand::random)?;
                Ok::<_, Refusal>((one, taken))
            };
            let assigned = self.0.ports.change(request.dry_run, change).await?;
            let (assigned, taken) = assigned.map_err(|refusal| refusal.to_status(kind, &owner.name))?;
            *service = assigned;
            if !request.dry_run {
                reservation.taken.ports = taken;
            }
        }
        Ok(())
    }

    async fn take_addresses(
        &self,
        request: &Request<'_>,
        addressing: &mut Addressing,
        before: &Held,
        who: For<'_>,
        taken: &mut Held,
    ) -> Result<(), Status> {
        let refused = |refusal: Refusal| refusal.to_status(&request.served.kind, &who.owner.name);
        let named = addressing.ips.clone();
        for wish in wishes(addressing, &before.ips) {
            let ip = match wish.ip {
                Some(ip) => {
                    self.0.addresses.take(ip, who).await?.map_err(|error| {
                        let detail = format!("failed to allocate IP {}: {error}", named[wish.index]);
                        let path = FieldPath::of("spec.clusterIPs");
                        refused(Refusal::of(FieldError::invalid(&path, named.clone(), detail)))
                    })?;
                    ip
                }
                None => {
                    let ip = self.0.addresses.take_any(wish.family, who).await?.map_err(|error| {
                        refused(Refusal::Internal(format!("failed to allocate a serviceIP: {error}")))
                    })?;
                    addressing.ips.truncate(wish.index);
                    addressing.ips.push(ip.to_string());
                    if wish.index == 0 {
                        addressing.ip = ip.to_string();
                    }
                    ip
                }
            };
            if !who.dry_run {
                taken.ips.push(ip);
            }
        }
        Ok(())
    }

    /// Gives back what the service does not have after all. What cannot be given back now is found by the repair.
    pub async fn settle(&self, reservation: Reservation, fate: Fate, now: Time) {
        let Reservation { owner, taken, surplus, before } = reservation;
        match fate {
            Fate::Refused => self.give_back(&owner, &taken, now).await,
            Fate::Stored => self.give_back(&owner, &surplus, now).await,
            Fate::Gone => {
                self.give_back(&owner, &before, now).await;
                self.give_back(&owner, &taken, now).await;
            }
            Fate::Unknown => {}
        }
    }

    /// Gives back what a service had that is gone; nothing happens for other objects.
    pub async fn release(&self, request: &Request<'_>, service: &Value) {
        if is_service(request) {
            self.give_back(&Owner::of(service), &Held::of(service), request.now).await;
        }
    }

    async fn give_back(&self, owner: &Owner, held: &Held, now: Time) {
        for ip in &held.ips {
            if let Err(error) = self.0.addresses.release(*ip, owner, now).await {
                tracing::warn!(%ip, service = %owner, %error, "an address could not be released; the repair will");
            }
        }
        if held.ports.is_empty() {
            return;
        }
        let change = |map: &mut port_map::PortMap| {
            held.ports.iter().for_each(|port| map.release(*port));
            Ok::<_, Infallible>(())
        };
        if let Err(error) = self.0.ports.change(false, change).await {
            tracing::warn!(
                ports = ?held.ports, service = %owner, %error, "ports could not be released; the repair will"
            );
        }
    }

    fn default_family(&self) -> Family {
        self.0.families.first().copied().unwrap_or(Family::V4)
    }
}

fn is_service(request: &Request<'_>) -> bool {
    let name = &request.served.resource.name;
    name.group.is_empty() && &*name.resource == "services"
}
