//! Goes through the files of a log, from where it was asked to, across rotations. Blocking; must never wait for more to come.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use super::files::{self, LogFile};
use super::print::{Printer, Printing};
use super::tail::{self, Tail};

const BUFFER: usize = 64 << 10;
/// A longer line of a file is none that a runtime wrote, and is passed over.
const MOST_LINE: usize = 1 << 20;

/// How far a step came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// This much is to be shown, and more may be there.
    Some(Vec<u8>),
    /// There is no more, for now.
    End,
    /// No more is wanted.
    Done,
}

/// A log that is read.
#[derive(Debug)]
pub(crate) struct LogReader {
    path: PathBuf,
    printer: Printer,
    open: Option<(File, u64)>,
    /// What of a line has come; `None` while one is passed over.
    line: Option<Vec<u8>>,
}

impl LogReader {
    /// Finds where to begin: the last `tail` lines, or everything that is not older than what is shown.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub(crate) fn open(path: PathBuf, tail: Option<u64>, printing: Printing) -> io::Result<Self> {
        let files = files::of_log(&path)?;
        let since = printing.since;
        let mut reader = Self { path, printer: Printer::new(printing), open: None, line: Some(Vec::new()) };
        reader.open = match tail {
            Some(lines) => last(&files, lines)?,
            None => {
                let wanted = |file: &&LogFile| since.is_none_or(|since| file.written >= since);
                match files.iter().find(wanted).or(files.last()) {
                    Some(file) => Some((File::open(&file.path)?, file.inode)),
                    None => None,
                }
            }
        };
        Ok(reader)
    }

    /// Reads on.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let mut buffer = vec![0; BUFFER];
        loop {
            if self.printer.is_done() {
                return Ok(Step::Done);
            }
            let Some((file, _)) = &mut self.open else {
                if self.next_file()? {
                    continue;
                }
                return Ok(Step::End);
            };
            let read = file.read(&mut buffer)?;
            if read > 0 {
                let shown = self.take(&buffer[..read]);
                if !shown.is_empty() {
                    return Ok(Step::Some(shown));
                }
                continue;
            }
            if !self.next_file()? {
                return Ok(Step::End);
            }
        }
    }

    /// Opens the file after the one that was read, if there is one.
    fn next_file(&mut self) -> io::Result<bool> {
        let files = files::of_log(&self.path)?;
        let next = match &self.open {
            Some((_, inode)) => match files.iter().position(|file| file.inode == *inode) {
                Some(at) => files.get(at + 1),
                // It was deleted, and the oldest are deleted first.
                None => files.first(),
            },
            None => files.first(),
        };
        let Some(next) = next else { return Ok(false) };
        if let Some((file, _)) = &mut self.open {
            // Whoever writes the next file has written this one to its end: what came meanwhile is the last of it.
            let mut rest = Vec::new();
            file.take(BUFFER as u64).read_to_end(&mut rest)?;
            if !rest.is_empty() {
                file.seek(SeekFrom::Current(-i64::try_from(rest.len()).unwrap_or(0)))?;
                return Ok(true);
            }
        }
        match File::open(&next.path) {
            Ok(file) => {
                // It may have been renamed since the look.
                let inode = file.metadata()?.ino();
                if inode != next.inode {
                    return Ok(true);
                }
                self.open = Some((file, inode));
                self.line = Some(Vec::new());
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::new();
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
            match &mut self.line {
                Some(begun) if begun.is_empty() => self.printer.print(&rest[..at], &mut shown),
                Some(begun) => {
                    begun.extend_from_slice(&rest[..at]);
                    self.printer.print(begun, &mut shown);
                    begun.clear();
                }
                None => self.line = Some(Vec::new()),
            }
            rest = &rest[at + 1..];
        }
        if let Some(begun) = &mut self.line {
            begun.extend_from_slice(rest);
            if begun.len() > MOST_LINE {
                self.line = None;
            }
        }
        shown
    }
}

/// The file and the place where the last lines of all files begin.
fn last(files: &[LogFile], lines: u64) -> io::Result<Option<(File, u64)>> {
    let mut missing = lines;
    let mut found = None;
    for one in files.iter().rev() {
        let mut file = File::open(&one.path)?;
        match tail::of_file(&file, missing)? {
            Tail::At(at) => {
                // All that is wanted may stand in the files after this one.
                if missing == 0 && found.is_some() {
                    return Ok(found);
                }
                file.seek(SeekFrom::Start(at))?;
                return Ok(Some((file, one.inode)));
            }
            Tail::Short(count) => {
                missing -= count;
                found = Some((file, one.inode));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::Path;

    use super::*;

    fn append(path: &Path, lines: &[&str]) {
        let mut file = File::options().create(true).append(true).open(path).unwrap();
        for line in lines {
            writeln!(file, "2026-01-02T03:04:05Z stdout F {line}").unwrap();
        }
    }

    fn rest(reader: &mut LogReader) -> String {
        let mut all = Vec::new();
        while let Step::Some(shown) = reader.step().unwrap() {
            all.extend(shown);
        }
        String::from_utf8(all).unwrap()
    }

    fn reader(path: &Path, tail: Option<u64>) -> LogReader {
        LogReader::open(path.to_owned(), tail, Printing::default()).unwrap()
    }

    #[test]
    fn rotated_files_are_read_one_after_the_other_and_the_last_lines_are_of_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&directory.path().join("0.log.20260101-000000"), &["a", "b"]);
        append(&directory.path().join("0.log.20260102-000000"), &["c"]);
        append(&path, &["d", "e"]);
        assert_eq!(rest(&mut reader(&path, None)), "a\nb\nc\nd\ne\n");
        for (tail, wanted) in [
            (0, ""),
            (1, "e\n"),
            (2, "d\ne\n"),
            (3, "c\nd\ne\n"),
            (4, "b\nc\nd\ne\n"),
            (9, "a\nb\nc\nd\ne\n"),
        ] {
            assert_eq!(rest(&mut reader(&path, Some(tail))), wanted, "the last {tail}");
        }
    }

    #[test]
    fn a_rotation_between_two_steps_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        append(&path, &["a"]);
        let mut reader = reader(&path, None);
        assert_eq!(rest(&mut reader), "a\n");
        let old = directory.path().join("0.log.20260101-000000");
        std::fs::rename(&path, &old).unwrap();
        // Until it is told to reopen, the writer writes what it has open.
        append(&old, &["b"]);
        assert_eq!(rest(&mut reader), "b\n");
        append(&old, &["c"]);
        append(&path, &["d"]);
        std::fs::rename(&path, directory.path().join("0.log.20260102-000000")).unwrap();
        append(&path, &["e"]);
        assert_eq!(rest(&mut reader), "c\nd\ne\n");
        // What was read is deleted.
        append(&path, &["f"]);
        std::fs::rename(&path, directory.path().join("0.log.20260103-000000")).unwrap();
        std::fs::remove_file(directory.path().join("0.log.20260101-000000")).unwrap();
        append(&path, &["g"]);
        assert_eq!(rest(&mut reader), "f\ng\n");
    }

    #[test]
    fn a_log_that_is_not_there_yet_is_empty_and_a_line_too_long_is_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("0.log");
        let mut reader = reader(&path, Some(10));
        assert_eq!(reader.step().unwrap(), Step::End);
        append(&path, &[&"x".repeat(MOST_LINE * 2), "short"]);
        assert_eq!(rest(&mut reader), "short\n");
        assert!(LogReader::open("/nowhere/0.log".into(), None, Printing::default()).is_err());
    }
}
