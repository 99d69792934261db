//! Documents as clients read them: complete, with what kubectl looks for, and the same in protobuf.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::field::FieldPath;
use crate::kind::GroupVersion;
use crate::resources::{Resource, Subresource, Verb};
use crate::schema::{Texts, read};

fn with_custom() -> Source {
    let version = GroupVersion::new("stable.example.com", "v1");
    let verbs = [Verb::Create, Verb::Delete, Verb::DeleteCollection, Verb::Get, Verb::List, Verb::Patch];
    let resource = Resource {
        name: version.resource("crontabs"),
        kind: "CronTab".into(),
        singular: "crontab".into(),
        namespaced: true,
        short_names: Vec::new(),
        categories: Vec::new(),
        verbs: [&verbs[..], &[Verb::Update, Verb::Watch]].concat(),
        subresources: vec![Subresource {
            name: "status".into(),
            kind: version.kind("CronTab"),
            verbs: vec![Verb::Get, Verb::Patch, Verb::Update],
        }],
    };
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "spec": {"type": "string", "nullable": true, "default": "x"},
        "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"type": "string"}}},
        "port": {"x-kubernetes-int-or-string": true},
        "inner": {"type": "object", "x-kubernetes-embedded-resource": true, "properties": {"x": {"type": "string"}}},
    }, "required": ["spec", "port"]}}});
    let schema = read(&FieldPath::root(), &schema, &mut Texts::default()).unwrap();
    let mut source = Source::builtin();
    source.add_custom(Arc::new(resource), &schema);
    source
}

/// Every `$ref` below a value.
fn references<'a>(json: &'a Value, found: &mut BTreeSet<&'a str>) {
    match json {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str));
            // A field may be called $ref itself.
            fields.values().for_each(|one| references(one, found));
        }
        Value::Array(list) => list.iter().for_each(|one| references(one, found)),
        _ => {}
    }
}

#[test]
fn documents_are_complete_in_themselves() {
    let source = with_custom();
    let mut ids = BTreeMap::new();
    for version in source.group_versions() {
        let document = v3::document(&source, &version, "v1.37.0");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{version}: {name}");
        }
        for (path, item) in document["paths"].as_object().unwrap() {
            for operation in item.as_object().unwrap().values().filter(|one| one.is_object()) {
                let id = operation["operationId"].as_str().unwrap().to_owned();
                let other = ids.insert(id.clone(), path.clone());
                assert!(other.is_none(), "{id}: {path} and {other:?}");
            }
        }
    }
}

/// What kubectl looks for before it sends dryRun or fieldValidation.
#[test]
fn patches_take_what_kubectl_looks_for() {
    let source = with_custom();
    for (version, kind) in [
        (GroupVersion::new("", "v1"), "Namespace"),
        (GroupVersion::new("apps", "v1"), "Deployment"),
        (GroupVersion::new("stable.example.com", "v1"), "CronTab"),
    ] {
        let document = v3::document(&source, &version, "v1.37.0");
        let kind = json!({"group": &*version.group, "version": &*version.version, "kind": kind});
        let paths = document["paths"].as_object().unwrap();
        let patch = paths.values().map(|item| &item["patch"]);
        let patch = patch.filter(|one| one["x-kubernetes-group-version-kind"] == kind);
        let mut seen = 0;
        for operation in patch {
            seen += 1;
            let names: Vec<_> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| one["name"].as_str().unwrap())
                .collect();
            assert_eq!(names, ["pretty", "dryRun", "fieldManager", "fieldValidation", "force"]);
            let strategic = "application/strategic-merge-patch+json";
            let custom = kind["kind"] == "CronTab";
            assert_eq!(operation["requestBody"]["content"].get(strategic).is_none(), custom);
        }
        assert!(seen > 0, "{kind}");
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let of_kind = schemas.values().filter(|one| {
            let kinds = one["x-kubernetes-group-version-kind"].as_array();
            kinds.is_some_and(|kinds| kinds.contains(&kind))
        });
        assert_eq!(of_kind.count(), 1, "{kind}");
    }
}

#[test]
fn fields_say_how_they_merge() {
    let document = v3::document(&Source::builtin(), &GroupVersion::new("", "v1"), "v1.37.0");
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-list-type"], "map");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    let protocol = &schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"];
    assert_eq!(protocol["default"], "TCP");
    let spec = &schemas["io.k8s.api.core.v1.Pod"]["properties"]["spec"];
    assert_eq!(spec["allOf"], json!([{"$ref": "#/components/schemas/io.k8s.api.core.v1.PodSpec"}]));
    assert!(spec["description"].is_string());
    let exec = &document["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/exec"]["post"];
    assert_eq!(exec["x-kubernetes-action"], "connect");
    assert_eq!(exec["x-kubernetes-group-version-kind"]["kind"], "PodExecOptions");
}

