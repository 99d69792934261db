//! Who is asked in which order whether somebody may do something: paths that are open to all, the group that may do
//! everything, the Node authorizer, RBAC. Must never remember an answer.

use barque_api::field_selector::FieldSelector;

use super::node::{Graph, node_of};
use super::rbac::Policy;
use super::rules::Rule;
use super::{Action, Decision, MASTERS, User, refusal};

/// Somebody who can be asked.
pub trait Authorizer {
    /// Whether somebody may do this. `fields` is the selector of a list, a watch or a deletion of many.
    fn decide(&self, user: &User, action: &Action, fields: &FieldSelector) -> Decision;

    /// What somebody may do in a namespace, as far as it can be listed.
    fn rules(&self, user: &User, namespace: &str) -> KnownRules;
}

/// What somebody may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownRules {
    /// Rules about resources and about paths.
    pub rules: Vec<Rule>,
    /// Whether there may be more.
    pub incomplete: bool,
    /// Why; empty if nothing stood in the way.
    pub error: String,
}

/// Paths that everybody may use (`--authorization-always-allow-paths`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AllowedPaths {
    exact: Vec<String>,
    fronts: Vec<String>,
}

/// A path that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllowedPathError {
    /// A star that is not at the end.
    #[error("only trailing * allowed in {0:?}")]
    Star(String),
}

impl AllowedPaths {
    /// Of paths with or without a slash in front; a star at the end stands for anything.
    ///
    /// # Errors
    /// When a star stands elsewhere.
    pub fn of(paths: &[&str]) -> Result<Self, AllowedPathError> {
        let mut allowed = Self::default();
        for path in paths {
            let bare = path.trim_start_matches('/');
            let (front, list) = match bare.strip_suffix('*') {
                Some(front) => (front, &mut allowed.fronts),
                None => (bare, &mut allowed.exact),
            };
            if front.contains('*') {
                return Err(AllowedPathError::Star((*path).to_owned()));
            }
            list.push(front.to_owned());
        }
        Ok(allowed)
    }

    /// Whether everybody may use this path.
    #[must_use]
    pub fn contains(&self, path: &str) -> bool {
        let path = path.trim_start_matches('/');
        self.exact.iter().any(|one| one == path) || self.fronts.iter().any(|front| path.starts_with(front))
    }
}

/// All who are asked, as they are at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'a> {
    /// Paths for everybody.
    pub always_allowed: &'a AllowedPaths,
    /// What nodes may do; nothing where nodes are not told apart.
    pub node: Option<&'a Graph>,
    /// Roles and who has them.
    pub rbac: &'a Policy,
}

impl Chain<'_> {
    /// Whether somebody may do this.
    ///
    /// # Errors
    /// The sentence that stands behind `is forbidden:`.
    pub fn authorize(&self, user: &User, action: &Action, fields: &FieldSelector) -> Result<(), String> {
        match self.decide(user, action, fields) {
            Decision::Allow(_) => Ok(()),
            Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(refusal(user, action, &[reason])),
        }
    }
}

