//! Everything put together: connected, elected, started and stopped. Must never let a controller act once the lease may be
//! another's.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use barque_client::component::{ServeError, bind, elected, identity};
use barque_client::events::{Recorder, Reporter, Writer, recorder};
use barque_client::leader_election::Office;
use barque_client::leader_election::plan::SettingsError as LeaseError;
use barque_client::servers::{ConnectError, connect_counted};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

use crate::act::KubeApi;
use crate::cache::Caches;
use crate::certificates::{Authorities, AuthorityError};
use crate::config::{AutoscalingConfig, ValidConfig, ValidOptions};
use crate::controller::{AllKeys, Controller, Walker, Watches};
use crate::discovery::{self, Followed};
use crate::kind::Kind;
use crate::metrics::{Metrics, QueueMetrics};
use crate::queue::WorkQueue;
use crate::reconcile::{Passes, Reconciler, Walking};
use crate::registry::CONTROLLERS;
use crate::root_certificates::RootCa;
use crate::settings::{Settings, SettingsError};

/// How long tasks may take to end.
const DRAIN: Duration = Duration::from_secs(2);

/// Why a controller manager ended.
#[derive(Debug, thiserror::Error)]
pub enum ManagerError {
    /// There is no client.
    #[error("the API servers")]
    Connect(#[from] ConnectError),
    /// Health and metrics cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// A file that a flag names.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// What signs certificates.
    #[error("the authority that signs certificates")]
    Authority(#[from] AuthorityError),
    /// The lease's settings.
    #[error("the lease")]
    Lease(#[from] LeaseError),
    /// A task ended that never should.
    #[error("{0} ended: {1}")]
    Task(String, String),
}

/// Runs the controllers until it is told to stop; as one of several, only while it leads.
///
/// # Errors
/// When it cannot be started, or one of its tasks broke down.
pub async fn run(config: ValidConfig, metrics: Metrics, stop: CancellationToken) -> Result<(), ManagerError> {
    let authorities = Authorities::read(&config.signing)?;
    let client = connect_counted(config.component.servers.clone(), metrics.requests()).await?;
    let (settings, root_ca) = Settings::read(&config).await?;
    let identity = identity();
    let server = bind(config.component.listen, config.component.certificate.as_ref()).await?;
    tracing::info!(address = %server.address(), identity, "serving health and metrics");
    let ended = stop.child_token();
    let scraped = metrics.clone();
    let serving = server.run(move || scraped.text(), ended.clone());
    let following = async {
        if let Some(root_ca) = root_ca {
            ended.run_until_cancelled(root_ca.run()).await;
        }
    };
    let lease = config.component.lease.as_ref();
    let working = async {
        let manager = Manager {
            config: &config,
            settings: &settings,
            authorities: &authorities,
            client,
            metrics: &metrics,
            identity,
        };
        let leads = |leads| {
            if let Some(lease) = lease {
                metrics.leads(&lease.name, leads);
            }
        };
        let lead = |office| lead(&manager, office);
        let result = elected(&manager.client, lease, &manager.identity, &stop, leads, lead).await;
        ended.cancel();
        result
    };
    let ((), (), result) = tokio::join!(serving, following, Box::pin(working));
    result?.unwrap_or(Ok(()))
}

/// What every term of office has in common.
struct Manager<'a> {
    config: &'a ValidConfig,
    settings: &'a Settings,
    authorities: &'a Authorities,
    client: Client,
    metrics: &'a Metrics,
    identity: String,
}

/// Runs the controllers until the office's token is cancelled.
async fn lead(manager: &Manager<'_>, office: Office) -> Result<(), ManagerError> {
    let Manager { config, settings, authorities, client, metrics, identity } = manager;
    let (client, token) = (&office.client(client), office.token().clone());
    let mut tasks = JoinSet::new();
    let mut caches = Caches::default();
    let mut starts = Vec::new();
    let mut followed = None;
    for (name, workers) in &config.controllers {
        let Some(row) = CONTROLLERS.iter().find(|row| row.name == *name) else { continue };
        let mut starter = Starter {
            name: row.name,
            workers: *workers,
            settings,
            resync: config.resync,
            resync_with: None,
            options: &config.options,
            authorities,
            autoscaling: config.autoscaling,
            identity,
            client,
            metrics,
            token: &token,
            caches: &mut caches,
            followed: &mut followed,
            starts: &mut starts,
        };
        (row.start)(&mut starter);
    }
    let caches = Arc::new(caches);
    for (kind, cache) in caches.kinds() {
        let (client, caches, token) = (client.clone(), caches.clone(), token.clone());
        tasks.spawn(async move {
            token.run_until_cancelled(cache.follow(client, &caches)).await;
            format!("the watch of {kind}")
        });
    }
    for start in starts {
        start(&mut tasks, &caches);
    }
    tracing::info!(controllers = config.controllers.len(), "controllers run");
    let result = tokio::select! {
        () = token.cancelled() => Ok(()),
        Some(ended) = tasks.join_next() => match ended {
            // It ended because all do.
            Ok(_) if token.is_cancelled() => Ok(()),
            Ok(name) => Err(ManagerError::Task(name, "it should not".to_owned())),
            Err(error) => Err(ManagerError::Task("a task".to_owned(), error.to_string())),
        },
    };
    token.cancel();
    let drained = timeout(DRAIN, async { while tasks.join_next().await.is_some() {} }).await;
    if drained.is_err() {
        tracing::error!("tasks that did not end are cut off");
        tasks.shutdown().await;
    }
    for (name, _) in &config.controllers {
        metrics.running(name, false);
    }
    result
}

type Start = Box<dyn FnOnce(&mut JoinSet<String>, &Arc<Caches>) + Send>;

/// Starts one controller.
pub(crate) struct Starter<'a> {
    name: &'static str,
    workers: usize,
    /// What single controllers are told besides.
    pub(crate) settings: &'a Settings,
    resync: Duration,
    /// A full pass comes too when these are others.
    resync_with: Option<RootCa>,
    /// What single controllers were told.
    pub(crate) options: &'a ValidOptions,
    authorities: &'a Authorities,
    autoscaling: AutoscalingConfig,
    identity: &'a str,
    client: &'a Client,
    metrics: &'a Metrics,
    token: &'a CancellationToken,
    caches: &'a mut Caches,
    followed: &'a mut Option<Followed>,
    starts: &'a mut Vec<Start>,
}

/// What is watched for one controller, and the keys that follow.
struct Watched {
    queue: WorkQueue,
    kinds: Vec<Kind>,
    keys: Vec<AllKeys>,
}

/// What a controller of its own shape is made of; see [`Starter::task`].
pub(crate) struct Parts {
    /// How much it may do at once.
    pub(crate) workers: usize,
    /// The API.
    pub(crate) client: Client,
    /// All caches.
    pub(crate) caches: Arc<Caches>,
    /// Where it tells people.
    pub(crate) recorder: Recorder,
    /// Of its queue.
    pub(crate) queue_metrics: QueueMetrics,
}

impl Starter<'_> {
    /// Who signs certificates.
    pub(crate) fn authorities(&self) -> Authorities {
        self.authorities.clone()
    }

