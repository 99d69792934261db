//! Everything put together: connected, elected, started and stopped. Must never let anything act once the lease may be another's.

use barque_client::component::{ServeError, bind, elected, identity};
use barque_client::events::{Reporter, recorder};
use barque_client::leader_election::Office;
use barque_client::leader_election::plan::SettingsError;
use barque_client::servers::{ConnectError, connect_counted};
use kube::Client;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::act::Actor;
use crate::config::ValidConfig;
use crate::driver::Driver;
use crate::metrics::Metrics;
use crate::observe::watch_all;

/// Changes that wait to be taken. Watches wait when there are more.
const CHANGES: usize = 1024;

/// Why a scheduler ended.
#[derive(Debug, thiserror::Error)]
pub enum SchedulerError {
    /// There is no client.
    #[error("the API servers")]
    Connect(#[from] ConnectError),
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The lease's settings.
    #[error("the lease")]
    Lease(#[from] SettingsError),
    /// A task that never should.
    #[error("a task broke down")]
    Task(#[from] JoinError),
}

/// Schedules until it is told to stop; as one of several, only while it leads.
///
/// # Errors
/// When it cannot be started, or one of its tasks broke down.
pub async fn run(
    config: ValidConfig,
    metrics: Metrics,
    stop: CancellationToken,
) -> Result<(), SchedulerError> {
    let client = connect_counted(config.component.servers.clone(), metrics.requests()).await?;
    let identity = identity();
    let server = bind(config.component.listen, config.component.certificate.as_ref()).await?;
    tracing::info!(address = %server.address(), identity, "serving health and metrics");
    let ended = stop.child_token();
    let scraped = metrics.clone();
    let serving = server.run(move || scraped.text(), ended.clone());
    let lease = config.component.lease.as_ref();
    let working = async {
        let leads = |leads| {
            if let Some(lease) = lease {
                metrics.leads(&lease.name, leads);
            }
        };
        let lead = |office| Box::pin(lead(&config, &client, &metrics, &identity, office));
        let result = elected(&client, lease, &identity, &stop, leads, lead).await;
        ended.cancel();
        result
    };
    let ((), result) = tokio::join!(serving, working);
    Ok(result?.unwrap_or(Ok(()))?)
}

/// Schedules until the office's token is cancelled.
async fn lead(
    config: &ValidConfig,
    client: &Client,
    metrics: &Metrics,
    identity: &str,
    office: Office,
) -> Result<(), JoinError> {
    let (client, token) = (&office.client(client), office.token().clone());
    let mut tasks = JoinSet::new();
    let mut recorders = Vec::new();
    for profile in &config.configuration.profiles {
        let reporter = Reporter {
            controller: profile.scheduler_name.to_string(),
            instance: instance(&profile.scheduler_name, identity),
        };
        let (recorder, writer) = recorder(client.clone(), reporter);
        recorders.push(recorder);
        tasks.spawn(writer.run(token.clone()));
    }
    let (sender, changes) = mpsc::channel(CHANGES);
    watch_all(&mut tasks, client, &sender, &token);
    drop(sender);
    let driver = Driver::new(&config.configuration, Actor::new(client.clone()), recorders, metrics.clone());
    let driving = driver.run(changes, token.clone());
    tokio::pin!(driving);
    let result = loop {
        tokio::select! {
            biased;
            result = &mut driving => break result,
            Some(ended) = tasks.join_next() => if let Err(error) = ended {
                token.cancel();
                driving.as_mut().await?;
                break Err(error);
            }
        }
    };
    token.cancel();
    tasks.shutdown().await;
    result
}

/// Which of the instances of a scheduler it is; events allow 128 bytes.
fn instance(scheduler_name: &str, identity: &str) -> String {
    let mut whole = format!("{scheduler_name}-{identity}");
    whole.truncate(whole.floor_char_boundary(128));
    whole
}
