//! Whatever happens in whatever order: a model of what each watch must see, and an applier on another thread.

use super::*;

/// What one watch of the model client knows.
struct Seen {
    range: WatchRange,
    create: WatchCreateRequest,
    /// First revision that it must see; known when it was created.
    start: Option<i64>,
    /// What a client could read when it asked.
    asked_at: i64,
    /// Events of the store's log that it has, counted.
    seen: usize,
    /// The newest promise.
    promised: i64,
    /// Between two fragments.
    in_fragments: bool,
}

impl Seen {
    /// What it must see of everything that ever was.
    fn wanted(&self, store: &Store) -> Vec<Event> {
        let Some(start) = self.start else { return Vec::new() };
        let filtered = |kind| match kind {
            EventKind::Put => self.create.filters.contains(&FilterType::Noput.into()),
            EventKind::Delete => self.create.filters.contains(&FilterType::Nodelete.into()),
        };
        let wanted =
            |e: &&Event| e.at.main.0 >= start && self.range.contains(e.record.key()) && !filtered(e.kind);
        store.events.iter().filter(wanted).cloned().collect()
    }

    /// Bookmarkable: whatever is not newer than the promise was seen.
    fn check_promise(&mut self, revision: i64, store: &Store) {
        let missing = self.wanted(store).get(self.seen).map_or(i64::MAX, |e| e.at.main.0);
        assert!(missing > revision, "promised {revision}, but {missing} was not sent");
        assert!(revision >= self.promised, "promises do not go back");
        assert!(revision <= store.revision);
        self.promised = revision;
    }

    fn check_events(&mut self, answer: &WatchResponse, store: &Store) {
        let wanted = self.wanted(store);
        for got in events(answer) {
            // Ordered, unique, reliable: exactly the next one.
            let want = &wanted[self.seen];
            let kv = |r: &Record| mvccpb::KeyValue::decode(r.encoded()).unwrap();
            assert_eq!(got.kv.unwrap(), kv(&want.record));
            assert_eq!(got.r#type == 1, want.kind == EventKind::Delete);
            assert_eq!(got.prev_kv, want.previous.as_ref().filter(|_| self.create.prev_kv).map(kv));
            self.seen += 1;
        }
        assert!(self.create.fragment || !answer.fragment);
        self.in_fragments = answer.fragment;
        if !answer.fragment {
            // Atomic: a revision is not cut.
            let (last, next) = (wanted[self.seen - 1].at.main, wanted.get(self.seen).map(|e| e.at.main));
            assert_ne!(Some(last), next);
            self.check_promise(told(answer), store);
        }
    }
}

/// A client with one stream, which checks every answer.
struct Client {
    stream: WatchStream,
    watches: HashMap<i64, Seen>,
    /// Ended by compaction and not yet canceled by the client.
    ended: HashSet<i64>,
    /// Requests without an answer yet, in order: the answers are in that order too.
    creating: Vec<Seen>,
}

impl Client {
    fn create(&mut self, create: WatchCreateRequest, asked_at: i64) {
        let range = WatchRange::from_request(&create.key, &create.range_end).unwrap();
        ask(&mut self.stream, create.clone());
        self.creating.push(Seen {
            range,
            create,
            start: None,
            asked_at,
            seen: 0,
            promised: 0,
            in_fragments: false,
        });
    }

