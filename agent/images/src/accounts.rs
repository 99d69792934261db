//! The users and groups that an image knows: its own `/etc/passwd` and `/etc/group`, read from the layers as a container would see
//! them. Must never mount a layer, or leave it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::layer::merged;

/// Nobody's list of users is longer; strangers make these files.
const LARGEST_FILE: u64 = 8 << 20;

/// Why nobody knows whom an image knows.
#[derive(Debug, thiserror::Error)]
#[error("{file} of the image")]
pub struct AccountsError {
    /// What cannot be read.
    pub file: &'static str,
    /// Why.
    #[source]
    source: io::Error,
}

/// The texts of `/etc/passwd` and `/etc/group` as a container of these layers, the lowest first, would see them; empty for one that
/// is not there. Reads files.
///
/// # Errors
/// When one cannot be read.
pub fn account_files(layers: &[PathBuf]) -> Result<(String, String), AccountsError> {
    Ok((read(layers, "/etc/passwd")?, read(layers, "/etc/group")?))
}

fn read(layers: &[PathBuf], file: &'static str) -> Result<String, AccountsError> {
    let unreadable = |source| AccountsError { file, source };
    let Some(found) = merged::open(layers, Path::new(file)).map_err(unreadable)? else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    found.take(LARGEST_FILE).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
