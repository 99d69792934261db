//! `etcd_network_*`: what goes between members.

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Register, doubling};
use crate::ids::MemberId;

/// What is counted for each other member; ask [`NetworkMetrics::peer`] once for each and keep the answer.
#[derive(Clone, Debug)]
pub struct NetworkMetrics {
    round_trip_time_seconds: HistogramVec,
    sent_bytes: IntCounterVec,
    received_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_failures: IntCounterVec,
    active: IntGaugeVec,
    disconnected: IntCounterVec,
    known: IntGaugeVec,
    snapshot_send_success: IntCounterVec,
    snapshot_send_failures: IntCounterVec,
    snapshot_send_inflights: IntGaugeVec,
    snapshot_send_seconds: HistogramVec,
    snapshot_receive_success: IntCounterVec,
    snapshot_receive_failures: IntCounterVec,
    snapshot_receive_inflights: IntGaugeVec,
    snapshot_receive_seconds: HistogramVec,
}

/// The handles for one other member.
#[derive(Clone, Debug)]
pub struct PeerMetrics {
    /// A heartbeat of this member as the leader until its answer, in seconds.
    pub round_trip_time_seconds: Histogram,
    /// Bytes sent: on connections that this member made, and in answers on those that the other made.
    pub sent_bytes: IntCounter,
    /// Bytes received: on connections that this member made, and in requests on those that the other made.
    pub received_bytes: IntCounter,
    /// Attempts to connect to it that failed, so that what was to be sent was not.
    pub sent_failures: IntCounter,
    /// Messages from it that could not be read, because their stream broke or they make no sense.
    pub received_failures: IntCounter,
    /// 1 while this member has a connection to it.
    pub active: IntGauge,
    /// How often the last connection to it ended.
    pub disconnected: IntCounter,
    /// 1 while it is a member.
    pub known: IntGauge,
    /// Snapshots sent.
    pub snapshot_send_success: IntCounter,
    /// Snapshots that could not be sent.
    pub snapshot_send_failures: IntCounter,
    /// Snapshots being sent.
    pub snapshot_send_inflights: IntGauge,
    /// One snapshot sent, in seconds.
    pub snapshot_send_seconds: Histogram,
    /// Snapshots received and installed.
    pub snapshot_receive_success: IntCounter,
    /// Snapshots that could not be received.
    pub snapshot_receive_failures: IntCounter,
    /// Snapshots being received.
    pub snapshot_receive_inflights: IntGauge,
    /// One snapshot received, in seconds.
    pub snapshot_receive_seconds: Histogram,
}

impl NetworkMetrics {
    pub(super) fn new(r: &Register<'_>) -> Self {
        let (to, from, both) = (["To"], ["From"], ["Local", "Remote"]);
        Self {
            round_trip_time_seconds: r.histograms(
                "etcd_network_peer_round_trip_time_seconds",
                "Round-trip times between members.",
                &to,
                doubling(0.0001, 16),
            ),
            sent_bytes: r.counters("etcd_network_peer_sent_bytes_total", "Bytes sent to members.", &to),
            received_bytes: r.counters(
                "etcd_network_peer_received_bytes_total",
                "Bytes received from members.",
                &from,
            ),
            sent_failures: r.counters("etcd_network_peer_sent_failures_total", "Sends that failed.", &to),
            received_failures: r.counters(
                "etcd_network_peer_received_failures_total",
                "Receives that failed.",
                &from,
            ),
            active: r.gauges("etcd_network_active_peers", "Members that are connected.", &both),
            disconnected: r.counters(
                "etcd_network_disconnected_peers_total",
                "Connections that broke.",
                &both,
            ),
            known: r.gauges("etcd_network_known_peers", "Members that are known.", &both),
            snapshot_send_success: r.counters("etcd_network_snapshot_send_success", "Snapshots sent.", &to),
            snapshot_send_failures: r.counters(
                "etcd_network_snapshot_send_failures",
                "Snapshots that could not be sent.",
                &to,
            ),
            snapshot_send_inflights: r.gauges(
                "etcd_network_snapshot_send_inflights_total",
                "Snapshots being sent.",
                &to,
            ),
            snapshot_send_seconds: r.histograms(
                "etcd_network_snapshot_send_total_duration_seconds",
                "The latency distributions of sending snapshots.",
                &to,
                doubling(0.1, 10),
            ),
            snapshot_receive_success: r.counters(
                "etcd_network_snapshot_receive_success",
                "Snapshots received.",
                &from,
            ),
            snapshot_receive_failures: r.counters(
                "etcd_network_snapshot_receive_failures",
                "Snapshots that could not be received.",
                &from,
            ),
            snapshot_receive_inflights: r.gauges(
                "etcd_network_snapshot_receive_inflights_total",
                "Snapshots being received.",
                &from,
            ),
            snapshot_receive_seconds: r.histograms(
                "etcd_network_snapshot_receive_total_duration_seconds",
                "The latency distributions of receiving snapshots.",
                &from,
                doubling(0.1, 10),
            ),
        }
    }

    /// The handles for what goes between `local` and `remote`.
    #[must_use]
    pub fn peer(&self, local: MemberId, remote: MemberId) -> PeerMetrics {
        let (local, remote) = (local.to_string(), remote.to_string());
        let one: [&str; 1] = [&remote];
        let both: [&str; 2] = [&local, &remote];
        PeerMetrics {
            round_trip_time_seconds: self.round_trip_time_seconds.with_label_values(&one),
            sent_bytes: self.sent_bytes.with_label_values(&one),
            received_bytes: self.received_bytes.with_label_values(&one),
            sent_failures: self.sent_failures.with_label_values(&one),
            received_failures: self.received_failures.with_label_values(&one),
            active: self.active.with_label_values(&both),
            disconnected: self.disconnected.with_label_values(&both),
            known: self.known.with_label_values(&both),
            snapshot_send_success: self.snapshot_send_success.with_label_values(&one),
            snapshot_send_failures: self.snapshot_send_failures.with_label_values(&one),
            snapshot_send_inflights: self.snapshot_send_inflights.with_label_values(&one),
            snapshot_send_seconds: self.snapshot_send_seconds.with_label_values(&one),
            snapshot_receive_success: self.snapshot_receive_success.with_label_values(&one),
            snapshot_receive_failures: self.snapshot_receive_failures.with_label_values(&one),
            snapshot_receive_inflights: self.snapshot_receive_inflights.with_label_values(&one),
            snapshot_receive_seconds: self.snapshot_receive_seconds.with_label_values(&one),
        }
    }
}
