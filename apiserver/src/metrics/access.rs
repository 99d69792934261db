//! `apiserver_audit_*`, `authentication_*`, `authorization_*`: who was let in, and what was written down of it. Must never
//! tell who it was.

use std::time::Duration;

use prometheus::{HistogramVec, IntCounter, IntCounterVec};

use super::register::{Register, growing};
use crate::authorization::Decision;

/// Names that are told as they are; all others only by what they look like.
const NAMES: [&str; 5] =
    ["admin", "client", "kube_proxy", "kubelet", "system:serviceaccount:kube-system:default"];

fn kind_of_name(name: &str) -> &'static str {
    let known = NAMES.into_iter().find(|one| *one == name);
    known.unwrap_or(if name.contains('@') { "email_id" } else { "other" })
}

/// See the module's description.
#[derive(Debug)]
pub struct AccessMetrics {
    audit_events: IntCounter,
    /// Requests by the level at which the audit policy wants them: `None`, `Metadata`, `Request`, `RequestResponse`.
    audit_levels: IntCounterVec,
    /// Events that could not be written, by backend: `log`, `webhook`.
    audit_errors: IntCounterVec,
    users: IntCounterVec,
    authentications: IntCounterVec,
    authentication_seconds: HistogramVec,
    authorizations: IntCounterVec,
    authorization_seconds: HistogramVec,
}

impl AccessMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let seconds = growing(0.001, 2.0, 15);
        Self {
            audit_events: r.counter("apiserver_audit_event_total", "Audit events that were written."),
            audit_levels: r.counters(
                "apiserver_audit_level_total",
                "Requests by the level of their audit events.",
                &["level"],
            ),
            audit_errors: r.counters(
                "apiserver_audit_error_total",
                "Audit events that could not be written.",
                &["plugin"],
            ),
            users: r.counters(
                "authenticated_user_requests",
                "Requests of users that are known, by what kind of name they have.",
                &["username"],
            ),
            authentications: r.counters(
                "authentication_attempts",
                "Requests by what became of their authentication.",
                &["result"],
            ),
            authentication_seconds: r.histograms(
                "authentication_duration_seconds",
                "How long authentication took.",
                &["result"],
                &seconds,
            ),
            authorizations: r.counters(
                "authorization_attempts_total",
                "Requests by what became of their authorization.",
                &["result"],
            ),
            authorization_seconds: r.histograms(
                "authorization_duration_seconds",
                "How long authorization took.",
                &["result"],
                &seconds,
            ),
        }
    }

    /// The audit policy wants a request at this level.
    pub fn audited(&self, level: &'static str) {
        self.audit_levels.with_label_values(&[level]).inc();
    }

    /// An event was handed to the audit log.
    pub fn audit_event(&self) {
        self.audit_events.inc();
    }

    /// An event could not be written by `log` or `webhook`.
    pub fn audit_failed(&self, plugin: &'static str) {
        self.audit_errors.with_label_values(&[plugin]).inc();
    }

    /// Somebody was known by this name (`Ok(Some)`), showed nothing (`Ok(None)`), or something wrong.
    pub fn authenticated<E>(&self, result: &Result<Option<&str>, E>, taken: Duration) {
        let result = match result {
            Ok(Some(name)) => {
                self.users.with_label_values(&[kind_of_name(name)]).inc();
                "success"
            }
            Ok(None) => "failure",
            Err(_) => "error",
        };
        self.authentications.with_label_values(&[result]).inc();
        self.authentication_seconds.with_label_values(&[result]).observe(taken.as_secs_f64());
    }

    /// Somebody may, or may not.
    pub fn authorized(&self, decision: &Decision, taken: Duration) {
        let result = match decision {
            Decision::Allow(_) => "allowed",
            Decision::Deny(_) => "denied",
            Decision::NoOpinion(_) => "no-opinion",
        };
        self.authorizations.with_label_values(&[result]).inc();
        self.authorization_seconds.with_label_values(&[result]).observe(taken.as_secs_f64());
    }
}
