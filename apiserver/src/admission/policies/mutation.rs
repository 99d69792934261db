//! What a policy makes of an object: expressions that say what is to be laid over it, or which operations are to be carried out
//! on it. Pure. Must never change part of an object when the rest fails.

use barque_api::cel::{Activation, Budget};
use barque_api::managed_fields::overlay;
use barque_api::patch::json;
use barque_api::schema::View;
use serde_json::Value;

use super::super::expressions::{Expression, Names};

/// Patches may make objects grow by so many bytes.
const COPIES_BYTES_MAX: usize = 3 << 20;

/// One change.
#[derive(Clone, Debug)]
pub(super) enum Mutation {
    /// An `Object` that is laid over the object.
    Apply(Expression),
    /// A list of `JSONPatch`.
    Patch(Expression),
}

impl Mutation {
    /// An item of the field `mutations`.
    pub(super) fn of(value: &Value, names: &Names) -> Self {
        let source = |field: &str| value[field]["expression"].as_str().unwrap_or_default().to_owned();
        if value["patchType"] == "JSONPatch" {
            Self::Patch(Expression::new(names, &source("jsonPatch"), &["list"]))
        } else {
            Self::Apply(Expression::new(names, &source("applyConfiguration"), &["Object"]))
        }
    }

    /// The object as it is to be; nothing where a test of a patch says that it is not to be changed.
    ///
    /// # Errors
    /// When the expression has no value, or what it says cannot be done.
    pub(super) fn changed(
        &self,
        activation: &Activation<'_>,
        budget: &mut Budget,
        object: &Value,
        view: Option<View<'_>>,
    ) -> Result<Option<Value>, String> {
        let (Self::Apply(expression) | Self::Patch(expression)) = self;
        let value = expression.value(activation, budget).map_err(|failure| failure.message().to_owned())?;
        let said = value.to_json(budget).map_err(|error| {
            format!("JSONPath valueExpression evaluated to a type that could not marshal to JSON: {error}")
        })?;
        match self {
            Self::Apply(_) => {
                let mut applied = said;
                let Some(fields) = applied.as_object_mut() else {
                    return Err(format!(
                        "unsupported return type from ApplyConfiguration expression: {}",
                        value.type_name()
                    ));
                };
                for field in ["apiVersion", "kind"] {
                    fields.insert(field.to_owned(), object[field].clone());
                }
                let laid = overlay(view, object, &applied);
                laid.map(Some).map_err(|why| format!("error applying patch: {why}"))
            }
            Self::Patch(_) => {
                if !said.is_array() {
                    let why = "type mismatch: JSONPatchType.expression should evaluate to array";
                    return Err(why.to_owned());
                }
                match json::apply(object.clone(), &said, COPIES_BYTES_MAX) {
                    Ok(patched) => Ok(Some(patched)),
                    Err(error) if error.to_string().ends_with(": test failed") => Ok(None),
                    Err(error) => Err(format!("JSON Patch: {error}")),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use barque_api::cel::PER_OBJECT;
    use barque_api::kind::GroupVersionKind;
    use barque_api::schema::BuiltinSchemas;
    use serde_json::json;

    use super::super::super::expressions::Inputs;
    use super::*;

    fn changed(kind: &str, expression: &str) -> Result<Option<Value>, String> {
        let field = if kind == "JSONPatch" { "jsonPatch" } else { "applyConfiguration" };
        let names = Names::default().with_objects();
        let mutation = Mutation::of(&json!({"patchType": kind, field: {"expression": expression}}), &names);
        let object = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let nothing = Value::Null;
        let inputs = Inputs {
            object: &object,
            old: None,
            request: &nothing,
            namespace: &nothing,
            params: None,
            rights: None,
        };
        let schemas = BuiltinSchemas::get();
        let view = schemas.name_of(&GroupVersionKind::new("", "v1", "Pod"));
        let view = view.and_then(|name| schemas.definitions().view(name));
        mutation.changed(&inputs.activation(), &mut Budget::new(PER_OBJECT), &object, view)
    }

    #[test]
    fn objects_are_laid_over_objects() {
        let expression = "Object{metadata: Object.metadata{labels: {'x': object.metadata.name}}, \
            spec: Object.spec{containers: object.spec.containers.map(c, Object.spec.containers{name: c.name, tty: true})}}";
        let made = changed("ApplyConfiguration", expression).unwrap().unwrap();
        assert_eq!(made["metadata"]["labels"], json!({"a": "b", "x": "p"}));
        assert_eq!(made["spec"]["containers"], json!([{"name": "c", "image": "i", "tty": true}]));
    }

    #[test]
    fn operations_are_carried_out_unless_a_test_fails() {
        let add = "JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x/y'), value: 'z'}";
        let made = changed("JSONPatch", &format!("[{add}]")).unwrap().unwrap();
        assert_eq!(made["metadata"]["labels"], json!({"a": "b", "x/y": "z"}));
        let test = "JSONPatch{op: 'test', path: '/metadata/labels/a', value: 'c'}";
        assert_eq!(changed("JSONPatch", &format!("[{test}, {add}]")), Ok(None));
        assert_eq!(changed("JSONPatch", "[]").unwrap().unwrap()["metadata"]["name"], "p");
    }

    #[test]
    fn what_cannot_be_done_is_told() {
        let table = [
            (
                "ApplyConfiguration",
                "Object{spec: Object.spec{tolerations: []}}",
                "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: \
                 .spec.tolerations",
            ),
            ("ApplyConfiguration", "object.metadata.name", "unsupported return type"),
            ("ApplyConfiguration", "1", "compilation error: must evaluate to Object but got int"),
            ("JSONPatch", "{}", "compilation error: must evaluate to list(JSONPatch) but got map"),
            ("JSONPatch", "[JSONPatch{op: 'remove', path: '/spec/none'}]", "JSON Patch: "),
        ];
        for (kind, expression, expected) in table {
            let error = changed(kind, expression).unwrap_err();
            assert!(error.starts_with(expected), "{expression}: {error}");
        }
    }
}
