//! Where the lease is: one object of the API, or a fake in tests. Must never write over a version that was not seen.

use std::future::Future;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use parking_lot::Mutex;

use super::plan::{Record, Seen};

/// Why a lease was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// It is there already, has another version, or is gone: nothing was written.
    #[error("another one wrote the lease")]
    Conflict,
    /// Anything else; a write may have happened.
    #[error(transparent)]
    Failed(#[from] Box<dyn std::error::Error + Send + Sync>),
}

/// One lease.
pub trait Leases: Send + Sync {
    /// What it says now; nothing when it is not there.
    fn get(&self) -> impl Future<Output = Result<Option<Seen>, LeaseError>> + Send;

    /// Creates it.
    fn create(&self, record: Record) -> impl Future<Output = Result<Seen, LeaseError>> + Send;

    /// Replaces it if it still has the version.
    fn replace(
        &self,
        record: Record,
        version: String,
    ) -> impl Future<Output = Result<Seen, LeaseError>> + Send;
}

/// A `Lease` of `coordination.k8s.io/v1`.
pub struct ApiLeases {
    api: Api<Lease>,
    name: String,
    /// As last seen: what others wrote there is kept.
    last: Mutex<Lease>,
}

impl ApiLeases {
    /// The lease of this name.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), last: Mutex::default() }
    }

    fn saw(&self, lease: Lease) -> Seen {
        let version = lease.metadata.resource_version.clone().unwrap_or_default();
        let record = record_of(lease.spec.clone().unwrap_or_default());
        *self.last.lock() = lease;
        Seen { record, version }
    }
}

impl Leases for ApiLeases {
    async fn get(&self) -> Result<Option<Seen>, LeaseError> {
        let lease = self.api.get_opt(&self.name).await.map_err(failure)?;
        Ok(lease.map(|lease| self.saw(lease)))
    }

    async fn create(&self, record: Record) -> Result<Seen, LeaseError> {
        let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(spec_of(record, LeaseSpec::default())) };
        let lease = self.api.create(&PostParams::default(), &lease).await.map_err(failure)?;
        Ok(self.saw(lease))
    }

    async fn replace(&self, record: Record, version: String) -> Result<Seen, LeaseError> {
        let mut lease = self.last.lock().clone();
        lease.metadata.name = Some(self.name.clone());
        lease.metadata.resource_version = Some(version);
        lease.spec = Some(spec_of(record, lease.spec.unwrap_or_default()));
        let lease = self.api.replace(&self.name, &PostParams::default(), &lease).await.map_err(failure)?;
        Ok(self.saw(lease))
    }
}

fn failure(error: kube::Error) -> LeaseError {
    match &error {
        kube::Error::Api(status) if matches!(status.code, 404 | 409) => LeaseError::Conflict,
        _ => LeaseError::Failed(Box::new(error)),
    }
}

fn record_of(spec: LeaseSpec) -> Record {
    let time = |time: Option<MicroTime>| time.map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        duration_seconds: spec.lease_duration_seconds.unwrap_or_default(),
        acquired: time(spec.acquire_time),
        renewed: time(spec.renew_time),
        transitions: spec.lease_transitions.unwrap_or_default(),
    }
}

fn spec_of(record: Record, old: LeaseSpec) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(record.holder),
        lease_duration_seconds: Some(record.duration_seconds),
        acquire_time: Some(MicroTime(record.acquired)),
        renew_time: Some(MicroTime(record.renewed)),
        lease_transitions: Some(record.transitions),
        ..old
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_the_lease_says() {
        let time = Timestamp::from_second(1_700_000_000).unwrap();
        let record = Record {
            holder: "a".to_owned(),
            duration_seconds: 15,
            acquired: time,
            renewed: time,
            transitions: 2,
        };
        let others =
            LeaseSpec { strategy: Some("OldestEmulationVersion".to_owned()), ..LeaseSpec::default() };
        let spec = spec_of(record.clone(), others);
        assert_eq!(spec.strategy.as_deref(), Some("OldestEmulationVersion"), "what others wrote is kept");
        assert_eq!(record_of(spec), record);
        // A lease that says nothing belongs to nobody.
        assert_eq!(record_of(LeaseSpec::default()).holder, "");
    }
}
