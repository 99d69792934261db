//! Rules of schemas (`x-kubernetes-validations`): compiled once for a schema, judged on values of it. Must never judge a
//! rule about a change where there is nothing that changed.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::machine::{Budget, EvalError};
use super::program::{Activation, Environment, Program};
use super::value::Val;
use super::{MAX_MESSAGE_BYTES, PER_OBJECT};
use crate::field::{FieldError, FieldPath};
use crate::schema::{
    Definitions, ListType, Rule, Schema, SchemaRef, Type, View, field_at, old_field, old_item,
};

const SELF: &str = "self";
const OLD_SELF: &str = "oldSelf";

/// All rules of a schema, by their text: the same text compiles to the same program wherever it stands.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: HashMap<Box<str>, Arc<Program>>,
    messages: HashMap<Box<str>, Arc<Program>>,
}

impl Rules {
    /// Compiles the rules of a schema and of all below it. `at` is where the schema stands.
    ///
    /// # Errors
    /// All rules that cannot be compiled, or cannot be judged where they stand.
    pub fn compile(schema: &Schema, at: &FieldPath) -> Result<Self, Vec<FieldError>> {
        let definitions = Definitions::default();
        let mut compiler = Compiler { rules: Self::default(), errors: Vec::new() };
        compiler.schema(definitions.view_of(schema), at, None);
        if compiler.errors.is_empty() { Ok(compiler.rules) } else { Err(compiler.errors) }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Judges a value of the schema, and what changed if there is an old one. What all rules cost together is bounded by
    /// [`PER_OBJECT`].
    #[must_use]
    pub fn validate(
        &self,
        view: View<'_>,
        value: &Value,
        old: Option<&Value>,
        at: &FieldPath,
    ) -> Vec<FieldError> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut judge = Judge { rules: self, budget: Budget::new(PER_OBJECT), errors: Vec::new() };
        judge.value(view, value, old, old == Some(value), at);
        judge.errors
    }
}

struct Compiler {
    rules: Rules,
    errors: Vec<FieldError>,
}

impl Compiler {
    /// `no_old` is the list, if there is one, whose items have no old values.
    fn schema(&mut self, view: View<'_>, at: &FieldPath, no_old: Option<&FieldPath>) {
        let schema = view.schema();
        for (index, rule) in schema.rules.iter().enumerate() {
            self.rule(view, rule, &at.child("x-kubernetes-validations").index(index), no_old);
        }
        for (name, below) in &schema.properties {
            let at = at.child("properties").key(name);
            self.below(view, below, &at, no_old);
        }
        if let Some(below) = &schema.additional {
            self.below(view, below, &at.child("additionalProperties"), no_old);
        }
        if let Some(below) = &schema.items {
            let keyed = matches!(view.list_type(), ListType::Map(_));
            let no_old = no_old.or((!keyed).then_some(at));
            self.below(view, below, &at.child("items"), no_old);
        }
    }

    fn below(&mut self, view: View<'_>, below: &SchemaRef, at: &FieldPath, no_old: Option<&FieldPath>) {
        if let SchemaRef::Inline(schema) = below {
            self.schema(view.beside(schema), at, no_old);
        }
    }

    fn rule(&mut self, view: View<'_>, rule: &Rule, at: &FieldPath, no_old: Option<&FieldPath>) {
        let optional = rule.optional_old_self == Some(true);
        let environment =
            Environment::default().with(SELF, Some(view)).with(OLD_SELF, Some(view).filter(|_| !optional));
        match Program::compile(&environment, &rule.rule, Some("bool")) {
            Ok(program) => {
                let names_old = program.names(OLD_SELF);
                if let Some(list) = no_old.filter(|_| names_old) {
                    let why = format!(
                        "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                    );
                    self.errors.push(FieldError::invalid(&at.child("rule"), rule.rule.as_str(), why));
                } else if let (false, Some(given)) = (names_old, rule.optional_old_self) {
                    let why = "may not be set if oldSelf is not used in rule";
                    self.errors.push(FieldError::invalid(&at.child("optionalOldSelf"), given, why));
                }
                self.rules.rules.insert(rule.rule.as_str().into(), Arc::new(program));
            }
            Err(error) => {
                self.errors.push(FieldError::invalid(
                    &at.child("rule"),
                    rule.rule.as_str(),
                    error.to_string(),
                ));
            }
        }
        let Some(message) = &rule.message_expression else { return };
        match Program::compile(&environment, message, Some("string")) {
            Ok(program) => {
                self.rules.messages.insert(message.as_str().into(), Arc::new(program));
            }
            Err(error) => {
                let why = format!("messageExpression {error}");
                self.errors.push(FieldError::invalid(&at.child("messageExpression"), message.as_str(), why));
            }
        }
    }
}

struct Judge<'r> {
    rules: &'r Rules,
    budget: Budget,
    errors: Vec<FieldError>,
}

/// The budget is spent: no more rules are judged.
struct Spent;

