//! The model: a tree of schemas that may refer to each other by name, and a view to walk it along an object.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `object`
    Object,
    /// `array`
    Array,
    /// `string`
    String,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `boolean`
    Boolean,
}

/// How lists are merged and compared (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum ListType {
    /// As a whole.
    #[default]
    Atomic,
    /// As a set of scalars.
    Set,
    /// By these fields of their items (`x-kubernetes-list-map-keys`).
    Map(Vec<Arc<str>>),
}

/// How maps and objects are merged (`x-kubernetes-map-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum MapType {
    /// Field by field.
    #[default]
    Granular,
    /// As a whole.
    Atomic,
}

/// What a strategic merge patch does with a list or object (`x-kubernetes-patch-strategy`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PatchStrategy {
    /// Items of a list are merged by this field; an empty text merges scalars as a set. Nothing: the list is replaced.
    pub merge_key: Option<Arc<str>>,
    /// Fields that the patch does not name go (`retainKeys`).
    pub retain_keys: bool,
    /// The object is replaced, not merged.
    pub replace: bool,
}

/// A rule in CEL (`x-kubernetes-validations`).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Rule {
    /// The expression; `self` is the value, `oldSelf` the one before.
    pub rule: String,
    /// What is told when it does not hold.
    pub message: Option<String>,
    /// An expression that gives the message.
    pub message_expression: Option<String>,
    /// `FieldValueInvalid` and so on.
    pub reason: Option<String>,
    /// Where the error is shown, below the value.
    pub field_path: Option<String>,
    /// Whether a rule with `oldSelf` is judged when there is no old value.
    pub optional_old_self: Option<bool>,
}

/// A schema, or the name of one in [`Definitions`].
#[derive(Clone, Debug, PartialEq)]
pub enum SchemaRef {
    /// The one of this name, such as `io.k8s.api.core.v1.PodSpec`. The second value is what the field itself adds.
    Named(Arc<str>, Arc<Schema>),
    /// This one.
    Inline(Arc<Schema>),
}

/// One structural schema. What is not said does not restrict.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Schema {
    /// The type; nothing for values of any type.
    pub kind: Option<Type>,
    /// `int32`, `date-time`, `byte` and so on.
    pub format: Option<Arc<str>>,
    /// For people.
    pub description: Option<Arc<str>>,
    /// Short text for people.
    pub title: Option<Arc<str>>,
    /// Named fields.
    pub properties: BTreeMap<Arc<str>, SchemaRef>,
    /// Fields of any name.
    pub additional: Option<SchemaRef>,
    /// Items of a list.
    pub items: Option<SchemaRef>,
    /// Fields that must be there.
    pub required: Vec<Arc<str>>,
    /// What stands there when nothing is given.
    pub default: Option<Value>,
    /// Whether null is a value.
    pub nullable: bool,
    /// The only values.
    pub enumeration: Vec<Value>,
    /// A regular expression for strings.
    pub pattern: Option<Arc<str>>,
    /// The least length of a string, in characters.
    pub min_length: Option<u64>,
    /// The greatest length of a string, in characters.
    pub max_length: Option<u64>,
    /// The least number of items.
    pub min_items: Option<u64>,
    /// The greatest number of items.
    pub max_items: Option<u64>,
    /// The least number of fields.
    pub min_properties: Option<u64>,
    /// The greatest number of fields.
    pub max_properties: Option<u64>,
    /// No item twice.
    pub unique_items: bool,
    /// The least number.
    pub minimum: Option<serde_json::Number>,
    /// The least number is itself not allowed.
    pub exclusive_minimum: bool,
    /// The greatest number.
    pub maximum: Option<serde_json::Number>,
    /// The greatest number is itself not allowed.
    pub exclusive_maximum: bool,
    /// Numbers are multiples of it.
    pub multiple_of: Option<serde_json::Number>,
    /// All of these hold.
    pub all_of: Vec<Schema>,
    /// One of these holds, or more.
    pub any_of: Vec<Schema>,
    /// Exactly one of these holds.
    pub one_of: Vec<Schema>,
    /// This does not hold.
    pub not: Option<Box<Schema>>,
    /// Fields that are not named stay (`x-kubernetes-preserve-unknown-fields`).
    pub preserve_unknown: bool,
    /// A whole object with apiVersion, kind and metadata (`x-kubernetes-embedded-resource`).
    pub embedded: bool,
    /// A number or a string (`x-kubernetes-int-or-string`).
    pub int_or_string: bool,
    /// How a list is merged; nothing: as a whole.
    pub list_type: Option<ListType>,
    /// How a map is merged.
    pub map_type: MapType,
    /// What a strategic merge patch does here.
    pub patch: PatchStrategy,
    /// Rules in CEL.
    pub rules: Vec<Rule>,
}

