//! What clients are told of the resources that there are: plain discovery as all clients know it, and the aggregated form that
//! tells all at once. Documents are computed from a list of resources; must never know where the list comes from.

mod aggregated;
mod elsewhere;
mod plain;

use std::cmp::Reverse;
use std::sync::Arc;

use barque_api::kind::GroupVersion;
use barque_api::resources::Resource;
use barque_api::resources::priority::{self, Priority};

pub use aggregated::aggregated;
pub use elsewhere::{Elsewhere, Told};
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
    /// What the server told that serves it, if that is not this one.
    pub told: Option<Arc<Told>>,
}

/// A group with its versions, the preferred one first.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name; empty for the core group.
    pub name: Arc<str>,
    /// At least one.
    pub versions: Vec<Version>,
}

/// Groups and versions in the order in which clients look for a name. What is served elsewhere hides what is served here
/// under the same name.
#[must_use]
pub fn catalog(resources: impl IntoIterator<Item = Arc<Resource>>, elsewhere: &Elsewhere) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for resource in resources {
        let group_version = resource.name.group_version();
        let versions = versions_of(&mut groups, &group_version);
        match versions.iter_mut().find(|version| version.group_version == group_version) {
            Some(version) => version.resources.push(resource),
            None => {
                let priority = elsewhere.priorities.get(&group_version).copied();
                let priority = priority.unwrap_or_else(|| own_priority(&group_version));
                versions.push(Version { group_version, priority, resources: vec![resource], told: None });
            }
        }
    }
    for told in &elsewhere.versions {
        let versions = versions_of(&mut groups, &told.group_version);
        versions.retain(|version| version.group_version != told.group_version);
        versions.push(Version {
            group_version: told.group_version.clone(),
            priority: told.priority,
            resources: Vec::new(),
            told: Some(Arc::clone(told)),
        });
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

/// The versions of a group, which is entered if there is none.
fn versions_of<'a>(groups: &'a mut Vec<Group>, of: &GroupVersion) -> &'a mut Vec<Version> {
    let index = groups.iter().position(|group| group.name == of.group).unwrap_or_else(|| {
        groups.push(Group { name: of.group.clone(), versions: Vec::new() });
        groups.len() - 1
    });
    &mut groups[index].versions
}

/// Where a version of this server stands by itself.
#[must_use]
pub fn own_priority(of: &GroupVersion) -> Priority {
    priority::of_builtin(of).unwrap_or(priority::CUSTOM)
}
