//! What `barque store` says to the usual mistakes, and how it starts and stops.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

fn barque(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_barque"));
    command.arg("store").args(words).env_clear();
    command
}

/// The exit code and what was said.
fn said(output: Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn run(words: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    said(barque(words).current_dir(directory.path()).output().unwrap())
}

#[test]
fn mistakes_are_answered_by_sentences_and_code_2() {
    for (words, expected) in [
        (
            vec!["--election-timeout=200"],
            "error: --election-timeout=200 (ms) must be at least 5 times --heartbeat-interval=100 (ms), that is 500 \
             or more\n",
        ),
        (
            vec!["--name=a", "--initial-cluster=b=http://localhost:2380"],
            "error: --initial-cluster does not name this member: it must contain a=http://localhost:2380 (--name is \
             \"a\")\n",
        ),
        (
            vec!["--listen-client-urls=http://127.0.0.1:1"],
            "error: --advertise-client-urls is required when --listen-client-urls is set: name the URLs by which \
             clients reach this member\n",
        ),
        (
            vec!["--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1"],
            "error: --listen-client-urls=https://127.0.0.1:1 is https: --cert-file and --key-file must name the \
             certificate and its key\n",
        ),
        (
            vec!["--snapshot-schedule=@often"],
            "error: --snapshot-schedule=\"@often\": \"@often\" is no name of a schedule; write five fields as in cron \
             (minute, hour, day, month, weekday; UTC), a name such as @hourly or @daily, or an interval such as \
             \"@every 6h\"\n",
        ),
        (
            vec!["--snapshot-schedule=@daily", "--snapshot-dir=/dev/null/backups"],
            "error: --snapshot-dir=/dev/null/backups: it cannot be created: Not a directory (os error 20); name a \
             directory in which this member may write\n",
        ),
        (vec!["--cert-file=a.pem"], "error: --cert-file is set and --key-file is not: both are needed\n"),
    ] {
        assert_eq!(run(&words), (Some(2), expected.into()));
    }
}

#[test]
fn unknown_flags_and_values_are_told_with_code_2() {
    let (code, text) = run(&["--enable-v2=true"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("unexpected argument '--enable-v2'"), "{text}");
    let (code, text) = run(&["--log-level=loud"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("[possible values: trace, debug, info, warn, error]"), "{text}");
    let (code, text) = run(&["--heartbeat-interval=1s"]);
    assert_eq!(code, Some(2));
    assert!(text.contains("invalid value '1s' for '--heartbeat-interval <MS>'"), "{text}");
}

#[test]
fn the_environment_counts_and_flags_count_more() {
    let in_environment = |words: &[&str]| {
        let output = barque(words).env("BARQUE_STORE_ELECTION_TIMEOUT", "60000").output().unwrap();
        said(output)
    };
    assert_eq!(
        in_environment(&[]),
        (Some(2), "error: --election-timeout=60000 must be at most 50000 (ms)\n".into())
    );
    let (_, text) = in_environment(&["--election-timeout=1"]);
    assert!(text.starts_with("error: --election-timeout=1 (ms) must be at least"), "{text}");
}

#[test]
fn a_port_in_use_is_a_failure_and_names_the_flag() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", taken.local_addr().unwrap());
    let listen = format!("--listen-client-urls={url}");
    let advertise = format!("--advertise-client-urls={url}");
    let (code, text) = run(&[&listen, &advertise, "--listen-peer-urls=http://127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    let expected = format!("error: --listen-client-urls={url}: address already in use by another process\n");
    assert!(text.ends_with(&expected), "{text}");
}

#[test]
fn missing_certificates_are_a_failure_and_name_flag_and_file() {
    let (code, text) = run(&[
        "--listen-client-urls=https://127.0.0.1:0",
        "--advertise-client-urls=https://127.0.0.1:1",
        "--listen-peer-urls=http://127.0.0.1:0",
        "--cert-file=nowhere.pem",
        "--key-file=nowhere.key",
    ]);
    assert_eq!(code, Some(1));
    let expected = "error: --listen-client-urls=https://127.0.0.1:0 cannot be served with TLS: nowhere.pem cannot be \
                    read: No such file or directory (os error 2)\n";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn a_member_listens_until_it_is_told_to_stop() {
    let directory = tempfile::tempdir().unwrap();
    let mut member = barque(&[
        "--log-format=json",
        "--listen-client-urls=http://127.0.0.1:0",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:0",
    ])
    .current_dir(directory.path())
    .stderr(Stdio::piped())
    .spawn()
    .unwrap();
    let mut log = BufReader::new(member.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"message\":\"serving clients\"") {
        line.clear();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended before it listened");
    }
    rustix::process::kill_process(rustix::process::Pid::from_child(&member), rustix::process::Signal::TERM)
        .unwrap();
    let mut rest = String::new();
    log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("SIGTERM: stopping"), "{rest}");
    assert_eq!(member.wait().unwrap().code(), Some(0));
}
