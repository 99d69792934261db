//! What containers say.

use barque_containers::Containers;
use barque_containers::Settings;
use barque_containers::spec::TerminationMessage;

use crate::fixture::{Fixture, text};

pub(crate) async fn lines_are_in_the_form_of_cri() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    fixture
        .say(
            &sandbox,
            "one",
            "echo one; echo two >&2; head -c 20000 /dev/zero | tr '\\0' x; echo; printf end",
        )
        .await;
    let log = std::fs::read_to_string(fixture.log("one")).unwrap();
    let mut lines: Vec<Vec<&str>> = log.lines().map(|line| line.splitn(4, ' ').collect()).collect();
    for line in &lines {
        assert!(line[0].len() == 30 && line[0].ends_with('Z'), "{line:?}");
    }
    let errors: Vec<_> =
        lines.iter().filter(|line| line[1] == "stderr").map(|line| line[2..].to_vec()).collect();
    assert_eq!(errors, [["F", "two"]]);
    lines.retain(|line| line[1] == "stdout");
    let shape: Vec<_> = lines.iter().map(|line| (line[2], line[3].len())).collect();
    assert_eq!(shape, [("F", 3), ("P", 16384), ("F", 20000 - 16384), ("P", 3)]);
}

pub(crate) async fn the_last_word_is_read() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let message = |id: &str, script: &str, fall_back_to_logs| {
        let mut spec = fixture.script(id, script);
        let path = fixture.path().join(format!("message-{id}"));
        std::fs::write(&path, "").unwrap();
        spec.mounts.push(barque_containers::spec::Mount {
            destination: "/dev/termination-log".into(),
            source: path.to_str().unwrap().to_owned(),
            kind: "bind".into(),
            options: vec!["bind".into(), "rw".into()],
        });
        spec.termination_message = Some(TerminationMessage { path, fall_back_to_logs });
        spec
    };
    let (exit, _) =
        fixture.said(&sandbox, message("a", "echo said > /dev/termination-log; exit 1", true)).await;
    assert_eq!(exit.message, "said\n");
    let (exit, _) = fixture.said(&sandbox, message("b", "echo log; exit 1", true)).await;
    assert_eq!(exit.message, "log\n");
    let (exit, _) = fixture.said(&sandbox, message("c", "echo log", true)).await;
    assert_eq!(exit.message, "", "it did not fail");
    let (exit, _) = fixture.said(&sandbox, message("d", "echo log; exit 1", false)).await;
    assert_eq!(exit.message, "");
    let (exit, _) =
        fixture.said(&sandbox, message("e", "yes | head -c 10000 > /dev/termination-log", false)).await;
    assert_eq!(exit.message.len(), 4096);
}

pub(crate) async fn full_logs_are_rotated() {
    let mut fixture = Fixture::new().await;
    fixture.leave().await;
    let settings = Settings { log_file_bytes: 100_000, log_files: 3, ..fixture.settings() };
    fixture.containers = Containers::open(settings).await.unwrap();
    let sandbox = fixture.sandbox("a").await;
    fixture.say(&sandbox, "one", "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done").await;
    let directory = fixture.path().join("logs");
    let mut files: Vec<_> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in &files {
        let size = std::fs::metadata(file).unwrap().len();
        assert!(size > 0 && size < 200_000, "{size}");
    }
    // Together they hold the last lines, without a gap.
    let (newest, older) = files.split_first().unwrap();
    let all: String =
        older.iter().chain([newest]).map(|file| text(&std::fs::read_to_string(file).unwrap())).collect();
    let numbers: Vec<u32> =
        all.lines().map(|line| line.strip_prefix("line ").unwrap().parse().unwrap()).collect();
    assert_eq!(numbers.last(), Some(&19_999));
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]));
}

pub(crate) async fn a_log_is_begun_anew() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "echo first; read line; echo $line");
    spec.stdin = true;
    let id = fixture.run(&sandbox, spec).await;
    fixture.heard("one", "first").await;
    let old = fixture.path().join("logs/old");
    std::fs::rename(fixture.log("one"), &old).unwrap();
    fixture.containers.reopen_log(&id).await.unwrap();
    let mut streams = fixture.containers.attach(&id, true, false, false).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(streams.stdin.as_mut().unwrap(), b"second\n").await.unwrap();
    fixture.exit(&sandbox, &id).await;
    assert_eq!(text(&std::fs::read_to_string(&old).unwrap()), "first\n");
    assert_eq!(text(&std::fs::read_to_string(fixture.log("one")).unwrap()), "second\n");
}
