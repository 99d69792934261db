//! Which collections the API serves, as its aggregated discovery tells. Must never believe that a collection is gone because its
//! server does not answer.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use kube::Client;
use kube::api::ApiResource;
use kube::core::discovery::v2::{APIGroupDiscoveryList, APIResourceDiscovery};

/// A collection in one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Collection {
    /// Such as `apps`; empty is the core's.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// Such as `replicasets`.
    pub resource: String,
    /// Such as `ReplicaSet`.
    pub kind: String,
    /// Whether its objects are in namespaces.
    pub namespaced: bool,
    /// What can be done with it.
    pub verbs: BTreeSet<String>,
}

impl Collection {
    /// Whether all of this can be done.
    #[must_use]
    pub fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|verb| self.verbs.contains(*verb))
    }

    /// `group/version`, or the version alone in the core.
    #[must_use]
    pub fn api_version(&self) -> String {
        group_version(&self.group, &self.version)
    }

    /// `replicasets.apps`, or the resource alone in the core.
    #[must_use]
    pub fn group_resource(&self) -> String {
        if self.group.is_empty() {
            self.resource.clone()
        } else {
            format!("{}.{}", self.resource, self.group)
        }
    }

    /// As kube's client wants it.
    #[must_use]
    pub fn api_resource(&self) -> ApiResource {
        ApiResource {
            group: self.group.clone(),
            version: self.version.clone(),
            api_version: self.api_version(),
            kind: self.kind.clone(),
            plural: self.resource.clone(),
        }
    }
}

/// As Go writes a `GroupVersionResource`.
impl fmt::Display for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, Resource={}", self.group, self.version, self.resource)
    }
}

fn group_version(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// A version of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Version {
    group: String,
    version: String,
    /// Whether its server did not answer when it was asked last: what it serves is what it served before, or nothing.
    stale: bool,
    collections: Vec<Arc<Collection>>,
}

/// What is served.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovered {
    /// Group by group, in each the preferred version first.
    versions: Vec<Version>,
}

/// Why it is not known what is served.
#[derive(Debug, thiserror::Error)]
pub enum DiscoveryError {
    /// The API did not answer.
    #[error("{0}")]
    Api(#[from] kube::Error),
    /// The answer has nothing in it: a server that does not tell all groups at once.
    #[error("unable to get any supported resources from server")]
    Empty,
}

/// Asks what is served.
pub async fn discover(client: &Client) -> Result<Discovered, DiscoveryError> {
    let (core, groups) =
        tokio::try_join!(client.list_core_api_versions_aggregated(), client.list_api_groups_aggregated())?;
    let discovered = Discovered::of([core, groups]);
    if discovered.versions.is_empty() { Err(DiscoveryError::Empty) } else { Ok(discovered) }
}

impl Discovered {
    /// What these documents tell.
    #[must_use]
    pub fn of(lists: impl IntoIterator<Item = APIGroupDiscoveryList>) -> Self {
        let mut versions = Vec::new();
        for item in lists.into_iter().flat_map(|list| list.items) {
            let group = item.metadata.and_then(|meta| meta.name).unwrap_or_default();
            for told in item.versions {
                let version = told.version.unwrap_or_default();
                let collections = told
                    .resources
                    .into_iter()
                    .filter_map(|resource| collection(&group, &version, resource).map(Arc::new))
                    .collect();
                let stale = told.freshness.as_deref() == Some("Stale");
                versions.push(Version { group: group.clone(), version, stale, collections });
            }
        }
        Self { versions }
    }

    /// Every collection once, in its preferred version of those that have it.
    pub fn preferred(&self) -> Vec<Arc<Collection>> {
        let mut known = BTreeSet::new();
        let all = self.versions.iter().flat_map(|version| &version.collections);
        all.filter(|one| known.insert((one.group.clone(), one.resource.clone()))).cloned().collect()
    }

    /// The collection of a type in a version.
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Arc<Collection>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let mut all = self.versions.iter().filter(|one| one.group == group && one.version == version);
        all.find_map(|one| one.collections.iter().find(|collection| collection.kind == kind))
    }

    /// Versions, as `group/version`, whose servers did not answer.
    pub fn stale(&self) -> Vec<String> {
        let stale = self.versions.iter().filter(|version| version.stale);
        stale.map(|version| group_version(&version.group, &version.version)).collect()
    }

    /// Versions whose names cannot be read, each with the words about it.
    pub fn unreadable(&self) -> Vec<String> {
        let names = self.versions.iter().map(|version| group_version(&version.group, &version.version));
        let wrong = names.filter(|name| name.matches('/').count() > 1);
        wrong.map(|name| format!("unexpected GroupVersion string: {name}")).collect()
    }

    /// Whether a version of a group serves this resource.
    pub fn serves(&self, group: &str, version: &str, resource: &str) -> bool {
        let mut all = self.versions.iter().filter(|one| one.group == group && one.version == version);
        all.any(|one| one.collections.iter().any(|collection| collection.resource == resource))
    }
}

fn collection(group: &str, version: &str, told: APIResourceDiscovery) -> Option<Collection> {
    Some(Collection {
        group: group.to_owned(),
        version: version.to_owned(),
        resource: told.resource?,
        kind: told.response_kind?.kind?,
        namespaced: told.scope.as_deref() == Some("Namespaced"),
        verbs: told.verbs.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_read_with_the_preferred_versions_first() {
        let resource = |name: &str, kind: Option<&str>, scope: &str| {
            let kind = kind.map(|kind| json!({"group": "", "version": "v2", "kind": kind}));
            json!({"resource": name, "responseKind": kind, "scope": scope, "verbs": ["get", "list"]})
        };
        let list: APIGroupDiscoveryList = serde_json::from_value(json!({"items": [
            {"metadata": {"name": "x.org"}, "versions": [
                {"version": "v2", "freshness": "Current", "resources": [
                    resource("as", Some("A"), "Namespaced"), resource("parts", None, "Cluster"),
                ]},
                {"version": "v1", "freshness": "Stale", "resources": [
                    resource("as", Some("A"), "Namespaced"), resource("bs", Some("B"), "Cluster"),
                ]},
            ]},
            {"metadata": {"name": "odd/name"}, "versions": [{"version": "v1"}]},
        ]}))
        .unwrap();
        let discovered = Discovered::of([list]);
        let shown: Vec<_> = discovered.preferred().iter().map(|one| one.to_string()).collect();
        assert_eq!(shown, ["x.org/v2, Resource=as", "x.org/v1, Resource=bs"]);
        assert_eq!(discovered.of_kind("x.org/v1", "A").unwrap().api_version(), "x.org/v1");
        assert!(discovered.of_kind("x.org/v3", "A").is_none());
        assert_eq!(discovered.stale(), ["x.org/v1"]);
        assert_eq!(discovered.unreadable(), ["unexpected GroupVersion string: odd/name/v1"]);
        assert!(discovered.serves("x.org", "v1", "bs") && !discovered.serves("x.org", "v2", "bs"));
        let first = &discovered.preferred()[0];
        assert!(first.namespaced && first.can(&["get", "list"]) && !first.can(&["get", "watch"]));
        assert_eq!(first.group_resource(), "as.x.org");
    }
}
