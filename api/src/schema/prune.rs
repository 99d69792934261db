//! Fields that a schema does not know: removed, or told. Must never remove what an object of any kind may have: its
//! apiVersion, kind and known metadata.

use serde_json::{Map, Value};

use super::builtin::BuiltinSchemas;
use super::json::MOST_FINDINGS;
use super::model::View;

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is an object with apiVersion, kind and metadata.
    Object,
    /// It is a part of one.
    Part,
}

/// Removes fields that are not known and returns their paths, in order: `spec.containers[0].foo`.
pub fn prune(view: View<'_>, value: &mut Value, place: Place) -> Vec<String> {
    let mut pruner = Pruner { path: String::new(), removed: Vec::new() };
    pruner.value(view, value, place == Place::Object);
    pruner.removed.sort();
    pruner.removed
}

/// What a strict decoder says of a document: the sentence for the client, or nothing when all is well. `duplicates` come
/// from [`super::read_document`], `unknown` from [`prune`].
#[must_use]
pub fn strict_decoding_error(duplicates: &[String], unknown: &[String]) -> Option<String> {
    let told = strict_decoding_warnings(duplicates, unknown);
    (!told.is_empty()).then(|| format!("strict decoding error: {}", told.join(", ")))
}

/// The same, one sentence for each finding, at most a hundred: the texts of warnings.
#[must_use]
pub fn strict_decoding_warnings(duplicates: &[String], unknown: &[String]) -> Vec<String> {
    let duplicates = duplicates.iter().map(|path| format!("duplicate field {path:?}"));
    let unknown = unknown.iter().map(|path| format!("unknown field {path:?}"));
    duplicates.chain(unknown).take(MOST_FINDINGS).collect()
}

struct Pruner {
    path: String,
    removed: Vec<String>,
}

impl Pruner {
    fn value(&mut self, view: View<'_>, value: &mut Value, object: bool) {
        let object = object || view.schema().embedded || view.field().embedded;
        match value {
            Value::Object(fields) => self.fields(view, fields, object),
            Value::Array(list) => self.items(view, list),
            _ => {}
        }
    }

    fn fields(&mut self, view: View<'_>, fields: &mut Map<String, Value>, object: bool) {
        let keep = view.schema().preserve_unknown || view.field().preserve_unknown;
        let mut unknown = Vec::new();
        for (name, value) in fields.iter_mut() {
            match (object, name.as_str()) {
                (true, "apiVersion" | "kind") => {}
                (true, "metadata") => {
                    let meta = BuiltinSchemas::get().object_meta();
                    self.below(&step(&self.path, name), |pruner| pruner.value(meta, value, false));
                }
                _ => match view.property(name) {
                    Some(below) => {
                        self.below(&step(&self.path, name), |pruner| pruner.value(below, value, false));
                    }
                    None if keep => {}
                    None => unknown.push(name.clone()),
                },
            }
        }
        for name in unknown {
            fields.remove(&name);
            self.removed.push(format!("{}{}", self.path, step(&self.path, &name)));
        }
    }

    fn items(&mut self, view: View<'_>, list: &mut [Value]) {
        let keep = view.schema().preserve_unknown || view.field().preserve_unknown;
        for (index, item) in list.iter_mut().enumerate() {
            self.below(&format!("[{index}]"), |pruner| match view.items() {
                Some(below) => pruner.value(below, item, false),
                None if keep => {}
                None => pruner.unknown_item(item),
            });
        }
    }

    /// Nothing is known of an item: its fields go.
    fn unknown_item(&mut self, item: &mut Value) {
        match item {
            Value::Object(fields) => {
                for (name, _) in std::mem::take(fields) {
                    self.removed.push(format!("{}{}", self.path, step(&self.path, &name)));
                }
            }
            Value::Array(list) => {
                for (index, item) in list.iter_mut().enumerate() {
                    self.below(&format!("[{index}]"), |pruner| pruner.unknown_item(item));
                }
            }
            _ => {}
        }
    }

    fn below(&mut self, step: &str, then: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(step);
        then(self);
        self.path.truncate(length);
    }
}

