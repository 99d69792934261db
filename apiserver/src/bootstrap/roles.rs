//! The roles that every cluster has and who has them, from the tables `roles.txt` and `bindings.txt` (facts of Kubernetes'
//! bootstrap policy, without what belongs to groups that are not served, and what Barque's agents need beside). Must never decide anything.

use std::sync::LazyLock;

use barque_api::kind::GroupVersion;
use serde_json::{Map, Value, json};

use super::{Desired, Rule};
use crate::authorization::rules::Rule as Permission;

/// On roles and bindings: `false` keeps them from being updated.
pub(super) const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const BOOTSTRAPPING: &str = "kubernetes.io/bootstrapping";
const GROUP: &str = "rbac.authorization.k8s.io";
const CONTROLLER: &str = "system:controller:";

/// A role as it stands in the table.
#[derive(Debug, Default)]
struct Row {
    namespace: String,
    name: String,
    /// The label of the roles whose rules it collects.
    collects: Option<String>,
    /// The label by which another role collects its rules.
    into: Option<String>,
    rules: Vec<Permission>,
}

static ROLES: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let mut rows: Vec<Row> = Vec::new();
    for line in lines(include_str!("../../data/bootstrap/roles.txt")) {
        match line.strip_prefix(' ') {
            None => rows.push(read_head(line)),
            Some(rule) => {
                if let Some(row) = rows.last_mut() {
                    row.rules.push(read_rule(rule));
                }
            }
        }
    }
    rows
});

fn lines(text: &'static str) -> impl Iterator<Item = &'static str> {
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty())
}

/// `kube-system/name` as its two parts; the namespace is empty where there is none.
fn place(text: &str) -> (&str, &str) {
    text.split_once('/').unwrap_or(("", text))
}

fn read_head(line: &str) -> Row {
    let mut words = line.split(' ');
    let (namespace, name) = place(words.next().unwrap_or_default());
    let mut row = Row { namespace: namespace.to_owned(), name: name.to_owned(), ..Row::default() };
    for word in words {
        match word.split_once('=') {
            Some(("collects", label)) => row.collects = Some(label.to_owned()),
            Some(("into", label)) => row.into = Some(label.to_owned()),
            _ => {}
        }
    }
    row
}

fn read_rule(line: &str) -> Permission {
    let mut fields = line.split(' ').map(|field| field.split(',').map(str::to_owned).collect::<Vec<_>>());
    let mut next = || fields.next().unwrap_or_default();
    let (verbs, mut groups, what, names) = (next(), next(), next(), next());
    if groups == ["-"] {
        return Permission { verbs, paths: what, ..Permission::default() };
    }
    for group in groups.iter_mut().filter(|group| *group == "core") {
        group.clear();
    }
    Permission { verbs, groups, resources: what, names, paths: Vec::new() }
}

/// The rules of a cluster role of the start.
#[must_use]
pub fn rules_of(cluster_role: &str) -> Option<&'static [Permission]> {
    let row = ROLES.iter().find(|row| row.namespace.is_empty() && row.name == cluster_role)?;
    Some(&row.rules)
}

fn aggregation_label(label: &str) -> String {
    format!("{GROUP}/aggregate-to-{label}")
}

fn new(kind: &str, namespace: &str, name: &str, rule: Rule) -> Desired {
    let kind = if namespace.is_empty() { format!("Cluster{kind}") } else { kind.to_owned() };
    let resource = format!("{}s", kind.to_lowercase());
    let mut labels = Map::new();
    labels.insert(BOOTSTRAPPING.to_owned(), "rbac-defaults".into());
    Desired::new(&GroupVersion::new(GROUP, "v1"), &resource, &kind, (namespace, name), rule)
        .with_metadata("labels", labels.into())
        .with_metadata("annotations", json!({AUTOUPDATE: "true"}))
}

