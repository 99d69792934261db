//! Many watchers on several threads, while one writer never stops: what only threads can get wrong.

use std::collections::BTreeMap;

use super::*;

const WRITES: u32 = 3000;
const CLIENTS: usize = 8;
/// Written last.
const LAST: &str = "zz";

/// Lists once, then watches, each time for some events, until it sees the last write; what it then knows.
async fn follow(cache: WatchCache<Memory>, patience: usize) -> BTreeMap<Bytes, Revision> {
    let list = cache.list(&at("0", ""), &Selection::default()).await.unwrap();
    let object = |object: &Arc<Object>| (object.key().clone(), object.revision());
    let mut known: BTreeMap<_, _> = list.objects.iter().map(object).collect();
    let mut last = list.revision;
    loop {
        let mut watcher = cache.watch(&behind(last), &Selection::default(), None).await.unwrap();
        for _ in 0..patience {
            let told = watcher.next().await.expect("the cache runs");
            let Told::Object { kind, object, revision, .. } = told else { panic!("{told:?}") };
            assert!(revision > last, "{revision} after {last}");
            last = revision;
            let before = match kind {
                Kind::Added | Kind::Modified => known.insert(object.key().clone(), revision),
                Kind::Deleted => known.remove(object.key()),
            };
            assert_eq!(before.is_some(), kind != Kind::Added, "{kind:?} {object:?}");
            if object.key().ends_with(LAST.as_bytes()) {
                return known;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_repeated_between_threads() {
    let fixture = Fixture::with(RingLimits::default(), 4);
    fixture.settle().await;
    let clients: Vec<_> =
        (0..CLIENTS).map(|client| tokio::spawn(follow(fixture.cache.clone(), 1 + client * 7))).collect();
    for number in 0..WRITES {
        let name = (number % 7).to_string();
        if number % 5 == 4 {
            fixture.delete("ns", &name).await;
        } else {
            fixture.put("ns", &name, "", "").await;
        }
        tokio::task::yield_now().await;
    }
    fixture.put("ns", LAST, "", "").await;
    let newest = fixture.cache.list(&ListQuery::default(), &Selection::default()).await.unwrap();
    let newest: BTreeMap<_, _> =
        newest.objects.iter().map(|object| (object.key().clone(), object.revision())).collect();
    for client in clients {
        assert_eq!(client.await.unwrap(), newest);
    }
    fixture.stop().await;
}
