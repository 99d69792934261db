//! What is used now, out of what was used in all at two moments. Pure.

use super::exposition::{Total, Totals};

/// What something uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Billionths of a core, over the window.
    pub(super) cpu_nano: u64,
    /// Bytes, at its end.
    pub(super) memory_bytes: u64,
    /// The end of the window, in milliseconds since 1970.
    pub(super) at_ms: i64,
    /// How long it is.
    pub(super) window_ms: i64,
}

/// What the node used between two moments; nothing when that cannot be told.
#[must_use]
pub(super) fn of_node(before: &Totals, after: &Totals) -> Option<Usage> {
    between(Some(&before.node), &after.node)
}

/// What the containers of a pod used between two moments, by name. One of which this cannot be told is left out.
#[must_use]
pub(super) fn of_pod<'a>(
    before: &Totals,
    after: &'a Totals,
    namespace: &str,
    pod: &str,
) -> Vec<(&'a str, Usage)> {
    let first = (namespace.to_owned(), pod.to_owned(), String::new());
    let all = after.containers.range(first..);
    all.take_while(|((of, name, _), _)| of == namespace && name == pod)
        .filter_map(|(key, total)| Some((key.2.as_str(), between(before.containers.get(key), total)?)))
        .collect()
}

fn between(before: Option<&Total>, after: &Total) -> Option<Usage> {
    let ((used, at_ms), memory_bytes) = (after.cpu?, after.memory_bytes?);
    let earlier = before.and_then(|before| before.cpu);
    // One that began in between, again perhaps, used everything since then.
    let since = earlier.filter(|(earlier, at)| *at < at_ms && *earlier <= used);
    let began = || {
        after.started_ms.filter(|started| *started < at_ms && earlier.is_none_or(|(_, at)| at <= *started))
    };
    let (used_before, since_ms) = since.or_else(|| Some((0.0, began()?)))?;
    let window_ms = at_ms - since_ms;
    let cpu_nano = (used - used_before) * 1e9 / (window_ms as f64 / 1000.0);
    Some(Usage { cpu_nano: cpu_nano.round() as u64, memory_bytes, at_ms, window_ms })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn total(used: f64, at_ms: i64, started_ms: Option<i64>) -> Total {
        Total { cpu: Some((used, at_ms)), memory_bytes: Some(7), started_ms }
    }

    #[test]
    fn a_rate_is_what_was_used_in_between() {
        let table = [
            (
                "a quarter of a core",
                Some(total(1.0, 1_000, None)),
                total(1.5, 3_000, None),
                Some((250_000_000, 2_000)),
            ),
            ("nothing", Some(total(1.0, 1_000, None)), total(1.0, 2_000, None), Some((0, 1_000))),
            ("the same moment", Some(total(1.0, 1_000, None)), total(1.0, 1_000, None), None),
            ("new", None, total(1.0, 3_000, Some(1_000)), Some((500_000_000, 2_000))),
            ("new, of unknown age", None, total(1.0, 3_000, None), None),
            (
                "again",
                Some(total(9.0, 1_000, Some(1))),
                total(1.0, 4_000, Some(2_000)),
                Some((500_000_000, 2_000)),
            ),
            (
                "less than before, and no newer",
                Some(total(9.0, 3_000, None)),
                total(1.0, 4_000, Some(2_000)),
                None,
            ),
        ];
        for (name, before, after, wanted) in table {
            let usage = between(before.as_ref(), &after);
            assert_eq!(usage.map(|usage| (usage.cpu_nano, usage.window_ms)), wanted, "{name}");
        }
    }

    #[test]
    fn a_pod_has_its_own_containers_only() {
        let key = |pod: &str, name: &str| ("a".to_owned(), pod.to_owned(), name.to_owned());
        let all = |at| {
            let keys = [key("p", "x"), key("p", "y"), key("p-1", "x"), key("o", "x")];
            let containers = keys.map(|key| (key, total(1.0, at, None)));
            Totals { node: total(2.0, at, None), containers: BTreeMap::from(containers) }
        };
        let (before, after) = (all(1_000), all(2_000));
        let names: Vec<&str> = of_pod(&before, &after, "a", "p").iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["x", "y"]);
        assert_eq!(of_node(&before, &after).unwrap().at_ms, 2_000);
        assert!(of_pod(&before, &after, "b", "p").is_empty());
    }
}