pub(super) fn roles() -> impl Iterator<Item = Desired> {
    ROLES.iter().map(|row| {
        let mut role = new("Role", &row.namespace, &row.name, Rule::RbacRole);
        if let Some(into) = &row.into {
            role.object["metadata"]["labels"][aggregation_label(into)] = "true".into();
        }
        match &row.collects {
            Some(label) => {
                let selector = json!({"matchLabels": {aggregation_label(label): "true"}});
                role.with("aggregationRule", json!({"clusterRoleSelectors": [selector]}))
                    .with("rules", json!([]))
            }
            None => {
                let rules: Vec<Value> = row.rules.iter().map(Permission::to_value).collect();
                role.with("rules", rules.into())
            }
        }
    })
}

pub(super) fn bindings() -> Vec<Desired> {
    let controllers = ROLES.iter().filter(|row| row.namespace.is_empty()).filter_map(|row| {
        let account = row.name.strip_prefix(CONTROLLER)?;
        Some(binding("", &row.name, &row.name, &[format!("account/kube-system/{account}")]))
    });
    let listed = lines(include_str!("../../data/bootstrap/bindings.txt")).map(|line| {
        let mut words = line.split(' ');
        let (namespace, name) = place(words.next().unwrap_or_default());
        let role = words.next().unwrap_or_default();
        binding(namespace, name, role, &words.map(str::to_owned).collect::<Vec<_>>())
    });
    listed.chain(controllers).collect()
}

fn binding(namespace: &str, name: &str, role: &str, subjects: &[String]) -> Desired {
    let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
    let binding = new("RoleBinding", namespace, name, Rule::RbacBinding)
        .with("roleRef", json!({"apiGroup": GROUP, "kind": kind, "name": role}));
    let subjects: Vec<Value> = subjects.iter().filter_map(|text| subject(text)).collect();
    if subjects.is_empty() { binding } else { binding.with("subjects", subjects.into()) }
}

