//! Runs a member of the store until a signal ends it.

use anyhow::Context as _;
use barque_store::config::ValidConfig;
use barque_store::server;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT. A second signal does not wait for the end.
pub(crate) fn run_store(config: ValidConfig) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("barque")
        .build()
        .context("the runtime's threads cannot be started")?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
        // On a worker, so that the main thread is not woken for what happens inside.
        let mut member = tokio::spawn(server::run(config, stop.clone()));
        loop {
            tokio::select! {
                ended = &mut member => return Ok(ended.context("the member panicked")??),
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if stop.is_cancelled() {
                anyhow::bail!("stopped at once by a second signal");
            }
            tracing::info!("stopping: leadership is handed over, requests are finished");
            stop.cancel();
        }
    })
}

/// An error with its causes as one sentence.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        // Some errors of libraries repeat their source.
        if text.ends_with(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}
