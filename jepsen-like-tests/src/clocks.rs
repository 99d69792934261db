//! Wrong clocks for processes: a small library that each member is started with, and a file that tells it the time.
//!
//! The library is built from its source when a run begins. It speaks for the C library, so programs that ask the kernel
//! themselves (Go's do) see nothing of it. The true clocks of the machine must never be touched.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

const SOURCE: &str = include_str!("clocks/skewed.c");
const MILLION: i128 = 1_000_000;

/// A change of rate takes no longer than this; clocks must not step back meanwhile.
const CHANGE_NS: i64 = 5_000_000;

/// Clocks could not be made wrong.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The library was not built.
    #[error("`cc` could not build the library with wrong clocks: {0}; `apt-get install build-essential`")]
    Compiler(String),
    /// A file.
    #[error("the file {} with a member's time: {source}", path.display())]
    File {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
}

/// How the clocks of one process are wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Skew {
    wall_offset_ns: i64,
    /// The true time from which the rate counts, and what was gained by then.
    since_ns: i64,
    gained_ns: i64,
    rate_ppm: i64,
}

impl Skew {
    fn gained_at(self, true_ns: i64) -> i64 {
        let gained = i128::from(true_ns - self.since_ns) * i128::from(self.rate_ppm) / MILLION;
        self.gained_ns.saturating_add(i64::try_from(gained).unwrap_or(i64::MAX))
    }

    /// The same time at another rate from now on. The process learns of it a moment later; so that no clock goes back, it
    /// is dated so that they go forth a little.
    fn with_rate(self, rate_ppm: i64, true_ns: i64) -> Self {
        let since_ns = if rate_ppm < self.rate_ppm { true_ns + CHANGE_NS } else { true_ns - CHANGE_NS };
        Self { since_ns, gained_ns: self.gained_at(since_ns), rate_ppm, ..self }
    }

    /// As the library reads it, behind the number of changes.
    fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        let numbers = [self.wall_offset_ns, self.since_ns, self.gained_ns, self.rate_ppm];
        for (place, number) in bytes.chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_ne_bytes());
        }
        bytes
    }
}

#[derive(Debug)]
struct Clock {
    file: File,
    path: PathBuf,
    changes: u64,
    skew: Skew,
}

impl Clock {
    fn new(path: PathBuf) -> Result<Self, ClockError> {
        let opened = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        let file = opened.map_err(|source| ClockError::File { path: path.clone(), source })?;
        let mut clock = Self { file, path, changes: 0, skew: Skew::default() };
        clock.tell()?;
        Ok(clock)
    }

    /// Readers try again while the number is odd, and when it has changed meanwhile.
    fn tell(&mut self) -> Result<(), ClockError> {
        let number = |changes: u64| self.file.write_all_at(&changes.to_ne_bytes(), 0);
        let written = number(self.changes + 1)
            .and_then(|()| self.file.write_all_at(&self.skew.bytes(), 8))
            .and_then(|()| number(self.changes + 2));
        self.changes += 2;
        written.map_err(|source| ClockError::File { path: self.path.clone(), source })
    }
}

/// The clocks of all members.
#[derive(Debug)]
pub struct Clocks {
    dir: TempDir,
    clocks: Mutex<HashMap<String, Clock>>,
}

fn true_ns() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000_000).saturating_add(now.tv_nsec)
}

