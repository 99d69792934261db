//! Filters of system calls: a profile (the default one, or a file) is compiled to a program for the kernel, here, without
//! libseccomp. Installing it is the last thing before a container's program runs.

mod bpf;
mod default;
mod profile;

use std::path::PathBuf;

pub(crate) use bpf::Program;

use crate::spec::Seccomp;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    /// The file of the profile.
    #[error("the seccomp profile {path} cannot be read")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is none.
    #[error("the seccomp profile {path} is not valid: {story}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        story: String,
    },
}

/// The program for a process with these capabilities; nothing for those who are not filtered. Reads the profile's file.
pub(crate) fn program(seccomp: &Seccomp, capabilities: &[String]) -> Result<Option<Program>, SeccompError> {
    let profile = match seccomp {
        Seccomp::Unconfined => return Ok(None),
        Seccomp::RuntimeDefault => default::profile(capabilities),
        Seccomp::File(path) => {
            let text =
                std::fs::read(path).map_err(|source| SeccompError::Read { path: path.clone(), source })?;
            profile::parse(&text, capabilities)
                .map_err(|story| SeccompError::Invalid { path: path.clone(), story })?
        }
    };
    Ok(Some(bpf::compile(&profile)))
}
