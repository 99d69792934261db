//! All that is asked of objects of a custom kind, in the order in which Kubernetes asks. Must never judge rules in CEL of an
//! object whose shape is wrong.

use std::sync::Arc;

use serde_json::Value;

use crate::cel::Rules;
use crate::field::{Fault, FieldError, FieldPath};
use crate::schema::{
    Definitions, Extent, Place, Schema, SchemaRef, View, default, parse, prune, validate, validate_embedded,
    validate_lists, validate_update,
};

/// The schema of one version of a custom kind, with its rules.
#[derive(Clone, Debug)]
pub struct CustomSchema {
    schema: Arc<Schema>,
    definitions: Definitions,
    rules: Rules,
}

impl CustomSchema {
    /// From an `openAPIV3Schema` that stands at `at`.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn new(json: &Value, at: &FieldPath, status_subresource: bool) -> Result<Self, Vec<FieldError>> {
        let schema = parse(json, at, status_subresource)?;
        let rules = Rules::compile(&schema, at)?;
        let custom = Self { schema, definitions: Definitions::default(), rules };
        let mut errors = Vec::new();
        custom.judge_defaults(&custom.schema, at, &mut errors);
        if errors.is_empty() { Ok(custom) } else { Err(errors) }
    }

    /// The schema itself.
    #[must_use]
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// The start of a walk along an object.
    #[must_use]
    pub fn view(&self) -> View<'_> {
        self.definitions.view_of(&self.schema)
    }

    /// Removes fields that are not known and returns their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        prune(self.view(), object, Place::Object)
    }

    /// Enters defaults, and removes nulls that say nothing.
    pub fn default(&self, object: &mut Value) {
        default(self.view(), object);
    }

    /// What is wrong with a new object.
    #[must_use]
    pub fn validate(&self, object: &Value) -> Vec<FieldError> {
        let (view, root) = (self.view(), FieldPath::root());
        let mut errors = validate(view, object, &root, Extent::Everything);
        errors.extend(validate_embedded(view, object, &root, Place::Part));
        errors.extend(validate_lists(view, object, &root));
        self.judge_rules(object, None, errors)
    }

    /// What is wrong with an update, but for what it left as it was.
    #[must_use]
    pub fn validate_update(&self, object: &Value, old: &Value) -> Vec<FieldError> {
        let (view, root) = (self.view(), FieldPath::root());
        let mut errors = validate_update(view, object, old, &root);
        errors.extend(validate_embedded(view, object, &root, Place::Part));
        // Lists that were wrong before may stay wrong.
        if validate_lists(view, old, &root).is_empty() {
            errors.extend(validate_lists(view, object, &root));
        }
        self.judge_rules(object, Some(old), errors)
    }

    fn judge_rules(
        &self,
        object: &Value,
        old: Option<&Value>,
        mut errors: Vec<FieldError>,
    ) -> Vec<FieldError> {
        if self.rules.is_empty() {
            return errors;
        }
        let blocks =
            |fault| matches!(fault, Fault::Required | Fault::TooLong | Fault::TooMany | Fault::TypeInvalid);
        if errors.iter().any(|error| blocks(error.fault)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&FieldPath::root(), Value::Null, why));
        } else {
            errors.extend(self.rules.validate(self.view(), object, old, &FieldPath::root()));
        }
        errors
    }

    /// Defaults keep the rules too.
    fn judge_defaults(&self, schema: &Schema, at: &FieldPath, errors: &mut Vec<FieldError>) {
        if let Some(default) = &schema.default {
            let view = self.definitions.view_of(schema);
            errors.extend(self.rules.validate(view, default, None, &at.child("default")));
        }
        let inline = |one: &SchemaRef| match one {
            SchemaRef::Inline(schema) => Some(schema.clone()),
            SchemaRef::Named(..) => None,
        };
        for (name, below) in &schema.properties {
            if let Some(below) = inline(below) {
                self.judge_defaults(&below, &at.child("properties").key(name), errors);
            }
        }
        if let Some(items) = schema.items.as_ref().and_then(inline) {
            self.judge_defaults(&items, &at.child("items"), errors);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(errors: &[FieldError]) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_object_goes_through_all_of_it() {
        let json = json!({"type": "object", "required": ["spec"], "properties": {"spec": {"type": "object",
            "required": ["size"], "x-kubernetes-validations": [{"rule": "self.size <= self.most"}], "properties": {
                "size": {"type": "integer", "minimum": 1}, "most": {"type": "integer", "default": 5},
                "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        }}}});
        let custom = CustomSchema::new(&json, &FieldPath::root(), false).unwrap();
        let mut object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n"},
            "spec": {"size": 7, "tags": ["a", "a"], "more": 1}});
        assert_eq!(custom.prune(&mut object), ["spec.more"]);
        custom.default(&mut object);
        assert_eq!(object["spec"]["most"], 5);
        assert_eq!(
            told(&custom.validate(&object)),
            [
                r#"spec.tags[1]: Duplicate value: "a""#,
                r#"spec: Invalid value: "object": failed rule: self.size <= self.most"#,
            ]
        );
        let mut changed = object.clone();
        changed["metadata"]["name"] = json!("m");
        assert!(custom.validate_update(&changed, &object).is_empty());
        changed["spec"]["size"] = json!("x");
        assert_eq!(
            told(&custom.validate_update(&changed, &object)),
            [
                r#"spec.size: Invalid value: "string": spec.size in body must be of type integer: "string""#,
                "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; \
                 correct the existing errors to complete validation",
            ]
        );
    }

    #[test]
    fn defaults_keep_the_rules() {
        let json = json!({"type": "object", "properties": {"a": {"type": "integer", "default": 0,
            "x-kubernetes-validations": [{"rule": "self > 0"}]}}});
        let errors = CustomSchema::new(&json, &FieldPath::of("s"), false).unwrap_err();
        assert_eq!(told(&errors), ["s.properties[a].default: Invalid value: 0: failed rule: self > 0"]);
    }
}
