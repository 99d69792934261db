//! Watches: how they begin, what they tell, and when they end.

use super::*;

const ALL: fn() -> Selection = Selection::default;

#[tokio::test(start_paused = true)]
async fn a_watch_tells_what_comes_behind_its_revision() {
    let fixture = Fixture::new();
    let first = fixture.put("ns", "a", "", "x").await;
    fixture.settle().await;
    let second = fixture.put("ns", "b", "", "x").await;
    let mut watcher = fixture.cache.watch(&behind(first), &ALL(), None).await.unwrap();
    assert_eq!(told(&mut watcher).await, [format!("+b@{second}")]);
    let third = fixture.put("ns", "a", "", "y").await;
    let fourth = fixture.delete("ns", "b").await.unwrap();
    assert_eq!(told(&mut watcher).await, [format!("~a@{third}"), format!("-b@{fourth}")]);

    // One that begins in the future waits for it.
    let future = Revision(fourth.0 + 1);
    let mut later = fixture.cache.watch(&behind(future), &ALL(), None).await.unwrap();
    fixture.put("ns", "c", "", "").await;
    let sixth = fixture.put("ns", "d", "", "").await;
    assert_eq!(told(&mut later).await, [format!("+d@{sixth}")]);
    fixture.stop().await;
    assert_eq!(told(&mut later).await, [""; 0], "it ends with the cache");
}

