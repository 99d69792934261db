//! What is counted, under CoreDNS's names, so that dashboards for it work. Must never decide anything.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};

const WELL_FORMED: &str = "names and labels are well formed";
const ONCE: &str = "names are registered once";

/// The metrics of one DNS server.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) durations: HistogramVec,
    pub(crate) responses: IntCounterVec,
    pub(crate) forwarded: IntCounterVec,
    pub(crate) forward_responses: IntCounterVec,
    pub(crate) forward_durations: HistogramVec,
    pub(crate) rejected: IntCounterVec,
    pub(crate) hits: IntCounterVec,
    pub(crate) misses: IntCounterVec,
    pub(crate) entries: IntGaugeVec,
}

/// The address of the listener that CoreDNS would name; all listeners count as one here.
pub(crate) const SERVER: &str = "dns://:53";

/// The zone of everything that is not the cluster's.
pub(crate) const ELSEWHERE: &str = ".";

impl Metrics {
    /// A fresh set, told by the registry.
    ///
    /// # Panics
    ///
    /// The registry has a set already.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let counters = |name: &str, help: &str, labels: &[&str]| {
            let counters = IntCounterVec::new(Opts::new(name, help), labels).expect(WELL_FORMED);
            registry.register(Box::new(counters.clone())).expect(ONCE);
            counters
        };
        let histograms = |name: &str, help: &str, labels: &[&str]| {
            // From a quarter of a millisecond to eight seconds, as CoreDNS.
            let buckets = prometheus::exponential_buckets(0.000_25, 2.0, 16).expect(WELL_FORMED);
            let opts = HistogramOpts::new(name, help).buckets(buckets);
            let histograms = HistogramVec::new(opts, labels).expect(WELL_FORMED);
            registry.register(Box::new(histograms.clone())).expect(ONCE);
            histograms
        };
        let entries =
            Opts::new("coredns_cache_entries", "Answers of other name servers that are remembered.");
        let entries = IntGaugeVec::new(entries, &["server", "type", "zones", "view"]).expect(WELL_FORMED);
        registry.register(Box::new(entries.clone())).expect(ONCE);
        Self {
            requests: counters(
                "coredns_dns_requests_total",
                "Requests by zone, protocol, family and type.",
                &["server", "zone", "view", "proto", "family", "type"],
            ),
            durations: histograms(
                "coredns_dns_request_duration_seconds",
                "How long replies took, by zone.",
                &["server", "zone", "view"],
            ),
            responses: counters(
                "coredns_dns_responses_total",
                "Replies by zone and code.",
                &["server", "zone", "view", "rcode", "plugin"],
            ),
            forwarded: counters(
                "coredns_forward_requests_total",
                "Questions to other name servers.",
                &["to"],
            ),
            forward_responses: counters(
                "coredns_forward_responses_total",
                "Answers of other name servers by code.",
                &["to", "rcode"],
            ),
            forward_durations: histograms(
                "coredns_forward_request_duration_seconds",
                "How long other name servers took.",
                &["to", "rcode"],
            ),
            rejected: counters(
                "coredns_forward_max_concurrent_rejects_total",
                "Questions refused because too many wait for other name servers.",
                &[],
            ),
            hits: counters(
                "coredns_cache_hits_total",
                "Questions whose answer was remembered.",
                &["server", "type", "zones", "view"],
            ),
            misses: counters(
                "coredns_cache_misses_total",
                "Questions whose answer was not remembered.",
                &["server", "zones", "view"],
            ),
            entries,
        }
    }

    /// A request came.
    pub(crate) fn request(&self, zone: &str, tcp: bool, v4: bool, kind: &str) {
        let (proto, family) = (if tcp { "tcp" } else { "udp" }, if v4 { "1" } else { "2" });
        self.requests.with_label_values(&[SERVER, zone, "", proto, family, kind]).inc();
    }

    /// A reply went.
    pub(crate) fn response(&self, zone: &str, code: &str, took: Duration) {
        let plugin = if zone == ELSEWHERE { "forward" } else { "kubernetes" };
        self.responses.with_label_values(&[SERVER, zone, "", code, plugin]).inc();
        self.durations.with_label_values(&[SERVER, zone, ""]).observe(took.as_secs_f64());
    }
}

/// A response code as CoreDNS writes it.
pub(crate) fn code(code: hickory_proto::op::ResponseCode) -> String {
    use hickory_proto::op::ResponseCode;
    match code {
        ResponseCode::NoError => "NOERROR".to_owned(),
        ResponseCode::FormErr => "FORMERR".to_owned(),
        ResponseCode::ServFail => "SERVFAIL".to_owned(),
        ResponseCode::NXDomain => "NXDOMAIN".to_owned(),
        ResponseCode::NotImp => "NOTIMP".to_owned(),
        ResponseCode::Refused => "REFUSED".to_owned(),
        other => u16::from(other).to_string(),
    }
}