#[test]
fn custom_kinds_are_published_for_old_readers_too() {
    let document = v2::document(&with_custom(), "v1.37.0");
    let definition = &document["definitions"]["com.example.stable.v1.CronTab"];
    assert_eq!(definition["type"], "object");
    assert_eq!(
        definition["properties"]["metadata"]["$ref"],
        "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
    );
    let spec = &definition["properties"]["spec"];
    assert_eq!(spec["required"], json!(["port"]), "what may be null may be missing");
    assert_eq!(spec["properties"]["spec"], json!({}));
    assert_eq!(spec["properties"]["any"], json!({"x-kubernetes-preserve-unknown-fields": true}));
    let inner = &spec["properties"]["inner"];
    assert_eq!(inner["required"], json!(["kind", "apiVersion"]));
    assert!(inner["properties"]["metadata"].is_object());
    let quantity = &document["definitions"]["io.k8s.apimachinery.pkg.api.resource.Quantity"];
    assert_eq!(quantity["type"], "string");
    let text = document["definitions"].to_string();
    for word in ["\"nullable\":true", "\"oneOf\":[", "\"anyOf\":[", "\"default\":\""] {
        assert!(!text.contains(word), "{word}");
    }
    let list = &document["definitions"]["com.example.stable.v1.CronTabList"];
    assert_eq!(list["properties"]["items"]["items"]["$ref"], "#/definitions/com.example.stable.v1.CronTab");
}

#[test]
fn an_index_leads_to_documents_by_their_hashes() {
    let (core, apps) = (GroupVersion::new("", "v1"), GroupVersion::new("apps", "v1"));
    let hash = v3::hash(b"abc");
    assert_eq!(hash, "BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD");
    assert_eq!(
        v3::index([(&core, "A"), (&apps, "B")]),
        json!({"paths": {
            "api/v1": {"serverRelativeURL": "/openapi/v3/api/v1?hash=A"},
            "apis/apps/v1": {"serverRelativeURL": "/openapi/v3/apis/apps/v1?hash=B"},
        }})
    );
}

/// A message's fields as they lie on the wire.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let length = match key & 7 {
            0 => {
                let before = bytes;
                varint(&mut bytes);
                found.push((key >> 3, &before[..before.len() - bytes.len()]));
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut bytes)).unwrap(),
            other => panic!("wire type {other}"),
        };
        found.push((key >> 3, &bytes[..length]));
        bytes = &bytes[length..];
    }
    found
}

fn field(bytes: &[u8], number: u64) -> &[u8] {
    fields(bytes).into_iter().find(|(one, _)| *one == number).unwrap_or_else(|| panic!("no field {number}")).1
}

/// The value of a name in a map of named values.
fn named<'a>(bytes: &'a [u8], map: u64, name: &str) -> &'a [u8] {
    let mut entries = fields(bytes).into_iter().filter(|(number, _)| *number == map);
    let entry = entries.find(|(_, entry)| field(entry, 1) == name.as_bytes());
    field(entry.unwrap_or_else(|| panic!("no {name}")).1, 2)
}

#[test]
fn protobuf_says_what_the_document_says() {
    let document = v2::document(&with_custom(), "v1.37.0");
    let bytes = v2::to_protobuf(&document);
    assert_eq!(field(&bytes, 1), b"2.0");
    assert_eq!(field(field(&bytes, 2), 2), b"v1.37.0");
    let definitions = field(&bytes, 9);
    assert_eq!(fields(definitions).len(), document["definitions"].as_object().unwrap().len());
    let spec = named(definitions, 1, "io.k8s.api.core.v1.PodSpec");
    let containers = named(field(spec, 25), 1, "containers");
    assert_eq!(field(field(containers, 22), 1), b"array");
    let item = field(field(containers, 23), 1);
    assert_eq!(field(item, 1), b"#/definitions/io.k8s.api.core.v1.Container");
    let key = named(containers, 31, "x-kubernetes-patch-merge-key");
    assert_eq!(field(key, 2), b"\"name\"");
    let paths = field(&bytes, 8);
    assert_eq!(fields(paths).len(), document["paths"].as_object().unwrap().len());
    let patch = field(named(paths, 2, "/api/v1/namespaces/{namespace}/pods/{name}"), 8);
    let kind = named(patch, 13, "x-kubernetes-group-version-kind");
    assert_eq!(field(kind, 2), br#"{"group":"","kind":"Pod","version":"v1"}"#);
    let parameters: Vec<_> = fields(patch).into_iter().filter(|(number, _)| *number == 8).collect();
    let names: Vec<_> = parameters
        .iter()
        .map(|(_, item)| {
            let parameter = field(item, 1);
            match fields(parameter)[0] {
                (1, body) => field(body, 2),
                (_, other) => field(field(other, 3), 4),
            }
        })
        .collect();
    assert!(names.contains(&&b"dryRun"[..]) && names.contains(&&b"fieldValidation"[..]));
    assert!(names.contains(&&b"body"[..]));
}
