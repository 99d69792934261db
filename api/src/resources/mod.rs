//! Which collections there are and what may be done with each: the table of the built-in ones, and the shape of a row,
//! which custom ones share. Must never know how a verb is carried out.

pub mod priority;
mod table;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::kind::{GroupVersionKind, GroupVersionResource};

pub use table::TableError;

/// What can be done with a collection or an object of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// A new object.
    Create,
    /// One object goes.
    Delete,
    /// All objects that a selector fits go.
    DeleteCollection,
    /// One object is read.
    Get,
    /// All objects that a selector fits are read.
    List,
    /// One object is changed by a patch.
    Patch,
    /// One object is replaced.
    Update,
    /// Changes are followed.
    Watch,
    /// A connection to what the object stands for.
    Connect,
}

impl Verb {
    const NAMED: [(Self, &'static str); 9] = [
        (Self::Create, "create"),
        (Self::Delete, "delete"),
        (Self::DeleteCollection, "deletecollection"),
        (Self::Get, "get"),
        (Self::List, "list"),
        (Self::Patch, "patch"),
        (Self::Update, "update"),
        (Self::Watch, "watch"),
        (Self::Connect, "connect"),
    ];

    /// As discovery and RBAC write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(verb, _)| *verb == self).map_or("", |(_, name)| name)
    }

    /// The verb of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, named)| *named == name).map(|(verb, _)| *verb)
    }
}

/// A collection of objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Where it is served.
    pub name: GroupVersionResource,
    /// The type of its objects.
    pub kind: Arc<str>,
    /// One of them, in lower case.
    pub singular: Arc<str>,
    /// Whether its objects belong to namespaces.
    pub namespaced: bool,
    /// What users may write instead of its name.
    pub short_names: Vec<Arc<str>>,
    /// Sets of collections that it belongs to, such as `all`.
    pub categories: Vec<Arc<str>>,
    /// What can be done; empty for one that only has subresources.
    pub verbs: Vec<Verb>,
    /// What hangs below its objects.
    pub subresources: Vec<Subresource>,
}

/// A part of an object, or something that is done to it, with a path of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `scale`, `log`.
    pub name: Arc<str>,
    /// What its bodies are.
    pub kind: GroupVersionKind,
    /// What can be done.
    pub verbs: Vec<Verb>,
}

impl Resource {
    /// The type of its objects.
    #[must_use]
    pub fn group_version_kind(&self) -> GroupVersionKind {
        self.name.group_version().kind(&self.kind)
    }

    /// The type of its lists.
    #[must_use]
    pub fn list_kind(&self) -> String {
        format!("{}List", self.kind)
    }

    /// What hangs below its objects under this name.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|one| &*one.name == name)
    }

    /// Whether this can be done.
    #[must_use]
    pub fn can(&self, verb: Verb) -> bool {
        self.verbs.contains(&verb)
    }
}

/// All built-in collections.
#[derive(Debug)]
pub struct Builtin {
    resources: Vec<Arc<Resource>>,
    by_name: HashMap<GroupVersionResource, Arc<Resource>>,
    by_kind: HashMap<GroupVersionKind, Arc<Resource>>,
}

static BUILTIN: LazyLock<Builtin> = LazyLock::new(|| {
    let resources = table::read(include_str!("../../data/resources.tsv"));
    Builtin::of(resources.expect("the table that is compiled in is read by a test"))
});

impl Builtin {
    /// The table.
    #[must_use]
    pub fn table() -> &'static Self {
        &BUILTIN
    }

    fn of(resources: Vec<Resource>) -> Self {
        let resources: Vec<_> = resources.into_iter().map(Arc::new).collect();
        let by_name = resources.iter().map(|one| (one.name.clone(), one.clone())).collect();
        // Where several collections have one kind, the first that keeps objects counts.
        let mut by_kind = HashMap::new();
        for one in &resources {
            by_kind.entry(one.group_version_kind()).or_insert_with(|| one.clone());
        }
        Self { resources, by_name, by_kind }
    }

    /// All collections, core first, then by group.
    #[must_use]
    pub fn all(&self) -> &[Arc<Resource>] {
        &self.resources
    }

    /// The collection with this name.
    #[must_use]
    pub fn named(&self, name: &GroupVersionResource) -> Option<&Arc<Resource>> {
        self.by_name.get(name)
    }

    /// The collection that keeps objects of this type.
    #[must_use]
    pub fn of_kind(&self, kind: &GroupVersionKind) -> Option<&Arc<Resource>> {
        self.by_kind.get(kind)
    }

    /// Under which version objects of a collection are stored: collections in several versions share their objects, and
    /// `events` in two groups are the same objects too.
    #[must_use]
    pub fn stored_as(name: &GroupVersionResource) -> GroupVersionResource {
        match (&*name.group, &*name.version, &*name.resource) {
            ("events.k8s.io", _, "events") => GroupVersionResource::new("", "v1", "events"),
            ("autoscaling", "v1", "horizontalpodautoscalers") => {
                GroupVersionResource::new("autoscaling", "v2", "horizontalpodautoscalers")
            }
            _ => name.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_and_complete() {
        let table = Builtin::table();
        let rows: usize = table.all().iter().map(|one| 1 + one.subresources.len()).sum();
        let lines = include_str!("../../data/resources.tsv").lines().filter(|line| !line.starts_with('#'));
        assert_eq!(rows, lines.count());
        let pods = table.named(&GroupVersionResource::new("", "v1", "pods")).unwrap();
        assert_eq!((&*pods.kind, pods.namespaced, pods.can(Verb::Watch)), ("Pod", true, true));
        assert_eq!(&*pods.short_names[0], "po");
        let eviction = pods.subresource("eviction").unwrap();
        assert_eq!(eviction.kind, GroupVersionKind::new("policy", "v1", "Eviction"));
        let deployment = GroupVersionKind::new("apps", "v1", "Deployment");
        assert_eq!(&*table.of_kind(&deployment).unwrap().name.resource, "deployments");
    }

    #[test]
    fn names_of_verbs_are_read_and_written() {
        for (verb, name) in Verb::NAMED {
            assert_eq!((Verb::of_name(name), verb.name()), (Some(verb), name));
        }
        assert_eq!(Verb::of_name("Get"), None);
    }
}
