//! Running a plugin's program: its settings go in, its result or its error comes out. Must never take a plugin's silence
//! for success.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::io::AsyncWriteExt as _;

use super::error::CniError;

/// How long a plugin may take; some ask a server for addresses.
const DEADLINE: Duration = Duration::from_secs(120);

/// What plugins can be told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Command {
    Add,
    Del,
    Check,
    Status,
}

impl Command {
    fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Status => "STATUS",
        }
    }
}

/// Where plugins are.
#[derive(Debug)]
pub(super) struct Plugins {
    pub(super) directories: Vec<PathBuf>,
}

impl Plugins {
    /// The program of a plugin.
    pub(super) fn find(&self, name: &str) -> Result<PathBuf, CniError> {
        let programs = self.directories.iter().map(|directory| directory.join(name));
        programs.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            let searched: Vec<_> = self.directories.iter().map(|path| path.display().to_string()).collect();
            CniError::Missing { name: name.to_owned(), searched: searched.join(", ") }
        })
    }

    /// Runs a plugin; its result, or null where the command has none.
    pub(super) async fn run(
        &self,
        command: Command,
        name: &str,
        input: &Map<String, Value>,
        environment: &[(&str, String)],
    ) -> Result<Value, CniError> {
        let program = self.find(name)?;
        let failed = |source| CniError::Run { name: name.to_owned(), source };
        let path =
            std::env::join_paths(&self.directories).map_err(|error| failed(std::io::Error::other(error)))?;
        let mut child = tokio::process::Command::new(program)
            .env("CNI_COMMAND", command.name())
            .env("CNI_PATH", path)
            .envs(environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(failed)?;
        let stdin = child.stdin.take();
        let text = Value::Object(input.clone()).to_string();
        let feed = async move {
            if let Some(mut stdin) = stdin {
                // A plugin that does not read its settings still tells by its exit how it went.
                let _ = stdin.write_all(text.as_bytes()).await;
            }
        };
        let both = async { tokio::join!(feed, child.wait_with_output()).1 };
        let output = tokio::time::timeout(DEADLINE, both).await.map_err(|elapsed| failed(elapsed.into()))?;
        let output = output.map_err(failed)?;
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if output.status.success() {
            let silent = output.stdout.iter().all(u8::is_ascii_whitespace);
            return match answer {
                Some(answer) => Ok(answer),
                None if silent && command != Command::Add => Ok(Value::Null),
                None => Err(error(command, name, None, &output.stdout, "it said what is not JSON")),
            };
        }
        Err(error(command, name, answer.as_ref(), &output.stderr, &output.status.to_string()))
    }
}

/// The words of a plugin that failed: those of its error, else what it wrote, else how it ended.
fn error(command: Command, name: &str, answer: Option<&Value>, written: &[u8], ended: &str) -> CniError {
    let field = |key: &str| answer?.get(key)?.as_str().filter(|text| !text.is_empty());
    let written = String::from_utf8_lossy(written);
    let message = match (field("msg"), field("details")) {
        (Some(message), Some(details)) => format!("{message}: {details}"),
        (Some(message), None) | (None, Some(message)) => message.to_owned(),
        (None, None) if written.trim().is_empty() => ended.to_owned(),
        (None, None) => format!("{ended}: {}", written.trim()),
    };
    let code = answer.and_then(|answer| answer.get("code")).and_then(Value::as_u64);
    CniError::Plugin { name: name.to_owned(), command: command.name(), code, message }
}
