//! Who may write a role or a binding: only those who have what it gives, or may `escalate` or `bind` (RBAC). Must never look at
//! what was there before, but to see that nothing is given anew.

use barque_api::kind::GroupResource;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use serde_json::Value;

use super::chain::{Authorizer, Chain};
use super::escalation::uncovered;
use super::rbac::Named;
use super::rules::Rule;
use super::{Action, Decision, MASTERS, User};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Judges an object that is about to be stored; anything but a role or a binding is fine. `old` is what it replaces.
///
/// # Errors
/// 403 with the rules that the writer would give without having them.
pub fn check(
    chain: &Chain<'_>,
    user: &User,
    resource: &GroupResource,
    object: &Value,
    old: Option<&Value>,
) -> Result<(), Status> {
    if &*resource.group != GROUP || user.groups.iter().any(|group| group == MASTERS) {
        return Ok(());
    }
    let metadata = Metadata::of(object);
    let (namespace, name) = (metadata.namespace(), metadata.name());
    let fields: &[&str] = match &*resource.resource {
        "roles" | "clusterroles" => &["rules", "aggregationRule"],
        "rolebindings" | "clusterrolebindings" => &["roleRef", "subjects"],
        _ => return Ok(()),
    };
    if old.is_some_and(|old| fields.iter().all(|field| old.get(field) == object.get(field))) {
        return Ok(());
    }
    let may = |verb: &str, resource: &str, name: &str| {
        let action = Action::Resource {
            verb: verb.to_owned(),
            group: GROUP.to_owned(),
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        matches!(chain.decide(user, &action, &Default::default()), Decision::Allow(_))
    };
    let refused = |why: String| Err(Status::forbidden(resource, name, why));
    let wanted = if fields.contains(&"rules") {
        if may("escalate", &resource.resource, name) {
            return Ok(());
        }
        if object.get("aggregationRule").is_some_and(|rule| !rule.is_null())
            && !uncovered(&owned(chain, user, namespace), &[everything()]).is_empty()
        {
            return refused(format!(
                "must have cluster-admin privileges to use an aggregationRule: {}",
                missing(user, &[everything()])
            ));
        }
        Rule::all_of(object)
    } else {
        let reference = |field: &str| object["roleRef"][field].as_str().unwrap_or_default();
        let is_cluster = reference("kind") == "ClusterRole";
        let kind = if is_cluster { "clusterroles" } else { "roles" };
        if may("bind", kind, reference("name")) {
            return Ok(());
        }
        let role = Named {
            namespace: if is_cluster { String::new() } else { namespace.to_owned() },
            name: reference("name").to_owned(),
        };
        match chain.rbac.rules(&role) {
            Some(rules) => rules.to_vec(),
            None => return Err(Status::not_found(&GroupResource::new(GROUP, kind), &role.name)),
        }
    };
    let lacking = uncovered(&owned(chain, user, namespace), &wanted);
    if lacking.is_empty() { Ok(()) } else { refused(missing(user, &lacking)) }
}

fn owned(chain: &Chain<'_>, user: &User, namespace: &str) -> Vec<Rule> {
    chain.rbac.grants(user, namespace).flat_map(|grant| grant.rules.to_vec()).collect()
}

/// What an administrator of the cluster may.
fn everything() -> Rule {
    let all = || vec!["*".to_owned()];
    Rule { verbs: all(), groups: all(), resources: all(), names: Vec::new(), paths: Vec::new() }
}

fn missing(user: &User, rules: &[Rule]) -> String {
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let mut text = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:",
        user.name,
        groups.join(" ")
    );
    for rule in rules {
        text.push_str(&format!("\n{}", told(rule)));
    }
    text
}

/// A rule as errors tell it: `{APIGroups:[""], Resources:["pods"], Verbs:["get"]}`.
fn told(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.names),
        ("NonResourceURLs", &rule.paths),
        ("Verbs", &rule.verbs),
    ];
    let shown: Vec<String> = parts
        .iter()
        .filter(|(_, texts)| !texts.is_empty())
        .map(|(name, texts)| {
            let texts: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("{name}:[{}]", texts.join(" "))
        })
        .collect();
    format!("{{{}}}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::chain::AllowedPaths;
    use super::super::rbac::Policy;
    use super::*;

    fn policy() -> Policy {
        let mut policy = Policy::default();
        let cluster = |name: &str| Named { namespace: String::new(), name: name.to_owned() };
        let rule = |verbs: Value, resources: Value| json!({"rules": [{"verbs": verbs, "apiGroups": [""], "resources": resources}]});
        policy.role_is(cluster("reader"), &rule(json!(["get", "list"]), json!(["pods"])));
        policy.role_is(cluster("admin"), &rule(json!(["*"]), json!(["*"])));
        policy.binding_is(
            cluster("readers"),
            &json!({"roleRef": {"kind": "ClusterRole", "name": "reader"},
                "subjects": [{"kind": "User", "name": "eva"}]}),
        );
        policy
    }

    fn judge(resource: &str, object: Value, old: Option<&Value>, groups: &[&str]) -> Result<(), Status> {
        let (policy, allowed) = (policy(), AllowedPaths::default());
        let chain = Chain { always_allowed: &allowed, node: None, rbac: &policy };
        let user = User {
            name: "eva".into(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
            ..User::default()
        };
        check(&chain, &user, &GroupResource::new(GROUP, resource), &object, old)
    }

    #[test]
    fn nobody_gives_what_they_do_not_have() {
        let role = |verb: &str| {
            json!({"metadata": {"name": "r", "namespace": "a"},
                "rules": [{"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}]})
        };
        assert_eq!(judge("roles", role("get"), None, &[]), Ok(()));
        let refused = judge("roles", role("delete"), None, &["devs"]).unwrap_err();
        assert_eq!(
            refused.message,
            "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"eva\" (groups=[\"devs\"]) is attempting to \
             grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\"]}"
        );
        assert_eq!(judge("roles", role("delete"), Some(&role("delete")), &[]), Ok(()));
        assert_eq!(judge("roles", role("delete"), None, &[MASTERS]), Ok(()));
    }

    #[test]
    fn bindings_give_what_their_role_gives() {
        let binding = |role: &str| {
            json!({"metadata": {"name": "b", "namespace": "a"},
                "roleRef": {"kind": "ClusterRole", "name": role}, "subjects": []})
        };
        assert_eq!(judge("rolebindings", binding("reader"), None, &[]), Ok(()));
        assert_eq!(judge("rolebindings", binding("admin"), None, &[]).unwrap_err().reason.code(), 403);
        assert_eq!(judge("rolebindings", binding("nothing"), None, &[]).unwrap_err().reason.code(), 404);
    }
}
