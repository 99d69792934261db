//! One rule of RBAC (`rbac.authorization.k8s.io/v1` PolicyRule), and which actions it covers. Must never know who has it.

use serde_json::{Value, json};

use super::Action;

/// What may be done.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Groups, or `*`; empty text for core.
    pub groups: Vec<String>,
    /// Collections (`pods`, `pods/log`), `*` for all of both, `*/scale` for what hangs below any.
    pub resources: Vec<String>,
    /// Names of objects; empty for all.
    pub names: Vec<String>,
    /// Paths that are no resources; a `*` at the end stands for anything.
    pub paths: Vec<String>,
}

impl Rule {
    /// From the rule as it stands in a role; what is missing is empty.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        let texts = |field: &str| {
            let list = value.get(field).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Self {
            verbs: texts("verbs"),
            groups: texts("apiGroups"),
            resources: texts("resources"),
            names: texts("resourceNames"),
            paths: texts("nonResourceURLs"),
        }
    }

    /// The rules of a role or cluster role.
    #[must_use]
    pub fn all_of(role: &Value) -> Vec<Self> {
        role.get("rules").and_then(Value::as_array).into_iter().flatten().map(Self::of).collect()
    }

    /// As it stands in a role.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut value = json!({"verbs": self.verbs});
        let fields = [
            ("apiGroups", &self.groups),
            ("resources", &self.resources),
            ("resourceNames", &self.names),
            ("nonResourceURLs", &self.paths),
        ];
        for (field, texts) in fields {
            if !texts.is_empty() {
                value[field] = json!(texts);
            }
        }
        value
    }

    /// Whether it covers this.
    #[must_use]
    pub fn covers(&self, action: &Action) -> bool {
        match action {
            Action::Resource { verb, group, resource, name, .. } => {
                has(&self.verbs, verb)
                    && has(&self.groups, group)
                    && self.covers_resource(resource)
                    && (self.names.is_empty() || self.names.contains(name))
            }
            Action::Path { verb, path } => has(&self.verbs, verb) && self.covers_path(path),
        }
    }

    pub(super) fn covers_resource(&self, resource: &str) -> bool {
        let below_any = resource.split_once('/').map(|(_, below)| format!("*/{below}"));
        self.resources.iter().any(|one| one == "*" || one == resource || Some(one) == below_any.as_ref())
    }

    pub(super) fn covers_path(&self, path: &str) -> bool {
        self.paths.iter().any(|one| match one.strip_suffix('*') {
            Some(front) => path.starts_with(front),
            None => one == path,
        })
    }
}

/// Whether a list has this text, or all.
pub(super) fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|one| one == "*" || one == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(group: &str, resource: &str, name: &str) -> Action {
        Action::Resource {
            verb: "get".into(),
            group: group.into(),
            resource: resource.into(),
            namespace: "default".into(),
            name: name.into(),
        }
    }

    #[test]
    fn a_rule_covers_what_it_names_and_no_more() {
        let rule = |groups: &str, resources: &str, names: &str| Rule {
            verbs: vec!["get".into()],
            groups: vec![groups.into()],
            resources: vec![resources.into()],
            names: if names.is_empty() { vec![] } else { vec![names.into()] },
            paths: vec![],
        };
        let table = [
            (rule("", "pods", ""), get("", "pods", ""), true),
            (rule("", "pods", ""), get("", "pods/log", ""), false),
            (rule("", "pods", ""), get("apps", "pods", ""), false),
            (rule("*", "*", ""), get("apps", "deployments/scale", "a"), true),
            (rule("apps", "*/scale", ""), get("apps", "deployments/scale", "a"), true),
            (rule("apps", "*/scale", ""), get("apps", "deployments", "a"), false),
            (rule("", "pods", "a"), get("", "pods", "a"), true),
            (rule("", "pods", "a"), get("", "pods", "b"), false),
            (rule("", "pods", "a"), get("", "pods", ""), false),
        ];
        for (rule, action, covered) in table {
            assert_eq!(rule.covers(&action), covered, "{rule:?} {action}");
        }
    }

    #[test]
    fn paths_may_end_in_anything() {
        let rule = Rule::of(&json!({"verbs": ["get"], "nonResourceURLs": ["/healthz", "/livez/*"]}));
        for (path, covered) in
            [("/healthz", true), ("/healthz/etcd", false), ("/livez/etcd", true), ("/livez", false)]
        {
            let action = Action::Path { verb: "get".into(), path: path.into() };
            assert_eq!(rule.covers(&action), covered, "{path}");
        }
        let action = Action::Path { verb: "post".into(), path: "/healthz".into() };
        assert!(!rule.covers(&action));
        assert_eq!(Rule::of(&rule.to_value()), rule);
    }
}
