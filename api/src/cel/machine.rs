//! The evaluator. Must never take a step that is not paid for.

use std::borrow::Cow;
use std::sync::Arc;

use super::arithmetic::{calculate, negate};
use super::ast::{Binary, Expr, Fold, Node};
use super::compare::{equal, extent, order};
use super::functions;
use super::objects;
use super::program::Activation;
use super::value::{Val, unescape};

/// Why an expression has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An operator or function does not take values of these types.
    #[error("no such overload")]
    NoSuchOverload,
    /// It would cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    LimitExceeded,
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

impl EvalError {
    pub(super) fn other(why: impl Into<String>) -> Self {
        Self::Other(why.into())
    }
}

/// What may still be spent.
#[derive(Clone, Copy, Debug)]
pub struct Budget(u64);

impl Budget {
    /// So many units.
    #[must_use]
    pub const fn new(units: u64) -> Self {
        Self(units)
    }

    /// What is left.
    #[must_use]
    pub const fn left(self) -> u64 {
        self.0
    }

    /// Takes what was spent elsewhere.
    pub(super) fn take(&mut self, units: u64) {
        self.0 = self.0.saturating_sub(units);
    }

    /// Pays.
    ///
    /// # Errors
    /// When there is not enough left; then nothing is.
    pub(super) fn pay(&mut self, units: u64) -> Result<(), EvalError> {
        match self.0.checked_sub(units) {
            Some(left) => {
                self.0 = left;
                Ok(())
            }
            None => {
                self.0 = 0;
                Err(EvalError::LimitExceeded)
            }
        }
    }

    /// Pays for looking at all of a value.
    ///
    /// # Errors
    /// When there is not enough left.
    pub(super) fn pay_for(&mut self, value: &Val<'_>) -> Result<(), EvalError> {
        self.pay(extent(value, self.0))
    }
}

pub(super) struct Machine<'p, 'a> {
    pub(super) variables: &'p Activation<'a>,
    pub(super) budget: &'p mut Budget,
    /// Names that the expression itself gave, the newest last.
    pub(super) scope: Vec<(&'p str, Val<'a>)>,
}

impl<'p, 'a> Machine<'p, 'a> {
    pub(super) fn value(&mut self, node: &'p Node) -> Result<Val<'a>, EvalError> {
        self.budget.pay(1)?;
        match &node.expr {
            Expr::Null => Ok(Val::Null),
            Expr::Bool(value) => Ok(Val::Bool(*value)),
            Expr::Int(value) => Ok(Val::Int(*value)),
            Expr::Uint(value) => Ok(Val::Uint(*value)),
            Expr::Double(value) => Ok(Val::Double(*value)),
            Expr::Text(text) => Ok(Val::text(&**text)),
            Expr::Bytes(bytes) => Ok(Val::Bytes((&**bytes).into())),
            Expr::Name(name) => self.name(name),
            Expr::Select { of, field, test, optional } => self.select(of, field, *test, *optional),
            Expr::Index { of, at, optional } => self.index(of, at, *optional),
            Expr::And(left, right) => self.junction(left, right, false),
            Expr::Or(left, right) => self.junction(left, right, true),
            Expr::Not(of) => Ok(Val::Bool(!self.truth(of)?)),
            Expr::Negate(of) => negate(&self.value(of)?),
            Expr::NotFalse(of) => match self.value(of) {
                Ok(Val::Bool(value)) => Ok(Val::Bool(value)),
                Err(EvalError::LimitExceeded) => Err(EvalError::LimitExceeded),
                _ => Ok(Val::Bool(true)),
            },
            Expr::If(condition, then, otherwise) => {
                let branch = if self.truth(condition)? { then } else { otherwise };
                self.value(branch)
            }
            Expr::Binary(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.binary(*operator, &left, &right)
            }
            Expr::Call { name, target, args } => self.call(name, target.as_deref(), args),
            Expr::List(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (item, optional) in items {
                    match (self.value(item)?, *optional) {
                        (value, false) => list.push(value),
                        (Val::Optional(value), true) => list.extend(value.as_deref().cloned()),
                        _ => return Err(EvalError::NoSuchOverload),
                    }
                }
                Ok(Val::list(list))
            }
            Expr::Map(entries) => self.map(entries),
            Expr::Object { name, fields } => self.object(name, fields),
            Expr::Fold(fold) => self.fold(fold),
        }
    }

    fn name(&mut self, name: &str) -> Result<Val<'a>, EvalError> {
        if let Some((_, value)) = self.scope.iter().rev().find(|(one, _)| *one == name) {
            let value = value.clone();
            return self.copied(value);
        }
        let variable = self.variables.get(name).or_else(|| type_named(name));
        let missing = || EvalError::other(format!("no such attribute(s): {name}"));
        self.copied(variable.ok_or_else(missing)?)
    }

