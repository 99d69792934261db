//! The text that Prometheus reads. Pure.

use std::fmt::Write as _;

/// Metrics, one family after the other.
#[derive(Debug, Default)]
pub(crate) struct Text(String);

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Counter,
    Gauge,
}

impl Text {
    /// Begins a family.
    pub(crate) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.0.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    /// Adds a sample, with the moment that it was taken at in milliseconds since 1970.
    pub(crate) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64, at_ms: Option<i64>) {
        self.0.push_str(name);
        for (at, (label, value)) in labels.iter().enumerate() {
            let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let before = if at == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{before}{label}=\"{value}\"");
        }
        if !labels.is_empty() {
            self.0.push('}');
        }
        let _ = write!(self.0, " {value}");
        if let Some(at) = at_ms {
            let _ = write!(self.0, " {at}");
        }
        self.0.push('\n');
    }

    pub(crate) fn finish(self) -> String {
        self.0
    }
}

/// Nanoseconds in seconds.
#[allow(clippy::cast_precision_loss, reason = "metrics are floats, and good to some nanoseconds in years")]
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A whole number.
#[allow(clippy::cast_precision_loss, reason = "metrics are floats, and exact up to petabytes")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_quoted_and_moments_follow() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "As.");
        text.sample("a_total", &[("x", "1\"\\\n"), ("y", "")], 1.5, Some(7));
        text.sample("a_total", &[], 2.0, None);
        assert_eq!(
            text.finish(),
            "# HELP a_total As.\n# TYPE a_total counter\na_total{x=\"1\\\"\\\\\\n\",y=\"\"} 1.5 7\na_total 2\n"
        );
    }
}
