//! Logs of containers, from files whose lines begin with their time. Must never keep a file open that nobody follows.

use std::convert::Infallible;
use std::path::Path;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use barque_api::time::Time;
use futures::stream;
use http::{Response, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Command;

use super::{Answer, Query, text};

/// Answers for the log of a container, which is named as `(pod, container)`.
pub(super) async fn answer(directory: &Path, (pod, container): (&str, &str), query: &Query) -> Answer {
    let previous = query.has("previous");
    let file = directory.join(if previous { "previous.log" } else { "log" });
    if previous && !file.exists() {
        let why = format!("previous terminated container {container:?} in pod {pod:?} not found");
        return text(StatusCode::BAD_REQUEST, why);
    }
    if !file.exists() {
        let why = format!("container {container:?} in pod {pod:?} is waiting to start: ContainerCreating");
        return text(StatusCode::BAD_REQUEST, why);
    }
    let shown = Shown { since: since(query), timestamps: query.has("timestamps") };
    let tail: Option<usize> = query.one("tailLines").map(|lines| lines.parse().unwrap());
    if query.has("follow") {
        return follow(&file, tail, shown);
    }
    let content = tokio::fs::read_to_string(&file).await.unwrap();
    let lines: Vec<&str> = content.lines().collect();
    let lines = &lines[lines.len() - tail.unwrap_or(lines.len()).min(lines.len())..];
    let mut told: String = lines.iter().filter_map(|line| shown.line(line)).collect();
    if let Some(most) = query.one("limitBytes") {
        told.truncate(most.parse().unwrap());
    }
    text(StatusCode::OK, told)
}

/// From when on lines are wanted.
fn since(query: &Query) -> Option<Time> {
    if let Some(time) = query.one("sinceTime") {
        return Some(Time::parse(time).unwrap());
    }
    let seconds: i64 = query.one("sinceSeconds")?.parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    Some(Time::of_unix(i64::try_from(now).unwrap()).plus_seconds(-seconds))
}

/// Which lines are shown, and how.
struct Shown {
    since: Option<Time>,
    timestamps: bool,
}

impl Shown {
    fn line(&self, line: &str) -> Option<String> {
        let (time, text) = line.split_once(' ').unwrap();
        if self.since.is_some_and(|since| Time::parse(time).unwrap().unix() < since.unix()) {
            return None;
        }
        Some(if self.timestamps { format!("{line}\n") } else { format!("{text}\n") })
    }
}

/// The log and what is written to it, until the client leaves.
fn follow(file: &Path, tail: Option<usize>, shown: Shown) -> Answer {
    let lines = tail.map_or_else(|| "+1".to_owned(), |lines| lines.to_string());
    let mut child = Command::new("tail")
        .args(["-f", "-n", &lines])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let written = BufReader::new(child.stdout.take().unwrap()).lines();
    // The process goes with the body.
    let frames = stream::unfold((written, child, shown), |(mut written, child, shown)| async move {
        loop {
            let line = written.next_line().await.ok()??;
            if let Some(line) = shown.line(&line) {
                let frame = Frame::data(Bytes::from(line));
                return Some((Ok::<_, Infallible>(frame), (written, child, shown)));
            }
        }
    });
    Response::new(StreamBody::new(frames).boxed_unsync())
}
