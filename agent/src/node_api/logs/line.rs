//! A line of a log in the format of CRI: a moment in RFC 3339, the stream, tags, and what was said. Pure; must never copy.

use barque_api::time::Time;

/// The longest head of a line that is looked at: moment, stream and tags.
pub(crate) const MOST_HEAD: usize = 128;

/// Where something was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A line, without the newline of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    /// As it stands there.
    pub(crate) moment: &'a str,
    pub(crate) stream: Stream,
    /// More of the same line follows (tag `P`).
    pub(crate) partial: bool,
    pub(crate) said: &'a [u8],
}

/// Reads a line; nothing for what is none.
pub(crate) fn parse(raw: &[u8]) -> Option<Line<'_>> {
    let (moment, rest) = word(raw)?;
    let (stream, rest) = word(rest)?;
    // What was said may be empty, and then some leave out the space before it.
    let (tags, said) = word(rest).unwrap_or((rest, &[]));
    let stream = match stream {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let moment = std::str::from_utf8(moment).ok()?;
    nanos(moment)?;
    // Further tags follow after colons.
    let partial = match tags.split(|byte| *byte == b':').next() {
        Some(b"P") => true,
        Some(b"F") => false,
        _ => return None,
    };
    Some(Line { moment, stream, partial, said })
}

fn word(raw: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = raw.iter().position(|byte| *byte == b' ')?;
    Some((&raw[..at], &raw[at + 1..]))
}

/// A moment in nanoseconds since 1970, with all nine digits of its fraction.
pub(crate) fn nanos(moment: &str) -> Option<i64> {
    let seconds = Time::parse(moment).ok()?.unix();
    let fraction = moment
        .get(19..)?
        .strip_prefix('.')
        .map_or("", |rest| &rest[..rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len())]);
    let digits = fraction.get(..fraction.len().min(9))?;
    let padded: i64 = format!("{digits:0<9}").parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(padded)
}

/// A moment with nine digits of a fraction, so that moments stand below each other.
pub(crate) fn fixed(moment: &str) -> String {
    let (Some(seconds), Some(rest)) = (moment.get(..19), moment.get(19..)) else { return moment.to_owned() };
    let rest = rest.strip_prefix('.').unwrap_or(rest);
    let digits = rest.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(rest.len());
    let (fraction, zone) = rest.split_at(digits);
    format!("{seconds}.{fraction:0<9.9}{zone}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_moment_stream_tags_and_what_was_said() {
        let line = parse(b"2026-01-02T03:04:05.123456789Z stdout F hello  world ").unwrap();
        assert_eq!((line.stream, line.partial, line.said), (Stream::Stdout, false, &b"hello  world "[..]));
        let line = parse(b"2026-01-02T03:04:05+01:00 stderr P:x \xff").unwrap();
        assert_eq!((line.stream, line.partial, line.said), (Stream::Stderr, true, &b"\xff"[..]));
        assert_eq!(parse(b"2026-01-02T03:04:05Z stdout F").unwrap().said, b"");
        for bad in [
            &b""[..],
            b"hello",
            b"2026-01-02T03:04:05Z stdin F x",
            b"2026-01-02T03:04:05Z stdout X x",
            b"yesterday stdout F x",
            b"{\"log\":\"x\"}",
        ] {
            assert_eq!(parse(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn moments_are_compared_in_nanoseconds_and_shown_with_nine_digits() {
        assert_eq!(nanos("1970-01-01T00:00:01.5Z"), Some(1_500_000_000));
        assert_eq!(nanos("1970-01-01T01:00:01.000000007+01:00"), Some(1_000_000_007));
        assert_eq!(fixed("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05.000000000Z");
        assert_eq!(fixed("2026-01-02T03:04:05.25+01:00"), "2026-01-02T03:04:05.250000000+01:00");
    }

    proptest! {
        #[test]
        fn what_was_said_comes_back_as_it_was(
            said in proptest::collection::vec(any::<u8>(), 0..200),
            partial in any::<bool>(),
            fraction in 0u32..1_000_000_000,
        ) {
            let tag = if partial { "P" } else { "F" };
            let mut raw = format!("2026-01-02T03:04:05.{fraction:09}Z stderr {tag} ").into_bytes();
            raw.extend_from_slice(&said);
            let line = parse(&raw).unwrap();
            prop_assert_eq!(line.said, &said[..]);
            prop_assert_eq!(line.partial, partial);
            prop_assert_eq!(nanos(line.moment).unwrap() % 1_000_000_000, i64::from(fraction));
        }

        #[test]
        fn nothing_that_stands_in_a_file_breaks_the_reader(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&raw);
        }
    }
}
