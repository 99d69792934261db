//! The words of commands that are no plain text: bytes, ids, lines of input.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::str::FromStr;

use clap::builder::{MapValueParser, OsStringValueParser, TypedValueParser, ValueParserFactory};

use crate::error::Failure;
use crate::output::go_quote::unquote;

/// A key, value or name: any bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Raw(pub(crate) Vec<u8>);

impl ValueParserFactory for Raw {
    type Parser = MapValueParser<OsStringValueParser, fn(OsString) -> Raw>;

    fn value_parser() -> Self::Parser {
        OsStringValueParser::new().map(|text| Raw(text.into_vec()))
    }
}

/// A member's id, written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemberId(pub(crate) u64);

impl FromStr for MemberId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = u64::from_str_radix(text, 16);
        id.map(Self)
            .map_err(|_| "a member's id is a hexadecimal number, as `kvctl member list` prints it".to_owned())
    }
}

/// A lease's id, written in hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseId(pub(crate) i64);

impl FromStr for LeaseId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let id = i64::from_str_radix(text, 16);
        id.map(Self)
            .map_err(|_| "a lease's id is a hexadecimal number, as `kvctl lease list` prints it".to_owned())
    }
}

/// The words of a line: separated by spaces, quoted with `'` as they are or with `"` and Go's escapes.
///
/// # Errors
/// If the escapes of a quoted word are wrong.
pub(crate) fn split(line: &str) -> Result<Vec<OsString>, Failure> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let word_end = match first {
            '"' => closing_quote(rest).map(|end| end + 1),
            '\'' => rest[1..].find('\'').map(|end| end + 2),
            c if c.is_whitespace() => None,
            _ => Some(rest.find(char::is_whitespace).unwrap_or(rest.len())),
        };
        let Some(end) = word_end else {
            // A space, or a quote that is never closed: it stands for nothing.
            rest = &rest[first.len_utf8()..];
            continue;
        };
        let word = &rest[..end];
        words.push(match first {
            '"' => {
                let (bytes, _) = unquote(word).ok_or_else(|| {
                    Failure::Input(format!(
                        "{word} is no quoted string: escapes are Go's, such as \\n, \\\" or \\x00"
                    ))
                })?;
                OsString::from_vec(bytes)
            }
            '\'' => OsString::from(&word[1..word.len() - 1]),
            _ => OsString::from(word),
        });
        rest = &rest[end..];
    }
    Ok(words)
}

/// Where the quote at the start of `text` is closed.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes.then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_at_spaces_but_not_within_quotes() {
        for (line, words) in [
            ("", vec![]),
            ("  put  a\tb ", vec!["put", "a", "b"]),
            (r#"put "a b" 'c "d"'"#, vec!["put", "a b", "c \"d\""]),
            (r#"put "a\"b\\" x"#, vec!["put", "a\"b\\", "x"]),
            (r#"put "a\nb" "\x41""#, vec!["put", "a\nb", "A"]),
            (r#"a"b c"#, vec!["a\"b", "c"]),
            (r#"put "open"#, vec!["put", "open"]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
        assert!(split(r#"put "\q""#).is_err());
    }

    #[test]
    fn ids_are_hexadecimal() {
        assert_eq!("8e9e05c52164694d".parse(), Ok(MemberId(0x8e9e_05c5_2164_694d)));
        assert_eq!("694d5765fc71500b".parse(), Ok(LeaseId(0x694d_5765_fc71_500b)));
        assert!("xyz".parse::<MemberId>().is_err() && "".parse::<LeaseId>().is_err());
    }
}
