//! `etcd_server_*`: leadership, proposals, requests, health.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Register, doubling};
use crate::command::AlarmKind;
use crate::ids::MemberId;

/// What the server as a whole counts.
#[derive(Clone, Debug)]
pub struct ServerMetrics {
    /// 1 while a leader is known.
    pub has_leader: IntGauge,
    /// 1 while this member leads.
    pub is_leader: IntGauge,
    /// 1 while this member does not vote.
    pub is_learner: IntGauge,
    /// Leaders seen to come.
    pub leader_changes_seen: IntCounter,
    /// The last committed log index.
    pub proposals_committed: IntGauge,
    /// The last applied log index.
    pub proposals_applied: IntGauge,
    /// Commands of this member's clients that wait to be applied.
    pub proposals_pending: IntGauge,
    /// Commands of this member's clients that were given up: refused, timed out, or lost with a leader.
    pub proposals_failed: IntCounter,
    /// Heartbeats of this member as a leader that were not answered within the heartbeat interval.
    pub heartbeat_send_failures: IntCounter,
    /// Commands that took over 100 ms to execute.
    pub slow_apply: IntCounter,
    /// Read barriers for which no leader was there, or none confirmed, at once, and which were asked again.
    pub slow_read_indexes: IntCounter,
    /// Read barriers that failed.
    pub read_indexes_failed: IntCounter,
    /// 1 while a snapshot of the leader is being installed.
    pub snapshot_apply_in_progress: IntGauge,
    /// Learners made voters by this member as the leader.
    pub learner_promote_successes: IntCounter,
    /// The quota on live bytes; 0 without one.
    pub quota_backend_bytes: IntGauge,
    /// 1 while live bytes are beyond the part of the quota at which a warning is given.
    pub quota_warning: IntGauge,
    /// Health checks answered "true".
    pub health_success: IntCounter,
    /// Health checks answered "false".
    pub health_failures: IntCounter,
    /// The revision of users and roles.
    pub auth_revision: IntGauge,
    /// Leases whose time was over on this member's clock, as the leader.
    pub lease_expired: IntCounter,
    apply_duration_seconds: HistogramVec,
    range_ok_seconds: Histogram,
    range_failed_seconds: Histogram,
    learner_promote_failures: IntCounterVec,
    healthcheck: IntGaugeVec,
    healthchecks: IntCounterVec,
    version: IntGaugeVec,
    id: IntGaugeVec,
    cluster_version: IntGaugeVec,
    alarms: IntGaugeVec,
}

