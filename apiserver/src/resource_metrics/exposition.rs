//! Reads what an agent tells at `/metrics/resource`: the totals of a node and of its pods' containers, in the text form of
//! Prometheus with the kubelet's names. Pure; what it does not know it passes over.

use std::collections::BTreeMap;

/// What something has used since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Total {
    /// CPU time in seconds, and when that was so in milliseconds since 1970.
    pub(super) cpu: Option<(f64, i64)>,
    /// Memory in bytes that cannot be taken back.
    pub(super) memory_bytes: Option<u64>,
    /// When it began, in milliseconds since 1970.
    pub(super) started_ms: Option<i64>,
}

/// A container by namespace, pod and name.
pub(super) type ContainerKey = (String, String, String);

/// Everything an agent told at once.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Totals {
    /// The machine.
    pub(super) node: Total,
    /// Containers that run.
    pub(super) containers: BTreeMap<ContainerKey, Total>,
}

/// Reads the text of an agent.
#[must_use]
pub(super) fn read(text: &str) -> Totals {
    let mut totals = Totals::default();
    for sample in text.lines().filter_map(sample) {
        let label = |name: &str| {
            let found = sample.labels.iter().find(|(label, _)| label == name);
            found.map(|(_, value)| value.clone())
        };
        let total = match sample.name.strip_prefix("container_") {
            None => &mut totals.node,
            Some(_) => {
                let key = (label("namespace"), label("pod"), label("container"));
                let (Some(namespace), Some(pod), Some(container)) = key else { continue };
                totals.containers.entry((namespace, pod, container)).or_default()
            }
        };
        match sample.name {
            "node_cpu_usage_seconds_total" | "container_cpu_usage_seconds_total" => {
                total.cpu = sample.at_ms.map(|at| (sample.value, at));
            }
            "node_memory_working_set_bytes" | "container_memory_working_set_bytes" => {
                // Never negative; a fraction of a byte is none.
                total.memory_bytes = Some(sample.value as u64);
            }
            "container_start_time_seconds" => total.started_ms = Some((sample.value * 1000.0) as i64),
            _ => {}
        }
    }
    totals.containers.retain(|_, total| total.cpu.is_some() || total.memory_bytes.is_some());
    totals
}

struct Sample<'a> {
    name: &'a str,
    labels: Vec<(String, String)>,
    value: f64,
    at_ms: Option<i64>,
}

/// `name{label="value",...} value timestamp`; nothing for comments and for what is none.
fn sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Vec::new(), rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value: f64 = words.next()?.parse().ok()?;
    let at_ms = words.next().and_then(|at| at.parse().ok());
    (value.is_finite() && value >= 0.0).then_some(Sample { name, labels, value, at_ms })
}

/// What stands between braces, and what follows.
fn labels(mut rest: &str) -> Option<(Vec<(String, String)>, &str)> {
    let mut labels = Vec::new();
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((labels, after));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = quoted.char_indices();
        let end = loop {
            match characters.next()? {
                (at, '"') => break at + 1,
                (_, '\\') => value.push(match characters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &quoted[end..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"# HELP container_cpu_usage_seconds_total [STABLE] ...
# TYPE container_cpu_usage_seconds_total counter
container_cpu_usage_seconds_total{container="c",namespace="a",pod="p"} 1.5 1700000000250
container_memory_working_set_bytes{container="c",namespace="a",pod="p"} 1.048576e+06 1700000000250
container_start_time_seconds{container="c",namespace="a",pod="p"} 1.69999999e+09
container_start_time_seconds{container="gone",namespace="a",pod="p"} 1.69999999e+09
node_cpu_usage_seconds_total 20 1700000000000
node_memory_working_set_bytes 4096 1700000000000
pod_cpu_usage_seconds_total{namespace="a",pod="p"} 1.5 1700000000250
resource_scrape_error 0
"#;

    #[test]
    fn node_and_containers_are_read() {
        let totals = read(TEXT);
        let node = Total { cpu: Some((20.0, 1_700_000_000_000)), memory_bytes: Some(4096), started_ms: None };
        assert_eq!(totals.node, node);
        let key = ("a".to_owned(), "p".to_owned(), "c".to_owned());
        let container = Total {
            cpu: Some((1.5, 1_700_000_000_250)),
            memory_bytes: Some(1 << 20),
            started_ms: Some(1_699_999_990_000),
        };
        assert_eq!(totals.containers, BTreeMap::from([(key, container)]));
    }

    #[test]
    fn what_is_no_sample_is_passed_over() {
        for text in ["", "node_cpu_usage_seconds_total", "node_cpu_usage_seconds_total NaN 1", "a{b=\"c 1 2"]
        {
            assert_eq!(read(text), Totals::default(), "{text}");
        }
        let odd =
            read("container_memory_working_set_bytes{container=\"a\\\"}b\",namespace=\"n\",pod=\"p\",} 1 2");
        assert_eq!(odd.containers.keys().next().unwrap().2, "a\"}b");
        assert_eq!(
            read("node_cpu_usage_seconds_total 1").node.cpu,
            None,
            "without its time it tells no rate"
        );
    }
}
