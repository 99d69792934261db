//! From making to removing.

use std::time::{Duration, Instant};

use barque_containers::Error;
use barque_containers::spec::{Mount, Phase};

use crate::fixture::{Fixture, control_groups, mounts, processes};

pub(crate) async fn a_program_runs_and_its_exit_code_is_told() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let spec = fixture.script("one", "echo out; echo err >&2; exit 7");
    fixture.containers.create(&sandbox, spec).await.unwrap();
    let id = format!("{}-one", fixture.prefix);
    assert_eq!(fixture.state(&id).phase, Phase::Created);
    assert!(fixture.state(&id).pid.is_some());
    fixture.containers.start(&id).await.unwrap();
    let exit = fixture.exit(&sandbox, &id).await;
    assert_eq!((exit.code, exit.signal, exit.oom_killed), (7, None, false));
    assert!(exit.started_ns.unwrap() <= exit.finished_ns);
    assert_eq!(fixture.state(&id).pid, None);
    assert!(matches!(fixture.containers.start(&id).await, Err(Error::State(_))));

    let (exit, _) = fixture.say(&sandbox, "two", "kill -SEGV $$").await;
    assert_eq!(exit.code, 0, "the first process of a namespace is not ended by its own signals");
}

pub(crate) async fn a_missing_program_is_told_when_it_is_made() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    for (program, story) in [
        ("foo", "exec: \"foo\": executable file not found in $PATH"),
        ("/bin/foo", "exec: \"/bin/foo\": stat /bin/foo: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        let mut spec = fixture.script("one", "");
        spec.process.args = vec![program.to_owned()];
        let error = fixture.containers.create(&sandbox, spec).await.unwrap_err();
        assert_eq!(error.to_string(), story);
        assert!(fixture.containers.containers(&sandbox).unwrap().is_empty());
        assert!(control_groups(&format!("{}-one", fixture.prefix)).is_empty());
        assert!(mounts(&format!("{}-one", fixture.prefix)).is_empty());
    }
    // The name is free again.
    let (exit, _) = fixture.say(&sandbox, "one", "true").await;
    assert_eq!(exit.code, 0);
}

pub(crate) async fn a_signal_and_then_an_end() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let polite = fixture.script("polite", "trap 'exit 3' USR1; echo ready; while :; do sleep 1 & wait; done");
    let polite = fixture.run(&sandbox, polite).await;
    fixture.heard("polite", "ready").await;
    fixture.containers.kill(&polite, barque_containers::signal_number("SIGUSR1").unwrap()).await.unwrap();
    assert_eq!(fixture.exit(&sandbox, &polite).await.code, 3);

    let deaf = fixture.run(&sandbox, fixture.script("deaf", "trap '' TERM; echo ready; sleep 600")).await;
    fixture.heard("deaf", "ready").await;
    let begun = Instant::now();
    fixture.containers.stop(&deaf, Duration::from_millis(300)).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    let exit = fixture.exit(&sandbox, &deaf).await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    fixture.containers.stop(&deaf, Duration::ZERO).await.unwrap();

    let mut spec =
        fixture.script("other", "trap 'exit 5' QUIT; echo ready; while :; do sleep 1 & wait; done");
    spec.stop_signal = "SIGQUIT".to_owned();
    let other = fixture.run(&sandbox, spec).await;
    fixture.heard("other", "ready").await;
    fixture.containers.stop(&other, Duration::from_secs(60)).await.unwrap();
    assert_eq!(fixture.exit(&sandbox, &other).await.code, 5);
    assert!(matches!(fixture.containers.kill(&other, 15).await, Err(Error::State(_))));
    assert!(matches!(fixture.containers.kill("nobody", 15).await, Err(Error::NotFound(_))));
}

pub(crate) async fn a_second_stop_shortens_the_first() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("deaf", "trap '' TERM; echo ready; sleep 600")).await;
    fixture.heard("deaf", "ready").await;
    let (containers, long) = (fixture.containers.clone(), id.clone());
    let first = tokio::spawn(async move { containers.stop(&long, Duration::from_secs(3600)).await });
    fixture.containers.stop(&id, Duration::from_millis(1)).await.unwrap();
    first.await.unwrap().unwrap();
}

pub(crate) async fn a_created_container_can_be_stopped() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let spec = fixture.script("one", "true");
    let id = spec.id.clone();
    fixture.containers.create(&sandbox, spec).await.unwrap();
    assert!(matches!(fixture.containers.remove(&id).await, Err(Error::State(_))));
    fixture.containers.stop(&id, Duration::from_secs(60)).await.unwrap();
    let exit = fixture.exit(&sandbox, &id).await;
    assert_eq!((exit.code, exit.started_ns), (137, None));
    fixture.containers.remove(&id).await.unwrap();
    assert!(matches!(fixture.containers.container(&id), Err(Error::NotFound(_))));
}

pub(crate) async fn a_bad_mount_is_told_and_leaves_nothing() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let before = processes(&fixture.prefix).len();
    let mut spec = fixture.script("one", "true");
    spec.mounts.push(Mount {
        destination: "/data".into(),
        source: "/there/is/no/such/directory".into(),
        kind: "bind".into(),
        options: vec!["rbind".into()],
    });
    let error = fixture.containers.create(&sandbox, spec).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    let mut spec = fixture.script("one", "true");
    spec.layers = vec!["/there/is/no/such/layer".into()];
    let error = fixture.containers.create(&sandbox, spec).await.unwrap_err().to_string();
    assert!(error.contains("/there/is/no/such/layer"), "{error}");
    assert_eq!(processes(&fixture.prefix).len(), before);
    assert!(control_groups(&format!("{}-one", fixture.prefix)).is_empty());
    assert!(mounts(&format!("{}-one", fixture.prefix)).is_empty());
    let (exit, _) = fixture.say(&sandbox, "one", "true").await;
    assert_eq!(exit.code, 0);
}

