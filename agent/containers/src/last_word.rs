//! What a container left to say: a file of it, or the end of its log. Must never fail: who said nothing has said nothing.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::shim::tail;
use crate::spec::TerminationMessage;

/// What a file may say at the end, in bytes; the kubelet's limit.
const MESSAGE_BYTES: u64 = 4096;
/// What the end of a log may say instead.
const FALLBACK_BYTES: usize = 2048;
const FALLBACK_LINES: usize = 80;
/// The entries of so many lines, each with its time and stream, and more only if lines are long.
const LOG_BYTES: u64 = 64 << 10;

/// The last word of a container that has ended: the file's, or the end of the log of one that failed.
#[must_use]
pub fn last_word(message: Option<&TerminationMessage>, log: &Path, failed: bool) -> String {
    let Some(message) = message else { return String::new() };
    let mut text = Vec::new();
    if let Ok(file) = File::open(&message.path)
        && file.take(MESSAGE_BYTES).read_to_end(&mut text).is_ok()
        && !text.is_empty()
    {
        return String::from_utf8_lossy(&text).into_owned();
    }
    if !(message.fall_back_to_logs && failed) {
        return String::new();
    }
    let Ok(mut file) = File::open(log) else { return String::new() };
    let from = file.metadata().map_or(0, |data| data.len().saturating_sub(LOG_BYTES));
    let mut entries = Vec::new();
    if file.seek(SeekFrom::Start(from)).is_err() || file.read_to_end(&mut entries).is_err() {
        return String::new();
    }
    tail(&entries, FALLBACK_LINES, FALLBACK_BYTES)
}
