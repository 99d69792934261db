//! `kvctl watch`: events as they come, or a command for each of them.

use std::ffi::OsString;
use std::io;
use std::process::ExitStatus;

use barque_proto::etcdserverpb::WatchResponse;
use barque_proto::mvccpb::{Event, event};
use clap::{Args, Parser};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Context;
use super::words::{Raw, split};
use crate::connection::{Connection, WatchOptions, Watcher};
use crate::error::Failure;
use crate::output::go_quote::quote;
use crate::output::{self, Answer, Output};
use crate::range;

/// Keys to watch when none is among the arguments.
const KEY_VARIABLE: &str = "KVCTL_WATCH_KEY";
const END_VARIABLE: &str = "KVCTL_WATCH_RANGE_END";

/// Arguments of `watch`, also as a line of its interactive mode.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The command after `--` finds ETCD_WATCH_REVISION, ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and
ETCD_WATCH_VALUE in its environment. KVCTL_WATCH_KEY and KVCTL_WATCH_RANGE_END stand for KEY and RANGE_END.
Interactive mode reads lines from standard input: `watch [options] KEY [RANGE_END] [-- command]` and `progress`."
)]
pub(crate) struct WatchArgs {
    /// The key, or the first key of a range
    key: Option<Raw>,
    /// The key at which the range ends, not included
    range_end: Option<Raw>,
    /// Read watches from standard input
    #[arg(long, short)]
    interactive: bool,
    /// Every key that begins with KEY
    #[arg(long)]
    prefix: bool,
    /// Events from this revision on
    #[arg(long, value_name = "REVISION", default_value_t = 0, hide_default_value = true)]
    rev: i64,
    /// Also what was there before each event
    #[arg(long)]
    prev_kv: bool,
    /// Tell now and then how far the watch is, also without events
    #[arg(long)]
    progress_notify: bool,
    /// Run this for each event
    #[arg(last = true, value_name = "COMMAND")]
    exec: Vec<OsString>,
}

/// One line of the interactive mode.
#[derive(Debug, Parser)]
#[command(no_binary_name = true, disable_help_flag = true)]
struct Line {
    #[command(flatten)]
    watch: WatchArgs,
}

/// Keys from the environment.
#[derive(Clone, Debug, Default)]
struct FromEnvironment {
    key: Option<Vec<u8>>,
    range_end: Option<Vec<u8>>,
}

impl FromEnvironment {
    fn read() -> Result<Self, Failure> {
        use std::os::unix::ffi::OsStringExt;
        let variable =
            |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(OsString::into_vec);
        let this = Self { key: variable(KEY_VARIABLE), range_end: variable(END_VARIABLE) };
        if this.key.is_none() && this.range_end.is_some() {
            return Err(Failure::Arguments(format!(
                "{END_VARIABLE} is set, but {KEY_VARIABLE} is not: set both or none"
            )));
        }
        Ok(this)
    }
}

impl WatchArgs {
    /// What to watch.
    ///
    /// # Errors
    /// If no key is given, or two.
    fn plan(&self, environment: &FromEnvironment) -> Result<WatchOptions, Failure> {
        let wrong = |why: &str| Err(Failure::Arguments(why.to_owned()));
        let (key, range_end) = match (&self.key, &environment.key) {
            (Some(_), Some(_)) => {
                return wrong("the key is given twice: as an argument and as KVCTL_WATCH_KEY");
            }
            (None, None) => return wrong("watch needs a key"),
            (Some(key), None) => (key.0.clone(), self.range_end.clone().map(|end| end.0)),
            (None, Some(key)) => (key.clone(), environment.range_end.clone()),
        };
        let (key, range_end) = match range_end {
            Some(_) if self.prefix => {
                return wrong("RANGE_END and --prefix exclude each other: leave one out");
            }
            Some(end) => (key, end),
            None if self.prefix => range::prefix(&key),
            None => (key, Vec::new()),
        };
        Ok(WatchOptions {
            key,
            range_end,
            start_revision: self.rev.max(0),
            prev_kv: self.prev_kv,
            progress_notify: self.progress_notify,
        })
    }

    pub(crate) async fn run(self, context: &Context) -> Result<(), Failure> {
        let environment = FromEnvironment::read()?;
        if self.interactive {
            return interactive(context, &environment).await;
        }
        // clap cannot tell `watch key` from `watch key --`.
        if self.exec.is_empty() && std::env::args_os().next_back().is_some_and(|last| last == "--") {
            return Err(Failure::Arguments(
                "there is no command after `--`: give one, or leave `--` out".into(),
            ));
        }
        let watcher = Watcher::open(&context.connection, self.plan(&environment)?).await?;
        follow(watcher, context.output, &self.exec, &mut mpsc::channel(1).1).await
    }
}

/// Reads lines and watches what they say, until the input or a watch ends.
async fn interactive(context: &Context, environment: &FromEnvironment) -> Result<(), Failure> {
    let mut lines = lines_of_input();
    let mut watches = JoinSet::new();
    let mut questions: Vec<mpsc::Sender<()>> = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.recv() => line.transpose().map_err(Failure::io("standard input"))?,
            Some(ended) = watches.join_next() => match ended {
                Ok(Err(Failure::Interrupted(_))) => continue,
                Ok(other) => return other,
                Err(why) => return Err(Failure::Interrupted(why.to_string())),
            },
        };
        let Some(line) = line else {
            return Err(Failure::Input(
                "the input has ended: interactive watches go on only as long as it does".into(),
            ));
        };
        let words = split(&line)?;
        match words.first().and_then(|word| word.to_str()) {
            Some("watch") => match begin(&context.connection, environment, &words[1..]).await {
                Ok((watcher, exec)) => {
                    let (ask, mut asked) = mpsc::channel(1);
                    questions.push(ask);
                    let output = context.output;
                    watches.spawn(async move { Box::pin(follow(watcher, output, &exec, &mut asked)).await });
                }
                Err(failure @ Failure::Arguments(_)) => return Err(failure),
                Err(failure) => eprintln!("{line}: {failure}"),
            },
            Some("progress") => questions
                .retain(|ask| !matches!(ask.try_send(()), Err(mpsc::error::TrySendError::Closed(())))),
            _ => eprintln!("{line:?} is neither `watch KEY` nor `progress`"),
        }
    }
}

