//! The form of CRI logs: each line of output with when and from which stream it came, and whether it is whole. Pure.

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Stdout,
    Stderr,
}

/// A line that gets longer is written in parts, as containerd and CRI-O do.
const LONGEST_PART: usize = 16 * 1024;

/// The beginning of a line, until its end comes.
#[derive(Debug)]
pub(crate) struct Lines {
    source: Source,
    open: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(source: Source) -> Self {
        Self { source, open: Vec::new() }
    }

    /// Takes output and appends what can be written to `out`.
    pub(crate) fn push(&mut self, now_ns: i64, mut data: &[u8], out: &mut Vec<u8>) {
        while !data.is_empty() {
            let room = LONGEST_PART - self.open.len();
            let end = data.iter().take(room + 1).position(|byte| *byte == b'\n');
            match end {
                Some(end) => {
                    self.entry(now_ns, b'F', &data[..end], out);
                    data = &data[end + 1..];
                }
                None if data.len() > room => {
                    self.entry(now_ns, b'P', &data[..room], out);
                    data = &data[room..];
                }
                None => {
                    self.open.extend_from_slice(data);
                    return;
                }
            }
        }
    }

    /// The output has ended; a line without an end is written as the part that it is.
    pub(crate) fn finish(&mut self, now_ns: i64, out: &mut Vec<u8>) {
        if !self.open.is_empty() {
            self.entry(now_ns, b'P', &[], out);
        }
    }

    fn entry(&mut self, now_ns: i64, tag: u8, rest: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(timestamp(now_ns).as_bytes());
        out.extend_from_slice(match self.source {
            Source::Stdout => b" stdout ",
            Source::Stderr => b" stderr ",
        });
        out.extend_from_slice(&[tag, b' ']);
        out.append(&mut self.open);
        out.extend_from_slice(rest);
        out.push(b'\n');
        // Memory of a long line is not kept.
        self.open = Vec::new();
    }
}

/// Nanoseconds since 1970 as RFC 3339 in UTC, with all nine digits.
pub(crate) fn timestamp(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:09}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        ns.rem_euclid(1_000_000_000)
    )
}

/// Days since 1970 as a date of the Gregorian calendar. Years begin in March here, so that the day of leap years is their
/// last one, and come in cycles of 400 with 146,097 days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (cycle, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (cycle * 400 + year + i64::from(month <= 2), month, day)
}

/// The text of the last lines of a log, without what was added: not more than so many lines and bytes.
pub(crate) fn tail(log: &[u8], lines: usize, bytes: usize) -> String {
    let text: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let mut out: Vec<u8> = Vec::new();
    for line in text.iter().skip(text.len().saturating_sub(lines)) {
        // Time, stream and tag come before the text.
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let tag = parts.nth(2).unwrap_or_default();
        let content = parts.next().unwrap_or_default();
        let content = content.strip_suffix(b"\n").unwrap_or(content);
        out.extend_from_slice(content);
        if tag == b"F" {
            out.push(b'\n');
        }
    }
    let start = out.len().saturating_sub(bytes);
    String::from_utf8_lossy(&out[start..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_700_000_000_000_000_042;

    #[test]
    fn times_are_in_the_calendar() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(NOW), "2023-11-14T22:13:20.000000042Z");
        assert_eq!(timestamp(951_782_400_000_000_000), "2000-02-29T00:00:00.000000000Z");
        assert_eq!(timestamp(4_107_542_399_999_999_999), "2100-02-28T23:59:59.999999999Z");
        assert_eq!(timestamp(4_107_542_400_000_000_000), "2100-03-01T00:00:00.000000000Z");
        assert_eq!(timestamp(-1), "1969-12-31T23:59:59.999999999Z");
    }

    fn written(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::new(Source::Stderr), Vec::new());
        for piece in pieces {
            lines.push(NOW, piece, &mut out);
        }
        lines.finish(NOW, &mut out);
        String::from_utf8(out).unwrap().lines().map(|line| line[31..].to_owned()).collect()
    }

    #[test]
    fn lines_are_whole_however_they_come() {
        assert_eq!(written(&[b"a\n\nb\n"]), ["stderr F a", "stderr F ", "stderr F b"]);
        assert_eq!(written(&[b"a", b"b", b"c\nd"]), ["stderr F abc", "stderr P d"]);
        assert!(written(&[b""]).is_empty());
    }

    #[test]
    fn a_long_line_is_parts_and_an_end() {
        let long = [b'x'; LONGEST_PART];
        let lines = written(&[&long, b"yy\n"]);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].len(), "stderr P ".len() + LONGEST_PART);
        assert_eq!(lines[1], "stderr F yy");
        let exactly: Vec<u8> = long.iter().copied().chain([b'\n']).collect();
        assert_eq!(written(&[&exactly]).len(), 1, "an end that comes in time is no part of its own");
        let twice = written(&[&[b'z'; 2 * LONGEST_PART + 5]]);
        assert_eq!(
            twice.iter().map(|line| line.len() - 9).collect::<Vec<_>>(),
            [LONGEST_PART, LONGEST_PART, 5]
        );
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(24))]

        #[test]
        fn nothing_is_lost_or_added_however_output_is_cut(
            pieces in proptest::collection::vec(proptest::collection::vec(b'\n'..=b'\x0d', 0..40_000), 0..4)
        ) {
            let (mut lines, mut out) = (Lines::new(Source::Stdout), Vec::new());
            for piece in &pieces {
                lines.push(NOW, piece, &mut out);
            }
            lines.finish(NOW, &mut out);
            let mut back = Vec::new();
            for entry in out.split_inclusive(|byte| *byte == b'\n') {
                let (head, content) = entry.split_at("2023-11-14T22:13:20.000000042Z stdout F ".len());
                proptest::prop_assert!(content.len() <= LONGEST_PART + 1);
                let content = content.strip_suffix(b"\n").unwrap_or(content);
                back.extend_from_slice(content);
                if head.ends_with(b"F ") {
                    back.push(b'\n');
                }
            }
            proptest::prop_assert!(back == pieces.concat());
        }
    }

    #[test]
    fn the_tail_is_text() {
        let (mut lines, mut out) = (Lines::new(Source::Stdout), Vec::new());
        lines.push(NOW, b"one\ntwo\nthree x", &mut out);
        lines.finish(NOW, &mut out);
        assert_eq!(tail(&out, 2, 100), "two\nthree x");
        assert_eq!(tail(&out, 80, 5), "ree x");
        assert_eq!(tail(b"", 80, 5), "");
    }
}