impl Judge<'_> {
    fn value(&mut self, view: View<'_>, value: &Value, old: Option<&Value>, same: bool, at: &FieldPath) {
        let _spent: Result<(), Spent> = self.walk(view, value, old, same, at);
    }

    /// `same` says whether an update left the value, or what holds it, as it was.
    fn walk(
        &mut self,
        view: View<'_>,
        value: &Value,
        old: Option<&Value>,
        same: bool,
        at: &FieldPath,
    ) -> Result<(), Spent> {
        // Rules about null stand where it is a field's value.
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        for rule in &view.schema().rules {
            self.rule(view, rule, value, old, same, at)?;
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let Some(below) = view.property(name) else { continue };
                    let old = old_field(old, name);
                    let named = view.schema().properties.contains_key(name.as_str());
                    let at = if named { at.child(name) } else { at.key(name) };
                    let same = old.map_or(same, |old| old == value);
                    self.walk(below, value, old, same, &at)?;
                }
            }
            Value::Array(list) => {
                let Some(below) = view.items() else { return Ok(()) };
                for (index, item) in list.iter().enumerate() {
                    let old = old_item(view, old, item);
                    let same = old.map_or(same, |old| old == item);
                    self.walk(below, item, old, same, &at.index(index))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(
        &mut self,
        view: View<'_>,
        rule: &Rule,
        value: &Value,
        old: Option<&Value>,
        same: bool,
        at: &FieldPath,
    ) -> Result<(), Spent> {
        let Some(program) = self.rules.rules.get(rule.rule.as_str()) else { return Ok(()) };
        let optional = rule.optional_old_self == Some(true);
        let names_old = program.names(OLD_SELF);
        if names_old && old.is_none() && !optional {
            return Ok(());
        }
        let old_value = old.map(|old| Val::of_json(old, Some(view)));
        let old_value = if optional { Some(Val::optional(old_value)) } else { old_value };
        let mut activation = Activation::default().with(SELF, Val::of_json(value, Some(view)));
        if let Some(old) = old_value {
            activation = activation.with(OLD_SELF, old);
        }
        let kind = kind_of(view, value);
        let before = self.budget.left();
        let said = if rule.message.is_some() { rule.message.as_deref() } else { Some(rule.rule.as_str()) };
        let said = said.unwrap_or_default().trim();
        match program.evaluate(&activation, &mut self.budget) {
            Ok(Val::Bool(true)) => return Ok(()),
            Ok(Val::Bool(false)) => {}
            Ok(_) => {
                let why = format!("cel expression must evaluate to a bool: {said}");
                self.errors.push(FieldError::invalid(at, kind, why));
                return Ok(());
            }
            Err(EvalError::LimitExceeded) => {
                let why = if before < super::PER_EXPRESSION {
                    "validation failed due to running out of cost budget, no further validation rules will be run".to_owned()
                } else {
                    format!(
                        "'{}': no further validation rules will be run due to call cost exceeds limit for rule: {said}",
                        EvalError::LimitExceeded
                    )
                };
                self.errors.push(FieldError::invalid(at, kind, why));
                return Err(Spent);
            }
            Err(EvalError::NoSuchOverload) => {
                let why = format!(
                    "'{}': call arguments did not match a supported operator, function or macro signature for rule: {said}",
                    EvalError::NoSuchOverload
                );
                self.errors.push(FieldError::invalid(at, kind, why));
                return Ok(());
            }
            Err(error) => {
                self.errors.push(FieldError::invalid(at, kind, format!("{error} evaluating rule: {said}")));
                return Ok(());
            }
        }
        // It does not hold; that an update left the value as it was excuses it, unless it is about the change.
        if same && !names_old {
            return Ok(());
        }
        let at = match &rule.field_path {
            Some(path) => field_at(at, view.schema(), path),
            None => at.clone(),
        };
        let message = self.message(rule, &activation, &at, &kind)?;
        let detail = message.unwrap_or_else(|| match &rule.message {
            Some(message) => message.trim().to_owned(),
            None => format!("failed rule: {said}"),
        });
        self.errors.push(match rule.reason.as_deref() {
            Some("FieldValueForbidden") => FieldError::forbidden(&at, detail),
            Some("FieldValueRequired") => FieldError::required(&at, detail),
            Some("FieldValueDuplicate") => FieldError::duplicate(&at, kind),
            _ => FieldError::invalid(&at, kind, detail),
        });
        Ok(())
    }

    /// What the rule's own expression says; nothing when it says nothing that can be shown.
    fn message(
        &mut self,
        rule: &Rule,
        activation: &Activation<'_>,
        at: &FieldPath,
        kind: &Value,
    ) -> Result<Option<String>, Spent> {
        let program =
            rule.message_expression.as_ref().and_then(|text| self.rules.messages.get(text.as_str()));
        let Some(program) = program else { return Ok(None) };
        match program.evaluate(activation, &mut self.budget) {
            Ok(Val::Text(text)) => {
                let text = text.trim();
                let shown = !text.is_empty() && text.len() <= MAX_MESSAGE_BYTES && !text.contains('\n');
                Ok(shown.then(|| text.to_owned()))
            }
            Err(EvalError::LimitExceeded) => {
                let why = "messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run";
                self.errors.push(FieldError::invalid(at, kind.clone(), why));
                Err(Spent)
            }
            _ => Ok(None),
        }
    }
}

/// What errors show: a scalar itself, of others their type.
fn kind_of(view: View<'_>, value: &Value) -> Value {
    match (value, view.schema().kind) {
        (Value::Object(_), _) => Type::Object.name().into(),
        (Value::Array(_), _) => Type::Array.name().into(),
        (value, _) => value.clone(),
    }
}
