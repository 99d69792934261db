//! What the requests of a process to its API servers are counted by, under client-go's names. Must never decide anything.

use std::time::Duration;

use http::{Method, StatusCode};
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};

/// Seconds; client-go's.
const BOUNDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

/// Requests to API servers. Cloning copies pointers.
#[derive(Clone, Debug)]
pub struct Requests {
    total: IntCounterVec,
    seconds: HistogramVec,
}

impl Requests {
    /// Counts in this registry, once for each.
    ///
    /// # Panics
    /// When the registry has metrics of these names.
    #[must_use]
    pub fn register(registry: &Registry) -> Self {
        let opts = Opts::new(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
        );
        let total = IntCounterVec::new(opts, &["code", "host", "method"]).expect("names are well formed");
        let opts = HistogramOpts::new(
            "rest_client_request_duration_seconds",
            "Request latency in seconds, until an answer began. Broken down by verb and host.",
        );
        let seconds = HistogramVec::new(opts.buckets(BOUNDS.into()), &["host", "verb"])
            .expect("names are well formed, and bounds grow");
        registry.register(Box::new(total.clone())).expect("it is registered once");
        registry.register(Box::new(seconds.clone())).expect("it is registered once");
        Self { total, seconds }
    }

    /// A server answered, or could not be asked.
    pub(super) fn ended(&self, host: &str, method: &Method, code: Option<StatusCode>, took: Duration) {
        let code = code.as_ref().map_or("<error>", StatusCode::as_str);
        self.total.with_label_values(&[code, host, method.as_str()]).inc();
        self.seconds.with_label_values(&[host, method.as_str()]).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_became_of_them() {
        let registry = Registry::new();
        let requests = Requests::register(&registry);
        let took = Duration::from_millis(20);
        requests.ended("a:6443", &Method::GET, Some(StatusCode::OK), took);
        requests.ended("a:6443", &Method::GET, Some(StatusCode::OK), took);
        requests.ended("b:6443", &Method::PATCH, None, took);
        let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        for line in [
            r#"rest_client_requests_total{code="200",host="a:6443",method="GET"} 2"#,
            r#"rest_client_requests_total{code="<error>",host="b:6443",method="PATCH"} 1"#,
            r#"rest_client_request_duration_seconds_bucket{host="a:6443",verb="GET",le="0.005"} 0"#,
            r#"rest_client_request_duration_seconds_bucket{host="a:6443",verb="GET",le="0.025"} 2"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