    /// A text that the expression made is copied with each use; all else is shared.
    fn copied(&mut self, value: Val<'a>) -> Result<Val<'a>, EvalError> {
        if let Val::Text(Cow::Owned(text)) = &value {
            self.budget.pay(text.len() as u64 / 10)?;
        }
        Ok(value)
    }

    fn truth(&mut self, node: &'p Node) -> Result<bool, EvalError> {
        match self.value(node)? {
            Val::Bool(value) => Ok(value),
            _ => Err(EvalError::NoSuchOverload),
        }
    }

    /// `&&` and `||`: the side that decides, decides, even if the other one fails.
    fn junction(&mut self, left: &'p Node, right: &'p Node, decides: bool) -> Result<Val<'a>, EvalError> {
        let left = self.truth(left);
        match left {
            Ok(value) if value == decides => return Ok(Val::Bool(decides)),
            Err(EvalError::LimitExceeded) => return Err(EvalError::LimitExceeded),
            _ => {}
        }
        match (self.truth(right), left) {
            (Ok(value), _) if value == decides => Ok(Val::Bool(decides)),
            (Err(EvalError::LimitExceeded), _) => Err(EvalError::LimitExceeded),
            (_, Err(error)) | (Err(error), Ok(_)) => Err(error),
            (Ok(value), Ok(_)) => Ok(Val::Bool(value)),
        }
    }

