//! What a schema says about how a value is owned: what kinds of value it may be, whether lists and maps are owned as a whole,
//! and how items are told apart. Must never look at anything else that a schema says.

use std::slice;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::managed_fields::path::PathElement;
use crate::schema::{ListType, MapType, Schema, Type, View};

/// Where a walk along an object stands.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape<'a> {
    /// At a place that the schema knows.
    Typed {
        view: View<'a>,
        /// Fields that are not named stay, because a schema further out says so.
        preserve: bool,
        /// It is a whole object, with apiVersion, kind and metadata even where the schema does not name them.
        object: bool,
    },
    /// Where no schema says anything: maps are owned field by field, lists as a whole.
    Deduced,
    /// Where everything is owned as a whole.
    Whole,
}

/// What a scalar may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Number,
    Text,
    Boolean,
    Any,
}

/// How items of a list are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Items<'a> {
    /// Not at all: the list is owned as a whole.
    Whole,
    /// By what they are.
    Set,
    /// By these fields.
    Keyed(&'a [Arc<str>]),
}

/// One kind of value that a place may hold, with what matters for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Form<'a> {
    Map(Fields<'a>),
    Scalar(Scalar),
    List(List<'a>),
}

impl Form<'_> {
    pub(crate) const fn is_same_kind(&self, other: &Self) -> bool {
        matches!(
            (self, other),
            (Self::Map(_), Self::Map(_))
                | (Self::Scalar(_), Self::Scalar(_))
                | (Self::List(_), Self::List(_))
        )
    }
}

/// A list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List<'a> {
    pub(crate) items: Items<'a>,
    pub(crate) item: Shape<'a>,
}

/// An object or a map.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a> {
    /// It is owned as a whole.
    pub(crate) whole: bool,
    shape: Shape<'a>,
}

impl<'a> Shape<'a> {
    /// Of a whole object, which may have no schema.
    pub(crate) const fn of_object(schema: Option<View<'a>>) -> Self {
        match schema {
            Some(view) => Self::Typed { view, preserve: false, object: true },
            None => Self::Deduced,
        }
    }

    /// What the place holds, going by the value that stands there. A value of a kind that does not belong there, null and
    /// nothing at all are taken for the first of map, scalar and list that does.
    pub(crate) fn form(self, value: Option<&Value>) -> Form<'a> {
        let (map, scalar, list) = self.forms();
        let fitting = match value {
            Some(Value::Object(_)) => map.map(Form::Map),
            Some(Value::Array(_)) => list.map(Form::List),
            Some(Value::Null) | None => None,
            Some(_) => scalar.map(Form::Scalar),
        };
        fitting
            .or(map.map(Form::Map))
            .or(scalar.map(Form::Scalar))
            .or(list.map(Form::List))
            .unwrap_or(Form::Scalar(Scalar::Any))
    }

    /// As a map, where it may be one.
    pub(crate) fn fields(self) -> Option<Fields<'a>> {
        self.forms().0
    }

    /// As a list, where it may be one.
    pub(crate) fn list(self) -> Option<List<'a>> {
        self.forms().2
    }

    /// Whether all that is known of it is that nothing is known.
    pub(crate) fn is_free_form(self) -> bool {
        match self {
            Self::Deduced => true,
            Self::Whole => false,
            Self::Typed { view, .. } => {
                view.schema().properties.is_empty()
                    && matches!(self.fields().and_then(Fields::additional), Some(Self::Deduced))
            }
        }
    }

    fn forms(self) -> (Option<Fields<'a>>, Option<Scalar>, Option<List<'a>>) {
        let (view, preserve) = match self {
            Self::Deduced => {
                let list = List { items: Items::Whole, item: Self::Whole };
                return (Some(Fields { whole: false, shape: self }), Some(Scalar::Any), Some(list));
            }
            Self::Whole => {
                let list = List { items: Items::Whole, item: Self::Whole };
                return (Some(Fields { whole: true, shape: self }), Some(Scalar::Any), Some(list));
            }
            Self::Typed { view, preserve, .. } => (view, preserve),
        };
        let schema = view.schema();
        let map = || Fields { whole: view.map_type() == MapType::Atomic, shape: self };
        let list = || List {
            items: items_of(view),
            item: view.items().map_or(Self::Whole, |item| item_of(view, item, preserve)),
        };
        match schema.kind {
            Some(Type::Object) => (Some(map()), None, None),
            Some(Type::Array) => (None, None, Some(list())),
            _ if holds_any_scalar(schema) => (None, Some(Scalar::Any), None),
            Some(Type::String) if schema.format.as_deref().is_none_or(|format| format == "byte") => {
                (None, Some(Scalar::Text), None)
            }
            Some(Type::String) => (None, Some(Scalar::Any), None),
            Some(Type::Integer | Type::Number) => (None, Some(Scalar::Number), None),
            Some(Type::Boolean) => (None, Some(Scalar::Boolean), None),
            None => (Some(map()), Some(Scalar::Any), Some(list())),
        }
    }
}

