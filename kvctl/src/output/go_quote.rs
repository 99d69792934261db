//! Strings between quotes as Go writes and reads them (`%q`). Bytes that are no text stay what they are.

use std::fmt::Write;

/// As Go's `strconv.Quote`: a double-quoted string of printable characters and escapes.
pub(crate) fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            put(&mut out, c);
        }
        for byte in chunk.invalid() {
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

fn put(out: &mut String, c: char) {
    let short = match c {
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        '\\' => "\\\\",
        '"' => "\\\"",
        c if printable(c) => return out.push(c),
        c => {
            // Writing to a string cannot fail.
            let _ = match u32::from(c) {
                code @ ..0x80 => write!(out, "\\x{code:02x}"),
                code @ ..0x1_0000 => write!(out, "\\u{code:04x}"),
                code => write!(out, "\\U{code:08x}"),
            };
            return;
        }
    };
    out.push_str(short);
}

/// Close to Go's `unicode.IsPrint`: no controls, no separators but the space, no formatting characters.
fn printable(c: char) -> bool {
    let formatting = matches!(c,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{e000}'..='\u{f8ff}' | '\u{fff9}'..='\u{fffb}');
    !c.is_control() && !formatting && (c == ' ' || !c.is_whitespace())
}

/// Reads one quoted string (double quotes with escapes, or backquotes) from the start of `text`; returns it and
/// what follows. `None` if there is none.
pub(crate) fn unquote(text: &str) -> Option<(Vec<u8>, &str)> {
    if let Some(raw) = text.strip_prefix('`') {
        let end = raw.find('`')?;
        return Some((raw.as_bytes()[..end].to_vec(), &raw[end + 1..]));
    }
    let inside = text.strip_prefix('"')?;
    let mut out = Vec::new();
    let mut rest = inside;
    loop {
        let c = rest.chars().next()?;
        rest = &rest[c.len_utf8()..];
        match c {
            '"' => return Some((out, rest)),
            '\n' => return None,
            '\\' => rest = escape(rest, &mut out)?,
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// One escape after its backslash; returns what follows.
fn escape<'a>(rest: &'a str, out: &mut Vec<u8>) -> Option<&'a str> {
    let kind = rest.chars().next()?;
    let tail = &rest[kind.len_utf8()..];
    let simple = match kind {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        '\\' => b'\\',
        '"' => b'"',
        'x' => return number(tail, 2, 16, out),
        'u' => return number(tail, 4, 16, out),
        'U' => return number(tail, 8, 16, out),
        '0'..='7' => return number(rest, 3, 8, out),
        _ => return None,
    };
    out.push(simple);
    Some(tail)
}

/// A byte (two hexadecimal or three octal digits) or a character (four or eight digits).
fn number<'a>(rest: &'a str, digits: usize, radix: u32, out: &mut Vec<u8>) -> Option<&'a str> {
    let code = u32::from_str_radix(rest.get(..digits)?, radix).ok()?;
    if digits < 4 {
        out.push(u8::try_from(code).ok()?);
    } else {
        out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Some(&rest[digits..])
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: &[(&[u8], &str)] = &[
        (b"plain", r#""plain""#),
        (b"a\"b\\c", r#""a\"b\\c""#),
        (b"\x00\x1f\x7f", r#""\x00\x1f\x7f""#),
        (b"\n\t\r\x07\x08\x0b\x0c", r#""\n\t\r\a\b\v\f""#),
        (b"\xff\xfeab", r#""\xff\xfeab""#),
        ("héß日本".as_bytes(), "\"héß日本\""),
        ("\u{a0}\u{200b}".as_bytes(), r#""\u00a0\u200b""#),
        (b"", r#""""#),
    ];

    #[test]
    fn quoting_and_reading_are_inverse() {
        for (bytes, quoted) in PAIRS {
            assert_eq!(&quote(bytes), quoted);
            let (read, rest) = unquote(quoted).unwrap();
            assert_eq!((read.as_slice(), rest), (*bytes, ""));
        }
    }

    #[test]
    fn what_follows_is_left() {
        assert_eq!(unquote(r#""k") > "0""#).unwrap(), (b"k".to_vec(), r#") > "0""#));
        assert_eq!(unquote("`a\\b` x").unwrap(), (b"a\\b".to_vec(), " x"));
        assert_eq!(unquote(r#""\101\U0001F600""#).unwrap().0, "A😀".as_bytes());
        for broken in ["k", "\"k", "\"\\", r#""\q""#, r#""\xz1""#, "`k", ""] {
            assert_eq!(unquote(broken), None, "{broken}");
        }
    }
}
