//! A program that serves: its runtime, and the signals that end it. Must never know what is served.

use std::num::NonZero;

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::notify;

/// Runs what `serve` makes until it ends, or until SIGTERM or SIGINT. A second signal does not wait for the end.
pub(crate) fn run<F, S, T>(serve: F) -> anyhow::Result<T>
where
    F: FnOnce(CancellationToken) -> S,
    S: Future<Output = anyhow::Result<T>> + Send + 'static,
    T: Send + 'static,
{
    allow_all_open_files();
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(worker_threads(cores))
        .enable_all()
        .thread_name("barque")
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
        let shutdown = CancellationToken::new();
        // On a worker thread: the main thread need not wake up for what happens inside.
        let mut serving = tokio::spawn(serve(shutdown.clone()));
        loop {
            let name = tokio::select! {
                ended = &mut serving => return ended.context("the program panicked")?,
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if shutdown.is_cancelled() {
                anyhow::bail!("{name}: stopped at once, without waiting for the end");
            }
            tracing::info!("{name}: stopping");
            notify::stopping();
            shutdown.cancel();
        }
    })
}

/// A second worker on a machine with two cores costs more than it gives: a write passes through a dozen tasks, and
/// each that wakes on the other worker is a switch of threads. The log's thread and the kernel want a core as well.
fn worker_threads(cores: usize) -> usize {
    if cores <= 2 { 1 } else { cores }
}

/// Each connection is an open file, and the usual soft limit of 1024 is there for programs that use `select`.
fn allow_all_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays at its soft value: {error}");
    }
}
