//! What clients are told of the resources that there are: plain discovery as all clients know it, and the aggregated form that
//! tells all at once. Documents are computed from a list of resources; must never know where the list comes from.

mod aggregated;
mod plain;

use std::cmp::Reverse;
use std::sync::Arc;

use barque_api::kind::GroupVersion;
use barque_api::resources::Resource;
use barque_api::resources::priority::{self, Priority};

pub use aggregated::aggregated;
pub use plain::{api_versions, group, groups, resources};

/// One version of a group with what it serves.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name.
    pub group_version: GroupVersion,
    /// Where it stands.
    pub priority: Priority,
    /// Its collections by name.
    pub resources: Vec<Arc<Resource>>,
}

/// A group with its versions, the preferred one first.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name; empty for the core group.
    pub name: Arc<str>,
    /// At least one.
    pub versions: Vec<Version>,
}

/// Groups and versions in the order in which clients look for a name.
#[must_use]
pub fn catalog(resources: impl IntoIterator<Item = Arc<Resource>>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in resources {
        let group_version = resource.name.group_version();
        let index = groups.iter().position(|group| group.name == group_version.group).unwrap_or_else(|| {
            groups.push(Group { name: group_version.group.clone(), versions: Vec::new() });
            groups.len() - 1
        });
        let versions = &mut groups[index].versions;
        match versions.iter_mut().find(|version| version.group_version == group_version) {
            Some(version) => version.resources.push(resource),
            None => {
                let priority = priority::of_builtin(&group_version).unwrap_or(priority::CUSTOM);
                versions.push(Version { group_version, priority, resources: vec![resource] });
            }
        }
    }
    for group in &mut groups {
        for version in &mut group.versions {
            version.resources.sort_by(|a, b| a.name.resource.cmp(&b.name.resource));
        }
        group.versions.sort_by_cached_key(|version| {
            (Reverse(version.priority.version), priority::version_order(&version.group_version.version))
        });
    }
    groups.sort_by_cached_key(|group| {
        let priority = group.versions.iter().map(|version| version.priority.group).max();
        (Reverse(priority), group.name.clone())
    });
    groups
}
