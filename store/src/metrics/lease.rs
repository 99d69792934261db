//! `etcd_debugging_lease_*`.

use prometheus::{Histogram, IntCounter};

use super::{Register, doubling};

/// What leases count. Those that ran out are in [`super::ServerMetrics::lease_expired`], as in etcd.
#[derive(Clone, Debug)]
pub struct LeaseMetrics {
    /// Grants executed by this member.
    pub granted: IntCounter,
    /// Ends executed by this member, wanted by a client or because time was over.
    pub revoked: IntCounter,
    /// Renewals on this member as the leader.
    pub renewed: IntCounter,
    /// The TTLs that were granted, in seconds.
    pub ttl: Histogram,
}

impl LeaseMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        Self {
            granted: r.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            revoked: r.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            renewed: r.counter("etcd_debugging_lease_renewed_total", "Leases renewed, seen by the leader."),
            ttl: r.histogram("etcd_debugging_lease_ttl_total", "The TTLs of leases.", doubling(1.0, 24)),
        }
    }
}
