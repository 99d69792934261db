//! RBAC: roles and their bindings, indexed by who is bound, so that an answer costs as much as the asker's own bindings.
//! Follows the objects that it is told of; must never read them itself.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::Value;

use super::rules::Rule;
use super::{Action, Decision, User};

/// A role or a binding: its namespace (empty for those of the cluster) and its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Named {
    /// Empty for cluster roles and their bindings.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// Who is bound. Service accounts are users.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

#[derive(Clone, Debug)]
struct Binding {
    /// The namespace is empty for a cluster role.
    role: Named,
    subjects: Vec<Subject>,
}

/// All roles and bindings.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    roles: HashMap<Named, Arc<[Rule]>>,
    bindings: BTreeMap<Named, Binding>,
    bound: HashMap<Subject, BTreeSet<Named>>,
}

/// A rule somebody has, and where from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The rules of the role.
    pub rules: Arc<[Rule]>,
    /// The binding that gives them.
    pub binding: Named,
    /// The role.
    pub role: Named,
}

impl Policy {
    /// A role or cluster role is there, or changed.
    pub fn role_is(&mut self, named: Named, role: &Value) {
        self.roles.insert(named, Rule::all_of(role).into());
    }

    /// A role or cluster role is gone.
    pub fn role_is_gone(&mut self, named: &Named) {
        self.roles.remove(named);
    }

    /// A binding is there, or changed.
    pub fn binding_is(&mut self, named: Named, binding: &Value) {
        self.binding_is_gone(&named);
        let binding = Binding::of(&named, binding);
        for subject in &binding.subjects {
            self.bound.entry(subject.clone()).or_default().insert(named.clone());
        }
        self.bindings.insert(named, binding);
    }

    /// A binding is gone.
    pub fn binding_is_gone(&mut self, named: &Named) {
        let Some(binding) = self.bindings.remove(named) else { return };
        for subject in binding.subjects {
            if let Some(bound) = self.bound.get_mut(&subject) {
                bound.remove(named);
                if bound.is_empty() {
                    self.bound.remove(&subject);
                }
            }
        }
    }

    /// What somebody was given for a namespace; only for the cluster where it is empty. Bindings to roles that are not there
    /// give nothing.
    pub fn grants<'a>(&'a self, user: &'a User, namespace: &'a str) -> impl Iterator<Item = Grant> + 'a {
        let groups = user.groups.iter().map(|group| Subject::Group(group.clone()));
        let subjects = std::iter::once(Subject::User(user.name.clone())).chain(groups);
        let bindings: BTreeSet<&Named> =
            subjects.filter_map(|subject| self.bound.get(&subject)).flatten().collect();
        bindings
            .into_iter()
            .filter(move |binding| binding.namespace.is_empty() || binding.namespace == namespace)
            .filter_map(|named| {
                let role = &self.bindings.get(named)?.role;
                let rules = self.roles.get(role)?.clone();
                Some(Grant { rules, binding: named.clone(), role: role.clone() })
            })
    }

    /// Whether somebody may do this.
    #[must_use]
    pub fn decide(&self, user: &User, action: &Action) -> Decision {
        let namespace = match action {
            Action::Resource { namespace, .. } => namespace.as_str(),
            Action::Path { .. } => "",
        };
        let allowing =
            self.grants(user, namespace).find(|grant| grant.rules.iter().any(|rule| rule.covers(action)));
        match allowing {
            Some(grant) => Decision::Allow(reason(&grant)),
            None => Decision::NoOpinion(String::new()),
        }
    }

    /// The rules of a role, for whoever binds it.
    #[must_use]
    pub fn rules(&self, role: &Named) -> Option<&Arc<[Rule]>> {
        self.roles.get(role)
    }
}

fn reason(grant: &Grant) -> String {
    let kind = |kind: &str, named: &Named| match named.namespace.as_str() {
        "" => format!("Cluster{kind} {:?}", named.name),
        namespace => format!("{kind} \"{}/{namespace}\"", named.name),
    };
    format!("RBAC: allowed by {} of {}", kind("RoleBinding", &grant.binding), kind("Role", &grant.role))
}