/// Lines of standard input, read by a thread of its own: such reads can only block. It ends with the program.
fn lines_of_input() -> mpsc::Receiver<io::Result<String>> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in io::stdin().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

async fn begin(
    connection: &Connection,
    environment: &FromEnvironment,
    words: &[OsString],
) -> Result<(Watcher, Vec<OsString>), Failure> {
    let args = Line::try_parse_from(words).map_err(|error| {
        let text = error.render().to_string();
        Failure::Arguments(text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned())
    })?;
    if args.watch.exec.is_empty() && words.last().is_some_and(|last| last == "--") {
        return Err(Failure::Arguments("there is no command after `--`: give one, or leave `--` out".into()));
    }
    let watcher = Watcher::open(connection, args.watch.plan(environment)?).await?;
    Ok((watcher, args.watch.exec))
}

/// Prints what comes, until the server ends the watch.
async fn follow(
    mut watcher: Watcher,
    output: Output,
    exec: &[OsString],
    asked: &mut mpsc::Receiver<()>,
) -> Result<(), Failure> {
    loop {
        let response = tokio::select! {
            response = watcher.next() => response?,
            Some(()) = asked.recv() => {
                watcher.ask_for_progress().await;
                continue;
            }
        };
        if response.canceled {
            eprintln!("watch was canceled ({})", why_canceled(&response));
        } else if response.events.is_empty() {
            output::line(&format!(
                "progress notify: {}",
                response.header.map_or(0, |header| header.revision)
            ))?;
        }
        // Keys and values are shared, not copied.
        output.print(&Answer::Watch(response.clone()))?;
        for event in response.events.iter().filter(|_| !exec.is_empty()) {
            run(exec, &response, event).await?;
        }
        if response.canceled {
            return Err(Failure::Interrupted("watch is canceled by the server".into()));
        }
    }
}

fn why_canceled(response: &WatchResponse) -> String {
    if response.compact_revision != 0 {
        let oldest = response.compact_revision;
        return format!(
            "etcdserver: mvcc: required revision has been compacted; the oldest that is kept is {oldest}"
        );
    }
    response.cancel_reason.clone()
}

/// Runs the command for one event and waits for its end.
async fn run(exec: &[OsString], response: &WatchResponse, event: &Event) -> Result<(), Failure> {
    let shown = exec.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let Some((program, arguments)) = exec.split_first() else { return Ok(()) };
    let kind: &[u8] = if event.r#type() == event::EventType::Put { b"PUT" } else { b"DELETE" };
    let kv = event.kv.clone().unwrap_or_default();
    let status = Command::new(program)
        .args(arguments)
        .env("ETCD_WATCH_REVISION", response.header.map_or(0, |header| header.revision).to_string())
        .env("ETCD_WATCH_EVENT_TYPE", quote(kind))
        .env("ETCD_WATCH_KEY", quote(&kv.key))
        .env("ETCD_WATCH_VALUE", quote(&kv.value))
        .status()
        .await;
    let status: ExitStatus = status.map_err(Failure::io(format!("cannot run {shown}")))?;
    if status.success() {
        return Ok(());
    }
    eprintln!("Error: {shown} ended with {status}: the watch ends too");
    Err(Failure::Code(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(words: &[&str]) -> WatchArgs {
        Line::try_parse_from(words).unwrap().watch
    }

    fn plan(words: &[&str], key: Option<&str>, end: Option<&str>) -> Result<(String, String), Failure> {
        let bytes = |text: Option<&str>| text.map(|text| text.as_bytes().to_vec());
        let environment = FromEnvironment { key: bytes(key), range_end: bytes(end) };
        let text = |bytes| String::from_utf8(bytes).unwrap();
        args(words).plan(&environment).map(|options| (text(options.key), text(options.range_end)))
    }

    #[test]
    fn keys_come_from_arguments_or_the_environment_but_not_from_both() {
        let pair = |key: &str, end: &str| (key.to_owned(), end.to_owned());
        assert_eq!(plan(&["foo"], None, None).unwrap(), pair("foo", ""));
        assert_eq!(plan(&["foo", "goo"], None, None).unwrap(), pair("foo", "goo"));
        assert_eq!(plan(&["foo", "--prefix"], None, None).unwrap(), pair("foo", "fop"));
        assert_eq!(plan(&[], Some("foo"), Some("goo")).unwrap(), pair("foo", "goo"));
        assert_eq!(plan(&["--rev", "1", "--", "echo"], Some("foo"), None).unwrap(), pair("foo", ""));
        for (words, key) in
            [(&["foo"][..], Some("foo")), (&[][..], None), (&["a", "b", "--prefix"][..], None)]
        {
            assert_eq!(plan(words, key, None).unwrap_err().exit_code(), 128, "{words:?}");
        }
    }

    #[test]
    fn what_comes_after_two_dashes_is_the_command() {
        let args = args(&["foo", "--rev", "7", "bar", "--prev-kv", "--", "echo", "--prefix", "x"]);
        assert_eq!((args.rev, args.prev_kv, args.prefix), (7, true, false));
        assert_eq!(args.exec, ["echo", "--prefix", "x"]);
        assert_eq!(args.range_end, Some(Raw(b"bar".to_vec())));
    }
}