/// Schemas by name: `io.k8s.api.core.v1.PodSpec`.
#[derive(Clone, Debug, Default)]
pub struct Definitions(HashMap<Arc<str>, Arc<Schema>>);

impl Definitions {
    /// Enters a schema; the last one of a name counts.
    pub fn insert(&mut self, name: Arc<str>, schema: Arc<Schema>) {
        self.0.insert(name, schema);
    }

    /// The schema of a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Schema>> {
        self.0.get(name)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<Schema>)> {
        self.0.iter()
    }

    /// The schema of a name as the start of a walk.
    #[must_use]
    pub fn view(&self, name: &str) -> Option<View<'_>> {
        let schema = self.get(name)?;
        Some(View { definitions: self, field: schema, schema })
    }

    /// Any schema as the start of a walk; names in it are looked up here.
    #[must_use]
    pub fn view_of<'a>(&'a self, schema: &'a Schema) -> View<'a> {
        View { definitions: self, field: schema, schema }
    }
}

/// Where a walk along an object stands in its schema. Cheap to copy.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    definitions: &'a Definitions,
    field: &'a Schema,
    schema: &'a Schema,
}

impl<'a> View<'a> {
    /// The shape: fields, items, type.
    #[must_use]
    pub fn schema(self) -> &'a Schema {
        self.schema
    }

    /// What the field says of itself, where its shape is one with a name: its default, description and how it is merged.
    /// The same as [`View::schema`] where it has none.
    #[must_use]
    pub fn field(self) -> &'a Schema {
        self.field
    }

    /// How this list is merged.
    #[must_use]
    pub fn list_type(self) -> &'a ListType {
        const ATOMIC: &ListType = &ListType::Atomic;
        self.field.list_type.as_ref().or(self.schema.list_type.as_ref()).unwrap_or(ATOMIC)
    }

    /// How this object is merged; what the field says counts as much as what its shape says.
    #[must_use]
    pub fn map_type(self) -> MapType {
        if self.field.map_type == MapType::Atomic { MapType::Atomic } else { self.schema.map_type }
    }

    /// A named field's schema, or that of fields of any name. Nothing where fields are not known.
    #[must_use]
    pub fn property(self, name: &str) -> Option<Self> {
        let found = self.schema.properties.get(name).or(self.schema.additional.as_ref())?;
        self.follow(found)
    }

    /// The schema of the items of this list.
    #[must_use]
    pub fn items(self) -> Option<Self> {
        self.follow(self.schema.items.as_ref()?)
    }

    /// Another schema of the same definitions: an alternative of this one, say.
    #[must_use]
    pub fn beside(self, schema: &'a Schema) -> Self {
        self.definitions.view_of(schema)
    }

    fn follow(self, to: &'a SchemaRef) -> Option<Self> {
        let (field, schema) = match to {
            SchemaRef::Named(name, field) => (field, self.definitions.get(name)?),
            SchemaRef::Inline(schema) => (schema, schema),
        };
        Some(Self { definitions: self.definitions, field, schema })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_follows_names_and_keeps_what_the_field_says() {
        let mut definitions = Definitions::default();
        let leaf = Schema { kind: Some(Type::Object), ..Schema::default() };
        definitions.insert("leaf".into(), Arc::new(leaf));
        let field = Schema { map_type: MapType::Atomic, ..Schema::default() };
        let properties = BTreeMap::from([("a".into(), SchemaRef::Named("leaf".into(), Arc::new(field)))]);
        let root = Schema { kind: Some(Type::Object), properties, ..Schema::default() };
        let view = definitions.view_of(&root);
        let leaf = view.property("a").unwrap();
        assert_eq!(leaf.schema().kind, Some(Type::Object));
        assert_eq!(leaf.map_type(), MapType::Atomic);
        assert!(view.property("b").is_none());
        assert!(view.items().is_none());
    }
}
