//! The paths of a collection with what can be done at each. Must never know how a version of OpenAPI writes them.

use std::sync::Arc;

use super::source::{META, Source};
use crate::kind::GroupVersionKind;
use crate::resources::{Resource, Subresource, Verb};

/// What a request sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// Nothing.
    None,
    /// An object of this schema.
    Object(Arc<str>),
    /// How to delete; may be left out.
    DeleteOptions(Arc<str>),
    /// A change of an object.
    Patch { schema: Arc<str>, strategic: bool },
}

/// One thing that can be done.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) path: String,
    /// `get`, `put` and so on.
    pub(super) method: &'static str,
    /// `list`, `deletecollection`, `connect` and so on.
    pub(super) action: &'static str,
    pub(super) id: String,
    pub(super) tag: String,
    pub(super) description: String,
    pub(super) kind: GroupVersionKind,
    pub(super) body: Body,
    /// The schema of the answer; connections have none.
    pub(super) answer: Option<Arc<str>>,
    /// Codes of answers beside 200.
    pub(super) also: &'static [(&'static str, &'static str)],
}

impl Route {
    pub(super) fn in_namespace(&self) -> bool {
        self.path.contains("/{namespace}/")
    }

    pub(super) fn of_one(&self) -> bool {
        self.path.contains("/{name}")
    }

    /// The parts of the path that a request fills in, each with what it means.
    pub(super) fn path_parameters(&self) -> Vec<(&'static str, &'static str)> {
        let parts = [
            (self.of_one(), "name", "name of the object"),
            (self.in_namespace(), "namespace", "object name and auth scope, such as for teams and projects"),
            (self.path.ends_with("/{path}"), "path", "path to the resource"),
        ];
        parts.into_iter().filter(|(there, ..)| *there).map(|(_, name, meaning)| (name, meaning)).collect()
    }
}

