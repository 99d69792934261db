//! Expressions compiled, and what they are evaluated with. Must never accept one that names what there is not.

use std::fmt;

use super::PER_EXPRESSION;
use super::ast::Node;
use super::check::{Checker, result_type};
use super::machine::{Budget, EvalError, Machine};
use super::parser;
use super::value::Val;
use crate::schema::View;

/// Expressions that are longer are refused.
const MAX_BYTES: usize = 64 * 1024;

/// The variables that expressions may name, some with the schema of their values.
#[derive(Clone, Debug, Default)]
pub struct Environment<'s> {
    variables: Vec<(&'s str, Option<View<'s>>)>,
    objects: bool,
}

impl<'s> Environment<'s> {
    /// With one more variable: of the type that a schema gives, or of any.
    #[must_use]
    pub fn with(mut self, name: &'s str, view: Option<View<'s>>) -> Self {
        self.variables.push((name, view));
        self
    }

    /// With objects that expressions make: `Object`, what stands in one, and `JSONPatch`.
    #[must_use]
    pub fn with_objects(mut self) -> Self {
        self.objects = true;
        self
    }

    pub(super) fn variables(&self) -> impl Iterator<Item = (&'s str, Option<View<'s>>)> + '_ {
        self.variables.iter().copied()
    }

    pub(super) const fn objects(&self) -> bool {
        self.objects
    }
}

/// The values of variables.
#[derive(Clone, Debug, Default)]
pub struct Activation<'a> {
    variables: Vec<(&'a str, Val<'a>)>,
    /// Fields of a variable whose values may have failed.
    fields: Vec<(&'a str, &'a str, Result<Val<'a>, EvalError>)>,
}

impl<'a> Activation<'a> {
    /// With the value of one more variable.
    #[must_use]
    pub fn with(mut self, name: &'a str, value: Val<'a>) -> Self {
        self.variables.push((name, value));
        self
    }

    /// With a field of a variable that is named by its fields alone: its value, or why it has none, which whoever names it
    /// is told.
    #[must_use]
    pub fn with_field(mut self, of: &'a str, name: &'a str, value: Result<Val<'a>, EvalError>) -> Self {
        self.fields.push((of, name, value));
        self
    }

    pub(super) fn get(&self, name: &str) -> Option<Val<'a>> {
        self.variables.iter().rev().find(|(one, _)| *one == name).map(|(_, value)| value.clone())
    }

    pub(super) fn field(&self, of: &str, name: &str) -> Option<Result<Val<'a>, EvalError>> {
        let found = self.fields.iter().rev().find(|(one, field, _)| *one == of && *field == name);
        found.map(|(.., value)| value.clone())
    }
}

/// Why an expression cannot be compiled: one or more sentences with their places.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CompileError(String);

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An expression that was compiled.
#[derive(Clone, Debug)]
pub struct Program {
    root: Node,
    names: Vec<Box<str>>,
}

impl Program {
    /// Compiles an expression for these variables. Its result is of the type `result` (`bool`, `string`), as far as that
    /// can be told before it is evaluated.
    ///
    /// # Errors
    /// When it is no expression, names what there is not, or has another result.
    pub fn compile(
        environment: &Environment<'_>,
        source: &str,
        result: Option<&str>,
    ) -> Result<Self, CompileError> {
        if source.len() > MAX_BYTES {
            let why = format!(
                "expression code point size exceeds limit: size: {}, limit {MAX_BYTES}",
                source.len()
            );
            return Err(CompileError(format!("compilation failed: {why}")));
        }
        let told = |(at, why): &(usize, String)| place(source, *at, why);
        let root = parser::parse(source)
            .map_err(|error| CompileError(format!("compilation failed: {}", told(&error))))?;
        let checked = Checker::new(environment).check(&root);
        if !checked.errors.is_empty() {
            let errors: Vec<String> = checked.errors.iter().map(told).collect();
            return Err(CompileError(format!("compilation failed: {}", errors.join("\n"))));
        }
        match (result, result_type(&root)) {
            (Some("bool"), Some(other)) if other != "bool" => {
                Err(CompileError("cel expression must evaluate to a bool".to_owned()))
            }
            (Some(wanted), Some(other)) if other != wanted => {
                Err(CompileError(format!("must evaluate to a {wanted}")))
            }
            _ => Ok(Self { root, names: checked.names.into_iter().map(Into::into).collect() }),
        }
    }

    /// The type of its result (`bool`, `string`, `list`, `Object`), where that can be told before it is evaluated.
    #[must_use]
    pub fn result_type(&self) -> Option<&'static str> {
        result_type(&self.root)
    }

    /// Whether it names this variable.
    #[must_use]
    pub fn names(&self, variable: &str) -> bool {
        self.names.iter().any(|name| &**name == variable)
    }

    /// Its value. What it costs is taken from the budget; it may cost [`PER_EXPRESSION`] at most.
    ///
    /// # Errors
    /// When it has none, or costs too much.
    pub fn evaluate<'a>(
        &self,
        activation: &Activation<'a>,
        budget: &mut Budget,
    ) -> Result<Val<'a>, EvalError> {
        let limit = budget.left().min(PER_EXPRESSION);
        let mut own = Budget::new(limit);
        let mut machine = Machine { variables: activation, budget: &mut own, scope: Vec::new() };
        let value = machine.value(&self.root);
        budget.take(limit - own.left());
        value
    }
}

/// A sentence about a place in the source, with the line that it is about.
fn place(source: &str, offset: usize, why: &str) -> String {
    let offset = offset.min(source.len());
    let before = source.get(..offset).unwrap_or(source);
    let line = before.matches('\n').count();
    let column = before.rsplit('\n').next().map_or(0, |text| text.chars().count());
    let text = source.lines().nth(line).unwrap_or_default();
    let dots = ".".repeat(column);
    format!("ERROR: <input>:{}:{}: {why}\n | {text}\n | {dots}^", line + 1, column + 1)
}
