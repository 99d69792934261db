//! What the examples for Prometheus ask for is what programs tell. Must never hold a list of metrics of its own.

use std::collections::BTreeSet;

use super::{read, sources};

/// What names of our metrics begin with.
const BEGINNINGS: [&str; 9] = [
    "apiserver_",
    "barque_",
    "etcd_",
    "kubelet_",
    "kubeproxy_",
    "leader_election_",
    "process_",
    "scheduler_",
    "workqueue_",
];

/// The names of metrics in a text, without what Prometheus adds to those of histograms.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let ours = words.filter(|word| BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)));
    ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word)).collect()
}

#[test]
fn rules_and_panels_ask_for_metrics_that_there_are() {
    let sources: Vec<String> = sources().iter().map(|file| read(file)).collect();
    for example in ["examples/prometheus/alerts.yml", "examples/prometheus/dashboard.json"] {
        let text = read(example);
        let asked = metrics(&text);
        assert!(asked.len() > 8, "{example}: {asked:?}");
        for name in asked {
            let told = format!("\"{name}\"");
            assert!(sources.iter().any(|source| source.contains(&told)), "{example}: nothing tells {name}");
        }
    }
}

#[test]
fn names_are_found_in_expressions() {
    let found = metrics("rate(etcd_a_seconds_bucket{job=\"store\"}[5m]) / up + barque_b");
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["barque_b", "etcd_a_seconds"]);
}
