//! What makes a schema structural: every value has one known shape, told outside of anyOf, allOf, oneOf and not, and these
//! only restrict it. Must never look at what a keyword means beyond that.

use super::super::pattern;
use super::props::{Props, is_set};
use crate::field::{FieldError, FieldPath};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

/// All that keeps a schema from being structural, sorted by its text.
pub(super) fn judge(props: &Props<'_>, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    shape(props, Level::Root, at, &mut errors);
    complete(props, props, at, at, &mut errors);
    errors.sort_by_cached_key(ToString::to_string);
    errors
}

fn property(at: &FieldPath, name: &str) -> FieldPath {
    at.child("properties").key(name)
}

fn shape(props: &Props<'_>, level: Level, at: &FieldPath, errors: &mut Vec<FieldError>) {
    if props.kind() == "array" && props.schema("items").is_none() {
        errors.push(FieldError::required(&at.child("items"), "must be specified"));
    }
    if let Some(items) = props.schema("items") {
        shape(&items, Level::Item, &at.child("items"), errors);
    }
    for (name, field) in props.named("properties") {
        shape(&field, Level::Field, &property(at, name), errors);
    }
    let additional = at.child("additionalProperties");
    if props.has("additionalProperties") {
        if level == Level::Root {
            errors.push(FieldError::forbidden(&additional, "must not be used at the root"));
        }
        if let Some(below) = props.schema("additionalProperties") {
            shape(&below, Level::Field, &additional, errors);
        }
    }
    extensions(props, at, errors);
    restrictions(props, is_int_or_string(props), first_all_of_is_int_or_string(props), at, errors);
    kind(props, level, at, errors);
    if props.flag("x-kubernetes-embedded-resource") && props.has("additionalProperties") {
        let why = "must not be used if x-kubernetes-embedded-resource is set";
        errors.push(FieldError::forbidden(&additional, why));
    }
    metadata(props, level, at, errors);
    let fields = props.flag("x-kubernetes-preserve-unknown-fields") || props.has_properties();
    if props.flag("x-kubernetes-embedded-resource") && !fields {
        let why = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
        errors.push(FieldError::required(&at.child("properties"), why));
    }
}

fn kind(props: &Props<'_>, level: Level, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let (at, kind) = (at.child("type"), props.kind());
    let any = props.flag("x-kubernetes-int-or-string") || props.flag("x-kubernetes-preserve-unknown-fields");
    if props.flag("x-kubernetes-embedded-resource") && kind != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(required_or_invalid(&at, kind, why));
    } else if kind.is_empty() && !any {
        let why = match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        };
        errors.push(FieldError::required(&at, why));
    }
    if level == Level::Root && !kind.is_empty() && kind != "object" {
        errors.push(FieldError::invalid(&at, kind, "must be object at the root"));
    }
}

/// A type that is missing, or another one.
pub(super) fn required_or_invalid(at: &FieldPath, kind: &str, why: &str) -> FieldError {
    if kind.is_empty() { FieldError::required(at, why) } else { FieldError::invalid(at, kind, why) }
}

fn metadata(props: &Props<'_>, level: Level, at: &FieldPath, errors: &mut Vec<FieldError>) {
    let object = level == Level::Root || props.flag("x-kubernetes-embedded-resource");
    for name in ["kind", "apiVersion"] {
        let field = props.property(name).filter(|_| object);
        if let Some(field) = field.filter(|field| field.kind() != "string") {
            errors.push(FieldError::invalid(
                &property(at, name).child("type"),
                field.kind(),
                "must be string",
            ));
        }
    }
    let Some(metadata) = props.property("metadata") else { return };
    let at = property(at, "metadata");
    if object && metadata.kind() != "object" {
        errors.push(FieldError::invalid(&at.child("type"), metadata.kind(), "must be object"));
    }
    let names_only = metadata.named("properties").all(|(name, _)| matches!(name, "name" | "generateName"));
    let nothing_else = metadata
        .keys()
        .all(|(key, value)| matches!(key, "type" | "default" | "properties") || !is_set(Some(value)));
    if level == Level::Root && !(names_only && nothing_else) {
        let why = "must not specify anything other than name and generateName, but metadata is implicitly specified";
        errors.push(FieldError::forbidden(&at, why));
    }
}

fn extensions(props: &Props<'_>, at: &FieldPath, errors: &mut Vec<FieldError>) {
    if !props.flag("x-kubernetes-int-or-string") {
        return;
    }
    for key in ["x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"] {
        if props.flag(key) {
            let why = "must be false if x-kubernetes-int-or-string is true";
            errors.push(FieldError::invalid(&at.child(key), true, why));
        }
    }
}

