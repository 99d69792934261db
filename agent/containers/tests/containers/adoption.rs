//! The agent comes and goes, shims die, and nothing is lost or left.

use std::time::Duration;

use barque_containers::{Containers, Error};
use rustix::process::{Pid, Signal, kill_process};

use crate::fixture::{Fixture, control_groups, mounts, processes};

pub(crate) async fn containers_outlive_the_agent() {
    let mut fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "echo up; read line; echo $line");
    spec.stdin = true;
    let stays = fixture.run(&sandbox, spec).await;
    let ends = fixture
        .run(
            &sandbox,
            fixture.script("two", "trap 'exit 8' TERM; echo ready; while :; do sleep 1 & wait; done"),
        )
        .await;
    fixture.heard("two", "ready").await;
    let before = fixture.state(&stays);
    let ending = fixture.state(&ends).pid.unwrap();
    fixture.leave().await;
    let handle = rustix::process::pidfd_open(
        Pid::from_raw(ending as i32).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    rustix::process::pidfd_send_signal(&handle, Signal::TERM).unwrap();
    let limit = rustix::event::Timespec { tv_sec: 30, tv_nsec: 0 };
    let ready = rustix::event::PollFd::new(&handle, rustix::event::PollFlags::IN);
    assert_eq!(rustix::event::poll(&mut [ready], Some(&limit)), Ok(1));

    fixture.containers = Containers::open(fixture.settings()).await.unwrap();
    assert_eq!(fixture.state(&stays), before, "nothing was restarted");
    assert_eq!(fixture.exit(&sandbox, &ends).await.code, 8, "an end that nobody saw is told");
    let mut streams = fixture.containers.attach(&stays, true, false, false).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(streams.stdin.as_mut().unwrap(), b"goes on\n").await.unwrap();
    assert_eq!(fixture.exit(&sandbox, &stays).await.code, 0);
    fixture.heard("one", "goes on").await;
    let (exit, _) = fixture.say(&sandbox, "three", "exit 2").await;
    assert_eq!(exit.code, 2, "the sandbox goes on");
    fixture.restart().await;
    assert_eq!(fixture.containers.containers(&sandbox).unwrap().len(), 3);
}

pub(crate) async fn a_dead_shim_is_noticed() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("one", "sleep 604")).await;
    let (exit, _) = fixture.say(&sandbox, "two", "exit 5").await;
    assert_eq!(exit.code, 5);
    let pid = fixture.state(&id).pid.unwrap();
    kill_process(fixture.shims()[0], Signal::KILL).unwrap();
    let exit = fixture.exit(&sandbox, &id).await;
    assert_eq!(exit.code, 137);
    assert!(exit.message.contains("shim"), "{}", exit.message);
    assert!(!std::path::Path::new(&format!("/proc/{pid}/exe")).exists(), "it does not run on unseen");
    assert_eq!(fixture.exit(&sandbox, &format!("{}-two", fixture.prefix)).await.code, 5);
    let mut changes = fixture.containers.changes(&sandbox).unwrap();
    while fixture.containers.sandbox(&sandbox).unwrap().ready {
        changes.changed().await.unwrap();
    }
    assert!(matches!(
        fixture.containers.create(&sandbox, fixture.script("three", "true")).await,
        Err(Error::ShimGone(_))
    ));
    fixture.containers.remove(&id).await.unwrap();
    fixture.containers.remove_sandbox(&sandbox).await.unwrap();
    assert!(control_groups(&format!("{}/kubepods/burstable/poda", fixture.prefix)).is_empty());
    assert!(mounts(&fixture.prefix).is_empty());
}

pub(crate) async fn a_dead_shim_is_found_later() {
    let mut fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("one", "sleep 605")).await;
    fixture.leave().await;
    kill_process(fixture.shims()[0], Signal::KILL).unwrap();
    fixture.containers = Containers::open(fixture.settings()).await.unwrap();
    assert_eq!(fixture.exit(&sandbox, &id).await.code, 137);
    let mut changes = fixture.containers.changes(&sandbox).unwrap();
    while fixture.containers.sandbox(&sandbox).unwrap().ready {
        changes.changed().await.unwrap();
    }
    fixture.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    fixture.containers.remove_sandbox(&sandbox).await.unwrap();
}

pub(crate) async fn nothing_is_left_after_a_cleanup() {
    let mut fixture = Fixture::new().await;
    let mut spec = fixture.sandbox_spec("b");
    spec.pid = barque_containers::spec::PidShare::Pod;
    let shared = spec.id.clone();
    fixture.containers.create_sandbox(spec).await.unwrap();
    let sandbox = fixture.sandbox("a").await;
    for (number, sandbox) in [&sandbox, &shared, &sandbox].into_iter().enumerate() {
        fixture.run(sandbox, fixture.script(&format!("c{number}"), "sleep 606 & sleep 607")).await;
    }
    // One shim is there, the other is not; the agent is not.
    let directory = fixture.path().to_owned();
    let used = barque_containers::cleanup(&directory.join("run"), &directory.join("data"));
    assert!(matches!(used, Err(Error::Refused(_))), "an agent uses it");
    fixture.leave().await;
    kill_process(fixture.shims()[0], Signal::KILL).unwrap();
    let cleaned = tokio::task::spawn_blocking(move || {
        barque_containers::cleanup(&directory.join("run"), &directory.join("data"))
    })
    .await
    .unwrap()
    .unwrap();
    assert_eq!(cleaned.left, Vec::<String>::new());
    assert_eq!(cleaned.sandboxes.len(), 2);
    let left: Vec<_> = mounts(&fixture.prefix);
    assert!(left.is_empty(), "{left:?}");
    assert!(control_groups(&fixture.prefix).is_empty());
    let running: Vec<_> = processes(&fixture.prefix)
        .into_iter()
        .map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default())
        .collect();
    assert!(running.is_empty(), "{running:?}");
    assert!(!fixture.path().join("run").exists() && !fixture.path().join("data").exists());
}

pub(crate) async fn two_agents_do_not_share_a_directory() {
    let fixture = Fixture::new().await;
    let second = Containers::open(fixture.settings()).await;
    assert!(matches!(second, Err(Error::Refused(_))));
}

pub(crate) async fn what_was_half_made_is_removed() {
    let mut fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    fixture.leave().await;
    // As if the agent had ended before the sandbox was complete, and the machine had lost what containers wrote to.
    let record = fixture.path().join("run/sandboxes").join(&sandbox).join("sandbox.json");
    let text = std::fs::read_to_string(&record).unwrap().replace("\"complete\":true", "\"complete\":false");
    std::fs::write(&record, text).unwrap();
    let orphan = fixture.path().join("data/containers/orphan/upper");
    std::fs::create_dir_all(&orphan).unwrap();
    fixture.containers = Containers::open(fixture.settings()).await.unwrap();
    assert!(fixture.containers.sandboxes().unwrap().is_empty());
    assert!(!orphan.exists());
    assert!(fixture.shims().is_empty());
    assert!(mounts(&fixture.prefix).is_empty());
    fixture.sandbox("a").await;
}
