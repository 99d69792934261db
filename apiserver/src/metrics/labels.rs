//! What a request is counted as. Every value is one of few: what clients can invent is told as `other`, or not at all. It
//! must never look at a name or a namespace.

use std::collections::HashSet;

use barque_api::kind::GroupVersionResource;
use parking_lot::Mutex;

use crate::http::request_info::{RequestInfo, ResourceRequest};

/// Versions of collections that are told apart, at most, over a server's life: custom ones come and go.
const MOST_RESOURCES: usize = 1000;

/// What hangs below objects and is told by its name.
const SUBRESOURCES: [&str; 15] = [
    "approval",
    "attach",
    "binding",
    "ephemeralcontainers",
    "eviction",
    "exec",
    "finalize",
    "log",
    "portforward",
    "proxy",
    "resize",
    "scale",
    "status",
    "token",
    "bindings",
];

/// Paths that are no resources and are told by their first part.
const PATHS: [&str; 10] = [
    "/api",
    "/apis",
    "/healthz",
    "/livez",
    "/metrics",
    "/openapi",
    "/openid",
    "/readyz",
    "/version",
    "/.well-known",
];

/// What of a request its path does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether there is such a resource.
    pub is_served: bool,
    /// Whether it is a server-side apply.
    pub is_apply: bool,
    /// Whether it is told to change nothing.
    pub is_dry_run: bool,
}

/// The labels of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    pub(super) verb: &'static str,
    pub(super) dry_run: &'static str,
    /// Nothing for a path, or for what is not served.
    pub(super) resource: Option<GroupVersionResource>,
    pub(super) subresource: &'static str,
    pub(super) scope: &'static str,
    pub(super) is_mutating: bool,
}

impl Subject {
    /// What a request is counted as.
    #[must_use]
    pub fn of(info: &RequestInfo, seen: Seen) -> Self {
        let dry_run = if seen.is_dry_run { "All" } else { "" };
        match info {
            RequestInfo::Resource(request) => Self {
                verb: verb(request, seen.is_apply),
                dry_run,
                resource: seen.is_served.then(|| request.resource.clone()),
                subresource: listed(&SUBRESOURCES, &request.subresource),
                scope: scope(request),
                is_mutating: !["get", "list", "watch"].contains(&request.verb),
            },
            RequestInfo::Other { verb, path } => {
                let verb = method(verb);
                let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
                let known = PATHS.into_iter().find(|known| &known[1..] == first);
                Self {
                    verb,
                    dry_run: "",
                    resource: None,
                    subresource: known.unwrap_or_default(),
                    scope: "",
                    is_mutating: !["GET", "HEAD"].contains(&verb),
                }
            }
        }
    }

    /// Group, version and resource.
    pub(super) fn resource(&self) -> [&str; 3] {
        self.resource.as_ref().map_or(["", "", ""], |named| [&named.group, &named.version, &named.resource])
    }
}

fn listed(known: &[&'static str], found: &str) -> &'static str {
    match found {
        "" => "",
        found => known.iter().find(|known| **known == found).unwrap_or(&"other"),
    }
}

/// As Kubernetes' dashboards name it.
fn verb(request: &ResourceRequest, is_apply: bool) -> &'static str {
    if ["exec", "attach", "portforward", "proxy"].contains(&request.subresource.as_str()) {
        return "CONNECT";
    }
    match request.verb {
        "get" => "GET",
        "list" => "LIST",
        "watch" => "WATCH",
        "create" => "POST",
        "update" => "PUT",
        "patch" if is_apply => "APPLY",
        "patch" => "PATCH",
        "delete" => "DELETE",
        "deletecollection" => "DELETECOLLECTION",
        _ => "other",
    }
}

fn method(method: &str) -> &'static str {
    const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    METHODS.into_iter().find(|known| known.eq_ignore_ascii_case(method)).unwrap_or("other")
}

fn scope(request: &ResourceRequest) -> &'static str {
    if !request.name.is_empty() || request.verb == "create" {
        "resource"
    } else if !request.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}

/// The versions of collections that have series.
#[derive(Debug, Default)]
pub(super) struct Told(Mutex<HashSet<GroupVersionResource>>);

impl Told {
    /// Lets a subject keep its resource, unless there are too many.
    pub(super) fn bound(&self, mut subject: Subject) -> Subject {
        if let Some(resource) = &subject.resource {
            let mut told = self.0.lock();
            if !told.contains(resource) {
                if told.len() < MOST_RESOURCES {
                    told.insert(resource.clone());
                } else {
                    subject.resource = Some(GroupVersionResource::new("other", "other", "other"));
                }
            }
        }
        subject
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_info::{Query, request_info};

    fn told(line: &str, seen: Seen) -> String {
        let (method, path) = line.split_once(' ').unwrap();
        let subject = Subject::of(&request_info(method, path, Query::default()), seen);
        let [group, version, resource] = subject.resource();
        let Subject { verb, dry_run, subresource, scope, is_mutating, .. } = &subject;
        format!("{verb} {dry_run} {group}/{version}/{resource} {subresource} {scope} {is_mutating}")
    }

    #[test]
    fn labels_are_those_of_kubernetes_and_few() {
        let served = Seen { is_served: true, ..Seen::default() };
        let apply = Seen { is_apply: true, is_dry_run: true, ..served };
        let deployments = "/apis/apps/v1/namespaces/a/deployments";
        let table = [
            ("GET /api/v1/pods".to_owned(), served, "LIST  /v1/pods  cluster false"),
            (format!("GET {deployments}"), served, "LIST  apps/v1/deployments  namespace false"),
            (format!("POST {deployments}"), served, "POST  apps/v1/deployments  resource true"),
            (format!("PATCH {deployments}/b"), apply, "APPLY All apps/v1/deployments  resource true"),
            (
                format!("PATCH {deployments}/b/status"),
                served,
                "PATCH  apps/v1/deployments status resource true",
            ),
            (
                format!("DELETE {deployments}"),
                served,
                "DELETECOLLECTION  apps/v1/deployments  namespace true",
            ),
            (format!("GET {deployments}/b/made-up"), served, "GET  apps/v1/deployments other resource false"),
            (
                "POST /api/v1/namespaces/a/pods/b/exec".to_owned(),
                served,
                "CONNECT  /v1/pods exec resource true",
            ),
            ("GET /apis/made/up/things".to_owned(), Seen::default(), "LIST  //  cluster false"),
            ("GET /livez/etcd".to_owned(), Seen::default(), "GET  // /livez  false"),
            ("GET /made-up".to_owned(), Seen::default(), "GET  //   false"),
            ("BREW /".to_owned(), Seen::default(), "other  //   true"),
        ];
        for (line, seen, expected) in table {
            assert_eq!(told(&line, seen), expected, "{line}");
        }
    }

    #[test]
    fn the_number_of_resources_is_bounded() {
        let bounded = Told::default();
        let seen = Seen { is_served: true, ..Seen::default() };
        let mut different = HashSet::new();
        for number in 0..MOST_RESOURCES + 50 {
            let info = request_info("GET", &format!("/apis/example.com/v1/r{number}"), Query::default());
            different.insert(bounded.bound(Subject::of(&info, seen)).resource);
        }
        assert_eq!(different.len(), MOST_RESOURCES + 1);
    }
}
