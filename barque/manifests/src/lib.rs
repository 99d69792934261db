//! Manifests of a directory: each master publishes the files of its own into the cluster, where they outlive it, and one of the masters
//! applies what the cluster has. Must never poll, or know what the objects of a file mean.
//!
//! | file | what it is for |
//! |---|---|
//! | `manifest` | texts into objects; references to them |
//! | `file` | what a directory has, and which names are meant |
//! | `directory` | follows it |
//! | `published` | a file as the cluster has it: a Secret |
//! | `observe` | follows these |
//! | `publish` | files into Secrets; `plan` decides which of several masters' files counts |
//! | `apply` | the leader: Secrets into objects; `plan` decides what is applied and what goes, `attempts` when, `objects` does it |

mod apply;
mod directory;
mod file;
pub mod manifest;
mod observe;
mod publish;
mod published;

use std::path::PathBuf;

use barque_client::component::{LeaseConfig, elected, identity};
use barque_client::events::{Reporter, recorder};
use barque_client::leader_election::Office;
use barque_client::leader_election::plan::SettingsError;
use barque_client::servers::{ConnectError, Servers, connect};
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use apply::Applier;
use directory::Directory;
use publish::Publisher;
use published::NAMESPACE;

/// Who owns the fields that are applied.
pub(crate) const MANAGER: &str = "barque-manifests";

/// What the part is told.
#[derive(Debug, Clone)]
pub struct Config {
    /// To whom it speaks, as somebody who may apply anything.
    pub servers: Servers,
    /// The master's name.
    pub master: String,
    /// Where its files are. Made when it is missing.
    pub directory: PathBuf,
    /// What tells this master's disk from any other one: drawn once, and kept there.
    pub key: String,
    /// The lease of who applies.
    pub lease: LeaseConfig,
}

/// Why it ended.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// There is no client.
    #[error("the API servers")]
    Connect(#[from] ConnectError),
    /// The lease's settings.
    #[error("the lease")]
    Lease(#[from] SettingsError),
    /// A task that never should.
    #[error("a task broke down")]
    Task(#[from] JoinError),
}

/// Publishes, and applies while it leads, until it is told to stop.
///
/// # Errors
/// When it cannot be started, or one of its tasks broke down.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ManifestsError> {
    let Config { servers, master, directory, key, lease } = config;
    let client = connect(servers).await?;
    // Tasks go on until the lease was given away.
    let (identity, until, token) = (identity(), stop.child_token(), CancellationToken::new());
    let reporter = Reporter { controller: MANAGER.to_owned(), instance: format!("{MANAGER}-{master}") };
    let (recorder, writer) = recorder(client.clone(), reporter);
    let secrets = Api::<Secret>::namespaced(client.clone(), NAMESPACE);
    let (tell_listing, listed) = watch::channel(None);
    let (tell_seen, seen) = watch::channel(None);

    let mut tasks = JoinSet::new();
    tasks.spawn(writer.run(token.clone()));
    tasks.spawn(directory::follow(Directory { path: directory, key }, tell_listing, token.clone()));
    tasks.spawn(ended_by(token.clone(), observe::follow(client.clone(), tell_seen)));
    let publisher = Publisher { master, secrets, recorder: recorder.clone() };
    tasks.spawn(publisher.run(listed, seen.clone(), token.clone()));

    // Cut off where it waits, once another may lead.
    let lead = |office: Office| {
        let client = office.client(&client);
        let secrets = Api::namespaced(client.clone(), NAMESPACE);
        let applier = Applier { client, secrets, recorder: recorder.clone() };
        Box::pin(ended_by(office.token().clone(), applier.run(seen.clone())))
    };
    let leading = elected(&client, Some(&lease), &identity, &until, |_| {}, lead);
    tokio::pin!(leading);
    let mut outcome = tokio::select! {
        led = &mut leading => led.map(drop).map_err(ManifestsError::from),
        // One that ends without having been told to has broken down.
        Some(ended) = tasks.join_next() => {
            until.cancel();
            let led = leading.await.map(drop).map_err(ManifestsError::from);
            ended.map_err(ManifestsError::from).and(led)
        }
    };
    token.cancel();
    while let Some(ended) = tasks.join_next().await {
        outcome = outcome.and(ended.map_err(ManifestsError::from));
    }
    outcome
}

async fn ended_by(token: CancellationToken, work: impl Future<Output = ()>) {
    let _: Option<()> = token.run_until_cancelled(work).await;
}