/// All that can be done with a collection and what hangs below its objects, path by path.
pub(super) fn of(source: &Source, resource: &Resource) -> Vec<Route> {
    let mut routes = Vec::new();
    let version = resource.name.group_version();
    let root = if version.group.is_empty() { format!("/api/{version}") } else { format!("/apis/{version}") };
    let plural = &resource.name.resource;
    let at = Place { source, resource, id: identifier(resource) };
    let collection = if resource.namespaced {
        format!("{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("{root}/{plural}")
    };
    if resource.namespaced && resource.can(Verb::List) {
        let mut route = at.own(&format!("{root}/{plural}"), Verb::List);
        route.id = format!("list{}{}ForAllNamespaces", at.id, resource.kind);
        routes.push(route);
    }
    let one = format!("{collection}/{{name}}");
    for verb in [Verb::List, Verb::Create, Verb::DeleteCollection] {
        routes.extend(resource.can(verb).then(|| at.own(&collection, verb)));
    }
    for verb in [Verb::Get, Verb::Update, Verb::Delete, Verb::Patch] {
        routes.extend(resource.can(verb).then(|| at.own(&one, verb)));
    }
    for below in &resource.subresources {
        let path = format!("{one}/{}", below.name);
        let verbs = [Verb::Get, Verb::Update, Verb::Create, Verb::Delete, Verb::Patch];
        for verb in verbs.into_iter().filter(|verb| below.verbs.contains(verb)) {
            routes.push(at.below(below, &path, verb));
        }
        if below.verbs.contains(&Verb::Connect) {
            at.connect(below, &path, &mut routes);
        }
    }
    routes
}

/// `CoreV1`, `RbacAuthorizationV1`: what names of operations have between verb and kind.
fn identifier(resource: &Resource) -> String {
    let group = resource.name.group.strip_suffix(".k8s.io").unwrap_or(&resource.name.group);
    let group = if group.is_empty() { "core" } else { group };
    let parts = group.split(['.', '-']).chain([&*resource.name.version]);
    parts.map(title).collect()
}

fn title(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

struct Place<'a> {
    source: &'a Source,
    resource: &'a Resource,
    id: String,
}

impl Place<'_> {
    fn own(&self, path: &str, verb: Verb) -> Route {
        self.route(path, verb, &self.resource.group_version_kind(), "")
    }

    fn below(&self, below: &Subresource, path: &str, verb: Verb) -> Route {
        self.route(path, verb, &below.kind, &below.name)
    }

    fn route(&self, path: &str, verb: Verb, kind: &GroupVersionKind, below: &str) -> Route {
        let resource = self.resource;
        let schema = self.source.name_of(kind).cloned();
        let list = resource.name.group_version().kind(&resource.list_kind());
        let status: Arc<str> = format!("{META}.Status").into();
        let named = |kind: &str| Arc::<str>::from(format!("{META}.{kind}"));
        let object = schema.clone().map_or(Body::None, Body::Object);
        let (method, action, word, body, answer) = match verb {
            Verb::List => ("get", "list", "list", Body::None, self.source.name_of(&list).cloned()),
            Verb::Create => ("post", "post", "create", object, schema),
            Verb::Update => ("put", "put", "replace", object, schema),
            Verb::Patch => {
                let strategic = !self.source.is_custom(&resource.group_version_kind());
                ("patch", "patch", "patch", Body::Patch { schema: named("Patch"), strategic }, schema)
            }
            Verb::Delete => {
                ("delete", "delete", "delete", Body::DeleteOptions(named("DeleteOptions")), Some(status))
            }
            Verb::DeleteCollection => {
                let body = Body::DeleteOptions(named("DeleteOptions"));
                ("delete", "deletecollection", "deletecollection", body, Some(status))
            }
            _ => ("get", "get", "read", Body::None, schema),
        };
        let what = match verb {
            Verb::Patch => "partially update",
            Verb::DeleteCollection => "delete collection of",
            Verb::List => "list or watch objects of kind",
            _ => word,
        };
        let of = if below.is_empty() { String::new() } else { format!("{below} of ") };
        let mut route = Route {
            path: path.to_owned(),
            method,
            action,
            id: String::new(),
            tag: self.tag(),
            description: format!("{what} {of}{}", resource.kind),
            kind: kind.clone(),
            body,
            answer,
            also: match verb {
                Verb::Create => &[("201", "Created"), ("202", "Accepted")],
                Verb::Update | Verb::Patch => &[("201", "Created")],
                Verb::Delete => &[("202", "Accepted")],
                _ => &[],
            },
        };
        // The collection's own names: deletecoreV1CollectionNamespacedPod.
        let word = if verb == Verb::DeleteCollection { "delete" } else { word };
        let collection = if verb == Verb::DeleteCollection { "Collection" } else { "" };
        let namespaced = if route.in_namespace() { "Namespaced" } else { "" };
        let (id, kind, below) = (&self.id, &resource.kind, title(below));
        route.id = format!("{word}{id}{collection}{namespaced}{kind}{below}");
        route
    }

    /// What is connected to; proxies also with the path behind them.
    fn connect(&self, below: &Subresource, path: &str, routes: &mut Vec<Route>) {
        let proxy = &*below.name == "proxy";
        let methods: &[&str] = if proxy {
            &["get", "put", "post", "delete", "options", "head", "patch"]
        } else {
            &["get", "post"]
        };
        let behind = format!("{path}/{{path}}");
        let paths = [(path, ""), (behind.as_str(), "WithPath")];
        for (path, suffix) in paths.into_iter().take(if proxy { 2 } else { 1 }) {
            for method in methods {
                let namespaced = if self.resource.namespaced { "Namespaced" } else { "" };
                let (kind, name) = (&self.resource.kind, title(&below.name));
                routes.push(Route {
                    path: path.to_owned(),
                    method,
                    action: "connect",
                    id: format!("connect{}{}{namespaced}{kind}{name}{suffix}", self.id, title(method)),
                    tag: self.tag(),
                    description: format!(
                        "connect {} requests to {} of {kind}",
                        method.to_uppercase(),
                        below.name
                    ),
                    kind: below.kind.clone(),
                    body: Body::None,
                    answer: None,
                    also: &[],
                });
            }
        }
    }

    fn tag(&self) -> String {
        let group = self.resource.name.group.strip_suffix(".k8s.io").unwrap_or(&self.resource.name.group);
        let group = if group.is_empty() { "core" } else { group };
        format!("{}_{}", group.replace(['.', '-'], "_"), self.resource.name.version)
    }
}
