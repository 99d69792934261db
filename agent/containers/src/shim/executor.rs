//! The last steps of a container's process, inside of it: the program is looked up, the filter of system calls is
//! installed, and the program runs. Called by libcontainer in a fork of the shim.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorValidationError};

use crate::seccomp::Program;

/// Where programs are looked for when the image does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How a container's program is run.
#[derive(Clone)]
pub(super) struct Run {
    /// What filters its system calls.
    pub(super) filter: Option<Rc<Program>>,
}

impl Executor for Run {
    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let args = words(spec);
        let path = find(spec).map_err(ExecutorError::Other)?;
        let Some(name) = args.first() else { return Err(ExecutorError::InvalidArg) };
        let mut command = std::process::Command::new(&path);
        command.arg0(name).args(&args[1..]);
        if let Some(filter) = &self.filter {
            filter
                .install()
                .map_err(|error| tell(format!("the seccomp profile cannot be installed: {error}")))?;
        }
        reset_signals();
        let error = command.exec();
        Err(tell(format!("exec {}: {error}", path.display())))
    }

    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        find(spec).map(drop).map_err(ExecutorValidationError::ArgValidationError)
    }
}

/// Whoever started the agent may have had signals ignored, as `nohup` and shells in the background do. A program keeps that, and a
/// shell cannot even catch them then: containers begin with what every program expects.
#[allow(unsafe_code, reason = "signals are set to their default by the C library alone")]
fn reset_signals() {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: the default takes no handler and so runs no code of ours; this process is a fork with one thread that is about to
        // become another program. Numbers that cannot be set (KILL, STOP, those of the C library) are refused, and nothing happens.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

/// After the start nobody waits for an error any more; the log tells it.
fn tell(story: String) -> ExecutorError {
    // A container without anybody who reads has nobody to be told.
    let _ = writeln!(std::io::stderr(), "{story}");
    ExecutorError::Other(story)
}

fn words(spec: &Spec) -> &[String] {
    spec.process().as_ref().and_then(|process| process.args().as_deref()).unwrap_or_default()
}

/// The program's path; errors are the sentences of runc.
fn find(spec: &Spec) -> Result<PathBuf, String> {
    let Some(name) = words(spec).first() else { return Err("exec: no command".to_owned()) };
    let process = spec.process().as_ref();
    let environment = process.and_then(|process| process.env().as_deref()).unwrap_or_default();
    let path = environment.iter().rev().find_map(|line| line.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    look_up(name, path, &|path| {
        let data = std::fs::metadata(path)?;
        Ok(data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

/// Pure but for the question whether a path is executable.
fn look_up(
    name: &str,
    path: &str,
    executable: &dyn Fn(&Path) -> std::io::Result<bool>,
) -> Result<PathBuf, String> {
    if name.contains('/') {
        return match executable(Path::new(name)) {
            Ok(true) => Ok(PathBuf::from(name)),
            Ok(false) => Err(format!("exec: {name:?}: permission denied")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(format!("exec: {name:?}: stat {name}: no such file or directory"))
            }
            Err(error) => Err(format!("exec: {name:?}: {error}")),
        };
    }
    let mut denied = false;
    for directory in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match executable(&candidate) {
            Ok(true) => return Ok(candidate),
            Ok(false) => denied = true,
            Err(_) => {}
        }
    }
    if denied {
        Err(format!("exec: {name:?}: permission denied"))
    } else {
        Err(format!("exec: {name:?}: executable file not found in $PATH"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_missed_as_by_runc() {
        let executable = |path: &Path| match path.to_str() {
            Some("/bin/sh" | "/usr/bin/env") => Ok(true),
            Some("/etc/passwd" | "/bin/data") => Ok(false),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        };
        let find = |name: &str| look_up(name, "/usr/bin:/bin", &executable);
        assert_eq!(find("sh"), Ok("/bin/sh".into()));
        assert_eq!(find("/bin/sh"), Ok("/bin/sh".into()));
        assert_eq!(find("foo"), Err("exec: \"foo\": executable file not found in $PATH".into()));
        assert_eq!(find(""), Err("exec: \"\": executable file not found in $PATH".into()));
        assert_eq!(find("data"), Err("exec: \"data\": permission denied".into()));
        assert_eq!(find("/foo"), Err("exec: \"/foo\": stat /foo: no such file or directory".into()));
        assert_eq!(find("/etc/passwd"), Err("exec: \"/etc/passwd\": permission denied".into()));
    }
}
