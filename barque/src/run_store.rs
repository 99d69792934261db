//! A running member: its runtime, its ports, and the signals that end it.

use std::pin::pin;

use anyhow::Context;
use barque_store::config::ValidConfig;
use barque_store::listen::Listeners;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run_store(config: &ValidConfig) -> anyhow::Result<()> {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    allow_all_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be waited for")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be waited for")?;
        let shutdown = CancellationToken::new();
        let mut serving = pin!(serve(config, shutdown.clone()));
        let name = tokio::select! {
            ended = serving.as_mut() => return ended,
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!("{name}: stopping");
        shutdown.cancel();
        serving.await
    })
}

async fn serve(config: &ValidConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listeners = Listeners::bind(config)?;
    for listener in listeners.client.iter().chain(&listeners.peer).chain(&listeners.metrics) {
        tracing::info!(url = %listener.url, address = %listener.address, "listening");
    }
    shutdown.cancelled().await;
    Ok(())
}

/// Each connection is an open file, and the usual soft limit of 1024 is there for programs that use `select`.
fn allow_all_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!("the limit of open files stays at its soft value: {error}");
    }
}
