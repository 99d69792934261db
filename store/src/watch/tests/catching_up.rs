//! Streams that fall behind: slow readers, compaction, cold history, a ring that has moved on.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_read_is_bounded_and_goes_on_without_a_gap() {
    let member = Member::new(SMALL, WatchConfig { max_batched_bytes: 1 << 20, ..small_config() });
    let mut stream = member.stream();
    ask(&mut stream, create("k", "l", 0));
    drain(&mut stream).await;
    for n in 0..100 {
        member.put("k", &n.to_string());
    }
    // One portion is made for the one answer taken, no more.
    let first = next(&mut stream).await.unwrap();
    assert!(first.events.len() <= member.config.max_read_events);
    assert!(member.hub.stats().pending_events() <= member.config.max_read_events as i64);
    assert_eq!(member.hub.stats().slow_watchers(), 1);
    let answers = drain(&mut stream).await;
    let values: Vec<_> =
        std::iter::once(&first).chain(&answers).flat_map(events).map(|e| e.kv.unwrap().value).collect();
    assert_eq!(values, (0..100).map(|n| Bytes::from(n.to_string())).collect::<Vec<_>>());
    assert_eq!(member.hub.stats().slow_watchers(), 0);
    assert_eq!(member.hub.stats().events(), 100);
}

#[tokio::test(start_paused = true)]
async fn compaction_ends_watches_that_need_what_is_gone() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 0));
    drain(&mut stream).await;
    for n in 0..20 {
        member.put("k", &n.to_string());
    }
    member.history.store.lock().compacted = 10;
    let answers = drain(&mut stream).await;
    assert_eq!(answers.len(), 1);
    assert!(answers[0].canceled && answers[0].compact_revision == 10 && answers[0].events.is_empty());
    assert_eq!(stream.watches(), 0);
}

#[tokio::test(start_paused = true)]
async fn cold_history_is_read_while_live_events_flow() {
    let member = Member::new(SMALL, small_config());
    for n in 0..20 {
        member.put("k", &n.to_string());
    }
    member.history.cold.store(true, Ordering::Relaxed);
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 1));
    ask(&mut stream, create("m", "", 0));
    member.put("m", "1");
    let answers = drain(&mut stream).await;
    let count = |id| answers.iter().filter(|a| a.watch_id == id).map(|a| a.events.len()).sum::<usize>();
    assert_eq!((count(0), count(1)), (20, 1));
    // History that cannot be read ends the watch aloud.
    member.history.store.lock().broken = true;
    ask(&mut stream, create("k", "", 1));
    let answers = drain(&mut stream).await;
    assert_eq!(answers[1].cancel_reason, "history cannot be read: broken");
    assert_eq!(stream.watches(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cold_read_is_not_for_a_watch_that_came_later_and_needs_more() {
    let member = Member::new(SMALL, WatchConfig { max_read_events: 100, ..small_config() });
    for n in 0..20 {
        member.put("k", &n.to_string());
    }
    member.history.cold.store(true, Ordering::Relaxed);
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 15));
    {
        let _stopped = member.history.gate.lock();
        assert!(stream.next().now_or_never().flatten().unwrap().created);
        assert_eq!(stream.next().now_or_never(), None);
        // Dropping the future and asking for more does not lose the read.
        ask(&mut stream, create("k", "", 2));
        assert!(stream.next().now_or_never().flatten().unwrap().created);
        assert_eq!(stream.next().now_or_never(), None);
    }
    let answers = drain(&mut stream).await;
    for (id, wanted) in [(0, 15..=21), (1, 2..=21)] {
        let got = answers.iter().filter(|a| a.watch_id == id).flat_map(events);
        let got: Vec<_> = got.map(|e| e.kv.unwrap().mod_revision).collect();
        assert_eq!(got, wanted.collect::<Vec<_>>());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_the_future_stays_live_when_the_ring_is_lost() {
    let member = Member::new(SMALL, small_config());
    let mut stream = member.stream();
    ask(&mut stream, create("k", "", 0));
    ask(&mut stream, create("k", "", 12));
    drain(&mut stream).await;
    for n in 0..9 {
        member.put("k", &n.to_string());
    }
    assert_eq!(drain(&mut stream).await.iter().map(|a| a.events.len()).sum::<usize>(), 9);
    assert_eq!(stream.watchers_catching_up(), 0);
    member.put("k", "");
    member.put("k", "");
    let answers = summary(&drain(&mut stream).await);
    assert!(answers.contains(&(1, 12, "k".to_owned())), "{answers:?}");
}

#[tokio::test(start_paused = true)]
async fn watchers_share_encoded_events() {
    let member = Member::new(HubLimits::default(), WatchConfig::default());
    let mut streams: Vec<_> = (0..3).map(|_| member.stream()).collect();
    for stream in &mut streams {
        ask(stream, create("k", "l", 0));
        drain(stream).await;
    }
    member.put("k", "1");
    let mut places = Vec::new();
    for stream in &mut streams {
        places.push(next(stream).await.unwrap().events[0].as_ptr());
    }
    assert_eq!(places, [places[0]; 3]);
}