    fn select(
        &mut self,
        of: &'p Node,
        field: &str,
        test: bool,
        optional: bool,
    ) -> Result<Val<'a>, EvalError> {
        if let Expr::Name(name) = &of.expr
            && !self.scope.iter().any(|(one, _)| *one == &**name)
            && let Some(known) = self.variables.field(name, field)
        {
            self.budget.pay(1)?;
            return match (test, optional) {
                (true, _) => Ok(Val::Bool(true)),
                (false, true) => known.map(|value| Val::optional(Some(value))),
                (false, false) => known.and_then(|value| self.copied(value)),
            };
        }
        let of = self.value(of)?;
        if let Val::Optional(inner) = &of {
            let found = inner.as_deref().and_then(|inner| inner.field(field));
            return Ok(if test { Val::Bool(found.is_some()) } else { Val::optional(found) });
        }
        if of.map_len().is_none() {
            return match optional && matches!(of, Val::Null) {
                true => Ok(Val::Optional(None)),
                false => Err(EvalError::NoSuchOverload),
            };
        }
        let found = of.field(field);
        match (test, optional) {
            (true, _) => Ok(Val::Bool(found.is_some())),
            (false, true) => Ok(Val::optional(found)),
            (false, false) => {
                let missing = || EvalError::other(format!("no such key: {field}"));
                self.copied(found.ok_or_else(missing)?)
            }
        }
    }

    fn index(&mut self, of: &'p Node, at: &'p Node, optional: bool) -> Result<Val<'a>, EvalError> {
        let (of, at) = (self.value(of)?, self.value(at)?);
        if let Val::Optional(inner) = &of {
            let found = inner.as_deref().and_then(|inner| self.look_up(inner, &at).ok());
            return Ok(Val::optional(found));
        }
        match (self.look_up(&of, &at), optional) {
            (found, false) => self.copied(found?),
            (Ok(found), true) => Ok(Val::optional(Some(found))),
            (Err(EvalError::NoSuchOverload), true) => Err(EvalError::NoSuchOverload),
            (Err(_), true) => Ok(Val::Optional(None)),
        }
    }

    fn look_up(&self, of: &Val<'a>, at: &Val<'a>) -> Result<Val<'a>, EvalError> {
        if of.list_len().is_some() {
            let index = match at {
                Val::Int(index) => *index,
                Val::Uint(index) => i64::try_from(*index).unwrap_or(i64::MAX),
                #[expect(clippy::cast_possible_truncation, reason = "it is whole")]
                Val::Double(index) if index.fract() == 0.0 => *index as i64,
                _ => return Err(EvalError::NoSuchOverload),
            };
            let found = usize::try_from(index).ok().and_then(|index| of.item(index));
            return found.ok_or_else(|| EvalError::other(format!("index out of bounds: {index}")));
        }
        if of.map_len().is_none() {
            return Err(EvalError::NoSuchOverload);
        }
        let missing = || EvalError::other(format!("no such key: {}", super::convert::plain_text(at)));
        of.entry(at).ok_or_else(missing)
    }

    fn map(&mut self, entries: &'p [(Node, Node, bool)]) -> Result<Val<'a>, EvalError> {
        let mut map: Vec<(Val<'a>, Val<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            if !matches!(key, Val::Text(_) | Val::Int(_) | Val::Uint(_) | Val::Bool(_)) {
                return Err(EvalError::other("unsupported key type"));
            }
            if map.iter().any(|(one, _)| equal(one, &key)) {
                return Err(EvalError::other("Failed with repeated key"));
            }
            match (self.value(value)?, *optional) {
                (value, false) => map.push((key, value)),
                (Val::Optional(value), true) => {
                    map.extend(value.as_deref().cloned().map(|value| (key, value)));
                }
                _ => return Err(EvalError::NoSuchOverload),
            }
        }
        Ok(Val::Map(Arc::new(map)))
    }

    fn object(&mut self, name: &str, fields: &'p [(Box<str>, Node, bool)]) -> Result<Val<'a>, EvalError> {
        let mut object: Vec<(String, Val<'a>)> = Vec::with_capacity(fields.len());
        for (field, node, optional) in fields {
            if name.starts_with("Object") {
                objects::check_names(&format!("{name}.{field}"), node)?;
            }
            let field = unescape(field);
            match (self.value(node)?, *optional) {
                (value, false) => object.push((field, value)),
                (Val::Optional(value), true) => {
                    object.extend(value.as_deref().cloned().map(|value| (field, value)));
                }
                _ => return Err(EvalError::NoSuchOverload),
            }
        }
        Ok(Val::named(object))
    }

    fn binary(&mut self, operator: Binary, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>, EvalError> {
        use std::cmp::Ordering;
        let ordered = |yes: fn(Ordering) -> bool| match order(left, right) {
            Some(order) => Ok(Val::Bool(yes(order))),
            // Numbers that are none have no order.
            None if matches!((left, right), (Val::Double(_), _) | (_, Val::Double(_))) => {
                Ok(Val::Bool(false))
            }
            None => Err(EvalError::NoSuchOverload),
        };
        match operator {
            Binary::Equal | Binary::NotEqual => {
                let most = self.budget.left();
                let (one, other) = (extent(left, most), extent(right, most));
                // Texts are compared up to where they differ, and not copied.
                let texts = matches!((left, right), (Val::Text(_), Val::Text(_)));
                self.budget.pay(if texts { one.min(other) } else { one.max(other) })?;
                Ok(Val::Bool(equal(left, right) == (operator == Binary::Equal)))
            }
            Binary::In => {
                self.budget.pay_for(right)?;
                if let Some(mut items) = right.items() {
                    return Ok(Val::Bool(items.any(|item| equal(&item, left))));
                }
                match right.map_len() {
                    Some(_) => Ok(Val::Bool(right.entry(left).is_some())),
                    None => Err(EvalError::NoSuchOverload),
                }
            }
            Binary::Less => ordered(Ordering::is_lt),
            Binary::LessEqual => ordered(Ordering::is_le),
            Binary::Greater => ordered(Ordering::is_gt),
            Binary::GreaterEqual => ordered(Ordering::is_ge),
            _ => {
                let length = |value: &Val<'_>| match value {
                    Val::Text(text) => text.len() / 10,
                    Val::Bytes(bytes) => bytes.len() / 10,
                    value => value.list_len().unwrap_or(0),
                };
                self.budget.pay((length(left) + length(right)) as u64)?;
                calculate(operator, left, right)
            }
        }
    }

    fn call(&mut self, name: &str, target: Option<&'p Node>, args: &'p [Node]) -> Result<Val<'a>, EvalError> {
        let target = target.map(|target| self.value(target)).transpose()?;
        // The rest of an alternative is only looked at when it is needed.
        if let (Some(Val::Optional(inner)), [other], "orValue" | "or") = (&target, args, name) {
            return match (inner, name) {
                (Some(inner), "orValue") => Ok((**inner).clone()),
                (Some(_), _) => Ok(Val::Optional(inner.clone())),
                (None, _) => self.value(other),
            };
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.value(arg)?);
        }
        match target {
            Some(target) => functions::member(self.budget, name, &target, &values),
            None => functions::global(self.budget, name, &values),
        }
    }

    fn fold(&mut self, fold: &'p Fold) -> Result<Val<'a>, EvalError> {
        let range = self.value(&fold.range)?;
        let start = self.value(&fold.start)?;
        let depth = self.scope.len();
        self.scope.push((&fold.result, start));
        let walked = self.walk(fold, &range, depth);
        let result = walked.and_then(|()| self.value(&fold.end));
        self.scope.truncate(depth);
        result
    }

    fn walk(&mut self, fold: &'p Fold, range: &Val<'a>, depth: usize) -> Result<(), EvalError> {
        let keys = match (range.list_len(), range.keys()) {
            (Some(_), _) => None,
            (None, Some(keys)) => Some(keys),
            (None, None) => return Err(EvalError::NoSuchOverload),
        };
        let length = keys.as_ref().map_or_else(|| range.list_len().unwrap_or(0), Vec::len);
        self.budget.pay(keys.as_ref().map_or(0, |keys| keys.len() as u64 / 10))?;
        for index in 0..length {
            let (first, second) = match &keys {
                Some(keys) => (keys[index].clone(), range.entry(&keys[index])),
                None => match (range.item(index), &fold.second) {
                    (Some(item), None) => (item, None),
                    (item, Some(_)) => (Val::Int(i64::try_from(index).unwrap_or(i64::MAX)), item),
                    (None, None) => break,
                },
            };
            let first = self.copied(first)?;
            self.scope.push((&fold.item, first));
            if let (Some(name), Some(second)) = (&fold.second, second) {
                self.scope.push((name, second));
            }
            let stepped = self.step(fold, depth);
            self.scope.truncate(depth + 1);
            match stepped? {
                Some(result) => self.scope[depth].1 = result,
                None => break,
            }
        }
        Ok(())
    }

    /// One step: the new result, or nothing when the walk ends.
    fn step(&mut self, fold: &'p Fold, depth: usize) -> Result<Option<Val<'a>>, EvalError> {
        self.budget.pay(1)?;
        if !self.truth(&fold.goes_on)? {
            return Ok(None);
        }
        let is_result = |node: &Node| matches!(&node.expr, Expr::Name(name) if *name == fold.result);
        let append = match &fold.step.expr {
            Expr::If(condition, then, otherwise) if is_result(otherwise) => {
                if !self.truth(condition)? {
                    return Ok(Some(std::mem::replace(&mut self.scope[depth].1, Val::Null)));
                }
                &**then
            }
            _ => &fold.step,
        };
        // What is collected grows in place.
        if let Expr::Binary(Binary::Add, left, right) = &append.expr
            && let Expr::List(items) = &right.expr
            && let [(item, false)] = items.as_slice()
            && is_result(left)
        {
            let item = self.value(item)?;
            let mut result = std::mem::replace(&mut self.scope[depth].1, Val::Null);
            if let Val::List(list) = &mut result {
                Arc::make_mut(list).push(item);
                return Ok(Some(result));
            }
            let list = Val::list(vec![item]);
            return self.binary(Binary::Add, &result, &list).map(Some);
        }
        self.value(append).map(Some)
    }
}

/// Types are values too.
fn type_named<'a>(name: &str) -> Option<Val<'a>> {
    let types = [
        "bool",
        "bytes",
        "double",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "type",
        "uint",
        "optional_type",
    ];
    types.into_iter().find(|one| *one == name).map(Val::Type)
}

/// Whether a name is a type's.
pub(super) fn is_type(name: &str) -> bool {
    type_named(name).is_some()
}
