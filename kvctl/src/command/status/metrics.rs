//! Numbers out of a member's `/metrics` page (the Prometheus text format). Pure.

/// The sum of a metric over all its labels; `None` if it is not on the page.
pub(crate) fn sum(page: &str, name: &str) -> Option<f64> {
    let values: Vec<f64> = samples(page, name).map(|(_, value)| value).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// An upper bound of the given quantile (0 to 1) of a histogram: the first bucket that holds it. `None` if there is
/// no such histogram or nothing in it.
pub(crate) fn quantile(page: &str, name: &str, quantile: f64) -> Option<f64> {
    let bucket = format!("{name}_bucket");
    let mut buckets: Vec<(f64, f64)> = samples(page, &bucket)
        .filter_map(|(labels, count)| {
            let bound = labels.split(',').find_map(|label| label.trim().strip_prefix("le="))?;
            Some((bound.trim_matches('"').replace("+Inf", "inf").parse().ok()?, count))
        })
        .collect();
    buckets.sort_by(|left, right| left.0.total_cmp(&right.0));
    let total = buckets.last()?.1;
    if total == 0.0 {
        return None;
    }
    buckets.into_iter().find(|(_, count)| *count >= total * quantile).map(|(bound, _)| bound)
}

/// The samples of one metric: labels and value.
fn samples<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    page.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}')?,
            None if rest.starts_with(' ') => ("", rest),
            None => return None,
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# HELP x y
# TYPE fsync histogram
fsync_bucket{le=\"0.001\"} 90
fsync_bucket{le=\"0.002\"} 98
fsync_bucket{le=\"0.004\"} 99
fsync_bucket{le=\"+Inf\"} 100
fsync_sum 0.1
fsync_count 100
watchers 7
watchers_slow 2
by_label{a=\"x}\"} 1
by_label{a=\"y\"} 2.5
empty_bucket{le=\"+Inf\"} 0
";

    #[test]
    fn metrics_are_found_by_their_whole_name() {
        assert_eq!(sum(PAGE, "watchers"), Some(7.0));
        assert_eq!(sum(PAGE, "by_label"), Some(3.5));
        assert_eq!(sum(PAGE, "watch"), None);
    }

    #[test]
    fn a_quantile_is_the_bound_of_its_bucket() {
        assert_eq!(quantile(PAGE, "fsync", 0.99), Some(0.004));
        assert_eq!(quantile(PAGE, "fsync", 0.5), Some(0.001));
        assert_eq!(quantile(PAGE, "fsync", 1.0), Some(f64::INFINITY));
        assert_eq!(quantile(PAGE, "empty", 0.99), None);
        assert_eq!(quantile(PAGE, "absent", 0.99), None);
    }
}
