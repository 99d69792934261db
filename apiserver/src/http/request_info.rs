//! What a request is about, from its method, path and query: the resource, the object, the verb, as authorization, limits
//! and audit see it. Must never know which resources there are, nor let a name be read in two ways.

use std::borrow::Cow;

use barque_api::kind::GroupVersionResource;
use percent_encoding::percent_decode_str;

/// What a path means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestInfo {
    /// A resource of the API.
    Resource(ResourceRequest),
    /// Anything else: health, metrics, discovery, documents.
    Other {
        /// The HTTP method in lower case, which is what RBAC's `nonResourceURLs` rules name.
        verb: String,
        /// The path as it came.
        path: String,
    },
}

/// A request for a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRequest {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`; for what hangs below objects these
    /// too, as RBAC has it.
    pub verb: &'static str,
    /// The collection.
    pub resource: GroupVersionResource,
    /// The namespace; empty for none or for all.
    pub namespace: String,
    /// The object's name; empty for the collection.
    pub name: String,
    /// What hangs below the object; empty for the object itself.
    pub subresource: String,
    /// What follows the subresource, without a slash at its front and as it came: the path that a proxy passes on.
    pub rest: String,
}

/// Reads a request's line. `watch` and the name in `fieldSelector` come from the query, which is not decoded here.
#[must_use]
pub fn request_info(method: &str, path: &str, query: Query<'_>) -> RequestInfo {
    resource_request(method, path, query).map_or_else(
        || RequestInfo::Other { verb: method.to_ascii_lowercase(), path: path.to_owned() },
        RequestInfo::Resource,
    )
}

/// What the query says that matters for the verb.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<'a> {
    /// `watch=true` or `watch=1`.
    pub watch: bool,
    /// The name that `fieldSelector=metadata.name=...` asks for.
    pub name: Option<&'a str>,
}

fn resource_request(method: &str, path: &str, query: Query<'_>) -> Option<ResourceRequest> {
    let mut parts = path.trim_matches('/').split('/');
    let (group, version) = match parts.next()? {
        "api" => ("", parts.next()?),
        "apis" => (parts.next()?, parts.next()?),
        _ => return None,
    };
    let parts: Vec<&str> = parts.collect();
    if version.is_empty() || parts.first().is_none_or(|first| first.is_empty()) {
        return None;
    }
    // The old form of watches, which clients still may use: /api/v1/watch/pods.
    let old_watch = parts[0] == "watch" && parts.len() > 1;
    let parts = &parts[usize::from(old_watch)..];
    // /namespaces/NAME and its status are the namespace itself; anything else lies in it.
    let is_namespace = parts[0] == "namespaces" && parts.len() > 1;
    let lies_in_it = is_namespace && parts.len() > 2 && !["status", "finalize"].contains(&parts[2]);
    let namespace = if is_namespace { segment(parts[1])? } else { Cow::Borrowed("") };
    let parts = if lies_in_it { &parts[2..] } else { parts };
    let at = |place: usize| parts.get(place).map_or(Some(Cow::Borrowed("")), |part| segment(part));
    let (resource, name, subresource) = (at(0)?, at(1)?, at(2)?);
    let verb = verb(method, !name.is_empty(), query.watch || old_watch)?;
    let of_many = name.is_empty() && ["list", "watch", "deletecollection"].contains(&verb);
    Some(ResourceRequest {
        verb,
        resource: GroupVersionResource::new(group, version, &resource),
        namespace: namespace.into_owned(),
        name: if of_many { query.name.unwrap_or_default().to_owned() } else { name.into_owned() },
        subresource: subresource.into_owned(),
        rest: parts.get(3..).unwrap_or_default().join("/"),
    })
}

/// A part of a path, decoded; nothing for one that is no name wherever it stands: other readers could take it for a way.
fn segment(part: &str) -> Option<Cow<'_, str>> {
    let text = percent_decode_str(part).decode_utf8().ok()?;
    (!text.contains('/') && text != "." && text != "..").then_some(text)
}

/// Whether every reader takes a path for the same: no part of it is empty or leads elsewhere.
#[must_use]
pub fn is_plain(path: &str) -> bool {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    inner.split('/').all(|part| !part.is_empty() && segment(part).is_some())
}

