//! What a request costs, in seats: lists by the bytes of what they go through, watches by what they tell at first, writes
//! by how many watch. The numbers are those of Kubernetes' estimators. Pure; must never know how many seats there are.

use crate::http::parameters::Parameters;
use crate::http::request_info::{RequestInfo, ResourceRequest};
use crate::watch_cache::counts::Counts;

/// So many bytes are one seat.
const BYTES_PER_SEAT: u64 = 100_000;
/// A list never has more in hand at once than this: it is sent while it is made.
const MOST_BYTES_AT_ONCE: u64 = 1_000_000;
/// So many watchers of a write are one seat more. Kubernetes takes one for ten, but only for 5 ms after the write.
const WATCHERS_PER_SEAT: u64 = 100;
/// No request has more seats.
const MOST_SEATS: u64 = 10;

/// How large a collection is, as its cache knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// How many objects.
    pub objects: u64,
    /// Their bytes as they are stored.
    pub bytes: u64,
    /// How many watch.
    pub watchers: u64,
}

/// As a collection's cache tells it.
impl From<Counts> for Extent {
    fn from(counts: Counts) -> Self {
        Self { objects: counts.objects, bytes: counts.bytes, watchers: counts.watchers }
    }
}

/// The seats of a request. `extent` is asked only where it matters; nothing for what has no objects here. No request gets
/// more than `widest`.
#[must_use]
pub fn seats(
    info: &RequestInfo,
    parameters: &Parameters,
    extent: impl FnOnce() -> Option<Extent>,
    widest: u32,
) -> u32 {
    let RequestInfo::Resource(resource) = info else { return 1 };
    let seats = match resource.verb {
        "list" => extent().map_or(1, |extent| list(resource, parameters, extent)),
        "watch" if parameters.flag("sendInitialEvents") || begins_with_objects(parameters) => {
            extent().map_or(1, |extent| list(resource, parameters, extent))
        }
        "create" | "update" | "patch" | "delete" | "deletecollection"
            if resource.subresource != "eviction" =>
        {
            extent().map_or(1, |extent| 1 + extent.watchers / WATCHERS_PER_SEAT)
        }
        _ => 1,
    };
    u32::try_from(seats.min(MOST_SEATS)).unwrap_or(1).clamp(1, widest.max(1))
}

/// The old way to be told of all objects at first.
fn begins_with_objects(parameters: &Parameters) -> bool {
    !parameters.has("sendInitialEvents") && ["", "0"].contains(&parameters.text("resourceVersion"))
}

fn list(resource: &ResourceRequest, parameters: &Parameters, extent: Extent) -> u64 {
    let limit = parameters.number("limit").ok().flatten();
    let limit = limit.and_then(|limit| u64::try_from(limit).ok()).filter(|limit| *limit > 0);
    let objects = match (resource.name.as_str(), limit) {
        ("", Some(limit)) if resource.verb == "list" => extent.objects.min(limit),
        ("", _) => extent.objects,
        _ => extent.objects.min(1),
    };
    let each = extent.bytes.checked_div(extent.objects).unwrap_or_default();
    let bytes = objects.saturating_mul(each).min(MOST_BYTES_AT_ONCE);
    bytes.div_ceil(BYTES_PER_SEAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_info::request_info;

    #[test]
    fn requests_cost_what_they_move() {
        let pods = "/api/v1/namespaces/a/pods";
        // 2000 bytes each.
        let extent = Extent { objects: 400, bytes: 800_000, watchers: 250 };
        let table = [
            ("GET", pods.to_owned(), 8),
            ("GET", format!("{pods}?limit=50"), 1),
            ("GET", format!("{pods}?limit=100"), 2),
            ("GET", format!("{pods}?fieldSelector=metadata.name%3Db"), 1),
            ("GET", format!("{pods}/b"), 1),
            ("GET", format!("{pods}?watch=1"), 8),
            ("GET", format!("{pods}?watch=1&resourceVersion=7"), 1),
            ("GET", format!("{pods}?watch=1&resourceVersion=7&sendInitialEvents=true"), 8),
            ("GET", format!("{pods}?watch=1&sendInitialEvents=false"), 1),
            ("POST", pods.to_owned(), 3),
            ("DELETE", format!("{pods}/b"), 3),
            ("GET", "/livez".to_owned(), 1),
        ];
        for (method, line, expected) in table {
            let (path, query) = line.split_once('?').unwrap_or((&line, ""));
            let parameters = Parameters::of(query);
            let info = request_info(method, path, parameters.of_verb());
            assert_eq!(seats(&info, &parameters, || Some(extent), 60), expected, "{method} {line}");
            assert_eq!(seats(&info, &parameters, || None, 60), 1, "{method} {line}");
            assert!(seats(&info, &parameters, || Some(extent), 2) <= 2);
        }
    }

    #[test]
    fn no_list_costs_more_than_it_has_in_hand_at_once() {
        let parameters = Parameters::of("");
        let info = request_info("GET", "/api/v1/pods", parameters.of_verb());
        let extent = || Some(Extent { objects: 100_000, bytes: 1 << 30, watchers: 0 });
        assert_eq!(seats(&info, &parameters, extent, 600), 10);
    }
}