fn subject(text: &str) -> Option<Value> {
    let (kind, name) = text.split_once('/')?;
    Some(match kind {
        "user" => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
        "group" => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
        _ => {
            let (namespace, name) = name.split_once('/')?;
            json!({"kind": "ServiceAccount", "name": name, "namespace": namespace})
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap as Names;

    use barque_api::resources::Builtin;

    use super::*;
    use crate::authorization::rbac::{Named, Policy};
    use crate::authorization::{Action, Decision, User};

    /// The policy that a cluster has once all of this is there and collected.
    fn policy() -> Policy {
        let mut policy = Policy::default();
        for role in roles() {
            policy
                .role_is(Named { namespace: role.namespace.clone(), name: role.name.clone() }, &role.object);
        }
        for binding in bindings() {
            policy.binding_is(Named { namespace: binding.namespace, name: binding.name }, &binding.object);
        }
        policy
    }

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    fn action(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Action {
        Action::Resource {
            verb: verb.into(),
            group: group.into(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn each_line_of_the_tables_is_read() {
        let mut names = Names::new();
        for row in ROLES.iter() {
            assert!(!row.rules.is_empty() || row.collects.is_some(), "{}", row.name);
            for rule in &row.rules {
                let whole = !rule.verbs.is_empty() && (rule.resources.is_empty() != rule.paths.is_empty());
                assert!(whole, "{} {rule:?}", row.name);
                assert_eq!(rule.groups.is_empty(), rule.resources.is_empty(), "{} {rule:?}", row.name);
            }
            names.insert((row.namespace.as_str(), row.name.as_str()), row);
        }
        assert_eq!(ROLES.iter().filter(|row| row.namespace.is_empty()).count(), 74);
        for binding in bindings() {
            let role = binding.object["roleRef"]["name"].as_str().unwrap();
            assert!(names.contains_key(&(binding.namespace.as_str(), role)), "{}", binding.name);
        }
    }

    #[test]
    fn rules_name_what_is_served() {
        let not_served = ["extensions", "custom.metrics.k8s.io", "external.metrics.k8s.io"];
        // What is asked about, but has no path of its own.
        let virtual_ones = [
            "signers",
            "resourceclaims/binding",
            // Of a version that is not served.
            "leasecandidates",
            "nodes/log",
            "nodes/metrics",
            "nodes/stats",
            "nodes/configz",
            "nodes/healthz",
            "nodes/pods",
        ];
        let below = ["nodeclient", "selfnodeclient", "finalizers", "restricted", "rollback"];
        let table = Builtin::table();
        for row in ROLES.iter() {
            for rule in &row.rules {
                for group in rule.groups.iter().filter(|group| !not_served.contains(&group.as_str())) {
                    for name in rule.resources.iter().filter(|name| !virtual_ones.contains(&name.as_str())) {
                        let (resource, sub) = name.split_once('/').unwrap_or((name, ""));
                        let known = table.all().iter().any(|one| {
                            (group == "*" || *one.name.group == **group)
                                && (resource == "*" || *one.name.resource == *resource)
                                && (sub.is_empty() || below.contains(&sub) || one.subresource(sub).is_some())
                        });
                        assert!(known, "{}: {group} {name}", row.name);
                    }
                }
            }
        }
    }

    #[test]
    fn everybody_may_do_from_the_start_what_they_need() {
        let policy = policy();
        let scheduler = user("system:kube-scheduler", &[]);
        let anybody = user("eva", &["system:authenticated"]);
        let nobody = user("system:anonymous", &["system:unauthenticated"]);
        let master = user("root", &["system:masters"]);
        let collector = user("system:serviceaccount:kube-system:generic-garbage-collector", &[]);
        let node = user("system:node:a", &["system:nodes"]);
        let path = |path: &str| Action::Path { verb: "get".into(), path: path.into() };
        let leases = "coordination.k8s.io";
        let table = [
            (&scheduler, action("create", "", "pods/binding", "default", "a"), true),
            (&scheduler, action("update", leases, "leases", "kube-system", "kube-scheduler"), true),
            (&scheduler, action("update", leases, "leases", "kube-system", "other"), true),
            (&scheduler, action("update", leases, "leases", "default", "other"), false),
            (&scheduler, action("update", "", "pods", "default", "a"), false),
            (&anybody, path("/apis/apps"), true),
            (&anybody, action("create", "authorization.k8s.io", "selfsubjectaccessreviews", "", ""), true),
            (&anybody, action("list", "", "pods", "default", ""), false),
            (&nobody, path("/livez"), true),
            (&nobody, path("/apis"), false),
            // The page is empty without rights; what it asks for is not for everybody.
            (&nobody, path("/ui"), true),
            (&anybody, path("/ui/"), true),
            (&anybody, path("/ui/masters"), false),
            (&master, path("/ui/masters"), true),
            (&master, action("delete", "anything", "at-all", "", ""), true),
            (&collector, action("delete", "example.com", "widgets", "a", "b"), true),
            // Nodes have their own authorizer; the role is bound to nobody. What Barque's agents do beside the kubelet's work is
            // bound to all of them.
            (&node, action("get", "", "nodes", "", "a"), false),
            (&node, action("watch", "discovery.k8s.io", "endpointslices", "", ""), true),
            (&node, action("list", "", "secrets", "", ""), false),
        ];
        for (user, action, allowed) in table {
            let decision = policy.decide(user, &action);
            assert_eq!(matches!(decision, Decision::Allow(_)), allowed, "{} {action}", user.name);
        }
    }

    #[test]
    fn a_role_reads_as_that_of_kubernetes() {
        let role = roles().find(|role| role.name == "edit").unwrap();
        let expected = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {
                "name": "edit",
                "labels": {
                    "kubernetes.io/bootstrapping": "rbac-defaults",
                    "rbac.authorization.k8s.io/aggregate-to-admin": "true",
                },
                "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
            },
            "aggregationRule": {
                "clusterRoleSelectors": [{"matchLabels": {"rbac.authorization.k8s.io/aggregate-to-edit": "true"}}],
            },
            "rules": [],
        });
        assert_eq!(role.object, expected);
        let binding =
            bindings().into_iter().find(|one| one.name == "system:controller:job-controller").unwrap();
        let subject =
            json!([{"kind": "ServiceAccount", "name": "job-controller", "namespace": "kube-system"}]);
        assert_eq!(binding.object["subjects"], subject);
    }
}
