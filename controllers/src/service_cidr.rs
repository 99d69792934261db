//! Ranges that services' addresses come from: each is protected while services have addresses that no other range contains. Must
//! never let one go before allocators have had the time to hear of it.

mod plan;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::jiff::Timestamp;

use crate::cache::{Caches, Change};
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::node_ipam::Range;
use crate::plan::Plan;

/// The controller.
#[derive(Default)]
pub(crate) struct ServiceCidrs;

/// A range, and what decides whether it may go.
pub(crate) struct View {
    object: Arc<ServiceCIDR>,
    /// All others.
    others: Vec<Arc<ServiceCIDR>>,
    /// Addresses that services have; read only when the range is to go.
    addresses: Vec<Range>,
}

/// The ranges of an object.
fn ranges(object: &ServiceCIDR) -> impl Iterator<Item = Range> {
    let cidrs = object.spec.as_ref().and_then(|spec| spec.cidrs.as_ref());
    cidrs.into_iter().flatten().filter_map(|text| text.parse().ok())
}

/// The address that an object stands for, if the API server allocated it.
fn address(object: &IPAddress) -> Option<Range> {
    let allocated = object.label("ipaddress.kubernetes.io/managed-by") == Some("ipallocator.k8s.io");
    let address: std::net::IpAddr = object.key().name.parse().ok()?;
    Range::of(address, if address.is_ipv4() { 32 } else { 128 }).filter(|_| allocated)
}

fn overlap(object: &ServiceCIDR, with: &[Range]) -> bool {
    ranges(object).any(|range| with.iter().any(|other| other.overlaps(range)))
}

/// Ranges that overlap one that came or went.
fn beside(change: &Change<ServiceCIDR>, caches: &Caches) -> Vec<Key> {
    let with: Vec<_> = change.both().flat_map(|object| ranges(object).collect::<Vec<_>>()).collect();
    let all = caches.of::<ServiceCIDR>().all();
    all.iter().filter(|object| overlap(object, &with)).map(|object| object.key()).collect()
}

/// Ranges that contain an address that came or went.
fn around(change: &Change<IPAddress>, caches: &Caches) -> Vec<Key> {
    if change.old.is_some() && change.new.is_some() {
        return Vec::new();
    }
    let with: Vec<_> = address(change.latest()).into_iter().collect();
    let all = caches.of::<ServiceCIDR>().all();
    let going = all.iter().filter(|object| object.is_deleting() && overlap(object, &with));
    going.map(|object| object.key()).collect()
}

impl Controller for ServiceCidrs {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<ServiceCIDR>();
        watches.mapped::<ServiceCIDR>(beside);
        watches.mapped::<IPAddress>(around);
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let object = caches.of::<ServiceCIDR>().get(key)?;
        let mut others = caches.of::<ServiceCIDR>().all();
        others.retain(|other| other.key() != *key);
        let addresses = if object.is_deleting() {
            caches.of::<IPAddress>().all().iter().filter_map(|it| address(it)).collect()
        } else {
            Vec::new()
        };
        Some(View { object, others, addresses })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan::plan(view, now)
    }
}
