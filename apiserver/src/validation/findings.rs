//! What was found wrong with an object, in order, and the checks that many fields share. Must never know a kind.

use std::collections::BTreeSet;

use barque_api::field::{FieldError, FieldPath};
use barque_api::labels::{SelectorRules, validate_label_selector, validate_labels};
use barque_api::names;
use barque_api::quantity::Quantity;
use serde_json::Value;

use super::part::Part;
use super::same::same;

/// The sentence about a number below 0.
pub(super) const NEGATIVE: &str = "must be greater than or equal to 0";
/// The sentence about a field that may not change.
pub(super) const IMMUTABLE: &str = "field is immutable";

/// What is wrong, in the order in which it was found.
#[derive(Default)]
pub(super) struct Findings(Vec<FieldError>);

impl Findings {
    /// All of them.
    pub(super) fn into_errors(self) -> Vec<FieldError> {
        self.0
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Adds what others found.
    pub(super) fn extend(&mut self, errors: impl IntoIterator<Item = FieldError>) {
        self.0.extend(errors);
    }

    /// Adds one.
    pub(super) fn push(&mut self, error: FieldError) {
        self.0.push(error);
    }

    /// A value of the wrong form.
    pub(super) fn invalid(&mut self, path: &FieldPath, value: impl Into<Value>, detail: impl Into<String>) {
        self.push(FieldError::invalid(path, value, detail));
    }

    /// A text of the wrong form, once for each sentence about it.
    pub(super) fn each(&mut self, path: &FieldPath, value: &str, sentences: Vec<String>) {
        self.extend(sentences.into_iter().map(|sentence| FieldError::invalid(path, value, sentence)));
    }

    /// A field that must be given.
    pub(super) fn required(&mut self, path: &FieldPath, detail: impl Into<String>) {
        self.push(FieldError::required(path, detail));
    }

    /// A field that may not be given, or not be changed.
    pub(super) fn forbidden(&mut self, path: &FieldPath, detail: impl Into<String>) {
        self.push(FieldError::forbidden(path, detail));
    }

    /// A value that is none of those known.
    pub(super) fn not_supported(&mut self, path: &FieldPath, value: impl Into<Value>, known: &[&str]) {
        self.push(FieldError::not_supported(path, value, known));
    }

    /// A value that is there twice.
    pub(super) fn duplicate(&mut self, path: &FieldPath, value: impl Into<Value>) {
        self.push(FieldError::duplicate(path, value));
    }

    /// A value that names something that is not there.
    pub(super) fn not_found(&mut self, path: &FieldPath, value: impl Into<Value>) {
        self.push(FieldError::not_found(path, value));
    }

    /// A text that must be given.
    pub(super) fn needs(&mut self, part: &Part<'_>, field: &str) {
        if part.text(field).is_empty() {
            self.required(&part.at(field), "");
        }
    }

    /// A word that must be given and be one of those known.
    pub(super) fn word(&mut self, part: &Part<'_>, field: &str, known: &[&str]) {
        self.needs(part, field);
        if !part.text(field).is_empty() {
            self.word_if_given(part, field, known);
        }
    }

    /// A word that must be one of those known where it is given.
    pub(super) fn word_if_given(&mut self, part: &Part<'_>, field: &str, known: &[&str]) {
        if part.has(field) && !known.contains(&part.text(field)) {
            self.not_supported(&part.at(field), part.text(field), known);
        }
    }

    /// Numbers that may not be below 0.
    pub(super) fn nonnegative(&mut self, part: &Part<'_>, fields: &[&str]) {
        for field in fields {
            let number = part.count(field);
            if number < 0 {
                self.invalid(&part.at(field), number, NEGATIVE);
            }
        }
    }

    /// A number between two bounds, where it is given.
    pub(super) fn within(&mut self, part: &Part<'_>, field: &str, least: i64, most: i64) {
        if let Some(number) = part.number(field)
            && !(least..=most).contains(&number)
        {
            self.invalid(&part.at(field), number, names::inclusive_range(least, most));
        }
    }

    /// A DNS label.
    pub(super) fn dns_label(&mut self, path: &FieldPath, value: &str) {
        self.each(path, value, names::dns_label(value));
    }

    /// A name of an object.
    pub(super) fn dns_subdomain(&mut self, path: &FieldPath, value: &str) {
        self.each(path, value, names::dns_subdomain(value));
    }

    /// A key of a label.
    pub(super) fn label_key(&mut self, path: &FieldPath, value: &str) {
        self.each(path, value, names::label_key(value));
    }

    /// A map of labels in a field.
    pub(super) fn labels(&mut self, part: &Part<'_>, field: &str) {
        if let Some(labels) = part.map(field) {
            self.extend(validate_labels(labels, &part.at(field)));
        }
    }

    /// A selector of labels in a field.
    pub(super) fn selector(&mut self, part: &Part<'_>, field: &str) {
        let rules = SelectorRules::default();
        self.extend(validate_label_selector(Some(part.get(field)), rules, &part.at(field)));
    }

    /// A field that may not change.
    pub(super) fn immutable(&mut self, new: &Part<'_>, old: &Part<'_>, field: &str) {
        if !same(new.get(field), old.get(field)) {
            self.invalid(&new.at(field), new.get(field).clone(), IMMUTABLE);
        }
    }

    /// The quantity at a place, if it is one.
    pub(super) fn quantity(&mut self, value: &Value, path: &FieldPath) -> Option<Quantity> {
        match Quantity::of_value(value) {
            Ok(quantity) => Some(quantity),
            Err(error) => {
                self.invalid(path, value.clone(), error.to_string());
                None
            }
        }
    }

    /// A name that must be given, be a DNS label, and be there once.
    pub(super) fn unique_label<'a>(&mut self, part: &Part<'a>, field: &str, seen: &mut BTreeSet<&'a str>) {
        let name = part.text(field);
        if name.is_empty() {
            self.required(&part.at(field), "");
        } else if !seen.insert(name) {
            self.duplicate(&part.at(field), name);
        } else {
            self.dns_label(&part.at(field), name);
        }
    }
}
