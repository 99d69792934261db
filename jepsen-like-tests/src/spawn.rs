//! How child processes begin: with every signal at its default.
//!
//! A child inherits which signals are ignored, and programs keep it so: where the tests run behind `nohup` or in a
//! shell without job control, an interrupt would do nothing. Must never start a process itself.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A command that runs `program` under its own process id.
///
/// # Errors
/// When there is no such program.
pub fn command(program: &Path) -> io::Result<Command> {
    let found = find(program, std::env::var_os("PATH").unwrap_or_default().as_os_str())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no such program"))?;
    // `env` becomes the program. It has no other way to set signals back without unsafe code.
    let mut command = Command::new("env");
    command.arg("--default-signal").arg(found);
    Ok(command)
}

/// Where a shell would find the program. `env` itself would tell of a missing one only by its exit code.
fn find(program: &Path, path: &OsStr) -> Option<PathBuf> {
    if program.components().count() > 1 {
        return program.is_file().then(|| program.to_owned());
    }
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;

    #[test]
    fn a_missing_program_is_told_before_anything_runs() {
        for missing in ["no-such-program-anywhere", "/no/such/program"] {
            assert_eq!(command(Path::new(missing)).unwrap_err().kind(), io::ErrorKind::NotFound, "{missing}");
        }
    }

    #[test]
    fn an_ignored_signal_is_not_inherited() {
        let grep = command(Path::new("grep")).unwrap();
        let run = Command::new("env")
            .arg("--ignore-signal=INT")
            .arg(grep.get_program())
            .args(grep.get_args())
            .args(["SigIgn", "/proc/self/status"])
            .output()
            .unwrap();
        let line = String::from_utf8(run.stdout).unwrap();
        let ignored = u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap();
        // Bit 0 is signal 1. Those from 32 up belong to the C library and to programs that agreed on them.
        assert_eq!(ignored & 0x7fff_ffff, 0, "{line}");
    }
}