fn verb(method: &str, named: bool, watch: bool) -> Option<&'static str> {
    Some(match method {
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "GET" | "HEAD" if watch => "watch",
        "GET" | "HEAD" if named => "get",
        "GET" | "HEAD" => "list",
        "DELETE" if named => "delete",
        "DELETE" => "deletecollection",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: &str, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let query = Query {
            watch: query.contains("watch=1"),
            name: query.split_once("metadata.name=").map(|(_, name)| name),
        };
        match request_info(method, path, query) {
            RequestInfo::Other { verb, path } => format!("{verb} {path}"),
            RequestInfo::Resource(it) => format!(
                "{} {} ns={} name={} sub={} rest={}",
                it.verb, it.resource, it.namespace, it.name, it.subresource, it.rest
            ),
        }
    }

    #[test]
    fn paths_mean_what_they_mean_in_kubernetes() {
        let table = [
            ("GET /api/v1/pods", "list v1, Resource=pods ns= name= sub= rest="),
            ("GET /api/v1/namespaces/a/pods", "list v1, Resource=pods ns=a name= sub= rest="),
            ("GET /api/v1/namespaces/a/pods?watch=1", "watch v1, Resource=pods ns=a name= sub= rest="),
            ("GET /api/v1/watch/namespaces/a/pods", "watch v1, Resource=pods ns=a name= sub= rest="),
            (
                "GET /api/v1/namespaces/a/pods?watch=1&fieldSelector=metadata.name=b",
                "watch v1, Resource=pods ns=a name=b sub= rest=",
            ),
            ("HEAD /api/v1/namespaces/a/pods/b", "get v1, Resource=pods ns=a name=b sub= rest="),
            ("GET /api/v1/namespaces/a/pods/b/log", "get v1, Resource=pods ns=a name=b sub=log rest="),
            ("POST /api/v1/namespaces/a/pods/b/exec", "create v1, Resource=pods ns=a name=b sub=exec rest="),
            (
                "GET /api/v1/namespaces/a/services/b:80/proxy/c/d",
                "get v1, Resource=services ns=a name=b:80 sub=proxy rest=c/d",
            ),
            ("POST /api/v1/namespaces", "create v1, Resource=namespaces ns= name= sub= rest="),
            ("GET /api/v1/namespaces/a", "get v1, Resource=namespaces ns=a name=a sub= rest="),
            (
                "PUT /api/v1/namespaces/a/finalize",
                "update v1, Resource=namespaces ns=a name=a sub=finalize rest=",
            ),
            (
                "DELETE /apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps/v1, Resource=deployments ns=a name= sub= rest=",
            ),
            (
                "DELETE /apis/apps/v1/namespaces/a/deployments/b",
                "delete apps/v1, Resource=deployments ns=a name=b sub= rest=",
            ),
            ("PATCH /api/v1/nodes/a/status", "patch v1, Resource=nodes ns= name=a sub=status rest="),
            // Clients may encode what need not be: Python's does.
            (
                "GET /apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                "get rbac.authorization.k8s.io/v1, Resource=clusterroles ns= name=system:node sub= rest=",
            ),
            (
                "GET /api/v1/namespaces/%61/services/b/proxy/c%20d",
                "get v1, Resource=services ns=a name=b sub=proxy rest=c%20d",
            ),
            // What is a name here and a way elsewhere is none.
            ("GET /api/v1/namespaces/a%2Fb/pods", "get /api/v1/namespaces/a%2Fb/pods"),
            ("GET /api/v1/namespaces/%2e%2e/pods/x", "get /api/v1/namespaces/%2e%2e/pods/x"),
            ("GET /api/v1/pods/%ff", "get /api/v1/pods/%ff"),
            ("GET /api/v1/", "get /api/v1/"),
            ("GET /apis/apps/v1", "get /apis/apps/v1"),
            ("GET /livez/etcd", "get /livez/etcd"),
            ("OPTIONS /api/v1/pods", "options /api/v1/pods"),
            ("GET /", "get /"),
        ];
        for (request, meaning) in table {
            let (method, path) = request.split_once(' ').unwrap();
            assert_eq!(read(method, path), meaning, "{request}");
        }
    }

    #[test]
    fn paths_that_can_be_read_in_two_ways_are_told() {
        for plain in ["/apis/a/v1", "/apis/a/v1/", "/apis/a/v1/pods/b%3Ac"] {
            assert!(is_plain(plain), "{plain}");
        }
        for other in
            ["/apis/a/v1//pods", "//apis/a/v1", "/apis/a/v1/../v2", "/apis/a/v1/%2e%2e/x", "/apis/a%2fb/v1"]
        {
            assert!(!is_plain(other), "{other}");
        }
    }
}
