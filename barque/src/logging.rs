//! The log: lines on standard error, as text or JSON.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For programs: one JSON object a line.
    Json,
}

/// Starts writing the log. `level` is a word of etcd's (debug, info, warn, error, panic, fatal), or
/// directives such as `info,barque_store::raft=debug`.
pub(crate) fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let directives = match level {
        "panic" | "fatal" => "error".to_owned(),
        // What Raft says about each of its steps helps only when Raft itself is looked for.
        "info" => "info,openraft=warn".to_owned(),
        "warn" => "warn,openraft=error".to_owned(),
        other => other.to_owned(),
    };
    let filter = EnvFilter::try_new(&directives).with_context(|| {
        format!("--log-level={level:?} is not understood: use debug, info, warn or error, or directives such as info,barque_store=debug")
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
