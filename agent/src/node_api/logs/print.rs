//! What of a log's lines is shown: from when on, of which stream, with which moments, and how much. Pure; must never keep a line.

use super::line::{Stream, fixed, nanos, parse};

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Printing {
    /// With the moment before each line.
    pub(crate) timestamps: bool,
    /// Nothing before this, in nanoseconds since 1970.
    pub(crate) since: Option<i64>,
    /// Only what was said there.
    pub(crate) stream: Option<Stream>,
    /// No more bytes than this.
    pub(crate) limit: Option<u64>,
}

/// Prints lines one after the other; pieces of a line become one.
#[derive(Debug)]
pub(crate) struct Printer {
    printing: Printing,
    /// The last piece was not the end of its line.
    within: bool,
}

impl Printer {
    pub(crate) const fn new(printing: Printing) -> Self {
        Self { printing, within: false }
    }

    /// Nothing more is shown.
    pub(crate) fn is_done(&self) -> bool {
        self.printing.limit == Some(0)
    }

    /// Appends what is shown of a line of the file. What is no line is passed over.
    pub(crate) fn print(&mut self, raw: &[u8], to: &mut Vec<u8>) {
        let Some(line) = parse(raw) else { return };
        let early = self.printing.since.is_some_and(|since| nanos(line.moment).is_none_or(|at| at < since));
        if early || self.printing.stream.is_some_and(|one| one != line.stream) {
            return;
        }
        if self.printing.timestamps && !self.within {
            self.put(fixed(line.moment).as_bytes(), to);
            self.put(b" ", to);
        }
        self.put(line.said, to);
        if !line.partial {
            self.put(b"\n", to);
        }
        self.within = line.partial;
    }

    fn put(&mut self, bytes: &[u8], to: &mut Vec<u8>) {
        let Some(left) = &mut self.printing.limit else {
            to.extend_from_slice(bytes);
            return;
        };
        let room = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
        to.extend_from_slice(&bytes[..room]);
        *left -= room as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: [&str; 4] = [
        "2026-01-02T03:04:05.1Z stdout P one ",
        "2026-01-02T03:04:05.2Z stdout F line",
        "not a line",
        "2026-01-02T03:04:06Z stderr F two",
    ];

    fn printed(printing: Printing) -> String {
        let (mut printer, mut to) = (Printer::new(printing), Vec::new());
        for line in LINES {
            printer.print(line.as_bytes(), &mut to);
        }
        String::from_utf8(to).unwrap()
    }

    #[test]
    fn lines_are_shown_as_they_are_asked_for() {
        assert_eq!(printed(Printing::default()), "one line\ntwo\n");
        assert_eq!(
            printed(Printing { timestamps: true, ..Printing::default() }),
            "2026-01-02T03:04:05.100000000Z one line\n2026-01-02T03:04:06.000000000Z two\n"
        );
        assert_eq!(printed(Printing { stream: Some(Stream::Stderr), ..Printing::default() }), "two\n");
        assert_eq!(
            printed(Printing { since: nanos("2026-01-02T03:04:06Z"), ..Printing::default() }),
            "two\n"
        );
        for limit in 0..14 {
            let shown = printed(Printing { limit: Some(limit), ..Printing::default() });
            assert_eq!(shown, "one line\ntwo\n"[..usize::try_from(limit).unwrap().min(13)]);
        }
    }
}
