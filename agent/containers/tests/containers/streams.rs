//! Exec and attach.

use std::time::Duration;

use barque_containers::{Error, ExecSpec};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::fixture::Fixture;

fn words(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).to_vec()
}

pub(crate) async fn what_is_executed_answers() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "sleep 600");
    spec.process.env.push("COLOUR=blue".to_owned());
    spec.process.user.uid = 7;
    let id = fixture.run(&sandbox, spec).await;
    let output = fixture
        .containers
        .exec_sync(&id, words("echo $COLOUR $(id -u); echo err >&2; exit 4"), Some(Duration::from_secs(60)))
        .await
        .unwrap();
    assert_eq!((output.code, &*output.stdout, &*output.stderr), (4, &b"blue 7\n"[..], &b"err\n"[..]));
    let output =
        fixture.containers.exec_sync(&id, words("head -c 300000 /dev/zero; kill -9 $$"), None).await.unwrap();
    assert_eq!((output.code, output.stdout.len()), (137, 300_000));
    // Somebody who stays behind with the output does not hold up the answer.
    let output = fixture.containers.exec_sync(&id, words("sleep 600 & echo done"), None).await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    let missing = fixture.containers.exec_sync(&id, vec!["foo".to_owned()], None).await.unwrap_err();
    assert_eq!(missing.to_string(), "exec: \"foo\": executable file not found in $PATH");
    fixture.containers.stop(&id, Duration::ZERO).await.unwrap();
    assert!(matches!(fixture.containers.exec_sync(&id, words("true"), None).await, Err(Error::State(_))));
}

pub(crate) async fn time_limits_are_kept() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("one", "sleep 600")).await;
    let late =
        fixture.containers.exec_sync(&id, words("exec sleep 599"), Some(Duration::from_millis(200))).await;
    assert!(matches!(late, Err(Error::TimedOut(_))), "{late:?}");
    let output = fixture.containers.exec_sync(&id, words("ps | grep -c 'sleep 59[9]'"), None).await.unwrap();
    assert_eq!(output.stdout, b"0\n");
}

pub(crate) async fn a_terminal_has_a_size() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("one", "sleep 600")).await;
    let args = words("tty; echo $TERM; read line; stty size; echo got $line; exit 9");
    let spec = ExecSpec { args, terminal: true, stdin: true };
    let mut streams = fixture.containers.exec(&id, spec).await.unwrap();
    assert!(streams.stderr.is_none());
    let mut output = BufReader::new(streams.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).await.unwrap();
    assert!(line.starts_with("/dev/"), "{line}");
    line.clear();
    output.read_line(&mut line).await.unwrap();
    assert_eq!(line, "xterm\r\n");
    streams.resizer.resize(132, 43).await.unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "hello\r\n43 132\r\ngot hello\r\n");
    assert_eq!(streams.end.wait().await.unwrap(), 9);
}

pub(crate) async fn input_goes_in_and_output_comes_out() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("one", "sleep 600")).await;
    let spec = ExecSpec { args: vec!["cat".to_owned()], terminal: false, stdin: true };
    let mut streams = fixture.containers.exec(&id, spec).await.unwrap();
    let data: Vec<u8> = (0..1_000_000u32).map(|number| number as u8).collect();
    let mut stdin = streams.stdin.take().unwrap();
    let mut stdout = streams.stdout.take().unwrap();
    let mut back = Vec::new();
    let writing = async {
        stdin.write_all(&data).await.unwrap();
        drop(stdin);
    };
    let (_, read) = tokio::join!(writing, stdout.read_to_end(&mut back));
    read.unwrap();
    assert!(back == data);
    assert_eq!(streams.end.wait().await.unwrap(), 0);
}

pub(crate) async fn who_attaches_is_heard_and_hears() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "while read line; do echo got $line; done; echo over; exit 6");
    (spec.stdin, spec.stdin_once) = (true, true);
    let id = fixture.run(&sandbox, spec).await;
    let mut listener = fixture.containers.attach(&id, false, true, true).await.unwrap();
    let mut streams = fixture.containers.attach(&id, true, true, false).await.unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"a\n").await.unwrap();
    drop(streams.stdin.take());
    let mut said = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "got a\nover\n");
    assert_eq!(streams.end.wait().await.unwrap(), 6);
    let mut heard = String::new();
    listener.stdout.take().unwrap().read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, said);

    // Without `stdin_once`, the input survives who leaves; and a terminal has a size.
    let mut spec = fixture.script("two", "read a; echo $a; read b; stty size; echo $b");
    (spec.stdin, spec.process.terminal) = (true, true);
    let id = fixture.run(&sandbox, spec).await;
    let mut first = fixture.containers.attach(&id, true, true, true).await.unwrap();
    first.stdin.as_mut().unwrap().write_all(b"one\n").await.unwrap();
    let mut output = BufReader::new(first.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).await.unwrap();
    drop((first, output));
    let mut second = fixture.containers.attach(&id, true, true, true).await.unwrap();
    second.resizer.resize(100, 30).await.unwrap();
    second.stdin.as_mut().unwrap().write_all(b"two\n").await.unwrap();
    let mut said = String::new();
    second.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert!(said.contains("two\r\n") && said.ends_with("two\r\n"), "{said}");
    assert_eq!(second.end.wait().await.unwrap(), 0);
}

pub(crate) async fn who_does_not_read_is_cut_off() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script(
        "one",
        "read go; i=0; while [ $i -lt 30000 ]; do echo a line of some length $i; i=$((i+1)); done",
    );
    spec.stdin = true;
    let id = fixture.run(&sandbox, spec).await;
    let lazy = fixture.containers.attach(&id, false, true, false).await.unwrap();
    let mut eager = fixture.containers.attach(&id, true, true, false).await.unwrap();
    eager.stdin.as_mut().unwrap().write_all(b"go\n").await.unwrap();
    let mut said = String::new();
    eager.stdout.take().unwrap().read_to_string(&mut said).await.unwrap();
    assert_eq!(said.lines().count(), 30_000);
    assert_eq!(eager.end.wait().await.unwrap(), 0);
    drop(lazy);
    let log = std::fs::read_to_string(fixture.log("one")).unwrap();
    assert_eq!(log.lines().count(), 30_000);
}
