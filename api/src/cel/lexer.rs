//! The words of expressions. Must never look at how they stand together.

/// A word, with its place in the source.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) word: Word,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Word {
    /// A name that may be a variable's.
    Name(String),
    /// A name between back quotes: a field's.
    Quoted(String),
    /// The digits; whether they fit is told where they stand.
    Int(String),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    /// `&&`, `(`, `in`, and so on.
    Sign(&'static str),
    End,
}

/// Longer ones first.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "+", "-", "*", "/", "%", "?", ":", ".", ",", "(", ")",
    "[", "]", "{", "}",
];

type Failure = (usize, String);

/// All words of an expression, the last one is its end.
///
/// # Errors
/// What is no word, with its place.
pub(super) fn words(source: &str) -> Result<Vec<Token>, Failure> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        at = skip(source, at);
        let rest = &source[at..];
        let Some(first) = rest.chars().next() else { break };
        let (word, length) = if let Some((prefix, quote)) = text_start(rest) {
            text(rest, prefix, quote).map_err(|why| (at, format!("Syntax error: {why}")))?
        } else if first.is_ascii_digit()
            || (first == '.' && rest[1..].starts_with(|one: char| one.is_ascii_digit()))
        {
            number(rest).map_err(|why| (at, why))?
        } else if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|one: char| !one.is_ascii_alphanumeric() && one != '_').unwrap_or(rest.len());
            let name = &rest[..end];
            (if name == "in" { Word::Sign("in") } else { Word::Name(name.to_owned()) }, end)
        } else if let Some(inner) = rest.strip_prefix('`') {
            let end =
                inner.find('`').ok_or_else(|| (at, "Syntax error: the quote is not closed".to_owned()))?;
            (Word::Quoted(inner[..end].to_owned()), end + 2)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Word::Sign(sign), sign.len())
        } else {
            return Err((at, format!("Syntax error: token recognition error at: '{first}'")));
        };
        words.push(Token { at, word });
        at += length;
    }
    words.push(Token { at, word: Word::End });
    Ok(words)
}

/// Behind white space and comments.
fn skip(source: &str, mut at: usize) -> usize {
    loop {
        let rest = &source[at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r', '\u{c}']);
        at += rest.len() - trimmed.len();
        if !trimmed.starts_with("//") {
            return at;
        }
        at += trimmed.find('\n').unwrap_or(trimmed.len());
    }
}

fn number(rest: &str) -> Result<(Word, usize), String> {
    let digits = |from: usize| rest[from..].bytes().take_while(u8::is_ascii_digit).count();
    if let Some(hex) = rest.strip_prefix("0x") {
        let count = hex.bytes().take_while(u8::is_ascii_hexdigit).count();
        let value = u64::from_str_radix(&hex[..count], 16).map_err(|_| "invalid int literal".to_owned())?;
        let unsigned = hex[count..].starts_with(['u', 'U']);
        let word = if unsigned { Word::Uint(value) } else { Word::Int(value.to_string()) };
        return Ok((word, 2 + count + usize::from(unsigned)));
    }
    let mut end = digits(0);
    let mut whole = true;
    if rest[end..].starts_with('.') && digits(end + 1) > 0 {
        end += 1 + digits(end + 1);
        whole = false;
    }
    if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
        let sign = usize::from(exponent.starts_with(['+', '-']));
        let count = digits(end + 1 + sign);
        if count > 0 {
            end += 1 + sign + count;
            whole = false;
        }
    }
    let text = &rest[..end];
    if !whole {
        let value = text.parse().map_err(|_| "invalid double literal".to_owned())?;
        return Ok((Word::Double(value), end));
    }
    if rest[end..].starts_with(['u', 'U']) {
        let value = text.parse().map_err(|_| "invalid uint literal".to_owned())?;
        return Ok((Word::Uint(value), end + 1));
    }
    Ok((Word::Int(text.to_owned()), end))
}

/// What stands before a text (`r`, `b`, `rb`), and the quote that begins it.
fn text_start(rest: &str) -> Option<(&str, &str)> {
    let letters = rest.bytes().take_while(|byte| matches!(byte, b'r' | b'R' | b'b' | b'B')).count();
    if letters > 2 {
        return None;
    }
    let (prefix, behind) = rest.split_at(letters);
    let quote = ["\"\"\"", "'''", "\"", "'"].into_iter().find(|quote| behind.starts_with(quote))?;
    Some((prefix, quote))
}

