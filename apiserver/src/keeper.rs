//! Keeps what every cluster has from its start: writes it when the server starts, collects the rules of roles that collect
//! others', and tells where the servers are. What should be there is decided in [`crate::bootstrap`]; must never do more than
//! carry that out.
//!
//! ```text
//! task      ends when   what it does
//! objects   stop        writes the objects of the start, then keeps collected roles up to date
//! servers   stop        renews this server's lease, and keeps the addresses of the service `kubernetes`
//! ```

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::GroupVersionResource;
use barque_api::metadata::Metadata;
use barque_api::status::{Reason, Status};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::authorization::rules::Rule;
use crate::bootstrap::{self, Desired, Plan};
use crate::clock::now_micros;
use crate::registry::collections::Collections;
use crate::registry::follow::{Followed, follow};
use crate::registry::own_client::OwnClient;
use crate::storage::Storage;

/// Between two looks at what failed.
const RETRY: Duration = Duration::from_secs(1);
/// Between two renewals of the server's lease, which lasts [`bootstrap::LEASE_SECONDS`].
const RENEWAL: Duration = Duration::from_secs(10);

/// Who this server is to the others.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name of its lease, the same after a restart.
    pub name: String,
    /// This process.
    pub holder: String,
    /// Where it can be reached.
    pub address: IpAddr,
    /// Where all servers listen.
    pub port: u16,
}

/// Whether the objects of the start are there.
#[derive(Clone, Debug)]
pub struct Kept(watch::Receiver<bool>);

impl Kept {
    /// Whether they are.
    #[must_use]
    pub fn is_done(&self) -> bool {
        *self.0.borrow()
    }

    /// Waits until they are, or nobody sees to it any more.
    pub async fn wait(&self) {
        let _ = self.0.clone().wait_for(|done| *done).await;
    }
}

