//! Reads the fields of one object, with their places. Must never know what they mean.

use barque_api::field::{FieldError, FieldPath};
use serde_json::{Map, Value};

/// One object that is read.
pub(super) struct Reader<'v, 'e> {
    fields: Option<&'v Map<String, Value>>,
    place: FieldPath,
    errors: &'e mut Vec<FieldError>,
    seen: Vec<&'static str>,
}

impl<'v, 'e> Reader<'v, 'e> {
    /// Of a value; what is no object is told.
    pub(super) fn of(value: &'v Value, place: FieldPath, errors: &'e mut Vec<FieldError>) -> Self {
        let fields = value.as_object();
        if fields.is_none() && !value.is_null() {
            errors.push(FieldError::type_invalid(&place, value.clone(), "must be an object"));
        }
        Self { fields, place, errors, seen: Vec::new() }
    }

    pub(super) fn path(&self, field: &str) -> FieldPath {
        self.place.child(field)
    }

    pub(super) fn tell(&mut self, error: FieldError) {
        self.errors.push(error);
    }

    pub(super) const fn errors(&mut self) -> &mut Vec<FieldError> {
        self.errors
    }

    /// A field as it stands there.
    pub(super) fn take(&mut self, field: &'static str) -> Option<&'v Value> {
        self.seen.push(field);
        self.fields?.get(field).filter(|value| !value.is_null())
    }

    fn typed<T>(
        &mut self,
        field: &'static str,
        read: impl FnOnce(&'v Value) -> Option<T>,
        detail: &str,
    ) -> Option<T> {
        let value = self.take(field)?;
        let read = read(value);
        if read.is_none() {
            let path = self.path(field);
            self.tell(FieldError::type_invalid(&path, value.clone(), detail));
        }
        read
    }

    pub(super) fn text(&mut self, field: &'static str) -> Option<&'v str> {
        self.typed(field, Value::as_str, "must be a string")
    }

    pub(super) fn integer(&mut self, field: &'static str) -> Option<i64> {
        self.typed(field, Value::as_i64, "must be an integer")
    }

    pub(super) fn boolean(&mut self, field: &'static str) -> Option<bool> {
        self.typed(field, Value::as_bool, "must be a boolean")
    }

    pub(super) fn list(&mut self, field: &'static str) -> Option<&'v [Value]> {
        self.typed(field, |value| value.as_array().map(Vec::as_slice), "must be a list")
    }

    /// Tells fields that nobody asked for.
    pub(super) fn end(self) {
        for (field, value) in self.fields.into_iter().flatten() {
            if !self.seen.contains(&field.as_str()) {
                let path = self.place.child(field);
                self.errors.push(FieldError::invalid(&path, value.clone(), "unknown field"));
            }
        }
    }
}