impl<'a> Fields<'a> {
    /// Whether the schema names the field.
    pub(crate) fn declares(self, name: &str) -> bool {
        match self.shape {
            Shape::Typed { view, .. } => view.schema().properties.contains_key(name),
            Shape::Deduced | Shape::Whole => false,
        }
    }

    /// The field, where it may be there.
    pub(crate) fn field(self, name: &str) -> Option<Shape<'a>> {
        match self.shape {
            Shape::Typed { view, preserve, .. } if self.declares(name) => {
                view.property(name).map(|field| item_of(view, field, preserve))
            }
            Shape::Typed { object: true, .. } if matches!(name, "apiVersion" | "kind" | "metadata") => {
                Some(Shape::Deduced)
            }
            _ => self.additional(),
        }
    }

    /// Fields that are not named, where there may be such.
    fn additional(self) -> Option<Shape<'a>> {
        let Shape::Typed { view, preserve, .. } = self.shape else { return Some(self.shape) };
        let schema = view.schema();
        if schema.additional.is_some() {
            // No named field has the empty name.
            return view.property("").map(|field| item_of(view, field, preserve));
        }
        let free = preserve || schema.preserve_unknown || schema.properties.is_empty();
        free.then_some(Shape::Deduced)
    }

    /// The value of a field that an item has without saying so.
    fn default_of(self, name: &str) -> Option<&'a Value> {
        let Shape::Typed { view, .. } = self.shape else { return None };
        view.schema().properties.get(name)?;
        let field = view.property(name)?;
        field.field().default.as_ref().or(field.schema().default.as_ref())
    }
}

/// A place below one: that fields are preserved holds for schemas that are written where they are used.
fn item_of<'a>(outer: View<'a>, view: View<'a>, preserve: bool) -> Shape<'a> {
    let inline = std::ptr::eq::<Schema>(view.field(), view.schema());
    let preserve = inline && (preserve || outer.schema().preserve_unknown);
    Shape::Typed { view, preserve, object: view.schema().embedded }
}

/// Whether the value may be a scalar of several types: a number or a text, say.
fn holds_any_scalar(schema: &Schema) -> bool {
    let scalar = |one: &Schema| !matches!(one.kind, None | Some(Type::Object | Type::Array));
    schema.int_or_string || (!schema.one_of.is_empty() && schema.one_of.iter().all(scalar))
}

/// Where a list does not say how its items are told apart, the key of strategic merge patches tells.
fn items_of(view: View<'_>) -> Items<'_> {
    let said = view.field().list_type.as_ref().or(view.schema().list_type.as_ref());
    let merge_key = || view.field().patch.merge_key.as_ref().or(view.schema().patch.merge_key.as_ref());
    match (said, merge_key()) {
        (Some(ListType::Atomic), _) | (None, None) => Items::Whole,
        (Some(ListType::Set), _) => Items::Set,
        (Some(ListType::Map(keys)), _) => Items::Keyed(keys),
        (None, Some(key)) if key.is_empty() => Items::Set,
        (None, Some(key)) => Items::Keyed(slice::from_ref(key)),
    }
}

impl List<'_> {
    /// What tells the item apart.
    ///
    /// # Errors
    /// When it cannot be told apart, in Kubernetes' words.
    pub(crate) fn step(self, item: &Value) -> Result<PathElement, String> {
        match self.items {
            Items::Whole => Err("invalid indexing of non-associative list".to_owned()),
            Items::Set => match item {
                Value::Object(_) => {
                    Err("associative list without keys has an element that's a map type".to_owned())
                }
                Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
                Value::Null => {
                    Err("associative list without keys has an element that's an explicit null".to_owned())
                }
                scalar => Ok(PathElement::Value(scalar.clone())),
            },
            Items::Keyed(keys) => match item {
                Value::Object(fields) => self.key(keys, fields),
                Value::Null => Err("associative list with keys may not have a null element".to_owned()),
                _ => Err("associative list with keys may not have non-map elements".to_owned()),
            },
        }
    }

    fn key(self, keys: &[Arc<str>], fields: &Map<String, Value>) -> Result<PathElement, String> {
        let declared = self.item.fields();
        let value = |key: &Arc<str>| {
            fields.get(key.as_ref()).or_else(|| declared.and_then(|declared| declared.default_of(key)))
        };
        let given: Vec<_> = keys.iter().filter_map(|key| Some((key.clone(), value(key)?.clone()))).collect();
        if given.is_empty() && !keys.is_empty() {
            let keys: Vec<_> = keys.iter().map(|key| format!("{key:?}")).collect();
            return Err(format!(
                "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                keys.join(" ")
            ));
        }
        Ok(PathElement::key(given))
    }
}
