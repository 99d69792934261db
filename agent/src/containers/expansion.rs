//! `$(VAR)` in commands, words, values and sub-paths: a doubled dollar is a plain one, and what nobody knows stays as it stands.
//! A decision.

/// A piece of a text.
enum Piece<'a> {
    /// Stands for itself.
    Plain(&'a str),
    /// The name of a variable.
    Variable(&'a str),
}

/// Cut into pieces. What is opened and never closed stands for itself.
fn pieces(text: &str) -> Vec<Piece<'_>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find('$') {
        let (before, from) = rest.split_at(at);
        pieces.push(Piece::Plain(before));
        let after = &from[1..];
        if let Some(end) = after.strip_prefix('$') {
            pieces.push(Piece::Plain("$"));
            rest = end;
        } else if let Some((name, end)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            pieces.push(Piece::Variable(name));
            rest = end;
        } else {
            // The dollar alone: what follows is no dollar and begins no variable.
            pieces.push(Piece::Plain("$"));
            rest = after;
        }
    }
    pieces.push(Piece::Plain(rest));
    pieces
}

/// With the values of variables; those that nobody knows stay as `$(VAR)`.
pub fn expand<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Variable(name) => match value(name) {
                Some(value) => out.push_str(value),
                None => out.extend(["$(", name, ")"]),
            },
        }
    }
    out
}

/// As [`expand`], for places where every variable must be known.
///
/// # Errors
/// With the kubelet's words, about the first that is not.
pub fn expand_all<'v>(text: &str, value: impl Fn(&str) -> Option<&'v str>) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Plain(plain) => out.push_str(plain),
            Piece::Variable(name) => {
                out.push_str(value(name).ok_or_else(|| format!("missing value for {name:?}"))?);
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(name: &str) -> Option<&'static str> {
        match name {
            "A" => Some("a"),
            "DOLLAR" => Some("$(A)"),
            "EMPTY" | "" => Some(""),
            _ => None,
        }
    }

    #[test]
    fn variables_are_replaced_once_and_dollars_escape_dollars() {
        let table = [
            ("plain", "plain"),
            ("$(A)", "a"),
            ("-$(A)$(A)-", "-aa-"),
            ("$(B)", "$(B)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$a"),
            ("$$$$(A)", "$$(A)"),
            ("$(DOLLAR)", "$(A)"),
            ("$(EMPTY)x", "x"),
            ("$()", ""),
            ("$", "$"),
            ("$$", "$"),
            ("a$", "a$"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$(A$(A)", "$(A$(A)"),
            ("$((A))", "$((A))"),
            ("$x$(A)", "$xa"),
            ("ä$(A)ö", "äaö"),
        ];
        for (text, expected) in table {
            assert_eq!(expand(text, value), expected, "{text}");
        }
        assert_eq!(expand_all("$(A)/$$(B)", value), Ok("a/$(B)".into()));
        assert_eq!(expand_all("$(A)/$(B)", value), Err("missing value for \"B\"".into()));
    }

    proptest! {
        #[test]
        fn what_is_escaped_comes_out_as_it_was(text in "[a$(){}ä]{0,30}") {
            let escaped = text.replace('$', "$$");
            prop_assert_eq!(expand(&escaped, value), text);
        }

        #[test]
        fn what_nobody_knows_only_loses_escapes(text in "([a(){}ä]|\\$\\(){0,30}") {
            prop_assert_eq!(expand(&text, |_| None), text);
        }
    }
}
