//! The proxy of a node: follows the cluster, and tells the kernel what changed. Must never touch the tables before all lists
//! are known: what an earlier proxy left there serves until then.

use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::conntrack::{Conntrack, ConntrackError, Owners};
use crate::health::HealthPorts;
use crate::metrics::Metrics;
use crate::nft::{Kernel, KernelError, Monitor, Notice, Transaction};
use crate::observe::{Changes, Counted, Lists, Streams, changes};
use crate::settings::{NodeFacts, Settings};
use crate::state::State;

/// Emptied chains are deleted this long after the change: older kernels let go of them only after a moment.
const SWEEP_AFTER: Duration = Duration::from_secs(1);
/// Two repairs, or two attempts after a failure, are at least this far apart; failures double it.
const RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// So many changes at most are taken over before the kernel is told.
const TOGETHER: usize = 10_000;

/// A proxy cannot work.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The packet filter is out of reach.
    #[error("the service proxy cannot talk to the kernel's packet filter")]
    Kernel(#[from] KernelError),
    /// Connection tracking is out of reach.
    #[error("the service proxy cannot talk to the kernel's connection tracking")]
    Conntrack(#[from] ConntrackError),
    /// A thread that talked to the kernel died.
    #[error("a thread of the service proxy that talks to the kernel died")]
    Thread(#[source] tokio::task::JoinError),
}

/// The proxy of one node.
#[derive(Debug)]
pub struct Proxy {
    settings: Settings,
    metrics: Metrics,
    kernel: Kernel,
    conntrack: Conntrack,
    monitor: Monitor,
}

impl Proxy {
    /// One that works in the network namespace of the calling thread. Needs a Tokio runtime with I/O and time.
    ///
    /// # Errors
    /// When the kernel does not let us.
    pub fn open(settings: Settings, metrics: Metrics) -> Result<Self, ProxyError> {
        let kernel = Kernel::open(&settings.table)?;
        let monitor = Monitor::open(&kernel)?;
        Ok(Self { settings, metrics, kernel, conntrack: Conntrack::open()?, monitor })
    }

    /// Works until the token is cancelled. The tables stay and serve on: the next proxy takes over, or [`crate::cleanup`]
    /// removes them. Health-check node ports are opened in the network namespace of the thread that polls this.
    ///
    /// # Errors
    /// When the kernel cannot be reached any more; what it refuses is tried again.
    pub async fn run(
        self,
        node: watch::Receiver<NodeFacts>,
        streams: Streams,
        stop: CancellationToken,
    ) -> Result<(), ProxyError> {
        let Self { mut settings, metrics, kernel, conntrack, monitor } = self;
        settings.policies &= streams.policies.is_some();
        let lists = Lists::new(settings.policies);
        let facts = node.borrow().clone();
        let mut task = Task {
            state: State::new(settings.clone(), facts),
            settings,
            metrics,
            lists,
            kernel: Some(kernel),
            conntrack: Some(conntrack),
            health: HealthPorts::default(),
            generation: 0,
            whole: true,
            due: Some(Instant::now()),
            last: None,
            sweep: None,
            full: None,
            failures: 0,
            triggers: Vec::new(),
        };
        let ended = task.follow(node, changes(streams), monitor, stop).await;
        task.health.close().await;
        ended
    }
}

struct Task {
    state: State,
    settings: Settings,
    metrics: Metrics,
    lists: Lists,
    /// There but while a thread has it.
    kernel: Option<Kernel>,
    conntrack: Option<Conntrack>,
    health: HealthPorts,
    /// Of nftables, behind our last transaction.
    generation: u32,
    /// Whether the tables have to be made anew.
    whole: bool,
    /// When the kernel is to be told next, if there is something to tell.
    due: Option<Instant>,
    /// When it was told last.
    last: Option<Instant>,
    /// When emptied chains are to be deleted.
    sweep: Option<Instant>,
    /// When the next complete pass is.
    full: Option<Instant>,
    failures: u32,
    /// When the changes happened that the next transaction is about.
    triggers: Vec<Timestamp>,
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

impl Task {
    async fn follow(
        &mut self,
        mut node: watch::Receiver<NodeFacts>,
        mut changes: Changes,
        mut monitor: Monitor,
        stop: CancellationToken,
    ) -> Result<(), ProxyError> {
        loop {
            let ready = self.lists.are_complete();
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                notice = monitor.next() => self.hear(notice?)?,
                Ok(()) = node.changed() => {
                    let facts = node.borrow_and_update().clone();
                    self.state.set_node(facts);
                    self.queue();
                }
                () = at(self.due), if ready => self.sync().await?,
                Some(change) = changes.next() => {
                    self.observe(change);
                    for _ in 0..TOGETHER {
                        let Some(Some(change)) = changes.next().now_or_never() else { break };
                        self.observe(change);
                    }
                    if self.state.is_dirty() {
                        self.queue();
                    }
                }
                () = at(self.sweep) => self.sweep().await?,
                () = at(self.full) => {
                    self.whole = true;
                    self.full = None;
                    self.queue();
                }
            }
        }
    }

    fn observe(&mut self, change: crate::observe::Change) {
        match self.lists.observe(&mut self.state, change) {
            Counted::Service => self.metrics.service_changes.inc(),
            Counted::Slice(trigger) => {
                self.metrics.endpoint_changes.inc();
                self.triggers.extend(trigger);
            }
            Counted::Other => {}
        }
    }

    /// The kernel is told soon, but not sooner than the settings allow.
    fn queue(&mut self) {
        if self.due.is_none() {
            let now = Instant::now();
            self.due = Some(self.last.map_or(now, |last| now.max(last + self.settings.min_sync_period)));
            Metrics::now(&self.metrics.queued);
        }
    }

    fn hear(&mut self, notice: Notice) -> Result<(), ProxyError> {
        // Before our first transaction the tables are an earlier proxy's.
        let Some(last) = self.last else { return Ok(()) };
        match notice {
            Notice::Foreign(family) => {
                tracing::warn!(
                    ?family,
                    "somebody else changed the tables of the service proxy; they are made anew"
                );
            }
            Notice::Missed => {
                let now = self.kernel.as_mut().map(Kernel::generation).transpose()?;
                if now == Some(self.generation) {
                    return Ok(());
                }
                tracing::info!("changes of nftables were missed; the tables are made anew");
            }
        }
        self.metrics.repairs.inc();
        self.whole = true;
        let earliest = last + self.settings.min_sync_period.max(RETRY);
        self.due = Some(Instant::now().max(earliest));
        Ok(())
    }

    async fn sync(&mut self) -> Result<(), ProxyError> {
        let begin = Instant::now();
        self.due = None;
        let whole = std::mem::take(&mut self.whole);
        let transaction = if whole { self.state.whole() } else { self.state.changes() };
        let told = self.commit(transaction, whole).await?;
        let now = Instant::now();
        self.last = Some(now);
        match told {
            Ok(()) => {
                self.failures = 0;
                self.metrics.synced(whole, now - begin);
                self.done();
            }
            Err(error) => {
                let pause = (RETRY * 2_u32.saturating_pow(self.failures.min(8))).min(LONGEST_RETRY);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the kernel did not take the rules; the tables are made anew in {pause:?}"
                );
                self.failures += 1;
                self.metrics.failures.inc();
                self.whole = true;
                self.due = Some(now + pause);
                return Ok(());
            }
        }
        if whole || self.full.is_none() {
            self.full = Some(now + self.settings.full_sync_period);
        }
        if self.state.has_stale() && self.sweep.is_none() {
            self.sweep = Some(now + SWEEP_AFTER);
        }
        self.health.set(self.state.health()).await;
        self.clean_flows().await
    }

    fn done(&mut self) {
        let now = Timestamp::now();
        for trigger in self.triggers.drain(..) {
            let took = Duration::try_from(now.duration_since(trigger)).unwrap_or_default();
            self.metrics.programming.observe(took.as_secs_f64());
        }
        for (policy, count) in ["internal", "external"].into_iter().zip(self.state.forlorn()) {
            self.metrics
                .without_local
                .with_label_values(&[policy])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// What was emptied is deleted. Chains that come back meanwhile are not among them.
    async fn sweep(&mut self) -> Result<(), ProxyError> {
        self.sweep = None;
        let transaction = self.state.sweep();
        if let Err(error) = self.commit(transaction, false).await? {
            // The next complete pass makes everything anew.
            self.metrics.cleanup_failures.inc();
            tracing::warn!(error = &error as &dyn std::error::Error, "empty chains could not be deleted");
        }
        Ok(())
    }

    async fn commit(
        &mut self,
        mut transaction: Transaction,
        whole: bool,
    ) -> Result<Result<(), KernelError>, ProxyError> {
        let Some(mut kernel) = self.kernel.take() else { return Ok(Err(KernelError::Silent)) };
        let work = spawn_blocking(move || {
            // Clients keep their endpoints over it.
            let kept = if whole { kernel.carry_over(&mut transaction) } else { Ok(()) };
            let told = kept.and_then(|()| kernel.commit(&transaction));
            let generation = kernel.generation();
            (kernel, told, generation)
        });
        let (kernel, told, generation) = work.await.map_err(ProxyError::Thread)?;
        self.kernel = Some(kernel);
        self.generation = generation?;
        Ok(told)
    }

    async fn clean_flows(&mut self) -> Result<(), ProxyError> {
        if !self.state.take_flows_matter() {
            return Ok(());
        }
        let Some(mut conntrack) = self.conntrack.take() else { return Ok(()) };
        let (dispatches, node) = self.state.dispatches();
        let work = spawn_blocking(move || {
            let deleted = match dispatches.is_empty() {
                true => Ok(0),
                false => conntrack.clean(&Owners::of(dispatches.iter(), &node)),
            };
            (conntrack, deleted)
        });
        let (conntrack, deleted) = work.await.map_err(ProxyError::Thread)?;
        self.conntrack = Some(conntrack);
        match deleted {
            Ok(deleted) => self.metrics.flows_deleted.inc_by(deleted as u64),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "stale flows could not be deleted");
            }
        }
        Ok(())
    }
}
