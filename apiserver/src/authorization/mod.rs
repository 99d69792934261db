//! Who may do what: the question that is asked of every request, and those who answer it. Answers depend on the question and
//! on replicated objects alone; must never ask the network or the clock.

pub mod chain;
pub mod escalation;
pub mod granting;
pub mod node;
pub mod rbac;
pub mod review;
pub mod rules;

use std::collections::BTreeMap;
use std::fmt;

/// Who asks, as authentication found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// `system:serviceaccount:NAMESPACE:NAME` for service accounts.
    pub name: String,
    /// May be empty.
    pub uid: String,
    /// Groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// What else is known.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// The group that may do everything.
pub const MASTERS: &str = "system:masters";

/// What somebody wants to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Something with a resource.
    Resource {
        /// `get`, `list`, `bind`, `impersonate` and so on.
        verb: String,
        /// The group; empty for core.
        group: String,
        /// The collection, with what hangs below an object behind a slash: `pods/log`.
        resource: String,
        /// Empty for no namespace, or all.
        namespace: String,
        /// Empty for no object, or all.
        name: String,
    },
    /// Something with a path that is no resource.
    Path {
        /// The HTTP method in lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

/// As an error says it: `list resource "pods" in API group "" in the namespace "default"`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource { verb, group, resource, namespace, .. } => {
                write!(f, "{verb} resource {resource:?} in API group {group:?}")?;
                if namespace.is_empty() {
                    f.write_str(" at the cluster scope")
                } else {
                    write!(f, " in the namespace {namespace:?}")
                }
            }
            Self::Path { verb, path } => write!(f, "{verb} path {path:?}"),
        }
    }
}

/// The answer of one who was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Yes; nobody else is asked.
    Allow(String),
    /// No; nobody else is asked.
    Deny(String),
    /// Somebody else may know. If nobody does, it is no.
    NoOpinion(String),
}

/// The sentence behind `is forbidden:` when nobody allowed it. `reasons` are those of all who were asked; empty ones are
/// left out.
#[must_use]
pub fn refusal(user: &User, action: &Action, reasons: &[String]) -> String {
    let mut text = format!("User {:?} cannot {action}", user.name);
    for reason in reasons.iter().filter(|reason| !reason.is_empty()) {
        text.push_str(": ");
        text.push_str(reason);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_those_of_kubernetes() {
        let user = User { name: "eva".into(), ..User::default() };
        let mut list = Action::Resource {
            verb: "list".into(),
            group: String::new(),
            resource: "pods".into(),
            namespace: "default".into(),
            name: String::new(),
        };
        let expected = r#"User "eva" cannot list resource "pods" in API group "" in the namespace "default""#;
        assert_eq!(refusal(&user, &list, &[]), expected);
        if let Action::Resource { namespace, .. } = &mut list {
            namespace.clear();
        }
        let expected = r#"User "eva" cannot list resource "pods" in API group "" at the cluster scope: why"#;
        assert_eq!(refusal(&user, &list, &[String::new(), "why".into()]), expected);
        let path = Action::Path { verb: "get".into(), path: "/metrics".into() };
        assert_eq!(refusal(&user, &path, &[]), r#"User "eva" cannot get path "/metrics""#);
    }
}
