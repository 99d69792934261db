//! What a stream answers to creations and questions for progress.

use super::*;

#[tokio::test(start_paused = true)]
async fn creating_answers_as_etcd_does() {
    let member = Member::new(SMALL, small_config());
    for n in 0..4 {
        member.put("a", &n.to_string());
    }
    member.history.store.lock().compacted = 4;
    let mut stream = member.stream();
    let mut ids = Vec::new();
    let with_id = |id| WatchCreateRequest { watch_id: id, ..create("a", "", 0) };
    for id in [0, 7, 0, 7, 2, 0] {
        ask(&mut stream, with_id(id));
        let answer = next(&mut stream).await.unwrap();
        assert!(answer.created && told(&answer) == 5);
        ids.push((answer.watch_id, answer.canceled, answer.cancel_reason));
    }
    let ok = |id| (id, false, String::new());
    let refused = |reason: &str| (NO_WATCH, true, reason.to_owned());
    let duplicate = refused("mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(ids, [ok(0), ok(7), ok(1), duplicate, ok(2), ok(3)]);

    ask(&mut stream, create("b", "a", 0));
    ask(&mut stream, create("b", "a", -1));
    stream.deny(&create("a", "", 0), "no");
    let answers: Vec<_> = drain(&mut stream).await;
    let reasons: Vec<_> =
        answers.into_iter().map(|a| (a.watch_id, a.created && a.canceled, a.cancel_reason)).collect();
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(reasons, [refused("mvcc: watcher range is empty"), refused(compacted), refused("no")]);

    // Before the compact revision: created, then told; at it: everything there is.
    ask(&mut stream, create("a", "", 3));
    let answers = drain(&mut stream).await;
    assert!(answers[0].created && !answers[0].canceled && answers[0].watch_id == 4);
    assert!(answers[1].canceled && answers[1].watch_id == 4 && answers[1].compact_revision == 4);
    assert_eq!(answers.len(), 2);
    ask(&mut stream, create("a", "", 4));
    let answers = drain(&mut stream).await;
    assert!(answers[0].created);
    assert_eq!(summary(&answers[1..]), [(5, 5, "a a".to_owned())]);

    // Cancelling an unknown watch is silent, a known one answers, once; one that compaction ended is known.
    let watches = stream.watches();
    ask_cancel(&mut stream, 4);
    ask_cancel(&mut stream, 5);
    ask_cancel(&mut stream, 5);
    let answers = drain(&mut stream).await;
    assert_eq!(answers.iter().map(|answer| answer.watch_id).collect::<Vec<_>>(), [4, 5]);
    assert!(answers.iter().all(|answer| answer.canceled && answer.cancel_reason.is_empty()));
    assert_eq!(stream.watches(), watches - 1);
    assert_eq!(member.hub.stats().watchers(), watches as i64 - 1);

    stream.cancel_all("etcdserver: no leader");
    let answers = drain(&mut stream).await;
    assert!(answers.iter().all(|a| a.canceled && a.cancel_reason == "etcdserver: no leader"));
    assert_eq!(answers.len(), watches - 1);
    assert_eq!(stream.next().await, None);
    drop(stream);
    let stats = member.hub.stats();
    let counts = (stats.streams(), stats.watchers(), stats.slow_watchers(), stats.pending_events());
    assert_eq!(counts, (0, 0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_start_in_the_future_hears_nothing_before() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, WatchCreateRequest { progress_notify: true, ..create("a", "", 4) });
    ask_progress(&mut stream);
    assert_eq!(drain(&mut stream).await.len(), 1);
    member.put("a", "2");
    member.put("a", "3");
    ask_progress(&mut stream);
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(drain(&mut stream).await, []);
    member.put("a", "4");
    ask_progress(&mut stream);
    assert_eq!(summary(&drain(&mut stream).await), [(0, 4, "a".to_owned()), (NO_WATCH, 4, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn progress_waits_for_what_the_client_may_have_read() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask_progress(&mut stream);
    assert_eq!(drain(&mut stream).await, []);
    ask(&mut stream, create("a", "", 0));
    drain(&mut stream).await;
    // Visible to readers, but not published yet.
    member.write(&[(b"b", Some(b"1"))]);
    ask_progress(&mut stream);
    assert_eq!(drain(&mut stream).await, []);
    member.publish_all();
    assert_eq!(summary(&drain(&mut stream).await), [(NO_WATCH, 2, String::new())]);
    // One is catching up: dropped.
    member.put("a", "1");
    ask(&mut stream, create("a", "", 1));
    ask_progress(&mut stream);
    let answers = drain(&mut stream).await;
    assert!(answers.iter().all(|a| a.watch_id != NO_WATCH));
    ask_progress(&mut stream);
    assert_eq!(summary(&drain(&mut stream).await), [(NO_WATCH, 3, String::new())]);
}

#[tokio::test(start_paused = true)]
async fn periodic_progress_is_left_out_when_events_flowed() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, WatchCreateRequest { progress_notify: true, ..create("a", "", 0) });
    ask(&mut stream, create("b", "", 0));
    drain(&mut stream).await;
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(summary(&drain(&mut stream).await), [(0, 1, String::new())]);
    member.put("a", "1");
    assert_eq!(drain(&mut stream).await.len(), 1);
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(drain(&mut stream).await, []);
    member.put("c", "1");
    tokio::time::advance(Duration::from_secs(12)).await;
    assert_eq!(summary(&drain(&mut stream).await), [(0, 3, String::new())]);
}
