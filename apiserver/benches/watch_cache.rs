//! What the watch cache costs: memory for an object and for a watcher, time for an event, a list and a reading. Numbers
//! are printed, never judged: they depend on the machine.
//!
//! `cargo bench -p barque-apiserver --bench watch_cache -- [objects] [watchers]`

use std::sync::Arc;
use std::time::{Duration, Instant};

use barque_api::kind::GroupResource;
use barque_apiserver::storage::keys::{CollectionKeys, DEFAULT_ROOT};
use barque_apiserver::storage::memory::Memory;
use barque_apiserver::storage::{Action, Entry, Expected, Revision, Storage, Write};
use barque_apiserver::watch_cache::event::Form;
use barque_apiserver::watch_cache::object::Object;
use barque_apiserver::watch_cache::query::{ListQuery, WatchQuery};
use barque_apiserver::watch_cache::reader::ObjectReader;
use barque_apiserver::watch_cache::registry::Selection;
use barque_apiserver::watch_cache::watcher::{Told, Watcher};
use barque_apiserver::watch_cache::{Collection, WatchCache};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Nodes that the pods are spread over.
const NODES: usize = 1000;
/// Changes that are dispatched.
const EVENTS: usize = 200;

fn pod(number: usize) -> Bytes {
    let node = number % NODES;
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"annotations":{{"kubernetes.io/config.seen":"2026-01-01T00:00:00Z"}},"creationTimestamp":"2026-01-01T00:00:00Z","labels":{{"app":"web","pod-template-hash":"5d7d9c8b6f","tier":"front"}},"name":"web-{number:06}","namespace":"default","uid":"00000000-0000-0000-0000-{number:012}"}},"spec":{{"containers":[{{"image":"registry.example.com/web:1.2.3","name":"web","resources":{{"requests":{{"cpu":"100m","memory":"128Mi"}}}}}}],"nodeName":"node-{node:04}","restartPolicy":"Always","serviceAccountName":"default"}},"status":{{"phase":"Running","podIP":"10.0.0.1"}}}}"#
    )
    .into()
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: usize = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

fn each(took: Duration, count: usize) -> String {
    format!("{:.2} us", took.as_secs_f64() * 1e6 / count.max(1) as f64)
}

fn nothing_of(bytes: usize, count: usize) -> usize {
    bytes / count.max(1)
}

async fn write(memory: &Memory, key: Bytes, value: Bytes) {
    let stands = memory.get(&key).await.ok().and_then(|got| got.entry);
    let expected = stands.map_or(Expected::Absent, |entry| Expected::At(entry.revision));
    let write = Write { key, expected, action: Action::Put { value, lease: None } };
    let written = memory.write(&write).await;
    assert!(written.is_ok(), "{written:?}");
}

async fn watch_all(cache: &WatchCache<Memory>, selection: &Selection, count: usize) -> Vec<Watcher> {
    let newest = cache.revision().map(|revision| revision.to_string()).unwrap_or_default();
    let query = WatchQuery { resource_version: newest, ..WatchQuery::default() };
    let mut watchers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut watcher = cache.watch(&query, selection, None).await.expect("the cache is ready");
        // One look makes it live.
        let _ = ready(&mut watcher).await;
        watchers.push(watcher);
    }
    watchers
}

/// What is told without waiting for it.
async fn ready(watcher: &mut Watcher) -> Option<Told> {
    tokio::select! {
        biased;
        told = watcher.next() => told,
        () = std::future::ready(()) => None,
    }
}

fn main() {
    let mut words = std::env::args().skip(1).filter_map(|word| word.parse::<usize>().ok());
    let (objects, watchers) = (words.next().unwrap_or(20_000), words.next().unwrap_or(5_000));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(run(objects, watchers));
}

async fn run(objects: usize, watchers: usize) {
    let fields = [("spec.nodeName", ""), ("status.phase", ""), ("spec.restartPolicy", "")];
    let began = Instant::now();
    let reader = ObjectReader::new(fields);
    for number in 0..objects {
        let entry = Entry { key: Bytes::from_static(b"/k"), value: pod(number), revision: Revision(1) };
        std::hint::black_box(reader.read(entry));
    }
    println!("reading an object of {} bytes: {}", pod(0).len(), each(began.elapsed(), objects));

    let memory = Memory::new();
    let keys = CollectionKeys::new(DEFAULT_ROOT, &GroupResource::new("", "pods"), true, false);
    for number in 0..objects {
        write(&memory, keys.object("default", &format!("web-{number:06}")), pod(number)).await;
    }
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let before = resident_bytes();
    let collection = Collection::new(keys.prefix().clone(), ObjectReader::new(fields), Some("spec.nodeName"));
    let began = Instant::now();
    let cache = WatchCache::start(memory.clone(), collection, &tasks, stop.clone());
    let list = cache.list(&ListQuery::default(), &Selection::default()).await.expect("a list");
    println!("first list of {}: {:?}", list.objects.len(), began.elapsed());
    let grown = resident_bytes().saturating_sub(before);
    println!("an object costs {} bytes beside the stored ones", nothing_of(grown, objects));
    drop(list);

    let filter = |object: &Object| object.label("app") == Some("web");
    let labelled = Selection { filter: Some(Arc::new(filter)), ..Selection::default() };
    for (name, selection) in [
        ("all", Selection::default()),
        ("by label", labelled),
        ("by node", Selection { value: Some("node-0007".to_owned()), ..Selection::default() }),
    ] {
        let began = Instant::now();
        let list = cache.list(&ListQuery::default(), &selection).await.expect("a list");
        let took = began.elapsed();
        println!("list {name}: {} objects in {took:?}", list.objects.len());
    }

    let before = resident_bytes();
    let mut broad = watch_all(&cache, &Selection::default(), watchers).await;
    let grown = resident_bytes().saturating_sub(before);
    println!("a watcher costs {} bytes", nothing_of(grown, watchers));
    dispatch(&memory, &keys, &cache, &mut broad, "everybody wants it").await;
    drop(broad);
    let mut narrow = Vec::new();
    for node in 0..watchers {
        let value = Some(format!("node-{:04}", node % NODES));
        narrow.extend(watch_all(&cache, &Selection { value, ..Selection::default() }, 1).await);
    }
    dispatch(&memory, &keys, &cache, &mut narrow, "the watchers of one node want it").await;
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

/// Changes one object after the other, and has everybody read what it is told.
async fn dispatch(
    memory: &Memory,
    keys: &CollectionKeys,
    cache: &WatchCache<Memory>,
    watchers: &mut [Watcher],
    name: &str,
) {
    let (mut told, mut encoded) = (0, 0);
    let began = Instant::now();
    for number in 0..EVENTS {
        write(memory, keys.object("default", &format!("web-{number:06}")), pod(number)).await;
        // The list sees the write, so the event was handed out.
        let one = ListQuery { limit: 1, ..ListQuery::default() };
        let _ = cache.list(&one, &Selection::default()).await;
        for watcher in &mut *watchers {
            while let Some(Told::Object { kind, object, revision, event }) = ready(watcher).await {
                told += 1;
                if let Some(event) = event {
                    let frame = event.frame(Form(0), kind, || {
                        encoded += 1;
                        let mut out = Vec::new();
                        object.write_json(revision, &mut out);
                        Ok::<_, std::convert::Infallible>(out.into())
                    });
                    std::hint::black_box(frame).ok();
                }
            }
        }
    }
    let took = began.elapsed();
    println!(
        "{EVENTS} events, {} watchers, {name}: {} for an event with all its readers, {told} told, {encoded} encoded",
        watchers.len(),
        each(took, EVENTS)
    );
}