fn text(rest: &str, prefix: &str, quote: &str) -> Result<(Word, usize), String> {
    let raw = prefix.contains(['r', 'R']);
    let bytes = prefix.contains(['b', 'B']);
    let start = prefix.len() + quote.len();
    let mut text = Vec::new();
    let mut at = start;
    loop {
        let here = &rest[at..];
        if here.starts_with(quote) {
            break;
        }
        let next = here.chars().next().ok_or("the text is not closed")?;
        if quote.len() == 1 && matches!(next, '\n' | '\r') {
            return Err("the text is not closed".to_owned());
        }
        at += next.len_utf8();
        if next == '\\' && !raw {
            at += escape(&rest[at..], bytes, &mut text)?;
        } else {
            text.extend(next.encode_utf8(&mut [0; 4]).bytes());
        }
    }
    let word = if bytes {
        Word::Bytes(text)
    } else {
        Word::Text(String::from_utf8(text).map_err(|_| "the text is no Unicode")?)
    };
    Ok((word, at + quote.len()))
}

/// What stands behind a backslash; returns its length.
fn escape(rest: &str, bytes: bool, text: &mut Vec<u8>) -> Result<usize, String> {
    let next = rest.chars().next().ok_or("the text is not closed")?;
    let plain = match next {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(b'\n'),
        'r' => Some(b'\r'),
        't' => Some(b'\t'),
        'v' => Some(11),
        '\\' | '?' | '"' | '\'' | '`' => u8::try_from(next).ok(),
        _ => None,
    };
    if let Some(byte) = plain {
        text.push(byte);
        return Ok(1);
    }
    let (from, digits, radix) = match next {
        'x' | 'X' => (1, 2, 16),
        'u' if !bytes => (1, 4, 16),
        'U' if !bytes => (1, 8, 16),
        '0'..='3' => (0, 3, 8),
        _ => return Err(format!("unable to unescape string: \\{next}")),
    };
    let number = rest.get(from..from + digits).and_then(|digits| u32::from_str_radix(digits, radix).ok());
    let number = number.ok_or("unable to unescape string")?;
    if bytes {
        text.push(u8::try_from(number).map_err(|_| "unable to unescape bytes")?);
    } else {
        let one = char::from_u32(number).ok_or("unable to unescape string")?;
        text.extend(one.encode_utf8(&mut [0; 4]).bytes());
    }
    Ok(from + digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(source: &str) -> Result<Word, String> {
        words(source).map(|words| words[0].word.clone()).map_err(|(_, why)| why)
    }

    #[test]
    fn words_are_told_apart() {
        let text = |text: &str| Word::Text(text.to_owned());
        let table = [
            ("12", Word::Int("12".to_owned())),
            ("0xfFu", Word::Uint(255)),
            ("7u", Word::Uint(7)),
            ("1.5e-1", Word::Double(0.15)),
            (".5", Word::Double(0.5)),
            ("1e2", Word::Double(100.0)),
            (r"'a\'b\n\x41\u00e4\101'", text("a'b\nAäA")),
            (r#"r"a\n""#, text(r"a\n")),
            ("\"\"\"a\"b\nc\"\"\"", text("a\"b\nc")),
            (r"b'\xff\101'", Word::Bytes(vec![255, b'A'])),
            ("// no\n x_1", Word::Name("x_1".to_owned())),
            ("`a-b.c`", Word::Quoted("a-b.c".to_owned())),
            ("in", Word::Sign("in")),
            ("int", Word::Name("int".to_owned())),
            ("&&", Word::Sign("&&")),
            ("", Word::End),
        ];
        for (source, word) in table {
            assert_eq!(first(source), Ok(word), "{source}");
        }
        for source in ["'a", "'a\nb'", r"'\q'", r"'\ud800'", "&", "#", "`a", "1u99999999999999999999u ü"] {
            assert!(words(source).is_err(), "{source}");
        }
    }
}
