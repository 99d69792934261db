//! Lists: which state, which part of it, and what is said when it cannot be had.

use super::*;
use crate::storage::Page;
use crate::watch_cache::query::At;

#[tokio::test(start_paused = true)]
async fn a_list_that_says_nothing_sees_every_write_before_it() {
    let fixture = Fixture::new();
    for number in 0..20 {
        let revision = fixture.put("ns", &number.to_string(), "", "a").await;
        let list = fixture.cache.list(&ListQuery::default(), &Selection::default()).await.unwrap();
        assert_eq!((list.revision, list.objects.len()), (revision, number + 1));
    }
    // Also of other collections.
    let elsewhere = Action::Put { value: Bytes::new(), lease: None };
    let revision = fixture.write(Bytes::from_static(b"/registry/secrets/a/b"), elsewhere).await;
    let list = fixture.cache.list(&ListQuery::default(), &Selection::default()).await.unwrap();
    assert_eq!(list.revision, revision);
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lists_select_by_namespace_node_label_and_name() {
    let fixture = Fixture::new();
    for (namespace, name, node, app) in
        [("a", "1", "x", "web"), ("a", "2", "y", "db"), ("ab", "3", "x", "web"), ("b", "4", "x", "db")]
    {
        fixture.put(namespace, name, node, app).await;
    }
    let list = async |selection: Selection| {
        names(&fixture.cache.list(&ListQuery::default(), &selection).await.unwrap().objects)
    };
    let namespace = |name| Selection { prefix: fixture.keys.namespace_prefix(name), ..Selection::default() };
    let node = |name: &str| Some(name.to_owned());
    assert_eq!(list(Selection::default()).await, "1 2 3 4");
    assert_eq!(list(namespace("a")).await, "1 2");
    assert_eq!(list(app("web")).await, "1 3");
    assert_eq!(list(Selection { value: node("x"), ..Selection::default() }).await, "1 3 4");
    assert_eq!(list(Selection { value: node("x"), ..app("db") }).await, "4");
    assert_eq!(list(Selection { value: node("x"), ..namespace("a") }).await, "1");
    let prefix = fixture.keys.object("a", "1");
    assert_eq!(list(Selection { prefix, single: true, ..Selection::default() }).await, "1");
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn pages_are_parts_of_one_state() {
    let fixture = Fixture::new();
    for name in ["a", "b", "c", "d", "e"] {
        fixture.put("ns", name, "", name).await;
    }
    let all = Selection::default();
    let page =
        |token: &str, limit| ListQuery { continue_token: token.to_owned(), limit, ..ListQuery::default() };
    let first = fixture.cache.list(&page("", 2), &all).await.unwrap();
    assert_eq!((names(&first.objects), first.remaining), ("a b".to_owned(), Some(3)));
    fixture.delete("ns", "c").await;
    fixture.put("ns", "cc", "", "").await;
    fixture.put("ns", "d", "", "changed").await;
    let second = fixture.cache.list(&page(&first.continue_token, 2), &all).await.unwrap();
    assert_eq!((names(&second.objects), second.remaining), ("c d".to_owned(), Some(1)));
    assert_eq!((second.revision, second.objects[1].label("app")), (first.revision, Some("d")));
    let third = fixture.cache.list(&page(&second.continue_token, 2), &all).await.unwrap();
    assert_eq!((names(&third.objects), third.remaining), ("e".to_owned(), None));
    assert_eq!(third.continue_token, "");

    // With a selector nobody knows how many are left.
    let cut = fixture.cache.list(&page("", 1), &app("b")).await.unwrap();
    assert_eq!((names(&cut.objects), cut.remaining), ("b".to_owned(), None));
    let rest = fixture.cache.list(&page(&cut.continue_token, 1), &app("b")).await.unwrap();
    assert_eq!((names(&rest.objects), rest.continue_token.as_str()), (String::new(), ""));
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_old_state_comes_from_ring_or_store_or_is_gone() {
    let limits = RingLimits { min_events: 1, max_events: 2, ..RingLimits::default() };
    let fixture = Fixture::with(limits, 10);
    let mut revisions = Vec::new();
    for name in ["a", "b", "c", "d", "e", "f"] {
        revisions.push(fixture.put("ns", name, "", "").await);
        fixture.settle().await;
    }
    let all = Selection::default();
    let exactly = async |revision: Revision| fixture.cache.list(&at(revision, "Exact"), &all).await;
    assert_eq!(names(&exactly(revisions[4]).await.unwrap().objects), "a b c d e", "from the ring");
    let old = exactly(revisions[1]).await.unwrap();
    assert_eq!((names(&old.objects), old.revision), ("a b".to_owned(), revisions[1]), "from the store");

    let cut = ListQuery { limit: 1, ..at(revisions[2], "Exact") };
    let cut = fixture.cache.list(&cut, &all).await.unwrap();
    assert_eq!((names(&cut.objects), cut.remaining), ("a".to_owned(), Some(2)));
    fixture.memory.compact(revisions[3]).await.unwrap();
    let gone = exactly(revisions[1]).await.unwrap_err();
    assert_eq!((gone.reason.code(), gone.details.continue_token.as_str()), (410, ""));
    assert_eq!(gone.message, "The resourceVersion for the provided list is too old.");

    // A list that was cut goes on with what there is now.
    let rest = ListQuery { continue_token: cut.continue_token, limit: 2, ..ListQuery::default() };
    let gone = fixture.cache.list(&rest, &all).await.unwrap_err();
    assert_eq!(gone.reason.code(), 410);
    assert!(gone.message.contains("inconsistent list"));
    let rest = ListQuery { continue_token: gone.details.continue_token, ..rest };
    let rest = fixture.cache.list(&rest, &all).await.unwrap();
    assert_eq!((names(&rest.objects), rest.revision), ("b c".to_owned(), revisions[5]));
    assert!(!rest.continue_token.is_empty());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_state_that_has_not_come_is_waited_for() {
    let fixture = Fixture::new();
    let revision = fixture.put("ns", "a", "", "").await;
    let all = Selection::default();
    for matching in ["NotOlderThan", "Exact"] {
        let began = tokio::time::Instant::now();
        let query = at(revision.0 + 1, matching);
        let late = fixture.cache.list(&query, &all).await.unwrap_err();
        assert_eq!((late.reason.code(), late.details.retry_after_seconds), (504, 1));
        assert_eq!(
            late.message,
            format!("Too large resource version: {}, current: {revision}", revision.0 + 1)
        );
        assert_eq!(late.details.causes[0].reason, "ResourceVersionTooLarge");
        assert!(began.elapsed() >= Duration::from_secs(3));
    }
    let query = at(revision.0 + 1, "NotOlderThan");
    let (list, written) = tokio::join!(fixture.cache.list(&query, &all), fixture.put("ns", "b", "", ""));
    assert_eq!((list.unwrap().revision, names(&[])), (written, String::new()));
    let key = fixture.keys.object("ns", "b");
    let got = fixture.cache.get(&key, At::NotOlderThan(written)).await.unwrap();
    assert_eq!(got.unwrap().revision(), written);
    assert!(fixture.cache.get(&key, At::NotOlderThan(written.next())).await.is_err());
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_is_named_and_the_others_are_served() {
    let fixture = Fixture::new();
    fixture.put("good", "a", "", "").await;
    let key = fixture.keys.object("bad", "b");
    fixture.write(key.clone(), Action::Put { value: Bytes::from_static(b"{"), lease: None }).await;
    let list = fixture.cache.list(&ListQuery::default(), &Selection::default()).await;
    let status = list.unwrap_err();
    assert_eq!(status.reason.code(), 500);
    assert!(status.message.contains("/registry/pods/bad/b"), "{status}");
    for at in [At::Newest, At::Any] {
        assert!(fixture.cache.get(&key, at).await.is_err());
    }
    let good = Selection { prefix: fixture.keys.namespace_prefix("good"), ..Selection::default() };
    assert_eq!(names(&fixture.cache.list(&ListQuery::default(), &good).await.unwrap().objects), "a");
    fixture.delete("bad", "b").await;
    let list = fixture.cache.list(&ListQuery::default(), &Selection::default()).await;
    assert_eq!(names(&list.unwrap().objects), "a");
    fixture.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_large_collection_is_listed_in_parts_and_whole() {
    let fixture = Fixture::new();
    for number in 0..2500 {
        fixture.put("ns", &format!("{number:05}"), "", "").await;
    }
    let list = fixture.cache.list(&ListQuery::default(), &Selection::default()).await.unwrap();
    let stored = Page { prefix: fixture.keys.prefix().clone(), ..Page::default() };
    let stored = fixture.memory.list(&stored).await.unwrap();
    let keys: Vec<_> = list.objects.iter().map(|object| object.key().clone()).collect();
    let expected: Vec<_> = stored.entries.iter().map(|entry| entry.key.clone()).collect();
    assert_eq!(keys, expected);
    fixture.stop().await;
}
