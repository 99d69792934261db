//! What is mounted, as `/proc/self/mountinfo` tells it (proc(5)). A decision over its text.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// What is mounted, in the order in which it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable(Vec<PathBuf>);

impl MountTable {
    /// From the text of `mountinfo`.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let path = |line: &str| Some(unescaped(line.split(' ').nth(4)?));
        Self(text.lines().filter_map(path).collect())
    }

    /// As it is now.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read() -> std::io::Result<Self> {
        std::fs::read_to_string("/proc/self/mountinfo").map(|text| Self::parse(&text))
    }

    /// Whether something is mounted at exactly this path.
    #[must_use]
    pub fn has(&self, path: &Path) -> bool {
        self.0.iter().any(|it| it == path)
    }

    /// What is mounted at a path and below it, what was mounted last first: the order in which it can be unmounted.
    #[must_use]
    pub fn below(&self, path: &Path) -> Vec<PathBuf> {
        self.0.iter().rev().filter(|it| it.starts_with(path)).cloned().collect()
    }
}

/// Without the escapes `\040` of blanks, tabs, newlines and backslashes.
fn unescaped(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|c| (b'0'..b'8').contains(c)));
        if let Some(digits) = digits {
            let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
            bytes.push(u8::try_from(value).unwrap_or(b'?'));
            rest = &after[3..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_told_last_first() {
        let text = "22 1 8:1 / / rw - ext4 /dev/sda rw\n\
            30 22 0:5 / /r/pods/a rw - tmpfs tmpfs rw\n\
            31 30 0:6 / /r/pods/a/b\\040c rw,noexec shared:1 - tmpfs tmpfs rw\n\
            32 22 0:7 / /r/pods/ab rw - tmpfs tmpfs rw\n\
            33 30 0:8 / /r/pods/a/d\\134 rw - tmpfs tmpfs rw\n";
        let table = MountTable::parse(text);
        let below = table.below(Path::new("/r/pods/a"));
        assert_eq!(below, [Path::new("/r/pods/a/d\\"), Path::new("/r/pods/a/b c"), Path::new("/r/pods/a")]);
        assert!(table.has(Path::new("/r/pods/ab")) && !table.has(Path::new("/r/pods")));
        assert!(MountTable::read().unwrap().has(Path::new("/proc")));
    }
}