    fn check(&mut self, answer: &WatchResponse, store: &Store) {
        if answer.created {
            let mut seen = self.creating.remove(0);
            let start = seen.create.start_revision;
            assert!(told(answer) >= seen.asked_at);
            seen.start = Some(if start == 0 { told(answer) + 1 } else { start });
            seen.promised = if start == 0 { told(answer) } else { 0 };
            assert!(self.watches.insert(answer.watch_id, seen).is_none());
        } else if answer.compact_revision != 0 {
            let seen = self.watches.remove(&answer.watch_id).unwrap();
            assert!(answer.canceled && answer.events.is_empty() && !seen.in_fragments);
            assert!(answer.compact_revision <= store.compacted);
            assert!(seen.promised < answer.compact_revision);
            self.ended.insert(answer.watch_id);
        } else if answer.canceled {
            assert!(self.watches.remove(&answer.watch_id).is_some() || self.ended.remove(&answer.watch_id));
        } else if answer.watch_id == NO_WATCH {
            assert!(!self.watches.is_empty());
            for seen in self.watches.values_mut() {
                assert!(seen.start.unwrap() <= told(answer) + 1 && !seen.in_fragments);
                assert!(seen.create.start_revision <= told(answer));
                seen.check_promise(told(answer), store);
            }
        } else {
            let seen = self.watches.get_mut(&answer.watch_id).expect("created first");
            if answer.events.is_empty() {
                assert!(seen.create.progress_notify && seen.create.start_revision <= told(answer));
                seen.check_promise(told(answer), store);
            } else {
                seen.check_events(answer, store);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// One transaction, in history.
    Write(Vec<(&'static str, Option<u8>)>),
    /// One batch with this many revisions at most.
    Publish(i64),
    Create {
        client: usize,
        keys: (&'static str, &'static str),
        /// Relative to the current revision; 0 is "now".
        start: i64,
        flags: u8,
    },
    Cancel(usize, i64),
    Progress(usize),
    Read(usize, usize),
    Compact(i64),
    Restore,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop::sample::select(vec!["a", "aa", "ab", "b", "ba", "c"]);
    let keys = prop::sample::select(vec![
        ("a", ""),
        ("b", ""),
        ("a", "b"),
        ("aa", "ab"),
        ("a", "c"),
        ("ab", "bz"),
        ("", "\0"),
        ("b", "\0"),
    ]);
    let write = prop::collection::vec((key, prop::option::weighted(0.7, 0u8..40)), 1..5);
    let client = 0usize..2;
    let step = prop_oneof![
        8 => write.prop_map(Step::Write),
        8 => (1i64..4).prop_map(Step::Publish),
        4 => (client.clone(), keys, prop_oneof![Just(0i64), -12i64..5], any::<u8>())
            .prop_map(|(client, keys, start, flags)| Step::Create { client, keys, start, flags }),
        1 => (client.clone(), 0i64..5).prop_map(|(client, id)| Step::Cancel(client, id)),
        2 => client.clone().prop_map(Step::Progress),
        8 => (client, 1usize..6).prop_map(|(client, n)| Step::Read(client, n)),
        1 => (0i64..10).prop_map(Step::Compact),
        1 => Just(Step::Restore),
        2 => (5u64..15).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

async fn run(steps: Vec<Step>, cold: bool) {
    let member = Member::new(SMALL, small_config());
    member.history.cold.store(cold, Ordering::Relaxed);
    let mut clients: Vec<_> = (0..2)
        .map(|_| Client {
            stream: member.stream(),
            watches: HashMap::new(),
            ended: HashSet::new(),
            creating: Vec::new(),
        })
        .collect();
    for step in steps {
        match step {
            Step::Write(changes) => {
                let values: Vec<_> = changes.iter().map(|(_, v)| v.map(|n| vec![n; n.into()])).collect();
                let changes: Vec<_> =
                    changes.iter().zip(&values).map(|((k, _), v)| (k.as_bytes(), v.as_deref())).collect();
                // etcd refuses to change a key twice in one transaction.
                let mut distinct: Vec<(&[u8], Option<&[u8]>)> = Vec::new();
                for change in changes {
                    if distinct.iter().all(|(key, _)| *key != change.0) {
                        distinct.push(change);
                    }
                }
                member.write(&distinct);
            }
            Step::Publish(count) => {
                member.publish((member.hub.published().0 + count).min(member.revision()));
            }
            Step::Create { client, keys, start, flags } => {
                let start_revision = if start == 0 { 0 } else { (member.revision() + start).max(1) };
                let filters = match flags & 7 {
                    0 => vec![FilterType::Noput.into()],
                    1 => vec![FilterType::Nodelete.into()],
                    _ => vec![],
                };
                let asked = WatchCreateRequest {
                    prev_kv: flags & 8 != 0,
                    fragment: flags & 16 != 0,
                    progress_notify: flags & 32 != 0,
                    filters,
                    ..create(keys.0, keys.1, start_revision)
                };
                clients[client].create(asked, member.revision());
            }
            Step::Cancel(client, id) => ask_cancel(&mut clients[client].stream, id),
            Step::Progress(client) => ask_progress(&mut clients[client].stream),
            Step::Read(client, count) => {
                for _ in 0..count {
                    let Some(answer) = next(&mut clients[client].stream).await else { break };
                    clients[client].check(&answer, &member.history.store.lock());
                }
            }
            Step::Compact(back) => {
                let mut store = member.history.store.lock();
                store.compacted = store.compacted.max(store.revision - back);
            }
            Step::Restore => member.hub.restored(Revision(member.revision())),
            Step::Pass(seconds) => tokio::time::advance(Duration::from_secs(seconds)).await,
        }
    }
    member.publish_all();
    for client in &mut clients {
        for answer in drain(&mut client.stream).await {
            client.check(&answer, &member.history.store.lock());
        }
        assert!(client.creating.is_empty());
        let revision = member.revision();
        for seen in client.watches.values() {
            assert_eq!(seen.seen, seen.wanted(&member.history.store.lock()).len(), "nothing is missing");
        }
        assert_eq!(client.stream.watches(), client.watches.len());
        assert_eq!(client.stream.watchers_catching_up(), 0);
        // Everyone is in step, so progress is told, unless somebody waits for the future.
        ask_progress(&mut client.stream);
        let answers = drain(&mut client.stream).await;
        for answer in &answers {
            client.check(answer, &member.history.store.lock());
        }
        let wanted = !client.watches.is_empty()
            && client.watches.values().all(|seen| seen.create.start_revision <= revision);
        assert_eq!(answers.iter().any(|a| a.watch_id == NO_WATCH && told(a) == revision), wanted);
    }
    drop(clients);
    let stats = member.hub.stats();
    let counts = (stats.streams(), stats.watchers(), stats.slow_watchers(), stats.pending_events());
    assert_eq!(counts, (0, 0, 0, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn all_guarantees_hold(steps in steps(), cold in any::<bool>()) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(run(steps, cold));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn nothing_is_lost_while_the_applier_runs_on_another_thread() {
    const REVISIONS: i64 = 3000;
    let limits = HubLimits { max_events: 50, ..HubLimits::default() };
    let member = Arc::new(Member::new(limits, WatchConfig { max_read_events: 20, ..small_config() }));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..6i64 {
        let mut stream = member.stream();
        // From the start, from the past, and one that never gets what it wants before the end.
        ask(&mut stream, create("k", "l", 1 + reader % 2));
        readers.spawn(async move {
            let mut next = 2;
            while next <= REVISIONS + 1 {
                let answer = stream.next().await.unwrap();
                for event in events(&answer) {
                    assert_eq!(event.kv.unwrap().mod_revision, next);
                    next += 1;
                }
                if !answer.created {
                    assert_eq!(told(&answer) + 1, next);
                }
            }
        });
    }
    let applier = tokio::task::spawn_blocking({
        let member = member.clone();
        move || {
            for n in 0..REVISIONS {
                member.put("k", &n.to_string());
            }
        }
    });
    applier.await.unwrap();
    while let Some(done) = readers.join_next().await {
        done.unwrap();
    }
}