/// `anyOf: [{type: integer}, {type: string}]`, which may stand beside x-kubernetes-int-or-string.
fn is_int_or_string(props: &Props<'_>) -> bool {
    let only = |json: &serde_json::Value, kind: &str| {
        Props::of(json).is_some_and(|one| one.kind() == kind && one.keys().count() == 1)
    };
    matches!(props.list("anyOf"), [one, other] if only(one, "integer") && only(other, "string"))
}

fn first_all_of_is_int_or_string(props: &Props<'_>) -> bool {
    props.schemas("allOf").next().is_some_and(|(_, first)| is_int_or_string(&first))
}

/// anyOf, allOf, oneOf, not and pattern of a schema.
fn restrictions(
    props: &Props<'_>,
    skip_any_of: bool,
    skip_first_any_of: bool,
    at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    for key in ["anyOf", "allOf", "oneOf"] {
        if key == "anyOf" && skip_any_of {
            continue;
        }
        for (index, one) in props.schemas(key) {
            let skip = key == "allOf" && skip_first_any_of && index == 0;
            nested(&one, skip, &at.child(key).index(index), errors);
        }
    }
    if let Some(not) = props.schema("not") {
        nested(&not, false, &at.child("not"), errors);
    }
    let wanted = props.text("pattern");
    if let Some(why) = Some(wanted).filter(|one| !one.is_empty()).and_then(|one| pattern::compile(one).err())
    {
        let why = format!("must be a valid regular expression, but isn't: {why}");
        errors.push(FieldError::invalid(&at.child("pattern"), wanted, why));
    }
}

/// A schema below one of these only restricts.
fn nested(props: &Props<'_>, skip_any_of: bool, at: &FieldPath, errors: &mut Vec<FieldError>) {
    restrictions(props, skip_any_of, false, at, errors);
    if let Some(items) = props.schema("items") {
        nested(&items, false, &at.child("items"), errors);
    }
    for (name, field) in props.named("properties") {
        nested(&field, false, &property(at, name), errors);
    }
    for (key, why) in [
        ("type", "must be empty to be structural"),
        ("additionalProperties", "must be undefined to be structural"),
        ("default", "must be undefined to be structural"),
        ("title", "must be empty to be structural"),
        ("description", "must be empty to be structural"),
        ("nullable", "must be false to be structural"),
        ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
        ("x-kubernetes-embedded-resource", "must be false to be structural"),
        ("x-kubernetes-int-or-string", "must be false to be structural"),
        ("x-kubernetes-list-map-keys", "must be empty to be structural"),
        ("x-kubernetes-list-type", "must be undefined to be structural"),
        ("x-kubernetes-map-type", "must be undefined to be structural"),
        ("x-kubernetes-validations", "must be empty to be structural"),
    ] {
        let empty_counts = matches!(key, "additionalProperties" | "default");
        let allowed = key == "additionalProperties" && !props.flag(key) && props.schema(key).is_none();
        if !allowed && (is_set(props.get(key)) || (empty_counts && props.has(key))) {
            errors.push(FieldError::forbidden(&at.child(key), why));
        }
    }
    if props.property("metadata").is_some() {
        let why = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&property(at, "metadata"), why));
    }
}

/// What restricts a value must have a shape to restrict: `told` stands at `told_at`, the shape at `at`. Kubernetes looks at
/// what stands at the root only.
fn complete(
    told: &Props<'_>,
    shape: &Props<'_>,
    at: &FieldPath,
    told_at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    if let Some(not) = told.schema("not") {
        complete_nested(&not, Some(shape), at, &told_at.child("not"), errors);
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for (index, one) in told.schemas(key) {
            complete_nested(&one, Some(shape), at, &told_at.child(key).index(index), errors);
        }
    }
}

fn complete_nested(
    told: &Props<'_>,
    shape: Option<&Props<'_>>,
    at: &FieldPath,
    told_at: &FieldPath,
    errors: &mut Vec<FieldError>,
) {
    let Some(shape) = shape else {
        errors.push(FieldError::required(at, format!("because it is defined in {told_at}")));
        return;
    };
    complete(told, shape, at, told_at, errors);
    if let Some(items) = told.schema("items") {
        let below = shape.schema("items");
        complete_nested(&items, below.as_ref(), &at.child("items"), &told_at.child("items"), errors);
    }
    for (name, field) in told.named("properties") {
        let below = shape.property(name);
        complete_nested(&field, below.as_ref(), &property(at, name), &property(told_at, name), errors);
    }
}
