//! Functions of lists, of sets and of numbers. Must never compare what has no order.

use std::cmp::Ordering;

use super::arithmetic::calculate;
use super::ast::Binary;
use super::compare::{equal, order};
use super::machine::{Budget, EvalError};
use super::value::Val;

/// A function of a list.
pub(super) fn member<'a>(
    budget: &mut Budget,
    name: &str,
    list: &Val<'a>,
    args: &[Val<'a>],
) -> Result<Val<'a>, EvalError> {
    let items: Vec<Val<'a>> = list.items().ok_or(EvalError::NoSuchOverload)?.collect();
    Ok(match (name, args) {
        ("isSorted", []) => Val::Bool(sorted(&items)?),
        ("sum", []) => sum(&items)?,
        ("min", []) => extreme(&items, Ordering::Less)?,
        ("max", []) => extreme(&items, Ordering::Greater)?,
        ("indexOf", [wanted]) => place(items.iter().position(|item| equal(item, wanted))),
        ("lastIndexOf", [wanted]) => place(items.iter().rposition(|item| equal(item, wanted))),
        ("join", []) => Val::text(join(&items, "")?),
        ("join", [Val::Text(between)]) => {
            budget.pay((items.len() as u64).saturating_mul(between.len() as u64) / 10)?;
            Val::text(join(&items, between)?)
        }
        ("slice", [Val::Int(from), Val::Int(to)]) => {
            let range = usize::try_from(*from).ok().zip(usize::try_from(*to).ok());
            let part = range.and_then(|(from, to)| items.get(from..to));
            let why =
                || EvalError::other(format!("cannot slice({from}, {to}), list is length {}", items.len()));
            Val::list(part.ok_or_else(why)?.to_vec())
        }
        ("reverse", []) => Val::list(items.into_iter().rev().collect()),
        ("first", []) => Val::optional(items.into_iter().next()),
        ("last", []) => Val::optional(items.into_iter().next_back()),
        ("distinct", []) => {
            budget.pay((items.len() as u64).saturating_mul(items.len() as u64) / 10)?;
            let mut kept: Vec<Val<'a>> = Vec::new();
            for item in items {
                if !kept.iter().any(|one| equal(one, &item)) {
                    kept.push(item);
                }
            }
            Val::list(kept)
        }
        ("sort", []) => {
            sorted_pairs(&items)?;
            let mut items = items;
            items.sort_by(|left, right| order(left, right).unwrap_or(Ordering::Equal));
            Val::list(items)
        }
        ("flatten", depth) => {
            let depth = match depth {
                [] => 1,
                [Val::Int(depth)] if *depth >= 0 => *depth,
                _ => return Err(EvalError::NoSuchOverload),
            };
            let mut flat = Vec::new();
            flatten(items, depth, &mut flat);
            Val::list(flat)
        }
        _ => return Err(EvalError::NoSuchOverload),
    })
}

fn place<'a>(found: Option<usize>) -> Val<'a> {
    Val::Int(found.map_or(-1, |index| i64::try_from(index).unwrap_or(i64::MAX)))
}

fn sorted(items: &[Val<'_>]) -> Result<bool, EvalError> {
    let mut sorted = true;
    for pair in items.windows(2) {
        sorted &= order(&pair[0], &pair[1]).ok_or(EvalError::NoSuchOverload)?.is_le();
    }
    Ok(sorted)
}

/// All items can be ordered.
fn sorted_pairs(items: &[Val<'_>]) -> Result<(), EvalError> {
    sorted(items).map(drop)
}

fn sum<'a>(items: &[Val<'a>]) -> Result<Val<'a>, EvalError> {
    let Some((first, rest)) = items.split_first() else { return Ok(Val::Int(0)) };
    if !matches!(first, Val::Int(_) | Val::Uint(_) | Val::Double(_) | Val::Duration(_)) {
        return Err(EvalError::NoSuchOverload);
    }
    rest.iter().try_fold(first.clone(), |sum, item| calculate(Binary::Add, &sum, item))
}

fn extreme<'a>(items: &[Val<'a>], wanted: Ordering) -> Result<Val<'a>, EvalError> {
    let name = if wanted == Ordering::Less { "min" } else { "max" };
    let mut found = items.first().ok_or_else(|| EvalError::other(format!("{name} called on empty list")))?;
    for item in &items[1..] {
        if order(item, found).ok_or(EvalError::NoSuchOverload)? == wanted {
            found = item;
        }
    }
    Ok(found.clone())
}

fn join(items: &[Val<'_>], between: &str) -> Result<String, EvalError> {
    let texts: Option<Vec<&str>> = items.iter().map(Val::as_text).collect();
    Ok(texts.ok_or(EvalError::NoSuchOverload)?.join(between))
}

fn flatten<'a>(items: Vec<Val<'a>>, depth: i64, flat: &mut Vec<Val<'a>>) {
    for item in items {
        match item.items() {
            Some(below) if depth > 0 => flatten(below.collect(), depth - 1, flat),
            _ => flat.push(item),
        }
    }
}

/// `math.greatest`, `math.least`, `math.abs`
pub(super) fn math<'a>(name: &str, args: &[Val<'a>]) -> Result<Val<'a>, EvalError> {
    match (name, args) {
        ("math.abs", [Val::Int(value)]) => {
            value.checked_abs().map(Val::Int).ok_or_else(|| EvalError::other("integer overflow"))
        }
        ("math.abs", [Val::Double(value)]) => Ok(Val::Double(value.abs())),
        ("math.abs", [Val::Uint(value)]) => Ok(Val::Uint(*value)),
        ("math.greatest" | "math.least", args) => {
            let wanted = if name == "math.least" { Ordering::Less } else { Ordering::Greater };
            match args {
                [list] if list.list_len().is_some() => {
                    extreme(&list.items().into_iter().flatten().collect::<Vec<_>>(), wanted)
                }
                args => extreme(args, wanted),
            }
        }
        _ => Err(EvalError::NoSuchOverload),
    }
}

/// `sets.contains`, `sets.equivalent`, `sets.intersects`
pub(super) fn sets<'a>(
    budget: &mut Budget,
    name: &str,
    left: &Val<'a>,
    right: &Val<'a>,
) -> Result<Val<'a>, EvalError> {
    let items = |list: &Val<'a>| Some(list.items()?.collect::<Vec<_>>());
    let (left, right) = items(left).zip(items(right)).ok_or(EvalError::NoSuchOverload)?;
    budget.pay((left.len() as u64).saturating_mul(right.len() as u64) / 10)?;
    let within = |one: &Val<'a>, list: &[Val<'a>]| list.iter().any(|other| equal(one, other));
    let contains = |left: &[Val<'a>], right: &[Val<'a>]| right.iter().all(|one| within(one, left));
    Ok(Val::Bool(match name {
        "sets.contains" => contains(&left, &right),
        "sets.intersects" => left.iter().any(|one| within(one, &right)),
        _ => contains(&left, &right) && contains(&right, &left),
    }))
}
