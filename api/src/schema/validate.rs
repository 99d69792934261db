//! Values against their schema, with the paths and sentences that users of Kubernetes know. Must never change a value, and
//! never judge again what an update left as it was.

use std::fmt::Display;

use serde_json::{Number, Value};

use super::format;
use super::model::{Schema, Type, View};
use super::old::{old_field, old_item};
use super::pattern;
use crate::field::{FieldError, FieldPath};

/// What a value is held to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Types, and formats that decoding depends on; null is as good as nothing. What is read into built-in kinds.
    Types,
    /// All that the schema says.
    Everything,
}

/// Judges a new value; errors are told below `at`.
#[must_use]
pub fn validate(view: View<'_>, value: &Value, at: &FieldPath, extent: Extent) -> Vec<FieldError> {
    let judge = Judge { at, extent, update: false };
    judge.value(view, view, value, None, &Spot::start(at)).errors
}

/// Judges what an update changed: errors of parts that are as they were are not told.
#[must_use]
pub fn validate_update(view: View<'_>, value: &Value, old: &Value, at: &FieldPath) -> Vec<FieldError> {
    let judge = Judge { at, extent: Extent::Everything, update: true };
    let spot = Spot::start(at);
    let found = judge.value(view, view, value, Some(old), &spot).errors;
    if value == old { Vec::new() } else { found }
}

struct Judge<'a> {
    at: &'a FieldPath,
    extent: Extent,
    update: bool,
}

/// What was found, and how much fitted: the alternative that fits best is the one whose errors are told.
#[derive(Default)]
struct Outcome {
    errors: Vec<FieldError>,
    fits: usize,
}

impl Outcome {
    fn add(&mut self, other: Self) {
        self.errors.extend(other.errors);
        self.fits += other.fits;
    }
}

/// A place, as errors name it, and as their sentences do: from the value that is judged.
struct Spot {
    path: FieldPath,
    name: FieldPath,
}

impl Spot {
    fn start(at: &FieldPath) -> Self {
        Self { path: at.clone(), name: FieldPath::root() }
    }

    fn child(&self, name: &str) -> Self {
        Self { path: self.path.child(name), name: self.name.child(name) }
    }

    fn index(&self, index: usize) -> Self {
        Self { path: self.path.index(index), name: self.name.index(index) }
    }

    fn invalid(&self, value: impl Into<Value>, should: impl Display) -> FieldError {
        FieldError::invalid(&self.path, value, format!("{} in body should {should}", self.name))
    }

    fn wrong_type(&self, wanted: &str, value: &str) -> FieldError {
        let detail = format!("{} in body must be of type {wanted}: {value:?}", self.name);
        FieldError::type_invalid(&self.path, value, detail)
    }
}

