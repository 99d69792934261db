//! JSON schemas (of OpenAPI, of CustomResourceDefinitions, of schemars) into the model. Must never judge a schema: what is
//! not understood is left out, and only what cannot be read at all is an error.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Number, Value};

use super::model::{ListType, MapType, PatchStrategy, Rule, Schema, SchemaRef, Type};
use crate::field::{FieldError, FieldPath};

impl Type {
    /// All types with their names.
    pub(super) const NAMED: [(Self, &'static str); 6] = [
        (Self::Array, "array"),
        (Self::Boolean, "boolean"),
        (Self::Integer, "integer"),
        (Self::Number, "number"),
        (Self::Object, "object"),
        (Self::String, "string"),
    ];

    /// As schemas write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMED.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| name)
    }

    /// The type of this name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::NAMED.iter().find(|(_, named)| *named == name).map(|(kind, _)| *kind)
    }
}

/// Texts that many schemas share, each kept once.
#[derive(Debug, Default)]
pub struct Texts(HashSet<Arc<str>>);

impl Texts {
    /// The shared copy of a text.
    pub fn share(&mut self, text: &str) -> Arc<str> {
        if let Some(shared) = self.0.get(text) {
            return shared.clone();
        }
        let shared: Arc<str> = text.into();
        self.0.insert(shared.clone());
        shared
    }
}

/// Reads one schema. References may be `#/definitions/NAME`, `#/components/schemas/NAME` or `#/$defs/NAME`.
///
/// # Errors
/// When a keyword has a value of the wrong type; the path leads to it from `path`.
pub fn read(path: &FieldPath, json: &Value, texts: &mut Texts) -> Result<Schema, FieldError> {
    match json {
        Value::Object(fields) => Reader { path, fields, texts }.schema(),
        // In JSON schema `true` is a schema too.
        Value::Bool(true) => Ok(Schema::default()),
        other => Err(FieldError::type_invalid(path, other.clone(), "must be a schema")),
    }
}

struct Reader<'a> {
    path: &'a FieldPath,
    fields: &'a Map<String, Value>,
    texts: &'a mut Texts,
}

impl<'a> Reader<'a> {
    fn schema(mut self) -> Result<Schema, FieldError> {
        let list_type = self.list_type()?;
        Ok(Schema {
            kind: self.kind()?,
            format: self.text("format")?,
            description: self.text("description")?,
            title: self.text("title")?,
            properties: self.properties()?,
            additional: self.additional()?,
            items: self.field("items")?,
            required: self.text_list("required")?,
            default: self.fields.get("default").filter(|value| !value.is_null()).cloned(),
            nullable: self.flag("nullable")?,
            enumeration: self.list("enum")?.to_vec(),
            pattern: self.text("pattern")?,
            min_length: self.count("minLength")?,
            max_length: self.count("maxLength")?,
            min_items: self.count("minItems")?,
            max_items: self.count("maxItems")?,
            min_properties: self.count("minProperties")?,
            max_properties: self.count("maxProperties")?,
            unique_items: self.flag("uniqueItems")?,
            minimum: self.number("minimum")?,
            exclusive_minimum: self.flag("exclusiveMinimum")?,
            maximum: self.number("maximum")?,
            exclusive_maximum: self.flag("exclusiveMaximum")?,
            multiple_of: self.number("multipleOf")?,
            all_of: self.schemas("allOf")?,
            any_of: self.schemas("anyOf")?,
            one_of: self.schemas("oneOf")?,
            not: self.not()?,
            preserve_unknown: self.flag("x-kubernetes-preserve-unknown-fields")?,
            embedded: self.flag("x-kubernetes-embedded-resource")?,
            int_or_string: self.flag("x-kubernetes-int-or-string")?,
            list_type,
            map_type: self.map_type()?,
            patch: self.patch()?,
            rules: self.rules()?,
        })
    }

    fn wrong(&self, key: &str, value: &Value, should_be: &str) -> FieldError {
        FieldError::type_invalid(&self.path.child(key), value.clone(), format!("must be {should_be}"))
    }