impl Binding {
    fn of(named: &Named, value: &Value) -> Self {
        let text = |value: &Value, field: &str| {
            value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let role = value.get("roleRef").unwrap_or(&Value::Null);
        // A binding in a namespace may bind a cluster role, whose rules then hold in that namespace.
        let namespace =
            if text(role, "kind") == "ClusterRole" { String::new() } else { named.namespace.clone() };
        let subject = |value: &Value| {
            let name = text(value, "name");
            Some(match text(value, "kind").as_str() {
                "User" => Subject::User(name),
                "Group" => Subject::Group(name),
                "ServiceAccount" => {
                    let own = text(value, "namespace");
                    let namespace = if own.is_empty() { &named.namespace } else { &own };
                    Subject::User(format!("system:serviceaccount:{namespace}:{name}"))
                }
                _ => return None,
            })
        };
        let subjects =
            value.get("subjects").and_then(Value::as_array).into_iter().flatten().filter_map(subject);
        Self { role: Named { namespace, name: text(role, "name") }, subjects: subjects.collect() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn named(namespace: &str, name: &str) -> Named {
        Named { namespace: namespace.into(), name: name.into() }
    }

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    fn get(resource: &str, namespace: &str) -> Action {
        Action::Resource {
            verb: "get".into(),
            group: String::new(),
            resource: resource.into(),
            namespace: namespace.into(),
            name: String::new(),
        }
    }

    fn policy() -> Policy {
        let reads = |resource: &str| json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": [resource]}]});
        let binding = |kind: &str, role: &str, subject: Value| json!({"roleRef": {"kind": kind, "name": role}, "subjects": [subject]});
        let mut policy = Policy::default();
        policy.role_is(named("", "pods"), &reads("pods"));
        policy.role_is(named("a", "secrets"), &reads("secrets"));
        let eva = json!({"kind": "User", "name": "eva"});
        let staff = json!({"kind": "Group", "name": "staff"});
        let robot = json!({"kind": "ServiceAccount", "name": "robot"});
        policy.binding_is(named("", "eva"), &binding("ClusterRole", "pods", eva));
        policy.binding_is(named("a", "staff"), &binding("Role", "secrets", staff));
        policy.binding_is(named("b", "robot"), &binding("ClusterRole", "pods", robot));
        policy
    }

    fn allows(policy: &Policy, user: &User, action: &Action) -> bool {
        matches!(policy.decide(user, action), Decision::Allow(_))
    }

    #[test]
    fn bindings_of_the_cluster_hold_everywhere_and_others_in_their_namespace() {
        let policy = policy();
        let robot = user("system:serviceaccount:b:robot", &["system:serviceaccounts"]);
        let table = [
            (user("eva", &[]), get("pods", ""), true),
            (user("eva", &[]), get("pods", "a"), true),
            (user("eva", &[]), get("secrets", "a"), false),
            (user("eva", &["staff"]), get("secrets", "a"), true),
            (user("eva", &["staff"]), get("secrets", "b"), false),
            (user("eva", &["staff"]), get("secrets", ""), false),
            (robot.clone(), get("pods", "b"), true),
            (robot.clone(), get("pods", "a"), false),
            (robot, get("pods", ""), false),
            (user("adam", &[]), get("pods", ""), false),
        ];
        for (user, action, allowed) in table {
            assert_eq!(allows(&policy, &user, &action), allowed, "{} {action}", user.name);
        }
    }

    #[test]
    fn an_answer_says_where_it_comes_from() {
        let decision = policy().decide(&user("eva", &[]), &get("pods", "a"));
        let expected = r#"RBAC: allowed by ClusterRoleBinding "eva" of ClusterRole "pods""#;
        assert_eq!(decision, Decision::Allow(expected.into()));
    }

    #[test]
    fn what_is_gone_gives_nothing() {
        let eva = user("eva", &["staff"]);
        let mut policy = policy();
        policy.role_is_gone(&named("", "pods"));
        assert!(!allows(&policy, &eva, &get("pods", "")));
        policy.binding_is_gone(&named("a", "staff"));
        assert!(!allows(&policy, &eva, &get("secrets", "a")));
        assert_eq!(policy.grants(&eva, "a").count(), 0);
        // A changed binding no longer gives to those it bound before.
        let adam = json!({"roleRef": {"kind": "Role", "name": "secrets"}, "subjects": [{"kind": "User", "name": "adam"}]});
        policy.binding_is(named("a", "staff"), &adam);
        assert!(!allows(&policy, &eva, &get("secrets", "a")));
        assert!(allows(&policy, &user("adam", &[]), &get("secrets", "a")));
    }
}
