//! What can be told of an expression before it is evaluated: names and functions that there are not, fields that a schema
//! does not have. Must never refuse what might be right.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::ast::{Binary, Expr, Fold, Node};
use super::functions::{GLOBAL, MEMBER};
use super::machine::is_type;
use super::objects;
use super::program::Environment;
use super::value::unescape;
use crate::schema::{Type, View};

/// What was found.
#[derive(Default)]
pub(super) struct Checked {
    pub(super) errors: Vec<(usize, String)>,
    /// The variables that are named.
    pub(super) names: BTreeSet<String>,
}

/// Where a value may come from: a place in a schema, or anywhere.
type Shape<'s> = Option<View<'s>>;

pub(super) struct Checker<'s> {
    scope: Vec<(Cow<'s, str>, Shape<'s>)>,
    variables: usize,
    objects: bool,
    found: Checked,
}

impl<'s> Checker<'s> {
    pub(super) fn new(environment: &Environment<'s>) -> Self {
        let scope: Vec<_> = environment.variables().map(|(name, view)| (Cow::Borrowed(name), view)).collect();
        Self { variables: scope.len(), objects: environment.objects(), scope, found: Checked::default() }
    }

    pub(super) fn check(mut self, root: &Node) -> Checked {
        self.shape(root);
        self.found
    }

    fn error(&mut self, node: &Node, why: impl Into<String>) {
        self.found.errors.push((node.at, why.into()));
    }

    fn shape(&mut self, node: &Node) -> Shape<'s> {
        match &node.expr {
            Expr::Name(name) => self.name(node, name),
            Expr::Select { of, field, optional, .. } => {
                let of = self.shape(of)?;
                let found = self.select(node, of, field);
                // What may be there is not the thing itself.
                found.filter(|_| !optional)
            }
            Expr::Index { of, at, optional } => {
                self.shape(at);
                let of = self.shape(of)?;
                let below =
                    of.items().or_else(|| of.property("").filter(|_| of.schema().properties.is_empty()));
                below.filter(|_| !optional)
            }
            Expr::And(left, right) | Expr::Or(left, right) | Expr::Binary(_, left, right) => {
                self.shape(left);
                self.shape(right);
                None
            }
            Expr::Not(of) | Expr::Negate(of) | Expr::NotFalse(of) => {
                self.shape(of);
                None
            }
            Expr::If(condition, then, otherwise) => {
                self.shape(condition);
                self.shape(then);
                self.shape(otherwise);
                None
            }
            Expr::Call { name, target, args } => {
                self.call(node, name, target.as_deref(), args);
                None
            }
            Expr::List(items) => {
                for (item, _) in items {
                    self.shape(item);
                }
                None
            }
            Expr::Map(entries) => {
                for (key, value, _) in entries {
                    self.shape(key);
                    self.shape(value);
                }
                None
            }
            Expr::Object { name, fields } => {
                match objects::unknown(name, fields) {
                    Some(why) => self.error(node, why),
                    None if !self.objects => {
                        self.error(node, format!("undeclared reference to '{name}' (in container '')"));
                    }
                    None => {}
                }
                for (_, value, _) in fields {
                    self.shape(value);
                }
                None
            }
            Expr::Fold(fold) => self.fold(fold),
            _ => None,
        }
    }

    fn name(&mut self, node: &Node, name: &str) -> Shape<'s> {
        match self.scope.iter().rposition(|(one, _)| one == name) {
            Some(index) => {
                if index < self.variables {
                    self.found.names.insert(name.to_owned());
                }
                self.scope[index].1
            }
            None => {
                if !is_type(name) {
                    self.error(node, format!("undeclared reference to '{name}' (in container '')"));
                }
                None
            }
        }
    }

    fn select(&mut self, node: &Node, of: View<'s>, field: &str) -> Shape<'s> {
        let schema = of.schema();
        if schema.int_or_string || schema.kind.is_none() {
            return None;
        }
        if let Some(kind) = schema.kind.filter(|kind| *kind != Type::Object) {
            self.error(node, format!("type '{}' does not support field selection", kind.name()));
            return None;
        }
        if schema.properties.is_empty() {
            return of.property(field);
        }
        let name = unescape(field);
        let object = matches!(name.as_str(), "apiVersion" | "kind" | "metadata");
        let found = of.property(&name);
        if found.is_none() && !object {
            self.error(node, format!("undefined field '{field}'"));
        }
        // Every object has metadata, of which a schema says little.
        found.filter(|_| name != "metadata")
    }

    fn call(&mut self, node: &Node, name: &str, target: Option<&Node>, args: &[Node]) {
        let table = if target.is_some() { MEMBER } else { GLOBAL };
        if let Some(target) = target {
            self.shape(target);
        }
        for arg in args {
            self.shape(arg);
        }
        match table.iter().find(|(one, _)| *one == name) {
            None => self.error(node, format!("undeclared reference to '{name}' (in container '')")),
            Some((_, counts)) if !counts.is_empty() && !counts.contains(&args.len()) => {
                let why =
                    format!("found no matching overload for '{name}' applied to {} arguments", args.len());
                self.error(node, why);
            }
            Some(_) => {}
        }
    }

    fn fold(&mut self, fold: &Fold) -> Shape<'s> {
        let range = self.shape(&fold.range);
        let start = self.shape(&fold.start);
        let depth = self.scope.len();
        // A walk over nothing names a value.
        let names = matches!(&fold.goes_on.expr, Expr::Bool(false));
        self.scope.push((Cow::Owned(fold.result.to_string()), start.filter(|_| names)));
        let item = range.filter(|_| fold.second.is_none()).and_then(View::items);
        self.scope.push((Cow::Owned(fold.item.to_string()), item));
        if let Some(second) = &fold.second {
            let below = range.and_then(View::items);
            self.scope.push((Cow::Owned(second.to_string()), below));
        }
        self.shape(&fold.goes_on);
        self.shape(&fold.step);
        self.scope.truncate(depth + 1);
        let end = self.shape(&fold.end);
        self.scope.truncate(depth);
        end
    }
}