    /// How the autoscaler behaves.
    pub(crate) fn autoscaling(&self) -> AutoscalingConfig {
        self.autoscaling
    }

    /// Runs a controller: its watches, its queue, its workers, its events, and its slow full pass.
    pub(crate) fn run<C: Controller>(&mut self, controller: C) {
        self.run_with_queue(controller);
    }

    /// The same; who has the queue may add keys that no watch leads to.
    pub(crate) fn run_with_queue<C: Controller>(&mut self, controller: C) -> WorkQueue {
        self.run_named(self.name, controller)
    }

    /// The same for one that is part of another: with a queue of this name.
    pub(crate) fn run_with<C: Controller>(&mut self, queue: &str, controller: C) {
        self.run_named(queue, controller);
    }

    fn run_named<C: Controller>(&mut self, queue: &str, controller: C) -> WorkQueue {
        let watched = self.watched(queue, |watches| controller.watch(watches));
        self.work(watched, Reconciler::new(controller))
    }

    /// The same for a controller that looks past the caches.
    pub(crate) fn walk<W: Walker>(&mut self, walker: W) {
        let watched = self.watched(self.name, |watches| walker.watch(watches));
        self.work(watched, Walking(walker));
    }

    /// What the API serves, as it comes and goes: followed once for all controllers that ask.
    pub(crate) fn discovered(&mut self) -> Followed {
        if let Some(followed) = self.followed {
            return followed.clone();
        }
        let (tell, followed) = watch::channel(None);
        let (client, token) = (self.client.clone(), self.token.clone());
        self.starts.push(Box::new(move |tasks, _| {
            tasks.spawn(async move {
                token.run_until_cancelled(discovery::follow(client, tell)).await;
                "the watch of what the API serves".to_owned()
            });
        }));
        self.followed.insert(followed).clone()
    }

