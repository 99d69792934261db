//! `/health`: one answer for the whole member, in JSON.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;

use super::{PLAIN, Query, Shared, json, refusal, with_type};
use crate::command::AlarmKind;

/// What health checks need of a member. The texts of errors are those that a client would get, such as
/// `etcdserver: request timed out`.
pub trait HealthSource: Send + Sync + 'static {
    /// Reads one key from this member's own state.
    fn serializable_read(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// Reads one key as it is in the whole cluster now.
    fn linearizable_read(&self) -> impl Future<Output = Result<(), String>> + Send;
    /// The alarms that are raised and concern this member; `Corrupt` only when it is about its own data.
    fn alarms(&self) -> Vec<AlarmKind>;
    /// Whether a leader is known.
    fn has_leader(&self) -> bool;
    /// Whether this member does not vote.
    fn is_learner(&self) -> bool;
}

/// The answer; `health` is a text, as in etcd.
#[derive(Serialize)]
struct Health {
    health: &'static str,
    reason: String,
}

pub(super) fn alarm_name(kind: AlarmKind) -> &'static str {
    match kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    }
}

pub(super) async fn answer<H: HealthSource>(shared: &Shared<H>, query: &Query) -> Response<Full<Bytes>> {
    match reason(shared, query).await {
        None => {
            shared.metrics.server.health_success.inc();
            with_type(json(&Health { health: "true", reason: String::new() }), PLAIN)
        }
        Some(reason) => {
            shared.metrics.server.health_failures.inc();
            tracing::warn!("/health is false: {reason}");
            let body = json(&Health { health: "false", reason });
            refusal(StatusCode::SERVICE_UNAVAILABLE, &String::from_utf8_lossy(&body))
        }
    }
}

/// Why the member is not healthy, if it is not: alarms, then the leader, then a read.
async fn reason<H: HealthSource>(shared: &Shared<H>, query: &Query) -> Option<String> {
    let source = &shared.source;
    let excluded = |name: &str| query.all("exclude").any(|excluded| excluded == name);
    if let Some(alarm) = source.alarms().into_iter().map(alarm_name).find(|name| !excluded(name)) {
        return Some(format!("ALARM {alarm}"));
    }
    let serializable = query.first("serializable") == "true";
    if !serializable && !source.has_leader() {
        return Some("RAFT NO LEADER".into());
    }
    let read = read(source, serializable, shared.request_timeout).await;
    read.err().map(|error| format!("RANGE ERROR:{error}"))
}

/// One read, within a deadline.
pub(super) async fn read<H: HealthSource>(
    source: &H,
    serializable: bool,
    within: Duration,
) -> Result<(), String> {
    let read = async {
        if serializable { source.serializable_read().await } else { source.linearizable_read().await }
    };
    match tokio::time::timeout(within, read).await {
        Ok(result) => result,
        Err(_) => Err("context deadline exceeded".into()),
    }
}