impl Judge<'_> {
    /// `guide` is the schema that says how items of lists are told apart; `view` may be an alternative of it.
    fn value(
        &self,
        view: View<'_>,
        guide: View<'_>,
        value: &Value,
        old: Option<&Value>,
        spot: &Spot,
    ) -> Outcome {
        let mut outcome = Outcome { errors: Vec::new(), fits: 1 };
        let schema = view.schema();
        if value.is_null() && self.extent == Extent::Types {
            return outcome;
        }
        self.kind(view, value, spot, &mut outcome);
        if value.is_null() {
            self.enumeration(schema, value, spot, &mut outcome);
            return outcome;
        }
        self.alternatives(view, guide, value, old, spot, &mut outcome);
        match value {
            Value::String(text) => self.text(schema, text, spot, &mut outcome),
            Value::Number(number) => self.number(schema, number, spot, &mut outcome),
            Value::Array(list) => self.list(view, guide, list, old, spot, &mut outcome),
            _ => {}
        }
        self.enumeration(schema, value, spot, &mut outcome);
        if let Value::Object(fields) = value {
            self.object(view, guide, fields, old, spot, &mut outcome);
        }
        outcome
    }

    fn kind(&self, view: View<'_>, value: &Value, spot: &Spot, outcome: &mut Outcome) {
        let schema = view.schema();
        let wanted = match (schema.kind, schema.int_or_string) {
            (_, true) => "integer,string",
            (Some(kind), false) => kind.name(),
            (None, false) => return,
        };
        let whole = |number: &Number| number.as_f64().is_some_and(|number| number.fract() == 0.0);
        let (is, fits) = match value {
            Value::Null => ("null", schema.nullable || view.field().nullable),
            Value::Bool(_) => ("boolean", schema.kind == Some(Type::Boolean)),
            Value::String(_) => ("string", schema.int_or_string || schema.kind == Some(Type::String)),
            Value::Array(_) => ("array", schema.kind == Some(Type::Array)),
            Value::Object(_) => ("object", schema.kind == Some(Type::Object)),
            Value::Number(number) => {
                let integer = schema.int_or_string || schema.kind == Some(Type::Integer);
                let is = if number.is_f64() { "number" } else { "integer" };
                (is, schema.kind == Some(Type::Number) || (integer && whole(number)))
            }
        };
        if fits {
            outcome.fits += 1;
        } else {
            outcome.errors.push(spot.wrong_type(wanted, is));
        }
    }

    fn enumeration(&self, schema: &Schema, value: &Value, spot: &Spot, outcome: &mut Outcome) {
        outcome.fits += 1;
        if self.extent == Extent::Types
            || schema.enumeration.is_empty()
            || schema.enumeration.iter().any(|one| same(one, value))
        {
            return;
        }
        let text = |one: &Value| one.as_str().map_or_else(|| one.to_string(), str::to_owned);
        let supported: Vec<String> = schema.enumeration.iter().map(text).collect();
        let supported: Vec<&str> = supported.iter().map(String::as_str).collect();
        outcome.errors.push(FieldError::not_supported(&spot.path, value.clone(), &supported));
    }

    fn text(&self, schema: &Schema, text: &str, spot: &Spot, outcome: &mut Outcome) {
        outcome.fits += 1;
        let errors = &mut outcome.errors;
        if let Some(wanted) = &schema.format {
            let decoded = matches!(&**wanted, "date-time" | "byte");
            if (decoded || self.extent == Extent::Everything) && !format::fits(wanted, text) {
                let detail = format!("{} in body must be of type {wanted}: {text:?}", spot.name);
                errors.push(FieldError::type_invalid(&spot.path, text, detail));
            }
        }
        if self.extent == Extent::Types {
            return;
        }
        let length = || text.chars().count() as u64;
        if let Some(most) = schema.max_length.filter(|most| length() > *most) {
            errors.push(FieldError::too_long(&spot.path, usize::try_from(most).unwrap_or(usize::MAX)));
        }
        if let Some(least) = schema.min_length.filter(|least| length() < *least) {
            errors.push(spot.invalid(text, format_args!("be at least {least} chars long")));
        }
        if let Some(wanted) = &schema.pattern {
            match pattern::compile(wanted) {
                Ok(compiled) if compiled.is_match(text) => {}
                Ok(_) => errors.push(spot.invalid(text, format_args!("match '{wanted}'"))),
                Err(error) => {
                    let should = format_args!("match '{wanted}, but pattern is invalid: {error}'");
                    errors.push(spot.invalid(text, should));
                }
            }
        }
    }

    fn number(&self, schema: &Schema, number: &Number, spot: &Spot, outcome: &mut Outcome) {
        outcome.fits += 1;
        if let Some(format) = out_of_range(schema, number) {
            let kind = schema.kind.map_or("", Type::name);
            let detail = format!("Checked value must be of type {kind} {format} in {}", spot.name);
            outcome.errors.push(FieldError::invalid(self.at, "", detail));
        }
        if self.extent == Extent::Types {
            return;
        }
        let value = || Value::Number(number.clone());
        if let Some(factor) = schema.multiple_of.as_ref().filter(|factor| !is_multiple(number, factor)) {
            outcome.errors.push(spot.invalid(value(), format_args!("be a multiple of {factor}")));
        }
        if let Some(most) = &schema.maximum {
            let order = compare(number, most);
            if order.is_gt() || (schema.exclusive_maximum && order.is_eq()) {
                let or = if schema.exclusive_maximum { "" } else { "or equal to " };
                outcome.errors.push(spot.invalid(value(), format_args!("be less than {or}{}", plain(most))));
            }
        }
        if let Some(least) = &schema.minimum {
            let order = compare(number, least);
            if order.is_lt() || (schema.exclusive_minimum && order.is_eq()) {
                let or = if schema.exclusive_minimum { "" } else { "or equal to " };
                outcome
                    .errors
                    .push(spot.invalid(value(), format_args!("be greater than {or}{}", plain(least))));
            }
        }
    }

    fn list(
        &self,
        view: View<'_>,
        guide: View<'_>,
        list: &[Value],
        old: Option<&Value>,
        spot: &Spot,
        outcome: &mut Outcome,
    ) {
        outcome.fits += 2;
        if let Some(below) = view.items() {
            for (index, item) in list.iter().enumerate() {
                let old = if self.update { old_item(guide, old, item) } else { None };
                let guide = guide.items().unwrap_or(below);
                outcome.add(self.part(below, guide, item, old, &spot.index(index)));
            }
        }
        if self.extent == Extent::Types {
            return;
        }
        let (schema, size) = (view.schema(), list.len() as u64);
        if let Some(least) = schema.min_items.filter(|least| size < *least) {
            outcome.errors.push(spot.invalid(size, format_args!("have at least {least} items")));
        }
        if let Some(most) = schema.max_items.filter(|most| size > *most) {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            outcome.errors.push(FieldError::too_many(&spot.path, list.len(), most));
        }
        let repeated = || list.iter().enumerate().any(|(index, item)| list[..index].contains(item));
        if schema.unique_items && repeated() {
            let detail = format!("{} in body shouldn't contain duplicates", spot.name);
            outcome.errors.push(FieldError::invalid(&spot.path, "", detail));
        }
    }

    fn object(
        &self,
        view: View<'_>,
        guide: View<'_>,
        fields: &serde_json::Map<String, Value>,
        old: Option<&Value>,
        spot: &Spot,
        outcome: &mut Outcome,
    ) {
        outcome.fits += 1;
        let (schema, size) = (view.schema(), fields.len() as u64);
        if self.extent == Extent::Everything {
            if let Some(least) = schema.min_properties.filter(|least| size < *least) {
                outcome.errors.push(spot.invalid(size, format_args!("have at least {least} properties")));
            }
            if let Some(most) = schema.max_properties.filter(|most| size > *most) {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                outcome.errors.push(FieldError::too_many(&spot.path, fields.len(), most));
            }
        }
        let root = spot.name == FieldPath::root();
        for (name, value) in fields {
            let Some(below) = view.property(name) else { continue };
            // Every version of an object is read as the one that is asked for, so these cannot stay as they were.
            let typed = root && matches!(name.as_str(), "apiVersion" | "kind");
            let old = if self.update && !typed { old_field(old, name) } else { None };
            let guide = guide.property(name).unwrap_or(below);
            outcome.add(self.part(below, guide, value, old, &spot.child(name)));
        }
        if self.extent == Extent::Everything {
            let missing = schema.required.iter().filter(|name| !fields.contains_key(&***name));
            outcome.errors.extend(missing.map(|name| FieldError::required(&spot.path.child(name), "")));
        }
    }

    /// A field or an item. What is as it was has no errors.
    fn part(
        &self,
        view: View<'_>,
        guide: View<'_>,
        value: &Value,
        old: Option<&Value>,
        spot: &Spot,
    ) -> Outcome {
        let mut outcome = self.value(view, guide, value, old, spot);
        if !outcome.errors.is_empty() && old == Some(value) {
            outcome.errors.clear();
        }
        outcome
    }

    fn alternatives(
        &self,
        view: View<'_>,
        guide: View<'_>,
        value: &Value,
        old: Option<&Value>,
        spot: &Spot,
        outcome: &mut Outcome,
    ) {
        outcome.fits += 1;
        let schema = view.schema();
        let judge = |one: &Schema| self.value(view.beside(one), guide, value, old, spot);
        let told = |detail: String| FieldError::invalid(self.at, "", detail);
        let name = || spot.name.to_string();
        if !schema.any_of.is_empty() {
            let (valid, chosen) = best(schema.any_of.iter().map(judge), true);
            if valid == 0 {
                outcome.errors.push(told(format!("{:?} must validate at least one schema (anyOf)", name())));
            }
            outcome.add(chosen);
        }
        if !schema.one_of.is_empty() {
            let (valid, chosen) = best(schema.one_of.iter().map(judge), false);
            if valid != 1 {
                let found = match valid {
                    0 => "Found none valid".to_owned(),
                    several => format!("Found {several} valid alternatives"),
                };
                let text = format!("{:?} must validate one and only one schema (oneOf). {found}", name());
                outcome.errors.push(told(text));
            }
            outcome.add(chosen);
        }
        if !schema.all_of.is_empty() {
            let mut valid = 0;
            for one in schema.all_of.iter().map(judge) {
                valid += usize::from(one.errors.is_empty());
                outcome.add(one);
            }
            if valid != schema.all_of.len() {
                let none = if valid == 0 { ". None validated" } else { "" };
                outcome
                    .errors
                    .push(told(format!("{:?} must validate all the schemas (allOf){none}", name())));
            }
        }
        if schema.not.as_deref().is_some_and(|not| judge(not).errors.is_empty()) {
            outcome.errors.push(told(format!("{:?} must not validate the schema (not)", name())));
        }
    }
}