    /// Full passes come so often from here on, unless they come more often anyway.
    pub(crate) fn look_at_all_every(&mut self, period: Duration) {
        self.resync = self.resync.min(period);
    }

    /// A full pass comes as well when these certificates are others.
    pub(crate) fn look_at_all_with(&mut self, certificates: RootCa) {
        self.resync_with = Some(certificates);
    }

    fn watched(&mut self, queue: &str, watch: impl FnOnce(&mut Watches<'_>)) -> Watched {
        let queue = WorkQueue::new(self.metrics.queue(queue));
        let mut watches = Watches::new(self.caches, queue.clone());
        watch(&mut watches);
        let (kinds, keys) = watches.into_parts();
        Watched { queue, kinds, keys }
    }

    fn recorder(&self) -> (Recorder, Writer) {
        let reporter = Reporter {
            controller: self.name.to_owned(),
            instance: format!("{}-{}", self.name, self.identity),
        };
        recorder(self.client.clone(), reporter)
    }

    fn work(&mut self, watched: Watched, passes: impl Passes) -> WorkQueue {
        let Watched { queue, kinds, keys } = watched;
        let given = queue.clone();
        let (recorder, writer) = self.recorder();
        let (name, workers, resync) = (self.name, self.workers, self.resync);
        let resync_with = self.resync_with.clone();
        let (client, metrics, token) = (self.client.clone(), self.metrics.clone(), self.token.clone());
        self.starts.push(Box::new(move |tasks, caches| {
            metrics.running(name, true);
            let stop = token.clone();
            tasks.spawn(async move {
                writer.run(stop).await;
                format!("the events of {name}")
            });
            let passes = Arc::new(passes);
            let kinds: Arc<[_]> = kinds.into();
            let start = Instant::now();
            for _ in 0..workers {
                let (passes, queue, caches) = (passes.clone(), queue.clone(), caches.clone());
                let (api, recorder, kinds) = (KubeApi::new(client.clone()), recorder.clone(), kinds.clone());
                let stop = token.clone();
                tasks.spawn(async move {
                    let work = async {
                        caches.synced(&kinds).await;
                        loop {
                            let key = queue.take().await;
                            let now = (Timestamp::now(), start.elapsed());
                            let next = passes.pass(&key, &caches, &api, &recorder, &queue, now).await;
                            next.follow_up(&queue, &key);
                        }
                    };
                    // All that acts hangs on this token: cut off where it waits, once another may lead.
                    let _: Option<()> = stop.run_until_cancelled(work).await;
                    format!("a worker of {name}")
                });
            }
            let (caches, stop, mut followed) = (caches.clone(), token, resync_with);
            tasks.spawn(async move {
                let mut passes = interval(resync);
                passes.set_missed_tick_behavior(MissedTickBehavior::Delay);
                // The first is at once, when everything is new anyway.
                passes.tick().await;
                let mut dropped = 0;
                loop {
                    tokio::select! {
                        () = stop.cancelled() => break,
                        _ = passes.tick() => {}
                        () = changed(&mut followed) => {}
                    }
                    for key in keys.iter().flat_map(|keys| keys(&caches)) {
                        queue.add(key);
                    }
                    metrics.events_dropped(name, recorder.dropped() - dropped);
                    dropped = recorder.dropped();
                }
                format!("the full passes of {name}")
            });
        }));
        given
    }

    /// Runs a future of its own until the token is cancelled; it must not end before. What it spawns must end with it.
    pub(crate) fn task<F>(&mut self, make: impl FnOnce(Parts) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (recorder, writer) = self.recorder();
        let (name, workers, token) = (self.name, self.workers, self.token.clone());
        let (client, metrics) = (self.client.clone(), self.metrics.clone());
        self.starts.push(Box::new(move |tasks, caches| {
            metrics.running(name, true);
            let stop = token.clone();
            tasks.spawn(async move {
                writer.run(stop).await;
                format!("the events of {name}")
            });
            let queue_metrics = metrics.queue(name);
            let parts = Parts { workers, client, caches: caches.clone(), recorder, queue_metrics };
            let work = make(parts);
            tasks.spawn(async move {
                token.run_until_cancelled(work).await;
                name.to_owned()
            });
        }));
    }
}

async fn changed(followed: &mut Option<RootCa>) {
    match followed {
        Some(certificates) => certificates.changed().await,
        None => std::future::pending().await,
    }
}
