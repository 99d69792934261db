//! Runs Debian's `etcdctl`, or `kvctl`, as a user would.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::cluster::built_binary;
use crate::spawn;

/// No command of a test takes longer, except for those that say so.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a command printed and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Printed {
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
}

impl Printed {
    /// The output of a command that must have succeeded.
    ///
    /// # Panics
    /// When it has not.
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "the command failed: {}{}", self.out, self.err);
        self.out
    }
}

/// `etcdctl` or `kvctl` with the global flags that lead to a cluster.
#[derive(Clone, Debug)]
pub struct Etcdctl {
    program: PathBuf,
    global: Vec<String>,
}

impl Etcdctl {
    /// Speaks with these endpoints.
    #[must_use]
    pub fn to(endpoints: &[String]) -> Self {
        Self::by("etcdctl".into(), endpoints)
    }

    /// The same with `kvctl`: `$KVCTL_BIN`, or the binary of this build.
    #[must_use]
    pub fn kvctl(endpoints: &[String]) -> Self {
        Self::by(built_binary("KVCTL_BIN", "kvctl"), endpoints)
    }

    fn by(program: PathBuf, endpoints: &[String]) -> Self {
        Self { program, global: vec![format!("--endpoints={}", endpoints.join(","))] }
    }

    /// Uses TLS with this authority.
    #[must_use]
    pub fn authority(mut self, authority: &Path) -> Self {
        self.global.push(format!("--cacert={}", authority.display()));
        self
    }

    /// Shows this certificate to the server.
    #[must_use]
    pub fn certificate(mut self, certificate: &Path, key: &Path) -> Self {
        self.global.push(format!("--cert={}", certificate.display()));
        self.global.push(format!("--key={}", key.display()));
        self
    }

    /// Adds a flag to every command.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.global.push(flag.to_owned());
        self
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let command = spawn::command(&self.program).unwrap_or_else(|why| self.missing(&why));
        let mut command = Command::from(command);
        command.env("ETCDCTL_API", "3").args(&self.global).args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs one command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Printed {
        self.run_with(arguments, "", PATIENCE).await
    }

    /// Runs one command that reads `input` and may take as long as `patience`.
    pub async fn run_with(&self, arguments: &[&str], input: &str, patience: Duration) -> Printed {
        let mut child = self.command(arguments).spawn().unwrap_or_else(|why| self.missing(&why));
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that fails early does not read its input.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = timeout(patience, child.wait_with_output()).await;
        let output = output.unwrap_or_else(|_| panic!("{arguments:?} still runs after {patience:?}"));
        let output = output.expect("a child can be waited for");
        Printed {
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            code: output.status.code().unwrap_or(-1),
        }
    }

    /// Starts a command that goes on until it is stopped, such as `watch` or `lock`.
    #[must_use]
    pub fn open(&self, arguments: &[&str]) -> OpenCommand {
        let mut child = self.command(arguments).spawn().unwrap_or_else(|why| self.missing(&why));
        let out = child.stdout.take().expect("stdout is piped");
        OpenCommand { child, lines: BufReader::new(out).lines() }
    }

    fn missing<T>(&self, why: &io::Error) -> T {
        let program = self.program.display();
        panic!("cannot run {program}: {why} (`apt-get install etcd-client`, `cargo build -p kvctl`)")
    }
}

/// A command that still runs; dropping it ends it.
#[derive(Debug)]
pub struct OpenCommand {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl OpenCommand {
    /// Writes a line to its standard input.
    pub async fn write_line(&mut self, line: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        stdin.write_all(format!("{line}\n").as_bytes()).await.expect("the command reads its input");
    }

    /// Waits for its end, which somebody else brings about, and returns the exit code.
    pub async fn ended(mut self) -> i32 {
        let ended = timeout(PATIENCE, self.child.wait()).await.expect("the command ends by itself");
        ended.expect("a child can be waited for").code().unwrap_or(-1)
    }

    /// The next line it prints, or `None` when `patience` runs out or it has ended.
    pub async fn line(&mut self, patience: Duration) -> Option<String> {
        timeout(patience, self.lines.next_line()).await.ok()?.expect("it prints text")
    }

    /// The next `count` lines; fails when they do not come.
    pub async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        while lines.len() < count {
            match self.line(PATIENCE).await {
                Some(line) => lines.push(line),
                None => panic!("it printed {lines:?}; {} more lines were expected", count - lines.len()),
            }
        }
        lines
    }

    /// Interrupts it (SIGINT, as Ctrl-C does) and waits for its end.
    /// Returns the exit code; -1 when the signal ended it.
    pub async fn interrupt(mut self) -> i32 {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(rustix::process::Pid::from_raw) {
            rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is our child");
        }
        let ended = timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("it ends when interrupted").expect("a child can be waited for");
        status.code().unwrap_or(-1)
    }
}

/// What a command printed, as JSON.
///
/// # Panics
/// When it is none.
#[must_use]
pub fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}
