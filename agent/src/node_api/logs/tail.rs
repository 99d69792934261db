//! Where the last lines of a file begin, found from its end. Must never read more of it than that takes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::line::{MOST_HEAD, parse};

const BLOCK: u64 = 64 << 10;

/// Where in a file the last lines begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tail {
    /// There, in bytes.
    At(u64),
    /// The file has only so many lines.
    Short(u64),
}

/// Looks for the last `lines` lines of a file. A line is what was said up to a newline, in however many pieces.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn of_file(file: &File, lines: u64) -> io::Result<Tail> {
    of_blocks(file.metadata()?.len(), lines, |at, buffer| file.read_exact_at(buffer, at))
}

fn of_blocks(
    length: u64,
    lines: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<()>,
) -> io::Result<Tail> {
    if lines == 0 {
        return Ok(Tail::At(length));
    }
    let mut seen = Seen { wanted: lines, ..Seen::default() };
    // Heads of lines that begin at the end of a block go on in the next.
    let mut after: Vec<u8> = Vec::new();
    let mut end = length;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        let size = usize::try_from(end - begin).expect("no more than a block");
        let mut buffer = vec![0; size];
        read(begin, &mut buffer)?;
        let own = buffer.len();
        buffer.extend_from_slice(&after);
        for at in (0..own).rev() {
            let is_start = if at == 0 { begin == 0 } else { buffer[at - 1] == b'\n' };
            if is_start && let Some(found) = seen.line(begin + at as u64, &buffer[at..]) {
                return Ok(Tail::At(found));
            }
        }
        // The first byte of this block may begin a line; only the block before tells.
        if begin > 0 {
            let mut before = [0];
            read(begin - 1, &mut before)?;
            if before[0] == b'\n'
                && let Some(found) = seen.line(begin, &buffer)
            {
                return Ok(Tail::At(found));
            }
        }
        buffer.truncate(MOST_HEAD);
        after = buffer;
        end = begin;
    }
    Ok(Tail::Short(seen.count))
}

/// Lines of the file as they are met, from the last one on.
#[derive(Default)]
struct Seen {
    wanted: u64,
    /// Lines of which an end was met.
    count: u64,
    /// Where the line after this one begins.
    next: Option<u64>,
}

impl Seen {
    /// Takes a line of the file and tells where the wanted ones begin, once that is known.
    fn line(&mut self, at: u64, raw: &[u8]) -> Option<u64> {
        let head = &raw[..raw.len().min(MOST_HEAD)];
        let head = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = parse(head);
        // A piece at the very end is a line whose end has not come.
        let ends = line.is_some_and(|line| !line.partial || self.next.is_none());
        if ends {
            if self.count == self.wanted {
                return self.next;
            }
            self.count += 1;
        }
        if line.is_some() {
            self.next = Some(at);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tail(text: &[u8], lines: u64) -> Tail {
        of_blocks(text.len() as u64, lines, |at, buffer| {
            let at = usize::try_from(at).unwrap();
            buffer.copy_from_slice(&text[at..at + buffer.len()]);
            Ok(())
        })
        .unwrap()
    }

    fn file(lines: &[(bool, usize)]) -> (Vec<u8>, Vec<u64>) {
        let (mut text, mut begins, mut within) = (Vec::new(), Vec::new(), false);
        for (partial, length) in lines {
            if !within {
                begins.push(text.len() as u64);
            }
            let tag = if *partial { 'P' } else { 'F' };
            text.extend_from_slice(format!("2026-01-02T03:04:05.000000001Z stdout {tag} ").as_bytes());
            text.extend(std::iter::repeat_n(b'x', *length));
            text.push(b'\n');
            within = *partial;
        }
        (text, begins)
    }

    #[test]
    fn pieces_of_a_line_are_one() {
        let (text, begins) = file(&[(false, 3), (true, 3), (true, 3), (false, 0), (false, 1)]);
        assert_eq!(begins.len(), 3);
        assert_eq!(tail(&text, 2), Tail::At(begins[1]));
        assert_eq!(tail(&text, 1), Tail::At(begins[2]));
        assert_eq!(tail(&text, 0), Tail::At(text.len() as u64));
        assert_eq!(tail(&text, 3), Tail::Short(3));
        assert_eq!(tail(b"", 3), Tail::Short(0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_last_lines_are_found_in_files_of_any_size(
            lines in proptest::collection::vec((proptest::bool::weighted(0.3), 0usize..20_000), 1..40),
            wanted in 1u64..20,
        ) {
            let (text, begins) = file(&lines);
            let count = begins.len() as u64;
            let expected = if wanted < count {
                Tail::At(begins[usize::try_from(count - wanted).unwrap()])
            } else {
                Tail::Short(count)
            };
            prop_assert_eq!(tail(&text, wanted), expected);
        }
    }
}
