//! `+`, `-`, `*`, `/`, `%` and the sign. Must never wrap around.

use std::borrow::Cow;
use std::sync::Arc;

use super::ast::Binary;
use super::machine::EvalError;
use super::time::in_range;
use super::value::Val;

/// The result of an operator.
///
/// # Errors
/// When there is none for these types, or it has no result.
pub(super) fn calculate<'a>(operator: Binary, left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>, EvalError> {
    match (left, right) {
        (Val::Int(left), Val::Int(right)) => whole(operator, *left, *right).map(Val::Int),
        (Val::Uint(left), Val::Uint(right)) => unsigned(operator, *left, *right).map(Val::Uint),
        (Val::Double(left), Val::Double(right)) => match operator {
            Binary::Add => Ok(Val::Double(left + right)),
            Binary::Subtract => Ok(Val::Double(left - right)),
            Binary::Multiply => Ok(Val::Double(left * right)),
            Binary::Divide => Ok(Val::Double(left / right)),
            _ => Err(EvalError::NoSuchOverload),
        },
        _ if operator == Binary::Add => add(left, right),
        _ if operator == Binary::Subtract => subtract(left, right),
        _ => Err(EvalError::NoSuchOverload),
    }
}

fn overflow(kind: &str) -> EvalError {
    EvalError::other(format!("{kind} overflow"))
}

fn whole(operator: Binary, left: i64, right: i64) -> Result<i64, EvalError> {
    let checked = match operator {
        Binary::Add => left.checked_add(right),
        Binary::Subtract => left.checked_sub(right),
        Binary::Multiply => left.checked_mul(right),
        Binary::Divide if right == 0 => return Err(EvalError::other("division by zero")),
        Binary::Divide => left.checked_div(right),
        Binary::Modulo if right == 0 => return Err(EvalError::other("modulus by zero")),
        Binary::Modulo => left.checked_rem(right),
        _ => return Err(EvalError::NoSuchOverload),
    };
    checked.ok_or_else(|| overflow("integer"))
}

fn unsigned(operator: Binary, left: u64, right: u64) -> Result<u64, EvalError> {
    let checked = match operator {
        Binary::Add => left.checked_add(right),
        Binary::Subtract => left.checked_sub(right),
        Binary::Multiply => left.checked_mul(right),
        Binary::Divide if right == 0 => return Err(EvalError::other("division by zero")),
        Binary::Divide => left.checked_div(right),
        Binary::Modulo if right == 0 => return Err(EvalError::other("modulus by zero")),
        Binary::Modulo => left.checked_rem(right),
        _ => return Err(EvalError::NoSuchOverload),
    };
    checked.ok_or_else(|| overflow("unsigned integer"))
}

fn add<'a>(left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>, EvalError> {
    Ok(match (left, right) {
        (Val::Text(left), Val::Text(right)) => Val::Text(Cow::Owned(format!("{left}{right}"))),
        (Val::Bytes(left), Val::Bytes(right)) => Val::Bytes([&**left, &**right].concat().into()),
        (Val::Duration(left), Val::Duration(right)) => {
            Val::Duration(left.checked_add(*right).ok_or_else(|| overflow("duration"))?)
        }
        (Val::Timestamp(time), Val::Duration(by)) | (Val::Duration(by), Val::Timestamp(time)) => {
            Val::Timestamp(in_range(time + i128::from(*by)).ok_or_else(|| overflow("timestamp"))?)
        }
        (left, right) => match (left.items(), right.items()) {
            (Some(left), Some(right)) => Val::List(Arc::new(left.chain(right).collect())),
            _ => return Err(EvalError::NoSuchOverload),
        },
    })
}

fn subtract<'a>(left: &Val<'a>, right: &Val<'a>) -> Result<Val<'a>, EvalError> {
    Ok(match (left, right) {
        (Val::Duration(left), Val::Duration(right)) => {
            Val::Duration(left.checked_sub(*right).ok_or_else(|| overflow("duration"))?)
        }
        (Val::Timestamp(time), Val::Duration(by)) => {
            Val::Timestamp(in_range(time - i128::from(*by)).ok_or_else(|| overflow("timestamp"))?)
        }
        (Val::Timestamp(left), Val::Timestamp(right)) => {
            Val::Duration(i64::try_from(left - right).map_err(|_| overflow("duration"))?)
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}

/// The number with the other sign.
///
/// # Errors
/// When it is no number, or has no such.
pub(super) fn negate<'a>(value: &Val<'a>) -> Result<Val<'a>, EvalError> {
    match value {
        Val::Int(value) => value.checked_neg().map(Val::Int).ok_or_else(|| overflow("integer")),
        Val::Double(value) => Ok(Val::Double(-value)),
        Val::Duration(value) => value.checked_neg().map(Val::Duration).ok_or_else(|| overflow("duration")),
        _ => Err(EvalError::NoSuchOverload),
    }
}