impl ServerMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let range = r.histograms(
            "etcd_server_range_duration_seconds",
            "The latency distributions of range, in seconds.",
            &["success"],
            doubling(0.0001, 20),
        );
        Self {
            has_leader: r.gauge("etcd_server_has_leader", "Whether a leader is known. 1 is known, 0 is not."),
            is_leader: r.gauge("etcd_server_is_leader", "Whether this member leads. 1 if it does, 0 if not."),
            is_learner: r.gauge("etcd_server_is_learner", "Whether this member is a learner."),
            leader_changes_seen: r
                .counter("etcd_server_leader_changes_seen_total", "How many leaders this member saw come."),
            proposals_committed: r
                .gauge("etcd_server_proposals_committed_total", "The last committed log index."),
            proposals_applied: r.gauge("etcd_server_proposals_applied_total", "The last applied log index."),
            proposals_pending: r.gauge("etcd_server_proposals_pending", "Proposals that wait to be applied."),
            proposals_failed: r.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            heartbeat_send_failures: r.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats of a leader that were not answered in time.",
            ),
            slow_apply: r.counter("etcd_server_slow_apply_total", "Commands that were slow to apply."),
            slow_read_indexes: r.counter(
                "etcd_server_slow_read_indexes_total",
                "Read barriers that were not confirmed at once and were asked for again.",
            ),
            read_indexes_failed: r
                .counter("etcd_server_read_indexes_failed_total", "Read barriers that failed."),
            snapshot_apply_in_progress: r.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a snapshot of the leader is installed.",
            ),
            learner_promote_successes: r.counter(
                "etcd_server_learner_promote_successes",
                "Learners that were made voters by this member.",
            ),
            quota_backend_bytes: r.gauge("etcd_server_quota_backend_bytes", "The quota in bytes."),
            quota_warning: r.gauge("barque_quota_warning", "Whether live records near the quota."),
            health_success: r.counter("etcd_server_health_success", "Health checks that succeeded."),
            health_failures: r.counter("etcd_server_health_failures", "Health checks that failed."),
            auth_revision: r
                .gauge("etcd_debugging_auth_revision", "The current revision of users and roles."),
            lease_expired: r.counter("etcd_debugging_server_lease_expired_total", "Leases that expired."),
            apply_duration_seconds: r.histograms(
                "etcd_server_apply_duration_seconds",
                "The latency distributions of apply, in seconds.",
                &["version", "op", "success"],
                doubling(0.0001, 20),
            ),
            range_ok_seconds: range.with_label_values(&["true"]),
            range_failed_seconds: range.with_label_values(&["false"]),
            learner_promote_failures: r.counters(
                "etcd_server_learner_promote_failures",
                "Learners that could not be made voters, by reason.",
                &["Reason"],
            ),
            healthcheck: r.gauges(
                "etcd_server_healthcheck",
                "The last result of each health check. 1 is good.",
                &["type", "name"],
            ),
            healthchecks: r.counters(
                "etcd_server_healthchecks_total",
                "The results of each health check.",
                &["type", "name", "status"],
            ),
            version: r.gauges("etcd_server_version", "Which version runs. 1 for it.", &["server_version"]),
            id: r.gauges("etcd_server_id", "This member's id. 1 for it.", &["server_id"]),
            cluster_version: r.gauges(
                "etcd_cluster_version",
                "Which version the cluster has. 1 for it.",
                &["cluster_version"],
            ),
            alarms: r.gauges(
                "etcd_debugging_server_alarms",
                "Alarms that are raised. 1 for each.",
                &["server_id", "alarm_type"],
            ),
        }
    }

    /// Who this is, said once at the start: etcd's versions `3.6.5` and `3.6`, and the member's id.
    pub fn identity(&self, server_version: &str, cluster_version: &str, member: MemberId) {
        self.version.with_label_values(&[server_version]).set(1);
        self.cluster_version.with_label_values(&[cluster_version]).set(1);
        self.id.with_label_values(&[member.to_string().as_str()]).set(1);
    }

    /// How long commands took to execute. `op` is etcd's name of the request, such as `Put`.
    pub(super) fn apply_seconds(&self, op: &str, success: bool) -> Histogram {
        let success = if success { "true" } else { "false" };
        self.apply_duration_seconds.with_label_values(&["v3", op, success])
    }

    /// One range of a client was read from this member's state; what it waited for before does not count.
    pub fn ranged(&self, success: bool, seconds: f64) {
        if success { &self.range_ok_seconds } else { &self.range_failed_seconds }.observe(seconds);
    }

    /// A learner could not be promoted. `reason` is one of few constants.
    pub fn learner_promote_failed(&self, reason: &'static str) {
        self.learner_promote_failures.with_label_values(&[reason]).inc();
    }

    /// A named check of `livez` or `readyz` was made.
    pub fn health_checked(&self, kind: &'static str, name: &'static str, good: bool) {
        self.healthcheck.with_label_values(&[kind, name]).set(i64::from(good));
        let status = if good { "success" } else { "error" };
        self.healthchecks.with_label_values(&[kind, name, status]).inc();
    }

    /// The alarms that are raised now, of all members.
    pub fn set_alarms(&self, raised: impl IntoIterator<Item = (MemberId, AlarmKind)>) {
        self.alarms.reset();
        for (member, kind) in raised {
            let kind = match kind {
                AlarmKind::NoSpace => "NOSPACE",
                AlarmKind::Corrupt => "CORRUPT",
            };
            self.alarms.with_label_values(&[member.to_string().as_str(), kind]).set(1);
        }
    }
}