#[tokio::test(start_paused = true)]
async fn selectors_decide_what_a_change_is() {
    let fixture = Fixture::new();
    let start = fixture.put("ns", "a", "n1", "web").await;
    let mut web = fixture.cache.watch(&behind(start), &app("web"), None).await.unwrap();
    let on_n1 = Selection { value: Some("n1".to_owned()), ..ALL() };
    let mut n1 = fixture.cache.watch(&behind(start), &on_n1, None).await.unwrap();
    let second = fixture.put("ns", "a", "n2", "web").await;
    let third = fixture.put("ns", "a", "n2", "db").await;
    let fourth = fixture.put("ns", "a", "n1", "web").await;
    let fifth = fixture.delete("ns", "a").await.unwrap();
    let seen_web =
        [format!("~a@{second}"), format!("-a@{third}"), format!("+a@{fourth}"), format!("-a@{fifth}")];
    assert_eq!(told(&mut web).await, seen_web);
    assert_eq!(told(&mut n1).await, [format!("-a@{second}"), format!("+a@{fourth}"), format!("-a@{fifth}")]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_departed_object_is_told_as_it_was_with_the_revision_of_its_departure() {
    let fixture = Fixture::new();
    let start = fixture.put("ns", "a", "", "web").await;
    let mut web = fixture.cache.watch(&behind(start), &app("web"), None).await.unwrap();
    let moved = fixture.put("ns", "a", "", "db").await;
    let Some(Told::Object { kind: Kind::Deleted, object, revision, event: Some(_) }) = web.next().await
    else {
        panic!("no departure");
    };
    assert_eq!((object.label("app"), object.revision(), revision), (Some("web"), start, moved));
    let json = object.json(revision).concat();
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(json["metadata"]["resourceVersion"], moved.to_string());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn watch_lists_mark_the_end_of_what_there_was() {
    let fixture = Fixture::new();
    let first = fixture.put("ns", "a", "", "web").await;
    fixture.put("ns", "b", "", "db").await;
    let query = |version: &str, initial: Option<bool>| WatchQuery {
        resource_version: version.to_owned(),
        resource_version_match: initial.map_or("", |_| "NotOlderThan").to_owned(),
        send_initial_events: initial,
        bookmarks: true,
        ..WatchQuery::default()
    };
    let third = fixture.put("ns", "c", "", "web").await;
    let objects = [format!("+a@{first}"), format!("+c@{third}")];
    let marked = [&objects[..], &[format!("end@{third}")]].concat();
    let web = app("web");
    for version in ["", "0", &third.to_string()] {
        let mut watcher = fixture.cache.watch(&query(version, Some(true)), &web, None).await.unwrap();
        assert_eq!(told(&mut watcher).await, marked, "{version}");
        let next = fixture.put("ns", "z", "", "web").await;
        let gone = fixture.delete("ns", "z").await.unwrap();
        assert_eq!(told(&mut watcher).await, [format!("+z@{next}"), format!("-z@{gone}")]);
        if version.is_empty() {
            assert_ne!(gone, third);
        }
        // The next round sees the same objects, at a newer revision.
        let newest = fixture.memory.current_revision().await.unwrap();
        let mut again = fixture.cache.watch(&query("", Some(true)), &web, None).await.unwrap();
        assert_eq!(told(&mut again).await, [&objects[..], &[format!("end@{newest}")]].concat());
        if version.is_empty() {
            break;
        }
    }
    let newest = fixture.memory.current_revision().await.unwrap();
    let too_new = query(&newest.next().to_string(), Some(true));
    let mut watcher = fixture.cache.watch(&too_new, &web, None).await.unwrap();
    let error = format!("504 Too large resource version: {}, current: {newest}", newest.next());
    assert_eq!(told(&mut watcher).await, [error]);

    // Without bookmarks, and as it was before there were marks.
    for query in
        [WatchQuery { bookmarks: false, ..query("0", Some(true)) }, query("", None), query("0", None)]
    {
        let mut watcher = fixture.cache.watch(&query, &web, None).await.unwrap();
        assert_eq!(told(&mut watcher).await, objects);
    }
    for version in ["", "0"] {
        let mut watcher = fixture.cache.watch(&query(version, Some(false)), &web, None).await.unwrap();
        assert_eq!(told(&mut watcher).await, [""; 0]);
        let next = fixture.put("ns", "y", "", "web").await;
        fixture.put("ns", "y", "", "db").await;
        assert_eq!(told(&mut watcher).await[0], format!("+y@{next}"));
    }
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn bookmarks_come_every_minute_and_before_the_end() {
    let fixture = Fixture::new();
    let start = fixture.put("ns", "a", "", "").await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    let query = WatchQuery { bookmarks: true, ..behind(start) };
    let mut watcher = fixture.cache.watch(&query, &app("none"), Some(deadline)).await.unwrap();
    let began = tokio::time::Instant::now();
    // What is not wanted, or is elsewhere, moves the bookmark all the same.
    fixture.put("ns", "b", "", "").await;
    let elsewhere = Action::Put { value: Bytes::new(), lease: None };
    let revision = fixture.write(Bytes::from_static(b"/registry/secrets/a/b"), elsewhere).await;
    for seconds in [60, 88] {
        let Some(Told::Bookmark { revision: told, initial_events_end: false }) = watcher.next().await else {
            panic!("no bookmark");
        };
        assert_eq!((told, began.elapsed().as_secs()), (revision, seconds));
    }
    assert!(watcher.next().await.is_none());
    assert_eq!(began.elapsed().as_secs(), 90);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn who_is_slow_catches_up_from_the_ring_and_ends_when_that_has_moved_on() {
    let limits = RingLimits { min_events: 1, max_events: 20, ..RingLimits::default() };
    let fixture = Fixture::with(limits, 2);
    let start = fixture.put("ns", "a", "", "").await;
    let mut slow = fixture.cache.watch(&behind(start), &ALL(), None).await.unwrap();
    assert_eq!(told(&mut slow).await, [""; 0]);
    assert_eq!(fixture.cache.watchers(), 1);
    let mut expected = Vec::new();
    for number in 0..15 {
        expected.push(format!("~a@{}", fixture.put("ns", "a", "", &number.to_string()).await));
        fixture.settle().await;
    }
    assert_eq!(fixture.cache.watchers(), 0, "its queue is full; nobody waits for it");
    assert_eq!(told(&mut slow).await, expected);
    assert_eq!(fixture.cache.watchers(), 1);

    let mut last = Vec::new();
    for number in 0..40 {
        last.push(fixture.put("ns", "a", "", &number.to_string()).await);
        fixture.settle().await;
    }
    let seen = told(&mut slow).await;
    let error = format!("410 too old resource version: {} ({})", last[1], last[19]);
    assert_eq!(seen, [format!("~a@{}", last[0]), format!("~a@{}", last[1]), error]);
    let mut late = fixture.cache.watch(&behind(start), &ALL(), None).await.unwrap();
    assert_eq!(told(&mut late).await, [format!("410 too old resource version: {start} ({})", last[19])]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_watch_is_nothing_to_watchers_and_lost_changes_end_those_they_concern() {
    let fixture = Fixture::new();
    let start = fixture.put("a", "x", "", "").await;
    fixture.settle().await;
    let within = |namespace| Selection { prefix: fixture.keys.namespace_prefix(namespace), ..ALL() };
    let mut a = fixture.cache.watch(&behind(start), &within("a"), None).await.unwrap();
    let mut b = fixture.cache.watch(&behind(start), &within("b"), None).await.unwrap();
    assert_eq!((told(&mut a).await, told(&mut b).await), (vec![], vec![]));

    fixture.memory.break_watches();
    let second = fixture.put("a", "x", "", "").await;
    assert_eq!(told(&mut a).await, [format!("~x@{second}")]);

    fixture.put("a", "x", "", "").await;
    let lost = fixture.put("a", "y", "", "").await;
    fixture.lose_changes().await;
    assert_eq!(told(&mut a).await, [format!("410 too old resource version: {second} ({lost})")]);
    assert_eq!(told(&mut b).await, [""; 0]);
    let next = fixture.put("b", "z", "", "").await;
    assert_eq!(told(&mut b).await, [format!("+z@{next}")]);
    let mut again = fixture.cache.watch(&behind(second), &within("a"), None).await.unwrap();
    assert!(told(&mut again).await[0].starts_with("410"));
    let mut other = fixture.cache.watch(&behind(second), &within("b"), None).await.unwrap();
    assert_eq!(told(&mut other).await, [format!("+z@{next}")]);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_object_ends_the_watches_that_it_may_concern() {
    let fixture = Fixture::new();
    let start = fixture.put("a", "x", "", "").await;
    let within = |namespace| Selection { prefix: fixture.keys.namespace_prefix(namespace), ..ALL() };
    let mut a = fixture.cache.watch(&behind(start), &within("a"), None).await.unwrap();
    let mut b = fixture.cache.watch(&behind(start), &within("b"), None).await.unwrap();
    fixture.write(fixture.keys.object("a", "y"), Action::Put { value: Bytes::new(), lease: None }).await;
    assert!(
        told(&mut a).await[0].starts_with("500 Internal error occurred: the object at /registry/pods/a/y")
    );
    assert_eq!(told(&mut b).await, [""; 0]);
    fixture.stop().await;
}
