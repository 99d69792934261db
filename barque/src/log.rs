//! What is logged, and how: lines on standard error. Must never be started twice.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::prelude::*;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    /// etcd's levels above it mean the same here.
    #[value(aliases = ["dpanic", "panic", "fatal"])]
    Error,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// From here on, messages are written.
pub(crate) fn start(level: LogLevel, format: LogFormat) {
    let level = match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // The consensus library tells its every step at "info"; that is for those who look for it.
    let raft = if level == LevelFilter::INFO { LevelFilter::WARN } else { level };
    let wanted = Targets::new().with_default(level).with_target("openraft", raft);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let log = tracing_subscriber::registry();
    match format {
        LogFormat::Text => log.with(lines.with_filter(wanted)).init(),
        LogFormat::Json => log.with(lines.json().flatten_event(true).with_filter(wanted)).init(),
    }
}