impl Clocks {
    /// Builds the library; all clocks are right.
    ///
    /// # Errors
    /// When there is no compiler, or no place for files.
    pub fn build() -> Result<Self, ClockError> {
        let dir = tempfile::Builder::new().prefix("skewed-clocks-").tempdir();
        let dir = dir.map_err(|source| ClockError::File { path: std::env::temp_dir(), source })?;
        let source = dir.path().join("skewed.c");
        std::fs::write(&source, SOURCE)
            .map_err(|why| ClockError::File { path: source.clone(), source: why })?;
        let output = Command::new("cc")
            .args(["-Wall", "-O2", "-shared", "-fPIC", "-o"])
            .arg(library(dir.path()))
            .arg(&source)
            .arg("-ldl")
            .output()
            .map_err(|why| ClockError::Compiler(why.to_string()))?;
        if !output.status.success() {
            return Err(ClockError::Compiler(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(Self { dir, clocks: Mutex::new(HashMap::new()) })
    }

    /// What stands before a program that shall have the clocks of this name.
    ///
    /// # Errors
    /// When the file with the time cannot be made.
    pub fn before_program(&self, name: &str) -> Result<[String; 3], ClockError> {
        let path = self.with(name, |clock| Ok(clock.path.clone()))?;
        let preload = format!("LD_PRELOAD={}", library(self.dir.path()).display());
        Ok(["env".to_owned(), preload, format!("SKEWED_CLOCK={}", path.display())])
    }

    fn with<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Clock) -> Result<T, ClockError>,
    ) -> Result<T, ClockError> {
        // A clock is written whole or told as broken.
        let mut clocks = self.clocks.lock().unwrap_or_else(PoisonError::into_inner);
        match clocks.entry(name.to_owned()) {
            Entry::Occupied(clock) => work(clock.into_mut()),
            Entry::Vacant(place) => work(place.insert(Clock::new(self.dir.path().join(name))?)),
        }
    }

    /// The wall clock of these members is wrong by so much, from now on.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn set_wall(&self, name: &str, offset_ms: i64) -> Result<(), ClockError> {
        self.with(name, |clock| {
            clock.skew.wall_offset_ns = offset_ms.saturating_mul(1_000_000);
            clock.tell()
        })
    }

    /// All clocks of this member run faster by so many millionths (slower, if less than 0) from now on. What they have gained
    /// stays.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn set_rate(&self, name: &str, rate_ppm: i64) -> Result<(), ClockError> {
        self.with(name, |clock| {
            clock.skew = clock.skew.with_rate(rate_ppm, true_ns());
            clock.tell()
        })
    }
}

fn library(dir: &Path) -> PathBuf {
    dir.join("skewed.so")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;

    /// Whatever the rates before and after, and at whatever moment within its time the process learns of the change.
    #[test]
    fn no_clock_goes_back_when_its_rate_changes() {
        let rates_ppm = [-50_000, 0, 50_000];
        for (before_ppm, after_ppm) in rates_ppm.iter().flat_map(|b| rates_ppm.map(|a| (*b, a))) {
            let now_ns = 900_000_000_000;
            let before =
                Skew { since_ns: 600_000_000_000, gained_ns: 7, rate_ppm: before_ppm, ..Skew::default() };
            let after = before.with_rate(after_ppm, now_ns);
            for learned_ns in [now_ns, now_ns + CHANGE_NS / 2, now_ns + CHANGE_NS] {
                let step_ns = after.gained_at(learned_ns) - before.gained_at(learned_ns);
                assert!((0..=1_000_000).contains(&step_ns), "{before_ppm} to {after_ppm}: {step_ns}");
            }
            let second_ns = after.gained_at(now_ns + 2_000_000_000) - after.gained_at(now_ns + 1_000_000_000);
            assert_eq!(second_ns, after_ppm * 1000);
        }
    }

    fn told(clocks: &Clocks, name: &str, words: &[&str]) -> f64 {
        let [env, settings @ ..] = clocks.before_program(name).unwrap();
        let output = Command::new(env).args(settings).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// `date` asks for the time as any program does.
    #[test]
    fn a_process_is_told_what_was_set() {
        let clocks = Clocks::build().unwrap();
        let date = |name: &str| told(&clocks, name, &["date", "+%s"]);
        let ahead_s = |name: &str| date(name) - told(&clocks, "right", &["date", "+%s"]);
        // Two calls of `date` can be some seconds apart on a busy machine.
        assert!(ahead_s("m1").abs() < 60.0);
        clocks.set_wall("m1", 3_600_000).unwrap();
        assert!((ahead_s("m1") - 3600.0).abs() < 60.0);
        clocks.set_wall("m1", -3_600_000).unwrap();
        assert!((ahead_s("m1") + 3600.0).abs() < 60.0);
        assert!(ahead_s("m2").abs() < 60.0);
        clocks.set_wall("m1", 0).unwrap();
        assert!(ahead_s("m1").abs() < 60.0);
    }
}