impl Authorizer for Chain<'_> {
    fn decide(&self, user: &User, action: &Action, fields: &FieldSelector) -> Decision {
        if matches!(action, Action::Path { path, .. } if self.always_allowed.contains(path))
            || user.groups.iter().any(|group| group == MASTERS)
        {
            return Decision::Allow(String::new());
        }
        let node = self.node.map(|graph| graph.authorize(user, action, fields));
        let reason = match node {
            Some(decision @ (Decision::Allow(_) | Decision::Deny(_))) => return decision,
            Some(Decision::NoOpinion(reason)) => reason,
            None => String::new(),
        };
        match self.rbac.decide(user, action) {
            // The reasons of all who had no opinion, a line each.
            Decision::NoOpinion(second) => {
                let reasons: Vec<String> =
                    [reason, second].into_iter().filter(|one| !one.is_empty()).collect();
                Decision::NoOpinion(reasons.join("\n"))
            }
            decision => decision,
        }
    }

    fn rules(&self, user: &User, namespace: &str) -> KnownRules {
        let rules = self.rbac.grants(user, namespace).flat_map(|grant| grant.rules.to_vec()).collect();
        let incomplete = self.node.is_some() && node_of(user).is_some();
        let error = if incomplete { "node authorizer does not support user rule resolution" } else { "" };
        KnownRules { rules, incomplete, error: error.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rbac::Named;
    use super::*;

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    fn policy() -> Policy {
        let named = || Named { namespace: String::new(), name: "reader".into() };
        let mut policy = Policy::default();
        let rule = json!({"verbs": ["get"], "apiGroups": [""], "resources": ["nodes"]});
        policy.role_is(named(), &json!({"rules": [rule]}));
        let subjects = json!([{"kind": "User", "name": "eva"}, {"kind": "User", "name": "system:node:b"}]);
        let binding = json!({"roleRef": {"kind": "ClusterRole", "name": "reader"}, "subjects": subjects});
        policy.binding_is(named(), &binding);
        policy
    }

    #[test]
    fn each_is_asked_until_one_allows() {
        let (rbac, graph) = (policy(), Graph::default());
        let always_allowed = AllowedPaths::of(&["/livez", "readyz/*"]).unwrap();
        let chain = Chain { always_allowed: &always_allowed, node: Some(&graph), rbac: &rbac };
        let node = |verb: &str| Action::Resource {
            verb: verb.into(),
            group: String::new(),
            resource: "nodes".into(),
            namespace: String::new(),
            name: "a".into(),
        };
        let path = |path: &str| Action::Path { verb: "get".into(), path: path.into() };
        let nodes = ["system:nodes"];
        let table = [
            (user("anyone", &[]), path("/livez"), Ok(())),
            (user("anyone", &[]), path("/readyz/ping"), Ok(())),
            (user("anyone", &[]), path("/livez/ping"), Err(r#"User "anyone" cannot get path "/livez/ping""#)),
            (user("root", &[MASTERS]), node("delete"), Ok(())),
            (user("system:node:a", &nodes), node("get"), Ok(())),
            (user("system:node:b", &nodes), node("get"), Ok(())),
            (user("eva", &[]), node("get"), Ok(())),
            (
                user("eva", &[]),
                node("delete"),
                Err(r#"User "eva" cannot delete resource "nodes" in API group "" at the cluster scope"#),
            ),
            (
                user("system:node:c", &nodes),
                node("get"),
                Err(
                    "User \"system:node:c\" cannot get resource \"nodes\" in API group \"\" at the cluster scope: \
                     node 'c' cannot read 'a', only its own Node object",
                ),
            ),
        ];
        for (user, action, expected) in table {
            let answer = chain.authorize(&user, &action, &FieldSelector::default());
            assert_eq!(answer, expected.map_err(str::to_owned), "{} {action}", user.name);
        }
        let without = Chain { node: None, ..chain };
        assert!(
            without
                .authorize(&user("system:node:a", &nodes), &node("get"), &FieldSelector::default())
                .is_err()
        );
    }

    #[test]
    fn rules_of_nodes_cannot_all_be_listed() {
        let (rbac, graph) = (policy(), Graph::default());
        let always_allowed = AllowedPaths::default();
        let chain = Chain { always_allowed: &always_allowed, node: Some(&graph), rbac: &rbac };
        let known = chain.rules(&user("eva", &[]), "default");
        assert_eq!((known.rules.len(), known.incomplete, &*known.error), (1, false, ""));
        let known = chain.rules(&user("system:node:a", &["system:nodes"]), "default");
        assert!(known.incomplete && known.rules.is_empty());
        assert_eq!(known.error, "node authorizer does not support user rule resolution");
    }

    #[test]
    fn a_star_stands_at_the_end_of_a_path() {
        let error = AllowedPaths::of(&["/a*b"]).unwrap_err();
        assert_eq!(error.to_string(), r#"only trailing * allowed in "/a*b""#);
    }
}
