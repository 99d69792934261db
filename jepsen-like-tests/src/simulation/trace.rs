//! Everything that happened, in order, as one number: two runs of a seed are the same run if their numbers are equal.
//! The last lines are kept, for those who look for the cause of something.

use std::collections::VecDeque;
use std::fmt;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// What happened.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    lines: VecDeque<String>,
    keep: usize,
}

impl Trace {
    /// Keeps the last `keep` lines.
    #[must_use]
    pub fn new(keep: usize) -> Self {
        Self { hash: FNV_OFFSET, lines: VecDeque::new(), keep }
    }

    /// Notes what happened at a time.
    pub fn note(&mut self, now_ms: u64, what: fmt::Arguments<'_>) {
        let line = format!("{now_ms:>6} {what}");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        if self.keep > 0 {
            if self.lines.len() == self.keep {
                self.lines.pop_front();
            }
            self.lines.push_back(line);
        }
    }

    /// The number.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The last lines.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }
}