    fn given(&self, key: &str) -> Option<&'a Value> {
        self.fields.get(key).filter(|value| !value.is_null())
    }

    fn string(&self, key: &str) -> Result<Option<&'a str>, FieldError> {
        let Some(value) = self.given(key) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(key, value, "a string"))
    }

    fn text(&mut self, key: &str) -> Result<Option<Arc<str>>, FieldError> {
        let Some(text) = self.string(key)?.filter(|text| !text.is_empty()) else { return Ok(None) };
        Ok(Some(self.texts.share(text)))
    }

    fn flag(&self, key: &str) -> Result<bool, FieldError> {
        let Some(value) = self.given(key) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(key, value, "a boolean"))
    }

    fn count(&self, key: &str) -> Result<Option<u64>, FieldError> {
        let Some(value) = self.given(key) else { return Ok(None) };
        let whole =
            |number: &f64| *number >= 0.0 && number.fract() == 0.0 && *number <= 9_007_199_254_740_992.0;
        // Numbers that were written as 1.0 or 1e3 are whole too.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole")]
        let count = value.as_u64().or_else(|| value.as_f64().filter(whole).map(|number| number as u64));
        // A negative bound bounds nothing from below; from above it would forbid everything.
        match count {
            Some(count) => Ok(Some(count)),
            None if value.is_number() => Ok(Some(0)),
            None => Err(self.wrong(key, value, "an integer")),
        }
    }

    fn number(&self, key: &str) -> Result<Option<Number>, FieldError> {
        match self.given(key) {
            None => Ok(None),
            Some(Value::Number(number)) => Ok(Some(number.clone())),
            Some(other) => Err(self.wrong(key, other, "a number")),
        }
    }

    fn list(&self, key: &str) -> Result<&'a [Value], FieldError> {
        let Some(value) = self.given(key) else { return Ok(&[]) };
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(key, value, "a list"))
    }

    fn text_list(&mut self, key: &str) -> Result<Vec<Arc<str>>, FieldError> {
        let mut texts = Vec::new();
        for value in self.list(key)? {
            let text = value.as_str().ok_or_else(|| self.wrong(key, value, "a list of strings"))?;
            texts.push(self.texts.share(text));
        }
        Ok(texts)
    }

    fn kind(&self) -> Result<Option<Type>, FieldError> {
        let Some(name) = self.string("type")?.filter(|name| !name.is_empty()) else { return Ok(None) };
        let names = Type::NAMED.map(|(_, name)| name);
        let unknown = || FieldError::not_supported(&self.path.child("type"), name, &names);
        Type::of_name(name).map(Some).ok_or_else(unknown)
    }

    fn properties(&mut self) -> Result<BTreeMap<Arc<str>, SchemaRef>, FieldError> {
        let fields = match self.given("properties") {
            None => return Ok(BTreeMap::new()),
            Some(Value::Object(fields)) => fields,
            Some(other) => return Err(self.wrong("properties", other, "an object")),
        };
        let path = self.path.child("properties");
        let mut properties = BTreeMap::new();
        for (name, json) in fields {
            let below = reference(&path.key(name), json, self.texts)?;
            properties.insert(self.texts.share(name), below);
        }
        Ok(properties)
    }

    fn additional(&mut self) -> Result<Option<SchemaRef>, FieldError> {
        if self.given("additionalProperties") == Some(&Value::Bool(false)) {
            return Ok(None);
        }
        self.field("additionalProperties")
    }

    fn field(&mut self, key: &str) -> Result<Option<SchemaRef>, FieldError> {
        let Some(json) = self.given(key) else { return Ok(None) };
        reference(&self.path.child(key), json, self.texts).map(Some)
    }

    fn schemas(&mut self, key: &str) -> Result<Vec<Schema>, FieldError> {
        let list = self.list(key)?;
        let path = self.path.child(key);
        list.iter().enumerate().map(|(index, json)| read(&path.index(index), json, self.texts)).collect()
    }

    fn not(&mut self) -> Result<Option<Box<Schema>>, FieldError> {
        let Some(json) = self.given("not") else { return Ok(None) };
        Ok(Some(Box::new(read(&self.path.child("not"), json, self.texts)?)))
    }

    fn list_type(&mut self) -> Result<Option<ListType>, FieldError> {
        Ok(match self.string("x-kubernetes-list-type")? {
            Some("map") => Some(ListType::Map(self.text_list("x-kubernetes-list-map-keys")?)),
            Some("set") => Some(ListType::Set),
            Some("atomic") => Some(ListType::Atomic),
            _ => None,
        })
    }

    fn map_type(&self) -> Result<MapType, FieldError> {
        let atomic = self.string("x-kubernetes-map-type")? == Some("atomic");
        Ok(if atomic { MapType::Atomic } else { MapType::Granular })
    }

    fn patch(&mut self) -> Result<PatchStrategy, FieldError> {
        let strategies = self.string("x-kubernetes-patch-strategy")?.unwrap_or_default();
        let key = self.text("x-kubernetes-patch-merge-key")?;
        Ok(patch_strategy(strategies, key, self.texts))
    }

    fn rules(&self) -> Result<Vec<Rule>, FieldError> {
        let path = self.path.child("x-kubernetes-validations");
        let rules = self.list("x-kubernetes-validations")?.iter().enumerate();
        rules.map(|(index, json)| rule(&path.index(index), json)).collect()
    }
}

/// A patch strategy as it is written: names between commas, and the key of lists that are merged.
pub(super) fn patch_strategy(strategies: &str, key: Option<Arc<str>>, texts: &mut Texts) -> PatchStrategy {
    let has = |name| strategies.split(',').any(|one| one == name);
    PatchStrategy {
        merge_key: has("merge").then(|| key.unwrap_or_else(|| texts.share(""))),
        retain_keys: has("retainKeys"),
        replace: has("replace"),
    }
}

/// A schema at a place where there may be a reference. What stands beside the reference is what the field itself adds.
fn reference(path: &FieldPath, json: &Value, texts: &mut Texts) -> Result<SchemaRef, FieldError> {
    let Some(fields) = json.as_object() else {
        return Ok(SchemaRef::Inline(Arc::new(read(path, json, texts)?)));
    };
    // OpenAPI 3.0 has no room beside a reference, so it is written as the only member of allOf there.
    let wrapped = match fields.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
        Some([one]) => one.get("$ref"),
        _ => None,
    };
    let Some(target) = fields.get("$ref").or(wrapped).and_then(Value::as_str) else {
        return Ok(SchemaRef::Inline(Arc::new(read(path, json, texts)?)));
    };
    let name = target.rsplit('/').next().unwrap_or(target);
    let mut beside = fields.clone();
    beside.remove("$ref");
    if wrapped.is_some() {
        beside.remove("allOf");
    }
    let field = read(path, &Value::Object(beside), texts)?;
    Ok(SchemaRef::Named(texts.share(name), Arc::new(field)))
}

fn rule(path: &FieldPath, json: &Value) -> Result<Rule, FieldError> {
    let text = |key: &str| match json.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(FieldError::type_invalid(&path.child(key), other.clone(), "must be a string")),
    };
    Ok(Rule {
        rule: text("rule")?.unwrap_or_default(),
        message: text("message")?,
        message_expression: text("messageExpression")?,
        reason: text("reason")?,
        field_path: text("fieldPath")?,
        optional_old_self: json.get("optionalOldSelf").and_then(Value::as_bool),
    })
}
