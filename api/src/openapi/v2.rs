//! OpenAPI version 2: one document of all collections, as JSON and as the protobuf that kubectl fetches. Must never use what
//! only version 3 has.

use serde_json::{Map, Value, json};

use super::gnostic;
use super::parameters::{Parameter, of_action};
use super::routes::{self, Body, Route};
use super::source::{META, Source, kind_json};
use super::v3::patch_types;
use crate::schema::Dialect;

/// The media type of [`to_protobuf`].
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

const MEDIA_TYPES: &[&str] = &["application/json", "application/yaml"];

/// The document. `version` is that of the server.
#[must_use]
pub fn document(source: &Source, version: &str) -> Value {
    let mut paths = Map::new();
    let mut names = Vec::new();
    for resource in source.resources() {
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
        names.extend(source.name_of(&resource.group_version_kind()).cloned());
    }
    for kind in ["APIGroup", "APIGroupList", "APIResourceList", "APIVersions"] {
        names.push(format!("{META}.{kind}").into());
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": version},
        "paths": paths,
        "definitions": source.schemas(names, Dialect::V2),
        "securityDefinitions": {"BearerToken": {
            "type": "apiKey", "name": "authorization", "in": "header",
            "description": "Bearer Token authentication",
        }},
        "security": [{"BearerToken": []}],
    })
}

/// The document as gnostic writes it.
#[must_use]
pub fn to_protobuf(document: &Value) -> Vec<u8> {
    gnostic::document(document)
}

fn path_item(route: &Route) -> Value {
    let in_path = |name: &str, description: &str| {
        json!({"in": "path", "name": name, "required": true, "type": "string", "uniqueItems": true,
            "description": description})
    };
    let parameters = route.path_parameters();
    let parameters: Vec<Value> =
        parameters.into_iter().map(|(name, meaning)| in_path(name, meaning)).collect();
    if parameters.is_empty() { json!({}) } else { json!({ "parameters": parameters }) }
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("{}{name}", Dialect::V2.prefix()) })
}

fn query(parameter: &Parameter) -> Value {
    json!({
        "in": "query",
        "name": parameter.name,
        "description": parameter.description,
        "type": parameter.kind,
        "uniqueItems": true,
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters: Vec<Value> = of_action(route.action).iter().map(query).collect();
    let body = |name: &str, required: bool| json!({"in": "body", "name": "body", "required": required, "schema": reference(name)});
    let mut consumes: Vec<&str> = vec!["*/*"];
    match &route.body {
        Body::None => {}
        Body::Object(name) => parameters.push(body(name, true)),
        Body::DeleteOptions(name) => parameters.push(body(name, false)),
        Body::Patch { schema, strategic } => {
            parameters.push(body(schema, true));
            consumes = patch_types(*strategic).collect();
        }
    }
    let produces = if route.action == "connect" { &["*/*"] } else { MEDIA_TYPES };
    let mut operation = json!({
        "tags": [route.tag],
        "description": route.description,
        "operationId": route.id,
        "consumes": consumes,
        "produces": produces,
        "schemes": ["https"],
        "responses": answers(route),
        "x-kubernetes-action": route.action,
        "x-kubernetes-group-version-kind": kind_json(&route.kind),
    });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    operation
}

fn answers(route: &Route) -> Value {
    let schema = route.answer.as_ref().map_or_else(|| json!({"type": "string"}), |name| reference(name));
    let mut answers = Map::new();
    for (code, description) in [("200", "OK")].iter().chain(route.also) {
        answers.insert((*code).to_owned(), json!({"description": description, "schema": schema}));
    }
    answers.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(answers)
}
