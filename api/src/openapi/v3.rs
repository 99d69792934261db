//! OpenAPI version 3: a document for each group and version, and the index of them. Must never change a document without
//! changing its hash.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::parameters::{Parameter, of_action};
use super::routes::{self, Body, Route};
use super::source::{Source, kind_json};
use crate::kind::GroupVersion;
use crate::schema::Dialect;

/// What answers and bodies are written in.
const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml"];

/// The document of a group and version. `version` is that of the server.
#[must_use]
pub fn document(source: &Source, of: &GroupVersion, version: &str) -> Value {
    let mut paths = Map::new();
    let mut names = Vec::new();
    for resource in source.resources().iter().filter(|one| one.name.group_version() == *of) {
        for route in routes::of(source, resource) {
            names.extend(route.answer.clone());
            if let Body::Object(name) | Body::DeleteOptions(name) | Body::Patch { schema: name, .. } =
                &route.body
            {
                names.push(name.clone());
            }
            let item = paths.entry(route.path.clone()).or_insert_with(|| path_item(&route));
            item[route.method] = operation(&route);
        }
        // A kind that is only sent or answered somewhere below is still one of its group.
        names.extend(source.name_of(&resource.group_version_kind()).cloned());
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "components": {
            "schemas": source.schemas(names, Dialect::V3),
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "name": "authorization", "in": "header",
                "description": "Bearer Token authentication",
            }},
        },
        "security": [{"BearerToken": []}],
    })
}

/// The path of a group and version below `/openapi/v3`: `api/v1`, `apis/apps/v1`.
#[must_use]
pub fn path_of(of: &GroupVersion) -> String {
    if of.group.is_empty() { format!("api/{of}") } else { format!("apis/{of}") }
}

/// What tells a document from every other: its hash, in capitals.
#[must_use]
pub fn hash(document: &[u8]) -> String {
    Sha256::digest(document).iter().map(|byte| format!("{byte:02X}")).collect()
}

/// What `/openapi/v3` answers: where each document is. With its hash in the address, a client keeps it for ever.
#[must_use]
pub fn index<'a>(documents: impl IntoIterator<Item = (&'a GroupVersion, &'a str)>) -> Value {
    let entry = |(of, hash): (&GroupVersion, &str)| {
        let path = path_of(of);
        let url = format!("/openapi/v3/{path}?hash={hash}");
        (path, json!({ "serverRelativeURL": url }))
    };
    json!({ "paths": documents.into_iter().map(entry).collect::<Map<_, _>>() })
}

fn path_item(route: &Route) -> Value {
    let in_path = |name: &str, description: &str| {
        let schema = json!({"type": "string", "uniqueItems": true});
        json!({"in": "path", "name": name, "required": true, "description": description, "schema": schema})
    };
    let parameters = route.path_parameters();
    let parameters: Vec<Value> =
        parameters.into_iter().map(|(name, meaning)| in_path(name, meaning)).collect();
    if parameters.is_empty() { json!({}) } else { json!({ "parameters": parameters }) }
}

fn operation(route: &Route) -> Value {
    let answers = match route.action {
        "connect" => {
            json!({"200": {"description": "OK", "content": {"*/*": {"schema": {"type": "string"}}}}})
        }
        _ => answers(route),
    };
    let mut operation = json!({
        "tags": [route.tag],
        "description": route.description,
        "operationId": route.id,
        "responses": answers,
        "x-kubernetes-action": route.action,
        "x-kubernetes-group-version-kind": kind_json(&route.kind),
    });
    operation["responses"]["401"] = json!({"description": "Unauthorized"});
    let parameters: Vec<Value> = of_action(route.action).iter().map(query).collect();
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = body(&route.body) {
        operation["requestBody"] = body;
    }
    operation
}

fn query(parameter: &Parameter) -> Value {
    json!({
        "in": "query",
        "name": parameter.name,
        "description": parameter.description,
        "schema": {"type": parameter.kind, "uniqueItems": true},
    })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{}{name}", Dialect::V3.prefix()) })
}

fn answers(route: &Route) -> Value {
    let mut answers = Map::new();
    for (code, description) in [("200", "OK")].iter().chain(route.also) {
        let mut answer = json!({ "description": description });
        if let Some(name) = &route.answer {
            let content = MEDIA_TYPES.iter().map(|kind| (*kind).to_owned());
            let content = content.map(|kind| (kind, json!({ "schema": reference(name) })));
            answer["content"] = Value::Object(content.collect());
        }
        answers.insert((*code).to_owned(), answer);
    }
    Value::Object(answers)
}

/// How patches are sent.
pub(super) fn patch_types(strategic: bool) -> impl Iterator<Item = &'static str> {
    let all = [
        ("application/apply-patch+yaml", true),
        ("application/json-patch+json", true),
        ("application/merge-patch+json", true),
        ("application/strategic-merge-patch+json", strategic),
    ];
    all.into_iter().filter(|(_, taken)| *taken).map(|(kind, _)| kind)
}

fn body(body: &Body) -> Option<Value> {
    let with = |name: &str| json!({ "schema": reference(name) });
    match body {
        Body::None => None,
        Body::Object(name) => Some(json!({"content": {"*/*": with(name)}, "required": true})),
        Body::DeleteOptions(name) => Some(json!({"content": {"*/*": with(name)}})),
        Body::Patch { schema, strategic } => {
            let content = patch_types(*strategic).map(|kind| (kind.to_owned(), with(schema)));
            Some(json!({"content": content.collect::<Map<_, _>>(), "required": true}))
        }
    }
}