/// Starts both tasks.
#[must_use]
pub fn start<S: Storage>(
    client: &OwnClient<S>,
    collections: &Collections<S>,
    settings: bootstrap::Settings,
    server: Server,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Kept {
    let (done, kept) = watch::channel(false);
    let keeper = Keeper { client: client.clone(), collections: collections.clone(), stop: stop.clone() };
    let roles_changed = Arc::new(Notify::new());
    if let Some(roles) = collections.collection(&cluster_roles().group_resource()) {
        let changed = Arc::clone(&roles_changed);
        let tell = move |followed: Followed| {
            if !matches!(followed, Followed::InStep) {
                changed.notify_one();
            }
        };
        tasks.spawn(follow(roles, stop.clone(), tell));
    }
    let objects = keeper.clone();
    tasks.spawn(async move { objects.keep_objects(&settings, &done, &roles_changed).await });
    tasks.spawn(async move { keeper.keep_servers(&server).await });
    Kept(kept)
}

#[derive(Clone)]
struct Keeper<S: Storage> {
    client: OwnClient<S>,
    collections: Collections<S>,
    stop: CancellationToken,
}

impl<S: Storage> Keeper<S> {
    async fn keep_objects(
        &self,
        settings: &bootstrap::Settings,
        done: &watch::Sender<bool>,
        roles_changed: &Notify,
    ) {
        let mut left = bootstrap::desired(settings);
        loop {
            left = match self.stop.run_until_cancelled(self.put_all(left)).await {
                Some(left) => left,
                None => return,
            };
            if left.is_empty() {
                break;
            }
            if self.stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                return;
            }
        }
        loop {
            match self.stop.run_until_cancelled(self.collect_roles()).await {
                None => return,
                Some(Ok(())) => {
                    done.send_if_modified(|done| !std::mem::replace(done, true));
                    if self.stop.run_until_cancelled(roles_changed.notified()).await.is_none() {
                        return;
                    }
                }
                Some(Err(status)) => {
                    tracing::warn!("rules of roles cannot be collected yet: {status}");
                    if self.stop.run_until_cancelled(tokio::time::sleep(RETRY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Writes objects, and answers those that could not be written.
    async fn put_all(&self, all: Vec<Desired>) -> Vec<Desired> {
        let mut left = Vec::new();
        for desired in all {
            if let Err(status) = self.put(&desired).await {
                tracing::warn!(name = desired.name, resource = %desired.resource, "cannot be kept yet: {status}");
                left.push(desired);
            }
        }
        left
    }

    async fn put(&self, desired: &Desired) -> Result<(), Status> {
        let Desired { resource, namespace, name, .. } = desired;
        let existing = self.client.get(resource, namespace, name).await?;
        let done = match bootstrap::plan(desired, existing.as_ref()) {
            Plan::Nothing => return Ok(()),
            Plan::Create(object) => self.client.create(resource, namespace, object).await,
            Plan::Update(object) => self.client.update(resource, namespace, name, "", object).await,
            Plan::Recreate(object) => {
                self.client.delete(resource, namespace, name).await?;
                self.client.create(resource, namespace, object).await
            }
        };
        match done {
            Ok(_) => Ok(()),
            Err(status) => {
                // Another server may have been first: what it wrote is as good.
                let stands = self.client.get(resource, namespace, name).await?;
                let is_kept = stands.is_some() && bootstrap::plan(desired, stands.as_ref()) == Plan::Nothing;
                if is_kept { Ok(()) } else { Err(status) }
            }
        }
    }

    /// Enters the rules of roles that collect others', until nothing changes.
    async fn collect_roles(&self) -> Result<(), Status> {
        let resource = cluster_roles();
        let roles = self.collections.objects(&resource.group_resource(), "").await?;
        for role in &roles {
            let Some(rules) = bootstrap::aggregate(role, &roles) else { continue };
            let mut role = role.clone();
            role["rules"] = rules.iter().map(Rule::to_value).collect();
            let name = Metadata::of(&role).name().to_owned();
            match self.client.update(&resource, "", &name, "", role).await {
                // A newer one comes, and is looked at then.
                Err(status) if [Reason::Conflict, Reason::NotFound].contains(&status.reason) => {}
                written => {
                    written?;
                }
            }
        }
        Ok(())
    }

    async fn keep_servers(&self, server: &Server) {
        if server.address.is_loopback() {
            tracing::warn!(
                address = %server.address,
                "pods cannot find this server: give --advertise-address one that other machines reach"
            );
        }
        let mut next = Instant::now();
        loop {
            match self.stop.run_until_cancelled(self.renew(server)).await {
                None => break,
                Some(Ok(())) => next += RENEWAL,
                Some(Err(status)) => {
                    tracing::debug!("the server's lease cannot be renewed yet: {status}");
                    next = Instant::now() + RETRY;
                }
            }
            if self.stop.run_until_cancelled(tokio::time::sleep_until(next)).await.is_none() {
                break;
            }
        }
        if let Err(status) = tokio::time::timeout(RETRY, self.leave(server)).await.unwrap_or(Ok(())) {
            tracing::debug!("the server's lease stays until it runs out: {status}");
        }
    }

    async fn renew(&self, server: &Server) -> Result<(), Status> {
        let resource = leases();
        let existing = self.client.get(&resource, LEASES, &server.name).await?;
        let lease =
            bootstrap::lease(&server.name, &server.holder, server.address, now_micros(), existing.as_ref());
        if existing.is_some() {
            self.client.update(&resource, LEASES, &server.name, "", lease).await?;
        } else {
            self.client.create(&resource, LEASES, lease).await?;
        }
        self.put_addresses(server).await
    }

    async fn put_addresses(&self, server: &Server) -> Result<(), Status> {
        if server.address.is_loopback() {
            return Ok(());
        }
        let leases = self.collections.objects(&leases().group_resource(), LEASES).await?;
        let mut addresses = bootstrap::live(&leases, now_micros());
        if !addresses.contains(&server.address) && !self.stop.is_cancelled() {
            // The cache may not have the lease yet that was just written.
            addresses.push(server.address);
            addresses.sort();
        }
        for desired in bootstrap::endpoints(&addresses, server.port) {
            self.put(&desired).await?;
        }
        Ok(())
    }

    /// Nobody is to look for this server any more.
    async fn leave(&self, server: &Server) -> Result<(), Status> {
        self.client.delete(&leases(), LEASES, &server.name).await?;
        let leases = self.collections.objects(&leases().group_resource(), LEASES).await?;
        let others = leases.iter().filter(|lease| Metadata::of(lease).name() != server.name);
        let addresses = bootstrap::live(others, now_micros());
        if addresses.is_empty() {
            // The last one leaves its address: nobody is there to write another.
            return Ok(());
        }
        for desired in bootstrap::endpoints(&addresses, server.port) {
            self.put(&desired).await?;
        }
        Ok(())
    }
}

const LEASES: &str = "kube-system";

fn leases() -> GroupVersionResource {
    GroupVersionResource::new("coordination.k8s.io", "v1", "leases")
}

fn cluster_roles() -> GroupVersionResource {
    GroupVersionResource::new("rbac.authorization.k8s.io", "v1", "clusterroles")
}