pub(crate) async fn many_containers_at_once() {
    let fixture = Fixture::new().await;
    let mut sandboxes = Vec::new();
    for number in 0..4 {
        sandboxes.push(fixture.sandbox(&format!("s{number}")).await);
    }
    let all =
        (0..20).map(|number| {
            let (fixture, sandbox) = (&fixture, &sandboxes[number % 4]);
            async move {
                fixture.say(sandbox, &format!("c{number}"), &format!("echo {number}; exit {number}")).await
            }
        });
    for (number, (exit, said)) in futures::future::join_all(all).await.into_iter().enumerate() {
        assert_eq!((exit.code as usize, said), (number, format!("{number}\n")));
    }
    assert_eq!(fixture.containers.containers(&sandboxes[0]).unwrap().len(), 5);
}

pub(crate) async fn names_are_taken_once() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let again = fixture.containers.create_sandbox(fixture.sandbox_spec("a")).await;
    assert!(matches!(again, Err(Error::Exists(_))));
    fixture.containers.create(&sandbox, fixture.script("one", "true")).await.unwrap();
    let again = fixture.containers.create(&sandbox, fixture.script("one", "true")).await;
    assert!(matches!(again, Err(Error::Exists(_))));
    let mut spec = fixture.sandbox_spec("b");
    spec.id = "../b".to_owned();
    assert!(matches!(fixture.containers.create_sandbox(spec).await, Err(Error::Refused(_))));
    let mut spec = fixture.script("x", "true");
    spec.id = "a/b".to_owned();
    assert!(matches!(fixture.containers.create(&sandbox, spec).await, Err(Error::Refused(_))));
}

pub(crate) async fn what_is_gone_is_removed() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let id = fixture.run(&sandbox, fixture.script("one", "touch /written; sleep 600")).await;
    let (exit, _) = fixture.say(&sandbox, "two", "true").await;
    assert_eq!(exit.code, 0);
    let two = format!("{}-two", fixture.prefix);
    fixture.containers.remove(&two).await.unwrap();
    fixture.containers.remove(&two).await.unwrap();
    assert!(mounts(&two).is_empty());
    assert!(control_groups(&two).is_empty());
    assert!(!fixture.path().join("data/containers").join(&two).exists());
    assert!(fixture.log("two").exists(), "a log stays");

    fixture.containers.stop_sandbox(&sandbox).await.unwrap();
    assert!(!fixture.containers.sandbox(&sandbox).unwrap().ready);
    assert_eq!(fixture.exit(&sandbox, &id).await.code, 137);
    fixture.containers.remove_sandbox(&sandbox).await.unwrap();
    fixture.containers.remove_sandbox(&sandbox).await.unwrap();
    fixture.containers.stop_sandbox(&sandbox).await.unwrap();
    assert!(fixture.containers.sandboxes().unwrap().is_empty());
    assert!(mounts(&fixture.prefix).is_empty(), "{:?}", mounts(&fixture.prefix));
    assert!(control_groups(&format!("{}/kubepods/burstable/poda", fixture.prefix)).is_empty());
    assert!(processes(&sandbox).is_empty());
    assert!(!fixture.path().join("data/containers").join(&id).exists());
}

pub(crate) async fn many_layers_are_one_root() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "cat /number; ls /each | wc -l; echo new > /number; cat /number");
    for number in 0..120 {
        // Long names, so that all of them together are more than a page.
        let layer = fixture.path().join(format!("layer-with-a-rather-long-name-{number:060}"));
        std::fs::create_dir_all(layer.join("each")).unwrap();
        std::fs::write(layer.join("number"), format!("{number}\n")).unwrap();
        std::fs::write(layer.join("each").join(number.to_string()), "").unwrap();
        spec.layers.push(layer);
    }
    let (exit, said) = fixture.said(&sandbox, spec).await;
    assert_eq!((exit.code, said.as_str()), (0, "119\n120\nnew\n"));
}

pub(crate) async fn changes_are_told() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut changes = fixture.containers.changes(&sandbox).unwrap();
    let id = fixture.run(&sandbox, fixture.script("one", "sleep 600")).await;
    changes.changed().await.unwrap();
    fixture.containers.kill(&id, 9).await.unwrap();
    while !matches!(fixture.state(&id).phase, Phase::Exited(_)) {
        changes.changed().await.unwrap();
    }
    assert!(fixture.containers.changes("nobody").is_err());
}

pub(crate) async fn a_shim_is_small() {
    let fixture = Fixture::new().await;
    let sandbox = fixture.sandbox("a").await;
    let mut spec = fixture.script("one", "sleep 600");
    spec.process.oom_score_adj = 700;
    fixture.run(&sandbox, spec).await;
    let shims = fixture.shims();
    assert_eq!(shims.len(), 1);
    let status = std::fs::read_to_string(format!("/proc/{}/status", shims[0].as_raw_nonzero())).unwrap();
    let value = |key: &str| {
        let line = status.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(value("Threads:"), 1, "libcontainer forks");
    // What is its own, without the program's pages, which all shims share.
    assert!(value("RssAnon:") < 4096, "{status}");
    let score =
        std::fs::read_to_string(format!("/proc/{}/oom_score_adj", shims[0].as_raw_nonzero())).unwrap();
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    // Where the machine's root may not lower it, it is that of the agent.
    let kept = ["-998", own.trim()].contains(&score.trim());
    assert!(kept, "it is not the container's: {score}");
}
