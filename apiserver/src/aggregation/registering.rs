//! Carries out what [`super::registrar`] decides. Must never do more.

use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::GroupVersionResource;
use barque_api::metadata::Metadata;
use barque_api::status::{Reason, Status};
use tokio_util::sync::CancellationToken;

use super::registrar::{self, Step};
use super::{Inner, registration};
use crate::registry::own_client::OwnClient;
use crate::storage::Storage;

/// Before what failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The collection.
pub(super) fn api_services() -> GroupVersionResource {
    GroupVersionResource::new(registration::GROUP, "v1", "apiservices")
}

/// Until `stop`.
pub(super) async fn run<S: Storage>(client: OwnClient<S>, inner: Arc<Inner>, stop: CancellationToken) {
    loop {
        let failed = match stop.run_until_cancelled(register(&client, &inner)).await {
            None => return,
            Some(Ok(())) => false,
            Some(Err(status)) => {
                tracing::warn!("APIServices of definitions cannot be kept yet: {status}");
                true
            }
        };
        let waited = if failed {
            stop.run_until_cancelled(tokio::time::sleep(RETRY)).await
        } else {
            stop.run_until_cancelled(inner.picture.register.notified()).await
        };
        if waited.is_none() {
            return;
        }
    }
}

async fn register<S: Storage>(client: &OwnClient<S>, inner: &Inner) -> Result<(), Status> {
    let Some((wanted, existing)) = inner.picture.registered() else { return Ok(()) };
    let resource = api_services();
    for step in registrar::plan(&wanted, existing.iter().map(|one| &**one)) {
        let done = match step {
            Step::Create(object) => client.create(&resource, "", object).await.map(|_| ()),
            Step::Update(object) => {
                let name = Metadata::of(&object).name().to_owned();
                client.update(&resource, "", &name, "", object).await.map(|_| ())
            }
            Step::Delete(name) => client.delete(&resource, "", &name).await,
        };
        match done {
            // Another server was first, or a change is on its way here that says more.
            Err(status)
                if [Reason::AlreadyExists, Reason::Conflict, Reason::NotFound].contains(&status.reason) => {}
            done => done?,
        }
    }
    Ok(())
}
