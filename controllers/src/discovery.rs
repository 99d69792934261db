//! Which collections the API serves, followed as they come and go. Must never believe that a collection is gone because its server
//! does not answer.

mod follow;

use std::sync::Arc;

use tokio::sync::watch;

pub(crate) use barque_client::discovery::{Collection, Discovered, discover};
pub(crate) use follow::follow;

/// What is served, as it was last told; nothing before it was told once.
pub(crate) type Followed = watch::Receiver<Option<Arc<Discovered>>>;

/// What is served by servers of tests: collections in the order of preference, some in versions that are stale.
#[cfg(test)]
pub(crate) fn served(of: &[(&str, &str, &str, bool)], stale: &[&str]) -> Discovered {
    use serde_json::json;

    let groups = of.iter().map(|(api_version, resource, kind, namespaced)| {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let verbs = ["create", "delete", "deletecollection", "get", "list", "watch"];
        let scope = if *namespaced { "Namespaced" } else { "Cluster" };
        let freshness = if stale.contains(api_version) { "Stale" } else { "Current" };
        json!({"metadata": {"name": group}, "versions": [{"version": version, "freshness": freshness, "resources": [
            {"resource": resource, "responseKind": {"kind": kind}, "scope": scope, "verbs": verbs},
        ]}]})
    });
    let list = json!({"items": groups.collect::<Vec<_>>()});
    Discovered::of([serde_json::from_value(list).unwrap()])
}