/// How many alternatives hold, and what is told: the first that holds, else the one that fits best.
fn best(alternatives: impl Iterator<Item = Outcome>, first_is_enough: bool) -> (usize, Outcome) {
    let (mut valid, mut holds, mut fails): (usize, Option<Outcome>, Option<Outcome>) = (0, None, None);
    for one in alternatives {
        if one.errors.is_empty() {
            valid += 1;
            holds = holds.or(Some(one));
            if first_is_enough {
                break;
            }
        } else if fails.as_ref().is_none_or(|best| one.fits > best.fits) {
            fails = Some(one);
        }
    }
    (valid, holds.or(fails).unwrap_or_default())
}

/// Equal values; numbers are, whichever way they are written.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => compare(left, right).is_eq(),
        _ => left == right,
    }
}

fn compare(left: &Number, right: &Number) -> std::cmp::Ordering {
    let whole = |number: &Number| number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left.cmp(&right),
        _ => left.as_f64().unwrap_or(f64::NAN).total_cmp(&right.as_f64().unwrap_or(f64::NAN)),
    }
}

fn is_multiple(number: &Number, factor: &Number) -> bool {
    if let (Some(number), Some(factor)) = (number.as_i64(), factor.as_i64()) {
        return factor > 0 && number % factor == 0;
    }
    let (number, factor) = (number.as_f64().unwrap_or(f64::NAN), factor.as_f64().unwrap_or(f64::NAN));
    let quotient = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
    // The last digits are lost in the division.
    factor > 0.0 && (quotient - quotient.round()).abs() <= quotient.abs() * 1e-9
}

/// A bound without a fraction that says nothing.
fn plain(number: &Number) -> String {
    let text = number.to_string();
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// The format that a number is too large for, in words.
fn out_of_range(schema: &Schema, number: &Number) -> Option<&'static str> {
    let fits_i64 = number.as_i64().is_some() || number.as_f64().is_some_and(|one| one.abs() < 9.3e18);
    #[expect(clippy::cast_possible_truncation, reason = "the range is compared")]
    let fits_f32 = || number.as_f64().is_some_and(|one| (one as f32).is_finite());
    let fits_i32 = || match number.as_i64() {
        Some(whole) => i32::try_from(whole).is_ok(),
        None => number.as_f64().is_some_and(|one| one.abs() <= f64::from(i32::MAX)),
    };
    match (schema.kind?, schema.format.as_deref()) {
        (Type::Integer, Some("int32")) if !fits_i32() => Some("with format int32"),
        (Type::Integer, Some("int64")) if !fits_i64 => Some("with format int64"),
        (Type::Integer, _) if !fits_i64 => Some("(default format)"),
        (Type::Number, Some("float")) if !fits_f32() => Some("with format float"),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
