//! Any list with what its watch told since is the later list, whatever happened between: writes, watches on the store that
//! break, changes that are lost, slow clients, small rings.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Put {
        name: u8,
        node: u8,
        app: bool,
    },
    Delete {
        name: u8,
    },
    Break,
    LoseChanges,
    /// A client that wants what its number says.
    Watch(u8),
    /// The first client, or the second, and so on, reads all that there is.
    Read(u8),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..6_u8, 0..2_u8, any::<bool>()).prop_map(|(name, node, app)| Step::Put { name, node, app }),
        4 => (0..6_u8).prop_map(|name| Step::Delete { name }),
        1 => Just(Step::Break),
        1 => Just(Step::LoseChanges),
        3 => any::<u8>().prop_map(Step::Watch),
        4 => any::<u8>().prop_map(Step::Read),
        3 => Just(Step::Settle),
    ]
}

/// A client that lists and watches, as informers do.
struct Client {
    selection: Selection,
    objects: BTreeMap<Bytes, Revision>,
    watcher: Watcher,
    last: Revision,
    /// How often it had to list again.
    expired: usize,
}

impl Client {
    async fn new(fixture: &Fixture, number: u8) -> Self {
        let value = |node: &str| Some(node.to_owned());
        let namespace = fixture.keys.namespace_prefix("0");
        let selection = match number % 5 {
            0 => Selection::default(),
            1 => app("true"),
            2 => Selection { value: value("1"), ..Selection::default() },
            3 => Selection { prefix: namespace, ..app("true") },
            _ => Selection { prefix: fixture.keys.object("1", "1"), single: true, ..Selection::default() },
        };
        let (objects, watcher, last) = Self::list(fixture, &selection).await;
        Self { selection, objects, watcher, last, expired: 0 }
    }

    async fn list(
        fixture: &Fixture,
        selection: &Selection,
    ) -> (BTreeMap<Bytes, Revision>, Watcher, Revision) {
        let list = fixture.cache.list(&at("0", ""), selection).await.unwrap();
        let watcher = fixture.cache.watch(&behind(list.revision), selection, None).await.unwrap();
        (shown(&list.objects), watcher, list.revision)
    }

    async fn read(&mut self, fixture: &Fixture) {
        while let Ok(told) = tokio::time::timeout(SECOND, self.watcher.next()).await {
            let (kind, object, revision) = match told.expect("the cache runs") {
                Told::Object { kind, object, revision, .. } => (kind, object, revision),
                Told::Bookmark { .. } => panic!("nobody asked for a bookmark"),
                Told::Error(status) => {
                    assert_eq!(status.reason.code(), 410, "{status}");
                    self.expired += 1;
                    (self.objects, self.watcher, self.last) = Self::list(fixture, &self.selection).await;
                    continue;
                }
            };
            assert!(revision > self.last, "{revision} after {}", self.last);
            self.last = revision;
            let before = match kind {
                Kind::Added | Kind::Modified => {
                    assert_eq!(object.revision(), revision);
                    self.objects.insert(object.key().clone(), revision)
                }
                Kind::Deleted => self.objects.remove(object.key()),
            };
            assert_eq!(before.is_some(), kind != Kind::Added, "{kind:?} {object:?}");
        }
    }
}

fn shown(objects: &[Arc<Object>]) -> BTreeMap<Bytes, Revision> {
    objects.iter().map(|object| (object.key().clone(), object.revision())).collect()
}

async fn run(steps: Vec<Step>, max_events: usize, queue: usize) {
    let limits = RingLimits { min_events: 1, max_events, ..RingLimits::default() };
    let fixture = Fixture::with(limits, queue);
    let mut clients: Vec<Client> = Vec::new();
    let nothing_is_lost =
        max_events > steps.len() && !steps.iter().any(|step| matches!(step, Step::LoseChanges));
    for step in steps {
        match step {
            Step::Put { name, node, app } => {
                let namespace = (name % 2).to_string();
                fixture.put(&namespace, &name.to_string(), &node.to_string(), &app.to_string()).await;
            }
            Step::Delete { name } => {
                fixture.delete(&(name % 2).to_string(), &name.to_string()).await;
            }
            Step::Break => fixture.memory.break_watches(),
            Step::LoseChanges => fixture.lose_changes().await,
            Step::Watch(number) => clients.push(Client::new(&fixture, number).await),
            Step::Read(number) => {
                let count = clients.len().max(1);
                if let Some(client) = clients.get_mut(usize::from(number) % count) {
                    client.read(&fixture).await;
                }
            }
            Step::Settle => fixture.settle().await,
        }
    }
    fixture.settle().await;
    for client in &mut clients {
        client.read(&fixture).await;
        let newest = fixture.cache.list(&ListQuery::default(), &client.selection).await.unwrap();
        assert_eq!(client.objects, shown(&newest.objects));
        assert!(!nothing_is_lost || client.expired == 0, "it was ended though nothing was lost");
    }
    drop(clients);
    assert_eq!(fixture.cache.watchers(), 0);
    fixture.stop().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_list_and_its_watch_are_the_later_list(
        steps in proptest::collection::vec(step(), 0..80),
        max_events in prop_oneof![Just(3_usize), Just(1000)],
        queue in 1..4_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(run(steps, max_events, queue));
    }
}
