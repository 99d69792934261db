//! The shim: one process for each sandbox, the same program executed again, that makes the containers, is their parent,
//! writes their logs and keeps how they ended. It outlives the agent. It has one thread for ever, since libcontainer forks
//! and a fork of more threads can hang; it never knows what a pod is.

mod attach;
mod connection;
mod container;
mod create;
mod cri_log;
mod exec;
mod executor;
mod log_file;
mod output;
mod pause;
mod reaper;
mod serve;
mod terminal;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

pub(crate) use cri_log::{tail, timestamp};
pub(crate) use pause::WORD as PAUSE;
pub(crate) use serve::WORD as SERVE;

use crate::store::Store;

/// Why a shim cannot work.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("cannot {action}")]
    Io {
        action: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("there is no record of the sandbox")]
    NoRecord,
    #[error("control groups cannot be used")]
    Cgroups(#[source] crate::cgroup::CgroupError),
}

fn io<E: Into<std::io::Error>>(action: &'static str) -> impl FnOnce(E) -> ShimError {
    move |source| ShimError::Io { action, source: source.into() }
}

/// What the program does when its first word says that it is a shim; the words after it are given. It must be called before
/// any thread was started, and the process ends with what is returned.
pub fn main(words: &[OsString]) -> ExitCode {
    let result = match words {
        [word, state, data, id] if word == SERVE => {
            let store = Store { state: PathBuf::from(state), data: PathBuf::from(data) };
            serve::run(store, &id.to_string_lossy())
        }
        [word, directory] if word == PAUSE => pause::run(&PathBuf::from(directory)),
        _ => {
            eprintln!("this is started by the agent, and by nobody else");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Its standard error is a file beside the sandbox's record.
            eprintln!("{}", crate::error::chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Now, in nanoseconds since 1970.
fn now_ns() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
