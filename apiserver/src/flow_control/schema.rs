//! Flow schemas: which requests are of one kind, and by what they are told apart among themselves. Matching is that of
//! Kubernetes (`apiserver/pkg/util/flowcontrol/rule.go`). Must never know which level has room.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::authorization::User;
use crate::http::request_info::{RequestInfo, ResourceRequest};

/// By what requests of one schema are told apart, so that none of them takes the place of all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Distinguisher {
    /// By who asks.
    ByUser,
    /// By the namespace that is asked for.
    ByNamespace,
}

/// A `FlowSchema`, as far as it decides something.
#[derive(Clone, Debug)]
pub struct Schema {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid, which answers name; empty for one that is not stored yet.
    pub uid: Arc<str>,
    /// Smaller ones are asked first, from 1 to 10000.
    pub precedence: i64,
    /// The level that its requests belong to.
    pub level: Arc<str>,
    /// Nothing when all its requests are one flow.
    pub distinguisher: Option<Distinguisher>,
    rules: Vec<Rule>,
}

/// An object that is no schema.
#[derive(Debug, thiserror::Error)]
#[error("the flow schema cannot be read: {0}")]
pub struct SchemaError(#[from] serde_json::Error);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    priority_level_configuration: Reference,
    #[serde(default = "usual_precedence")]
    matching_precedence: i64,
    distinguisher_method: Option<Method>,
    #[serde(default)]
    rules: Vec<Rule>,
}

fn usual_precedence() -> i64 {
    1000
}

#[derive(Deserialize)]
struct Reference {
    name: Arc<str>,
}

#[derive(Deserialize)]
struct Method {
    #[serde(rename = "type")]
    kind: Distinguisher,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    subjects: Vec<Subject>,
    #[serde(default)]
    resource_rules: Vec<ResourceRule>,
    #[serde(default)]
    non_resource_rules: Vec<PathRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind")]
enum Subject {
    User {
        user: Named,
    },
    Group {
        group: Named,
    },
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        service_account: Account,
    },
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Account {
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    #[serde(default)]
    cluster_scope: bool,
    #[serde(default)]
    namespaces: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
}

impl Schema {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is no flow schema; validation lets none such be stored.
    pub fn of(object: &Value) -> Result<Self, SchemaError> {
        let spec = Spec::deserialize(&object["spec"])?;
        let text = |field: &str| Arc::from(object["metadata"][field].as_str().unwrap_or_default());
        Ok(Self {
            name: text("name"),
            uid: text("uid"),
            precedence: spec.matching_precedence,
            level: spec.priority_level_configuration.name,
            distinguisher: spec.distinguisher_method.map(|method| method.kind),
            rules: spec.rules,
        })
    }

    /// Whether a request belongs to it.
    #[must_use]
    pub fn matches(&self, user: &User, info: &RequestInfo) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(user))
                && match info {
                    RequestInfo::Resource(resource) => {
                        rule.resource_rules.iter().any(|rule| rule.matches(resource))
                    }
                    RequestInfo::Other { verb, path } => {
                        rule.non_resource_rules.iter().any(|rule| rule.matches(verb, path))
                    }
                }
        })
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self {
            Self::User { user: wanted } => wanted.name == "*" || wanted.name == user.name,
            Self::Group { group } => group.name == "*" || user.groups.contains(&group.name),
            Self::ServiceAccount { service_account: wanted } => {
                let account = user.name.strip_prefix("system:serviceaccount:");
                let account = account.and_then(|account| account.split_once(':'));
                account.is_some_and(|(namespace, name)| {
                    namespace == wanted.namespace && (wanted.name == "*" || wanted.name == name)
                })
            }
        }
    }
}

impl ResourceRule {
    fn matches(&self, request: &ResourceRequest) -> bool {
        let resource = &request.resource.resource;
        let is_named = |listed: &String| match request.subresource.as_str() {
            "" => **listed == **resource,
            below => listed.split_once('/').is_some_and(|(of, at)| of == &**resource && at == below),
        };
        let place = if request.namespace.is_empty() {
            self.cluster_scope
        } else {
            contains(&self.namespaces, &request.namespace)
        };
        place
            && contains(&self.verbs, request.verb)
            && (is_all(&self.resources) || self.resources.iter().any(is_named))
            && contains(&self.api_groups, &request.resource.group)
    }
}

