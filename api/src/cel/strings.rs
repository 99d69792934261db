//! Functions of texts. Places are counted in characters. Must never build a text that is not paid for.

use std::borrow::Cow;

use super::convert::{double_text, text_of};
use super::machine::{Budget, EvalError};
use super::value::Val;
use crate::schema::pattern;

/// What it costs to compile a pattern. One that was met before is kept, so patterns that are written in a rule cost this
/// once; those that a rule puts together cost it each time.
const COMPILING: u64 = 10_000;

/// A function of a text.
pub(super) fn member<'a>(
    budget: &mut Budget,
    name: &str,
    text: &Cow<'a, str>,
    args: &[Val<'a>],
) -> Result<Val<'a>, EvalError> {
    let bounds = |index: i64| EvalError::other(format!("index out of range: {index}"));
    Ok(match (name, args) {
        ("contains", [Val::Text(part)]) => Val::Bool(text.contains(&**part)),
        ("startsWith", [Val::Text(part)]) => Val::Bool(text.starts_with(&**part)),
        ("endsWith", [Val::Text(part)]) => Val::Bool(text.ends_with(&**part)),
        ("matches", [Val::Text(wanted)]) => Val::Bool(compiled(budget, wanted, text)?.is_match(text)),
        ("find", [Val::Text(wanted)]) => {
            let found = compiled(budget, wanted, text)?.find(text);
            Val::text(found.map_or("", |found| found.as_str()))
        }
        ("findAll", [Val::Text(wanted), most @ ..]) => {
            let most = match most {
                [] => usize::MAX,
                [Val::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => return Err(EvalError::NoSuchOverload),
            };
            let compiled = compiled(budget, wanted, text)?;
            Val::list(compiled.find_iter(text).take(most).map(|found| Val::text(found.as_str())).collect())
        }
        ("charAt", [Val::Int(index)]) => {
            let length = text.chars().count();
            let place = usize::try_from(*index).ok().filter(|place| *place <= length);
            let found = text.chars().nth(place.ok_or_else(|| bounds(*index))?);
            Val::text(found.map(String::from).unwrap_or_default())
        }
        ("indexOf" | "lastIndexOf", [Val::Text(part), from @ ..]) => {
            let from = match from {
                [] => None,
                [Val::Int(from)] => Some(*from),
                _ => return Err(EvalError::NoSuchOverload),
            };
            Val::Int(index_of(text, part, from, name == "lastIndexOf")?)
        }
        ("lowerAscii", []) => Val::text(text.to_ascii_lowercase()),
        ("upperAscii", []) => Val::text(text.to_ascii_uppercase()),
        ("trim", []) => Val::text(text.trim()),
        ("reverse", []) => Val::text(text.chars().rev().collect::<String>()),
        ("replace", [Val::Text(from), Val::Text(to), most @ ..]) => {
            let most = match most {
                [] => usize::MAX,
                [Val::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                _ => return Err(EvalError::NoSuchOverload),
            };
            let places = if from.is_empty() { text.len() + 1 } else { text.matches(&**from).count() };
            budget.pay((places.min(most) as u64).saturating_mul(to.len() as u64) / 10)?;
            Val::text(text.replacen(&**from, to, most))
        }
        ("split", [Val::Text(by), most @ ..]) => {
            let parts: Vec<String> = match most {
                [] => split(text, by, usize::MAX),
                [Val::Int(most)] => split(text, by, usize::try_from(*most).unwrap_or(usize::MAX)),
                _ => return Err(EvalError::NoSuchOverload),
            };
            budget.pay(parts.len() as u64)?;
            Val::list(parts.into_iter().map(Val::text).collect())
        }
        ("substring", [Val::Int(from), to @ ..]) => {
            let chars: Vec<char> = text.chars().collect();
            let length = i64::try_from(chars.len()).unwrap_or(i64::MAX);
            let to = match to {
                [] => length,
                [Val::Int(to)] => *to,
                _ => return Err(EvalError::NoSuchOverload),
            };
            if *from < 0 || *from > length {
                return Err(bounds(*from));
            }
            if to < 0 || to > length {
                return Err(bounds(to));
            }
            if from > &to {
                return Err(EvalError::other(format!("invalid substring range. start: {from}, end: {to}")));
            }
            let place = |index: i64| usize::try_from(index).unwrap_or(usize::MAX);
            Val::text(chars[place(*from)..place(to)].iter().collect::<String>())
        }
        ("format", [args]) => Val::text(format(budget, text, args)?),
        _ => return Err(EvalError::NoSuchOverload),
    })
}

/// A pattern, with what looking at a text with it costs.
fn compiled(budget: &mut Budget, wanted: &str, text: &str) -> Result<regex::Regex, EvalError> {
    let steps = (text.len() as u64 / 10 + 1).saturating_mul(wanted.len() as u64 / 4 + 1);
    budget.pay(steps)?;
    if !pattern::is_kept(wanted) {
        budget.pay(COMPILING)?;
    }
    pattern::compile(wanted).map_err(EvalError::Other)
}

fn split(text: &str, by: &str, most: usize) -> Vec<String> {
    if most == 0 {
        return Vec::new();
    }
    if by.is_empty() {
        let chars: Vec<String> = text.chars().map(String::from).collect();
        if chars.len() <= most {
            return chars;
        }
        let (first, rest) = chars.split_at(most - 1);
        return first.iter().cloned().chain([rest.concat()]).collect();
    }
    text.splitn(most, by).map(str::to_owned).collect()
}

fn index_of(text: &str, part: &str, from: Option<i64>, last: bool) -> Result<i64, EvalError> {
    let chars: Vec<char> = text.chars().collect();
    let wanted: Vec<char> = part.chars().collect();
    let length = chars.len();
    let from = match from {
        None if last => length,
        None => 0,
        Some(from) => usize::try_from(from)
            .ok()
            .filter(|from| *from <= length)
            .ok_or_else(|| EvalError::other(format!("index out of range: {from}")))?,
    };
    let fits = |at: &usize| chars[*at..].starts_with(&wanted);
    let found = if last { (0..=from).rev().find(fits) } else { (from..=length).find(fits) };
    Ok(found.map_or(-1, |at| i64::try_from(at).unwrap_or(i64::MAX)))
}

/// `'%s has %d'.format([name, count])`
fn format(budget: &mut Budget, pattern: &str, args: &Val<'_>) -> Result<String, EvalError> {
    let mut args = args.items().ok_or(EvalError::NoSuchOverload)?;
    let mut out = String::new();
    let mut rest = pattern;
    while let Some((before, behind)) = rest.split_once('%') {
        out.push_str(before);
        rest = behind;
        if let Some(behind) = rest.strip_prefix('%') {
            out.push('%');
            rest = behind;
            continue;
        }
        let mut precision = None;
        if let Some(behind) = rest.strip_prefix('.') {
            let digits = behind.find(|one: char| !one.is_ascii_digit()).unwrap_or(behind.len());
            precision = behind[..digits].parse::<usize>().ok().filter(|digits| *digits <= 100);
            rest = &behind[digits..];
        }
        let Some(verb) = rest.chars().next() else {
            return Err(EvalError::other("unexpected end of format string"));
        };
        rest = &rest[verb.len_utf8()..];
        let arg = args.next().ok_or_else(|| EvalError::other("index out of range in format string"))?;
        let text = formatted(verb, precision, &arg)?;
        budget.pay(text.len() as u64 / 10)?;
        out.push_str(&text);
    }
    out.push_str(rest);
    Ok(out)
}

fn formatted(verb: char, precision: Option<usize>, arg: &Val<'_>) -> Result<String, EvalError> {
    let wrong = || {
        let kind = arg.type_name();
        EvalError::other(format!("could not convert argument of type {kind} with %{verb} in format string"))
    };
    Ok(match (verb, arg) {
        ('s', arg) => shown(arg, 0),
        ('d', Val::Int(value)) => value.to_string(),
        ('d', Val::Uint(value)) => value.to_string(),
        ('b', Val::Int(value)) if *value < 0 => format!("-{:b}", value.unsigned_abs()),
        ('b', Val::Int(value)) => format!("{value:b}"),
        ('b', Val::Uint(value)) => format!("{value:b}"),
        ('b', Val::Bool(value)) => u8::from(*value).to_string(),
        ('o', Val::Int(value)) if *value < 0 => format!("-{:o}", value.unsigned_abs()),
        ('o', Val::Int(value)) => format!("{value:o}"),
        ('o', Val::Uint(value)) => format!("{value:o}"),
        ('x', Val::Int(value)) if *value < 0 => format!("-{:x}", value.unsigned_abs()),
        ('x', Val::Int(value)) => format!("{value:x}"),
        ('x', Val::Uint(value)) => format!("{value:x}"),
        ('x', Val::Text(text)) => text.bytes().map(|byte| format!("{byte:02x}")).collect(),
        ('x', Val::Bytes(bytes)) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        ('X', _) => formatted('x', precision, arg)?.to_uppercase(),
        ('f', Val::Double(value)) => format!("{value:.*}", precision.unwrap_or(6)),
        #[expect(clippy::cast_precision_loss, reason = "shown with few digits")]
        ('f', Val::Int(value)) => format!("{:.*}", precision.unwrap_or(6), *value as f64),
        ('e', Val::Double(value)) => {
            let text = format!("{value:.*e}", precision.unwrap_or(6));
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let (sign, exponent) = exponent.strip_prefix('-').map_or(("+", exponent), |rest| ("-", rest));
            format!("{digits}e{sign}{exponent:0>2}")
        }
        _ => return Err(wrong()),
    })
}

/// A value as text, inside of lists and maps too.
fn shown(value: &Val<'_>, depth: usize) -> String {
    if depth > 32 {
        return "...".to_owned();
    }
    if let Some(items) = value.items() {
        let items: Vec<String> = items.map(|item| shown(&item, depth + 1)).collect();
        return format!("[{}]", items.join(", "));
    }
    if let Some(keys) = value.keys() {
        let entry = |key: &Val<'_>| {
            let below = value.entry(key).map(|below| shown(&below, depth + 1)).unwrap_or_default();
            format!("{}: {below}", shown(key, depth + 1))
        };
        let mut entries: Vec<String> = keys.iter().map(entry).collect();
        entries.sort();
        return format!("{{{}}}", entries.join(", "));
    }
    match value {
        Val::Null => "null".to_owned(),
        Val::Double(value) => double_text(*value),
        Val::Type(name) => (*name).to_owned(),
        value => text_of(value).unwrap_or_else(|| value.type_name().to_owned()),
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Bytes as text.
pub(super) fn base64_encode(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for (place, shift) in [18, 12, 6, 0].into_iter().enumerate() {
            let symbol = ALPHABET[(bits >> shift & 63) as usize];
            out.push(if place <= chunk.len() { char::from(symbol) } else { '=' });
        }
    }
    out
}

/// Bytes from text, with or without the signs at its end.
pub(super) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let body = text.trim_end_matches('=');
    let mut out = Vec::with_capacity(body.len() / 4 * 3 + 2);
    let (mut bits, mut held) = (0u32, 0);
    for byte in body.bytes() {
        let value = ALPHABET.iter().position(|one| *one == byte)?;
        bits = bits << 6 | u32::try_from(value).ok()?;
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held).to_le_bytes()[0]);
            bits &= (1 << held) - 1;
        }
    }
    (body.len() % 4 != 1).then_some(out)
}
