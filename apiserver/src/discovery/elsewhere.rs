//! What `APIService` objects add to what this server knows of itself: what other servers serve, as they tell it, and where
//! groups stand. Must never be asked for here.

use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::kind::GroupVersion;
use barque_api::resources::priority::Priority;
use serde_json::Value;

/// A version that another server serves.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its name.
    pub group_version: GroupVersion,
    /// Where it stands among others.
    pub priority: Priority,
    /// Its collections in the form of aggregated discovery: a list of `APIResourceDiscovery`.
    pub resources: Value,
    /// Whether the server could be asked.
    pub fresh: bool,
    /// Where its OpenAPI document is, with its hash; nothing if it has none.
    pub openapi: Option<String>,
}

/// Everything that others serve, and in which order it all stands. Never changes; a new one takes its place.
#[derive(Clone, Debug, Default)]
pub struct Elsewhere {
    /// Counts changes, so that what is made of one is made again when it changed.
    pub generation: u64,
    /// In no particular order, each once.
    pub versions: Vec<Arc<Told>>,
    /// Versions of this server that stand elsewhere than they do by themselves.
    pub priorities: BTreeMap<GroupVersion, Priority>,
}

#[cfg(test)]
mod tests {
    use barque_api::resources::Builtin;
    use serde_json::json;

    use super::*;
    use crate::discovery::{aggregated, catalog, groups};

    fn told(group: &str, version: &str, priority: (i32, i32), fresh: bool) -> Arc<Told> {
        Arc::new(Told {
            group_version: GroupVersion::new(group, version),
            priority: Priority { group: priority.0, version: priority.1 },
            resources: json!([{"resource": "nodes"}]),
            fresh,
            openapi: None,
        })
    }

    #[test]
    fn what_others_serve_stands_in_the_order_of_its_priority() {
        let versions = vec![
            told("metrics.k8s.io", "v1beta1", (100, 10), true),
            told("metrics.k8s.io", "v1", (100, 20), false),
            told("first.example.com", "v1", (20_000, 1), true),
        ];
        let elsewhere = Elsewhere { versions, ..Elsewhere::default() };
        let catalog = catalog(Builtin::table().all().iter().cloned(), &elsewhere);
        let list = groups(&catalog);
        let named: Vec<_> = list["groups"].as_array().unwrap().iter().map(|group| &group["name"]).collect();
        assert_eq!(
            (named[1], *named.last().unwrap()),
            (&json!("first.example.com"), &json!("metrics.k8s.io"))
        );
        let all = aggregated(&catalog, false);
        let metrics = all["items"].as_array().unwrap().last().unwrap();
        assert_eq!(
            metrics["versions"],
            json!([
                {"version": "v1", "freshness": "Stale", "resources": [{"resource": "nodes"}]},
                {"version": "v1beta1", "freshness": "Current", "resources": [{"resource": "nodes"}]},
            ])
        );
    }

    #[test]
    fn what_is_served_elsewhere_hides_what_is_served_here() {
        let versions = vec![told("apps", "v1", (17_800, 15), true)];
        let elsewhere = Elsewhere { versions, ..Elsewhere::default() };
        let catalog = catalog(Builtin::table().all().iter().cloned(), &elsewhere);
        let apps = catalog.iter().find(|group| &*group.name == "apps").unwrap();
        assert_eq!(apps.versions.len(), 1);
        assert!(apps.versions[0].told.is_some() && apps.versions[0].resources.is_empty());
    }

    #[test]
    fn what_is_served_here_stands_where_its_service_says() {
        let last = (GroupVersion::new("apps", "v1"), Priority { group: 1, version: 1 });
        let elsewhere = Elsewhere { priorities: BTreeMap::from([last]), ..Elsewhere::default() };
        let catalog = catalog(Builtin::table().all().iter().cloned(), &elsewhere);
        assert_eq!(&*catalog.last().unwrap().name, "apps");
    }
}