/// The type of the result, where the outermost operator tells it.
pub(super) fn result_type(root: &Node) -> Option<&'static str> {
    Some(match &root.expr {
        Expr::Null => "null_type",
        Expr::Int(_) => "int",
        Expr::Uint(_) => "uint",
        Expr::Double(_) => "double",
        Expr::Text(_) => "string",
        Expr::Bytes(_) => "bytes",
        Expr::List(_) => "list",
        Expr::Map(_) => "map",
        Expr::Object { name, .. } => match &**name {
            "Object" => "Object",
            "JSONPatch" => "JSONPatch",
            _ => "object",
        },
        Expr::Bool(_) | Expr::And(..) | Expr::Or(..) | Expr::Not(_) => "bool",
        Expr::Select { test: true, .. } => "bool",
        Expr::Binary(operator, left, right) => match operator {
            Binary::Add => {
                let sides = [result_type(left), result_type(right)];
                return sides.into_iter().flatten().find(|one| *one != "bool");
            }
            Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Modulo => {
                return result_type(left).or(result_type(right));
            }
            _ => "bool",
        },
        Expr::If(_, then, otherwise) => {
            let (then, otherwise) = (result_type(then)?, result_type(otherwise)?);
            return (then == otherwise).then_some(then);
        }
        Expr::Call { name, target: None, .. } => match &**name {
            "string" => "string",
            "size" | "int" => "int",
            _ => return None,
        },
        Expr::Call { name, .. } => match &**name {
            "size" => "int",
            "matches" | "startsWith" | "endsWith" | "contains" | "hasValue" | "allowed" | "errored" => "bool",
            "reason" | "error" | "format" | "lowerAscii" | "upperAscii" | "trim" | "replace" | "join" => {
                "string"
            }
            _ => return None,
        },
        _ => return None,
    })
}
