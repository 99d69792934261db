//! Endpoints into slices, so that as few slices as possible change. A decision.
//!
//! What is there stays where it is; what comes fills slices that change anyway, then one that has room for all of it, then new
//! ones. Slices are not balanced: that would be writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

use super::desired::Group;

/// The ports of a slice.
pub(crate) type Ports = Vec<EndpointPort>;

/// What makes two endpoints the same, though it may have changed otherwise: its addresses, its host name, and whose it is.
pub(crate) type Identity = (Vec<String>, String, String, String);

/// What makes two endpoints the same.
pub(crate) fn identity(endpoint: &Endpoint) -> Identity {
    let mut addresses = endpoint.addresses.clone();
    addresses.sort();
    let target = endpoint.target_ref.as_ref();
    let of = |text: Option<&String>| text.cloned().unwrap_or_default();
    let namespace = target.and_then(|target| target.namespace.as_ref());
    let name = target.and_then(|target| target.name.as_ref());
    (addresses, of(endpoint.hostname.as_ref()), of(namespace), of(name))
}

/// What makes two sets of ports the same, whatever their order.
pub(crate) fn ports_key(ports: &[EndpointPort]) -> String {
    let mut ports: Vec<_> = ports
        .iter()
        .map(|port| format!("{:?}", (&port.name, port.port, &port.protocol, &port.app_protocol)))
        .collect();
    ports.sort();
    ports.join(",")
}

/// A slice as it is to be.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    /// As it is; nothing when it is new.
    pub(super) existing: Option<Arc<EndpointSlice>>,
    pub(super) ports: Ports,
    pub(super) endpoints: Vec<Endpoint>,
    /// Whether it is written; one that is not may still be found to need it.
    pub(super) changed: bool,
}

/// What becomes of the slices of one family.
#[derive(Debug, Default)]
pub(super) struct Packed {
    /// Those that stay or come.
    pub(super) slices: Vec<Slice>,
    /// Those that go.
    pub(super) surplus: Vec<Arc<EndpointSlice>>,
}

pub(super) fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    slice.endpoints.as_deref().unwrap_or_default()
}

fn ports(slice: &EndpointSlice) -> &[EndpointPort] {
    slice.ports.as_deref().unwrap_or_default()
}

/// What becomes of the slices of one family, which are the service's.
pub(super) fn pack(
    mut groups: BTreeMap<String, Group>,
    existing: &[Arc<EndpointSlice>],
    max: usize,
) -> Packed {
    let mut by_ports: BTreeMap<String, Vec<Arc<EndpointSlice>>> = BTreeMap::new();
    for slice in existing {
        by_ports.entry(ports_key(ports(slice))).or_default().push(slice.clone());
    }
    let mut packed = Packed::default();
    for (key, slices) in by_ports {
        match groups.remove(&key) {
            Some(group) => pack_group(group, &slices, max, &mut packed),
            None => packed.surplus.extend(slices),
        }
    }
    for group in groups.into_values() {
        pack_group(group, &[], max, &mut packed);
    }
    reuse(&mut packed);
    packed
}

fn pack_group(group: Group, existing: &[Arc<EndpointSlice>], max: usize, packed: &mut Packed) {
    let mut desired = group.endpoints;
    let mut slices = Vec::new();
    for slice in existing {
        let (mut kept, mut changed) = (Vec::new(), false);
        for endpoint in endpoints(slice) {
            let room = kept.len() < max;
            match room.then(|| desired.remove(&identity(endpoint))).flatten() {
                Some(wanted) if same(&wanted, endpoint) => kept.push(endpoint.clone()),
                Some(wanted) => {
                    changed = true;
                    kept.push(wanted);
                }
                None => changed = true,
            }
        }
        if changed && kept.is_empty() {
            packed.surplus.push(slice.clone());
        } else {
            let ports = ports(slice).to_vec();
            slices.push(Slice { existing: Some(slice.clone()), ports, endpoints: kept, changed });
        }
    }
    // Those that change anyway, the fullest first.
    let mut written: Vec<&mut Slice> = slices.iter_mut().filter(|slice| slice.changed).collect();
    written.sort_by_key(|slice| std::cmp::Reverse(slice.endpoints.len()));
    for slice in written {
        fill(slice, &mut desired, max);
    }
    while !desired.is_empty() {
        let fits = |slice: &&mut Slice| !slice.changed && slice.endpoints.len() + desired.len() <= max;
        let room = slices.iter_mut().filter(fits).max_by_key(|slice| slice.endpoints.len());
        match room {
            Some(slice) => {
                slice.changed = true;
                fill(slice, &mut desired, max);
            }
            None => {
                let ports = group.ports.clone();
                let mut slice = Slice { existing: None, ports, endpoints: Vec::new(), changed: true };
                fill(&mut slice, &mut desired, max);
                slices.push(slice);
            }
        }
    }
    packed.slices.append(&mut slices);
}

fn fill(slice: &mut Slice, desired: &mut BTreeMap<Identity, Endpoint>, max: usize) {
    while slice.endpoints.len() < max
        && let Some((_, endpoint)) = desired.pop_first()
    {
        slice.endpoints.push(endpoint);
    }
}

/// Whether an endpoint shows all that it is to show. Hints are decided later, and the version of what it refers to says nothing.
fn same(wanted: &Endpoint, existing: &Endpoint) -> bool {
    let told = |endpoint: &Endpoint| {
        let mut endpoint = endpoint.clone();
        endpoint.hints = None;
        endpoint.addresses.sort();
        if let Some(target) = &mut endpoint.target_ref {
            target.resource_version = None;
        }
        endpoint
    };
    told(wanted) == told(existing)
}

/// Slices that come take the place of such that go: one write in place of two.
fn reuse(packed: &mut Packed) {
    for slice in packed.slices.iter_mut().rev().filter(|slice| slice.existing.is_none()) {
        let Some(surplus) = packed.surplus.pop() else { return };
        slice.existing = Some(surplus);
    }
}
