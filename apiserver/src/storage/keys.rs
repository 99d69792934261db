//! Under which keys objects are kept: as Kubernetes lays them out, so that its tools and backups find them. Must never
//! depend on what is stored.

use barque_api::kind::GroupResource;
use bytes::Bytes;

/// What all keys begin with unless `--etcd-prefix` says otherwise.
pub const DEFAULT_ROOT: &str = "/registry";

/// Collections whose keys do not follow from their names.
const SPECIAL: [(&str, &str, &str); 7] = [
    ("", "replicationcontrollers", "controllers"),
    ("", "endpoints", "services/endpoints"),
    ("", "nodes", "minions"),
    ("", "services", "services/specs"),
    ("extensions", "ingresses", "ingress"),
    ("networking.k8s.io", "ingresses", "ingress"),
    ("policy", "podsecuritypolicies", "podsecuritypolicy"),
];

/// Built-in groups that keep their objects below the group's name, as all custom resources do.
const BELOW_GROUP: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// The keys of one collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CollectionKeys {
    /// With a slash at the end.
    prefix: Bytes,
    namespaced: bool,
}

impl CollectionKeys {
    /// Below `root` (see [`DEFAULT_ROOT`]). `custom` is a collection that a CustomResourceDefinition defines.
    #[must_use]
    pub fn new(root: &str, resource: &GroupResource, namespaced: bool, custom: bool) -> Self {
        let (group, name) = (&*resource.group, &*resource.resource);
        let special = SPECIAL.iter().find(|(of, plural, _)| *of == group && *plural == name);
        let folder = match special {
            Some((_, _, folder)) if !custom => (*folder).to_owned(),
            _ if custom || BELOW_GROUP.contains(&group) => format!("{group}/{name}"),
            _ => name.to_ascii_lowercase(),
        };
        Self { prefix: format!("{}/{folder}/", root.trim_end_matches('/')).into(), namespaced }
    }

    /// What the keys of all objects begin with.
    #[must_use]
    pub fn prefix(&self) -> &Bytes {
        &self.prefix
    }

    /// What the keys of a namespace's objects begin with; for a collection without namespaces, of all objects.
    #[must_use]
    pub fn namespace_prefix(&self, namespace: &str) -> Bytes {
        if !self.namespaced || namespace.is_empty() {
            return self.prefix.clone();
        }
        [&self.prefix[..], namespace.as_bytes(), b"/"].concat().into()
    }

    /// The key of an object; `namespace` is not looked at in a collection without namespaces.
    #[must_use]
    pub fn object(&self, namespace: &str, name: &str) -> Bytes {
        if self.namespaced {
            [&self.prefix[..], namespace.as_bytes(), b"/", name.as_bytes()].concat().into()
        } else {
            [&self.prefix[..], name.as_bytes()].concat().into()
        }
    }

    /// Namespace and name of the object with this key; `None` for a key of another shape.
    #[must_use]
    pub fn names<'a>(&self, key: &'a [u8]) -> Option<(&'a str, &'a str)> {
        let rest = std::str::from_utf8(key.strip_prefix(&self.prefix[..])?).ok()?;
        let (namespace, name) = if self.namespaced { rest.split_once('/')? } else { ("", rest) };
        (!name.is_empty() && !name.contains('/')).then_some((namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_kubernetes() {
        let key = |group, resource, namespaced, custom| {
            let keys =
                CollectionKeys::new(DEFAULT_ROOT, &GroupResource::new(group, resource), namespaced, custom);
            String::from_utf8(keys.object("ns", "x").to_vec()).unwrap()
        };
        let table = [
            (key("", "pods", true, false), "/registry/pods/ns/x"),
            (key("", "services", true, false), "/registry/services/specs/ns/x"),
            (key("", "endpoints", true, false), "/registry/services/endpoints/ns/x"),
            (key("", "nodes", false, false), "/registry/minions/x"),
            (key("", "replicationcontrollers", true, false), "/registry/controllers/ns/x"),
            (key("networking.k8s.io", "ingresses", true, false), "/registry/ingress/ns/x"),
            (key("apps", "deployments", true, false), "/registry/deployments/ns/x"),
            (key("coordination.k8s.io", "leases", true, false), "/registry/leases/ns/x"),
            (
                key("apiregistration.k8s.io", "apiservices", false, false),
                "/registry/apiregistration.k8s.io/apiservices/x",
            ),
            (
                key("apiextensions.k8s.io", "customresourcedefinitions", false, false),
                "/registry/apiextensions.k8s.io/customresourcedefinitions/x",
            ),
            (key("example.com", "widgets", true, true), "/registry/example.com/widgets/ns/x"),
            (key("policy", "podsecuritypolicies", false, true), "/registry/policy/podsecuritypolicies/x"),
        ];
        for (key, expected) in table {
            assert_eq!(key, expected);
        }
    }

    #[test]
    fn names_are_found_in_keys_and_nothing_else_is() {
        let pods = CollectionKeys::new("/r/", &GroupResource::new("", "pods"), true, false);
        assert_eq!(pods.names(&pods.object("a", "b")), Some(("a", "b")));
        assert_eq!(pods.namespace_prefix("a"), "/r/pods/a/");
        assert_eq!(pods.namespace_prefix(""), "/r/pods/");
        for foreign in [&b"/r/pods/a"[..], b"/r/pods/a/", b"/r/pods/a/b/c", b"/r/podsa/b", b"/r/pods/a/\xff"]
        {
            assert_eq!(pods.names(foreign), None);
        }
        let nodes = CollectionKeys::new("/r", &GroupResource::new("", "nodes"), false, false);
        assert_eq!(nodes.names(b"/r/minions/n1"), Some(("", "n1")));
        assert_eq!(nodes.namespace_prefix("a"), "/r/minions/");
    }
}
