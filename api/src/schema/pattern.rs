//! Regular expressions as Go writes them (RE2), matched by the crate `regex`. Must never let a class or an escape mean
//! something else than in Go.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, RwLock};

use regex::Regex;

/// How many compiled patterns are kept. Schemas have far fewer; expressions may make any number.
const KEPT: usize = 2048;

/// The greatest number of repetitions that Go allows.
const MAX_REPEAT: u32 = 1000;

static COMPILED: LazyLock<RwLock<HashMap<Arc<str>, Regex>>> = LazyLock::new(RwLock::default);

/// The compiled form of a pattern; the same pattern is compiled once.
///
/// # Errors
/// When it is no regular expression; the text says why.
pub(crate) fn compile(pattern: &str) -> Result<Regex, String> {
    if let Some(compiled) = COMPILED.read().ok().and_then(|kept| kept.get(pattern).cloned()) {
        return Ok(compiled);
    }
    let translated = translate(pattern)?;
    let compiled =
        Regex::new(&translated).map_err(|error| format!("error parsing regexp: {}", last_line(&error)))?;
    if let Ok(mut kept) = COMPILED.write() {
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(pattern.into(), compiled.clone());
    }
    Ok(compiled)
}

/// Whether a pattern was compiled before, and is still kept.
pub(crate) fn is_kept(pattern: &str) -> bool {
    COMPILED.read().is_ok_and(|kept| kept.contains_key(pattern))
}

fn last_line(error: &regex::Error) -> String {
    let text = error.to_string();
    let line = text.lines().last().unwrap_or_default().trim();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// From Go's syntax to that of the crate: classes are those of ASCII, a brace that repeats nothing is itself, and there
/// are no operators between classes.
fn translate(pattern: &str) -> Result<String, String> {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(next) = rest.chars().next() {
        let after = &rest[next.len_utf8()..];
        match next {
            '\\' => {
                rest = escape(after, in_class, &mut out)?;
                continue;
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                rest = after;
                for first in ["^", "]"] {
                    if let Some(behind) = rest.strip_prefix(first) {
                        out.push_str(if first == "]" { "\\]" } else { first });
                        rest = behind;
                    }
                }
                continue;
            }
            '[' => match named_class(rest) {
                Some(class) => {
                    out.push_str(class);
                    rest = &rest[class.len()..];
                    continue;
                }
                None => out.push_str("\\["),
            },
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(next);
            }
            // Two in a row would be an operator; the second one ends a range, or the first one begins it.
            '-' if in_class && after.starts_with('-') => {
                if out.ends_with(['[', '^']) {
                    out.push_str("\\-");
                } else {
                    out.push_str("-\\-");
                    rest = &after[1..];
                    continue;
                }
            }
            '{' if !in_class => match repetition(rest)? {
                Some(length) => {
                    out.push_str(&rest[..length]);
                    rest = &rest[length..];
                    continue;
                }
                None => out.push_str("\\{"),
            },
            '}' if !in_class => out.push_str("\\}"),
            _ => out.push(next),
        }
        rest = after;
    }
    Ok(out)
}

/// What stands behind a backslash; returns what is left.
fn escape<'a>(after: &'a str, in_class: bool, out: &mut String) -> Result<&'a str, String> {
    let Some(next) = after.chars().next() else {
        return Err("error parsing regexp: trailing backslash at end of expression: ``".to_owned());
    };
    let rest = &after[next.len_utf8()..];
    match next {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        's' => out.push_str(r"[\t\n\f\r ]"),
        'S' => out.push_str(r"[^\t\n\f\r ]"),
        'b' if !in_class => out.push_str(r"(?-u:\b)"),
        'Q' if !in_class => {
            let (quoted, behind) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return Ok(behind);
        }
        '<' | '>' => out.push(next),
        // The length of these is theirs to know.
        'p' | 'P' | 'x' if rest.starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |end| end + 1);
            out.push('\\');
            out.push(next);
            out.push_str(&rest[..end]);
            return Ok(&rest[end..]);
        }
        _ => {
            out.push('\\');
            out.push(next);
        }
    }
    Ok(rest)
}

/// `[:alpha:]` at the start of the text.
fn named_class(text: &str) -> Option<&str> {
    let end = text.strip_prefix("[:")?.find(":]")?;
    let name = &text[2..2 + end];
    name.chars().all(|one| one.is_ascii_lowercase() || one == '^').then(|| &text[..end + 4])
}

/// The length of `{2}`, `{2,}` or `{2,4}` at the start of the text.
fn repetition(text: &str) -> Result<Option<usize>, String> {
    let Some(end) = text.find('}') else { return Ok(None) };
    let inner = &text[1..end];
    let (least, most) = inner.split_once(',').unwrap_or((inner, inner));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(least) || !(most.is_empty() || digits(most)) {
        return Ok(None);
    }
    let count = |text: &str| text.parse::<u32>().unwrap_or(u32::MAX);
    if count(least) > MAX_REPEAT || (!most.is_empty() && count(most) > MAX_REPEAT) {
        return Err(format!("error parsing regexp: invalid repeat count: `{}`", &text[..=end]));
    }
    Ok(Some(end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        let table: &[(&str, &[&str], &[&str])] = &[
            (r"^\d+$", &["12"], &["١٢", "a"]),
            (r"^[\w-]+$", &["a-b_1"], &["ä", "a b"]),
            (r"^[a\D]$", &["a", "b"], &["1"]),
            (r"^a{,2}$", &["a{,2}"], &["aa"]),
            (r"^\{.*\}$", &["{x}"], &["x"]),
            (r"^{x}$", &["{x}"], &["x"]),
            (r"^[[]$", &["["], &["]"]),
            (r"^[]a]$", &["]", "a"], &["["]),
            (r"^[^]]$", &["a"], &["]"]),
            (r"^[[:alpha:]]+$", &["abc"], &["1", ":"]),
            (r"^[a&&b]$", &["a", "&", "b"], &["c"]),
            (r"^[+--]$", &["+", ",", "-"], &["a"]),
            (r"^[--/]$", &["-", ".", "/"], &["a"]),
            (r"^\Qa.b\E$", &["a.b"], &["axb"]),
            (r"^\/\-\.$", &["/-."], &["a"]),
            (r"^\<a\>$", &["<a>"], &["a"]),
            (r"\bfoo\b", &["a foo b"], &["afoo"]),
            (r"^(?i)abc$", &["ABC"], &["abd"]),
            (r"^(?P<x>a)(?:b)?$", &["a", "ab"], &["b"]),
            (r"^\pL\p{Greek}\x{41}$", &["aαA"], &["1αA"]),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", &["a-b", "0"], &["-a", "A"]),
            (r"^(\*\.)?[a-z0-9]{1,63}(\.[a-z0-9]+)*$", &["*.a.b"], &["*a"]),
            (r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$", &["1h30m", "1.5s"], &["1d"]),
        ];
        for (pattern, yes, no) in table {
            let compiled = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            yes.iter().for_each(|text| assert!(compiled.is_match(text), "{pattern} {text}"));
            no.iter().for_each(|text| assert!(!compiled.is_match(text), "{pattern} {text}"));
        }
    }

    #[test]
    fn what_go_refuses_is_refused() {
        for pattern in ["(", "a{1001}", "[b-a]", r"(?=a)", r"\1", "\\"] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_compiled_or_refused(pattern in r"[a\\\[\]{},(d)&~^$Q-]{0,12}") {
            let _ = compile(&pattern);
        }
    }
}