fn step(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!(".{name}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::field::FieldPath;
    use crate::schema::{Definitions, Schema, Texts, read};

    fn schema(json: &Value) -> Schema {
        read(&FieldPath::root(), json, &mut Texts::default()).unwrap()
    }

    #[test]
    fn unknown_fields_go_and_are_told() {
        let definitions = Definitions::default();
        let table = [
            (json!({"type": "object"}), json!({"a": 1, "kind": "K"}), json!({"kind": "K"}), vec!["a"]),
            (
                json!({"properties": {"spec": {"properties": {"l": {"items": {"properties": {"x": {}}}}}}}}),
                json!({"spec": {"l": [{"x": 1, "y": 2}], "z": 3}}),
                json!({"spec": {"l": [{"x": 1}]}}),
                vec!["spec.l[0].y", "spec.z"],
            ),
            (
                json!({"properties": {"m": {"additionalProperties": {"properties": {"x": {}}}}}}),
                json!({"m": {"k.k": {"x": 1, "y": 2}}}),
                json!({"m": {"k.k": {"x": 1}}}),
                vec!["m.k.k.y"],
            ),
            (
                json!({"x-kubernetes-preserve-unknown-fields": true, "properties": {"a": {"properties": {"x": {}}}}}),
                json!({"a": {"x": 1, "y": 2}, "b": {"c": 1}}),
                json!({"a": {"x": 1}, "b": {"c": 1}}),
                vec!["a.y"],
            ),
            (
                json!({"properties": {"t": {"x-kubernetes-embedded-resource": true}}}),
                json!({"t": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n", "foo": 1}, "spec": {}}}),
                json!({"t": {"apiVersion": "v1", "kind": "K", "metadata": {"name": "n"}}}),
                vec!["t.metadata.foo", "t.spec"],
            ),
            (
                json!({}),
                json!({"metadata": {"labels": {"a/b": "c"}, "x": 1}}),
                json!({"metadata": {"labels": {"a/b": "c"}}}),
                vec!["metadata.x"],
            ),
            (
                json!({"properties": {"a": {"additionalProperties": true}}}),
                json!({"a": {"b": {"c": 1}, "d": 2}}),
                json!({"a": {"b": {}, "d": 2}}),
                vec!["a.b.c"],
            ),
            (
                json!({"properties": {"a": {"type": "array"}}}),
                json!({"a": [[{"b": 1}]]}),
                json!({"a": [[{}]]}),
                vec!["a[0][0].b"],
            ),
        ];
        for (json, mut value, left, removed) in table {
            let schema = schema(&json);
            assert_eq!(prune(definitions.view_of(&schema), &mut value, Place::Object), removed, "{json}");
            assert_eq!(value, left, "{json}");
        }
    }

    #[test]
    fn built_in_kinds_are_pruned_the_same_way() {
        let definitions = BuiltinSchemas::get().definitions();
        let deployment = definitions.view("io.k8s.api.apps.v1.Deployment").unwrap();
        let mut value = json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "labels": {"x": "y"}},
            "spec": {"foo": 1, "template": {"spec": {"containers": [{"name": "a", "imag": "b"}],
                "volumes": [{"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"resources": {"requests": {"storage": "1Gi"}}}}}}]}}},
        });
        let unknown = prune(deployment, &mut value, Place::Object);
        assert_eq!(unknown, ["spec.foo", "spec.template.spec.containers[0].imag"]);
        assert_eq!(
            strict_decoding_error(&["spec.foo".to_owned()], &unknown).unwrap(),
            "strict decoding error: duplicate field \"spec.foo\", unknown field \"spec.foo\", \
             unknown field \"spec.template.spec.containers[0].imag\""
        );
        assert_eq!(strict_decoding_error(&[], &[]), None);
        assert!(prune(deployment, &mut value, Place::Object).is_empty());
        let crd = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition";
        let mut value = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {"properties": {"a": {
            "additionalProperties": {"type": "string", "typ": 1}, "default": {"x": {"y": 1}},
            "items": {"enum": [{"a": 1}], "foo": 1}}}}}}]}});
        let unknown = prune(definitions.view(crd).unwrap(), &mut value, Place::Object);
        let start = "spec.versions[0].schema.openAPIV3Schema.properties.a";
        assert_eq!(unknown, [format!("{start}.additionalProperties.typ"), format!("{start}.items.foo")]);
    }
}