impl PathRule {
    fn matches(&self, verb: &str, path: &str) -> bool {
        let is_path = |listed: &String| {
            if listed == "*" || listed == path {
                return true;
            }
            let prefix = listed.strip_suffix('*').unwrap_or(listed);
            let below = path.strip_prefix(prefix.strip_suffix('/').unwrap_or(prefix));
            below.is_some_and(|below| below.starts_with('/'))
        };
        contains(&self.verbs, verb) && self.paths.iter().any(is_path)
    }
}

fn is_all(list: &[String]) -> bool {
    matches!(list, [one] if one == "*")
}

fn contains(list: &[String], one: &str) -> bool {
    is_all(list) || list.iter().any(|listed| listed == one)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::http::request_info::{Query, request_info};

    fn asked(line: &str) -> RequestInfo {
        let (method, path) = line.split_once(' ').unwrap();
        request_info(method, path, Query::default())
    }

    fn matches(rule: &Value, name: &str, group: &str, line: &str) -> bool {
        let object = json!({"metadata": {"name": "a"}, "spec": {
            "priorityLevelConfiguration": {"name": "b"}, "rules": [rule]
        }});
        let user = User { name: name.into(), groups: vec![group.into()], ..User::default() };
        Schema::of(&object).unwrap().matches(&user, &asked(line))
    }

    #[test]
    fn subjects_are_users_groups_and_service_accounts() {
        let table = [
            (json!({"kind": "User", "user": {"name": "eva"}}), "eva", "", true),
            (json!({"kind": "User", "user": {"name": "eva"}}), "adam", "eva", false),
            (json!({"kind": "User", "user": {"name": "*"}}), "adam", "", true),
            (json!({"kind": "Group", "group": {"name": "x"}}), "eva", "x", true),
            (json!({"kind": "Group", "group": {"name": "x"}}), "x", "y", false),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube"}}),
                "system:serviceaccount:kube:a",
                "",
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube"}}),
                "system:serviceaccount:kube-system:a",
                "",
                false,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"name": "b", "namespace": "kube"}}),
                "system:serviceaccount:kube:a",
                "",
                false,
            ),
        ];
        for (subject, name, group, expected) in table {
            let rule = json!({"subjects": [subject], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
            assert_eq!(matches(&rule, name, group, "GET /livez"), expected, "{rule} {name} {group}");
        }
    }

    #[test]
    fn rules_name_verbs_resources_scopes_and_paths() {
        let resources = |rule: Value| json!({"resourceRules": [rule]});
        let paths = |list: Value| json!({"nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": list}]});
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]});
        let nodes = json!({"verbs": ["*"], "apiGroups": [""], "resources": ["nodes", "nodes/status"], "clusterScope": true});
        let leases = json!({
            "verbs": ["get", "create"], "apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "namespaces": ["a"]
        });
        let lease = "/apis/coordination.k8s.io/v1/namespaces/a/leases";
        let table = [
            (resources(all.clone()), "GET /api/v1/pods".to_owned(), true),
            (resources(all.clone()), "GET /apis/x/v1/namespaces/a/y/z/w".to_owned(), true),
            (resources(all), "GET /livez".to_owned(), false),
            (resources(nodes.clone()), "PATCH /api/v1/nodes/a/status".to_owned(), true),
            (resources(nodes.clone()), "GET /api/v1/nodes/a/proxy".to_owned(), false),
            (resources(nodes), "GET /api/v1/pods".to_owned(), false),
            (resources(leases.clone()), format!("POST {lease}"), true),
            (resources(leases.clone()), format!("PUT {lease}/b"), false),
            (
                resources(leases.clone()),
                "GET /apis/coordination.k8s.io/v1/namespaces/b/leases/b".to_owned(),
                false,
            ),
            (resources(leases), "GET /apis/coordination.k8s.io/v1/leases".to_owned(), false),
            (paths(json!(["/healthz"])), "GET /healthz".to_owned(), true),
            (paths(json!(["/healthz"])), "GET /healthz/etcd".to_owned(), true),
            (paths(json!(["/healthz"])), "GET /healthzz".to_owned(), false),
            (paths(json!(["/healthz"])), "POST /healthz".to_owned(), false),
            (paths(json!(["/a/*"])), "GET /a/b".to_owned(), true),
            (paths(json!(["/a/*"])), "GET /ab".to_owned(), false),
        ];
        for (mut rule, line, expected) in table {
            rule["subjects"] = json!([{"kind": "Group", "group": {"name": "*"}}]);
            assert_eq!(matches(&rule, "eva", "", &line), expected, "{rule} {line}");
        }
    }
}
