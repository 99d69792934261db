//! The garbage collector over a simulated API: users, watches that lag and several looks at once, in an order that a seed says.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::attempt::{Collector, Looked, Objects};
use super::fate::Live;
use super::graph::{Effects, FOREGROUND, Graph, ORPHAN, Work};
use super::identity::Identity;
use super::patches::OwnersChange;
use crate::plan::{Failure, Propagation, Verdict};

const VERSION: &str = "x.org/v1";
/// Two kinds in namespaces, one in none.
const KINDS: [&str; 3] = ["A", "B", "Whole"];
const NAMESPACES: [&str; 2] = ["n", "m"];
/// A finalizer of a user's.
const USERS: &str = "users.org/finalizer";

/// Kind, namespace and name.
type Place = (String, String, String);

#[derive(Debug, Clone)]
struct Object {
    live: Live,
    place: Place,
}

impl Object {
    fn identity(&self) -> Identity {
        let (kind, namespace, name) = self.place.clone();
        Identity { kind, api_version: VERSION.into(), namespace, name, uid: self.live.uid.clone() }
    }

    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            owner_references: Some(self.live.owners.clone()),
            finalizers: Some(self.live.finalizers.clone()),
            deletion_timestamp: self.live.deleting.then_some(Time(Timestamp::UNIX_EPOCH)),
            ..ObjectMeta::default()
        }
    }

    fn owned_by(&self, uid: &str) -> bool {
        self.live.owners.iter().any(|owner| owner.uid == uid)
    }
}

/// What the API has.
#[derive(Default)]
struct Truth {
    objects: BTreeMap<Place, Object>,
    /// What changed, and whether it went; by kind, in order.
    history: BTreeMap<String, Vec<(Object, bool)>>,
    version: u64,
    /// Writes that fail, of a hundred.
    trouble: u32,
    rng: Option<StdRng>,
}

impl Truth {
    fn put(&mut self, mut object: Object) {
        self.version += 1;
        object.live.version = self.version.to_string();
        let gone = object.live.deleting && object.live.finalizers.is_empty();
        if gone {
            self.objects.remove(&object.place);
        } else {
            self.objects.insert(object.place.clone(), object.clone());
        }
        self.history.entry(object.place.0.clone()).or_default().push((object, gone));
    }

    fn owner(&self, reference: &OwnerReference, namespace: &str) -> Option<&Object> {
        let namespace = if reference.kind == "Whole" { "" } else { namespace };
        let found = self.objects.get(&(reference.kind.clone(), namespace.to_owned(), reference.name.clone()));
        found.filter(|object| object.live.uid == reference.uid)
    }

    fn delete(&mut self, place: &Place, propagation: Propagation) {
        let Some(mut object) = self.objects.get(place).cloned() else { return };
        object.live.deleting = true;
        let finalizers = &mut object.live.finalizers;
        finalizers.retain(|one| one != ORPHAN && one != FOREGROUND);
        match propagation {
            Propagation::Foreground => finalizers.push(FOREGROUND.into()),
            Propagation::Orphan => finalizers.push(ORPHAN.into()),
            Propagation::Background | Propagation::Default => {}
        }
        self.put(object);
    }

    fn same(&self, object: &Identity) -> Result<Object, Failure> {
        let place = (object.kind.clone(), object.namespace.clone(), object.name.clone());
        let found = self.objects.get(&place).ok_or_else(|| failed(Verdict::Gone))?;
        if found.live.uid == object.uid { Ok(found.clone()) } else { Err(failed(Verdict::Outdated)) }
    }

    fn at(&self, object: &Identity, version: &str) -> Result<Object, Failure> {
        let found = self.same(object)?;
        if found.live.version == version { Ok(found) } else { Err(failed(Verdict::Outdated)) }
    }

    fn fails(&mut self) -> Result<(), Failure> {
        let trouble = self.trouble;
        let fails = self.rng.as_mut().is_some_and(|rng| rng.random_ratio(trouble, 100));
        if fails { Err(failed(Verdict::Unknown)) } else { Ok(()) }
    }
}

fn failed(verdict: Verdict) -> Failure {
    Failure { verdict, message: format!("{verdict:?}") }
}

struct Fake(Arc<Mutex<Truth>>);

/// Lets others go first, once.
async fn elsewhere() {
    let mut first = true;
    std::future::poll_fn(|context| {
        if !std::mem::take(&mut first) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl Objects for Fake {
    fn namespaced(&self, api_version: &str, kind: &str) -> Option<bool> {
        (api_version == VERSION && KINDS.contains(&kind)).then_some(kind != "Whole")
    }

    async fn get(&self, object: &Identity) -> Result<Option<Live>, Failure> {
        elsewhere().await;
        let mut truth = self.0.lock();
        truth.fails()?;
        let place = (object.kind.clone(), object.namespace.clone(), object.name.clone());
        Ok(truth.objects.get(&place).map(|object| object.live.clone()))
    }

    async fn delete(&self, object: &Identity, version: &str, how: Propagation) -> Result<(), Failure> {
        elsewhere().await;
        let mut truth = self.0.lock();
        truth.fails()?;
        let found = truth.at(object, version)?;
        assert!(!found.live.owners.is_empty(), "{object} has no owner at all");
        for owner in &found.live.owners {
            let living = truth.owner(owner, &object.namespace).filter(|owner| !owner.live.deleting);
            assert!(living.is_none(), "{object} goes, and its owner lives: {living:?}");
        }
        truth.delete(&found.place, how);
        Ok(())
    }

    async fn change_owners(&self, object: &Identity, change: &OwnersChange) -> Result<(), Failure> {
        elsewhere().await;
        let mut truth = self.0.lock();
        truth.fails()?;
        let mut found = truth.same(object)?;
        let owners = change.apply(&found.live.owners);
        if owners != found.live.owners {
            found.live.owners = owners;
            truth.put(found);
        }
        Ok(())
    }

    async fn set_finalizers(
        &self,
        object: &Identity,
        version: &str,
        finalizers: &[String],
    ) -> Result<(), Failure> {
        elsewhere().await;
        let mut truth = self.0.lock();
        truth.fails()?;
        let mut found = truth.at(object, version)?;
        found.live.finalizers = finalizers.to_vec();
        truth.put(found);
        Ok(())
    }
}

type Look = Pin<Box<dyn Future<Output = Looked>>>;

struct World {
    truth: Arc<Mutex<Truth>>,
    collector: Arc<Collector<Fake>>,
    pending: Arc<Mutex<BTreeSet<Work>>>,
    strangers: Arc<Mutex<Vec<(Identity, Identity)>>>,
    looks: Vec<(Work, Look)>,
    heard: BTreeMap<String, usize>,
    rng: StdRng,
    /// Whether watches tell late.
    lags: bool,
    made: u64,
    /// Objects that users deleted themselves.
    deleted: BTreeSet<String>,
    /// Objects that their only owner left behind.
    left_behind: BTreeSet<String>,
}

impl World {
    fn new(seed: u64, lags: bool) -> Self {
        let truth =
            Arc::new(Mutex::new(Truth { rng: Some(StdRng::seed_from_u64(!seed)), ..Truth::default() }));
        let (pending, strangers) = (Arc::<Mutex<BTreeSet<Work>>>::default(), Arc::<Mutex<Vec<_>>>::default());
        let (adds, tells) = (pending.clone(), strangers.clone());
        let follow_up = Box::new(move |effects: Effects| {
            adds.lock().extend(effects.work);
            tells.lock().extend(effects.strangers);
        });
        let objects = Fake(truth.clone());
        let collector = Arc::new(Collector {
            graph: Mutex::new(Graph::default()),
            objects,
            follow_up,
            unserved: Mutex::default(),
        });
        Self {
            truth,
            collector,
            pending,
            strangers,
            looks: Vec::new(),
            heard: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
            lags,
            made: 0,
            deleted: BTreeSet::new(),
            left_behind: BTreeSet::new(),
        }
    }

    fn any(&mut self) -> Option<Object> {
        let truth = self.truth.lock();
        let count = truth.objects.len();
        let chosen = if count == 0 { None } else { Some(self.rng.random_range(0..count)) };
        chosen.and_then(|at| truth.objects.values().nth(at).cloned())
    }

    /// A reference to something that is older and not on its way; seldom to something that never was.
    fn owner(&mut self, namespace: &str) -> Option<OwnerReference> {
        let block = self.rng.random_ratio(1, 2).then_some(true);
        let reference = |kind: &str, name: &str, uid: &str| OwnerReference {
            api_version: VERSION.into(),
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            controller: None,
            block_owner_deletion: block,
        };
        if self.rng.random_ratio(1, 15) {
            let number = self.rng.random_range(0..3);
            return Some(reference("A", "nobody", &format!("none-{number}")));
        }
        let object = self.any()?;
        let (kind, of, name) = &object.place;
        // One of another namespace is a mistake; users make it seldom.
        let near =
            of.is_empty() || of == namespace || (!namespace.is_empty() && self.rng.random_ratio(1, 10));
        (!object.live.deleting && near).then(|| reference(kind, name, &object.live.uid))
    }

    fn create(&mut self) {
        self.made += 1;
        let kind = KINDS[self.rng.random_range(0..KINDS.len())];
        let namespace = if kind == "Whole" { "" } else { NAMESPACES[self.rng.random_range(0..2)] };
        let mut owners: Vec<OwnerReference> = Vec::new();
        for _ in 0..self.rng.random_range(0..4) {
            let owner = self.owner(namespace);
            let fits = |owner: &OwnerReference| kind != "Whole" || owner.kind == "Whole";
            if let Some(owner) = owner.filter(fits)
                && owners.iter().all(|other| other.uid != owner.uid)
            {
                owners.push(owner);
            }
        }
        let finalizers = if self.rng.random_ratio(1, 8) { vec![USERS.to_owned()] } else { Vec::new() };
        let (uid, name) = (format!("{:05}", self.made), format!("o{}", self.made));
        let live = Live { uid, version: String::new(), owners, finalizers, deleting: false };
        let place = (kind.to_owned(), namespace.to_owned(), name);
        self.truth.lock().put(Object { live, place });
    }

    fn user_deletes(&mut self) {
        let Some(object) = self.any().filter(|object| !object.live.deleting) else { return };
        let how = [Propagation::Background, Propagation::Foreground, Propagation::Orphan]
            [self.rng.random_range(0..3)];
        let mut truth = self.truth.lock();
        if how == Propagation::Orphan {
            let uid = &object.live.uid;
            let only = |one: &&Object| {
                one.live.owners.len() == 1 && truth.owner(&one.live.owners[0], &one.place.1).is_some()
            };
            let behind =
                truth.objects.values().filter(|one| one.owned_by(uid) && !one.live.deleting).filter(only);
            self.left_behind.extend(behind.map(|one| one.live.uid.clone()));
        }
        self.deleted.insert(object.live.uid.clone());
        truth.delete(&object.place, how);
    }

    fn user_edits(&mut self) {
        let Some(mut object) = self.any() else { return };
        let mut truth = self.truth.lock();
        match self.rng.random_range(0..3) {
            0 => object.live.finalizers.retain(|one| one != USERS),
            // A change that is no matter.
            1 => {}
            _ => {
                let Some(owner) = object.live.owners.last_mut() else { return };
                owner.block_owner_deletion = None;
            }
        }
        truth.put(object);
    }

    /// A watch tells of the next change; whether there was one.
    fn hear(&mut self, kind: &str) -> bool {
        let heard = self.heard.entry(kind.to_owned()).or_default();
        let told = self.truth.lock().history.get(kind).and_then(|all| all.get(*heard).cloned());
        let Some((object, gone)) = told else { return false };
        *heard += 1;
        let effects = {
            let mut graph = self.collector.graph.lock();
            let effects = if gone {
                graph.gone(&object.live.uid)
            } else {
                graph.observe(object.identity(), &object.meta())
            };
            graph.check();
            effects
        };
        (self.collector.follow_up)(effects);
        true
    }

    fn hear_all(&mut self) -> bool {
        let mut any = false;
        for kind in KINDS {
            while self.hear(kind) {
                any = true;
            }
        }
        any
    }

    /// Somebody begins to look at a node.
    fn look(&mut self) -> bool {
        let mut pending = self.pending.lock();
        if pending.is_empty() {
            return false;
        }
        let at = self.rng.random_range(0..pending.len());
        let work = pending.iter().nth(at).cloned().unwrap();
        // A queue hands a key to one worker at a time.
        let busy = |one: &Work| match (one, &work) {
            (Work::Delete(one) | Work::DeleteLater(one), Work::Delete(other) | Work::DeleteLater(other))
            | (Work::Orphan(one), Work::Orphan(other)) => one == other,
            _ => false,
        };
        if self.looks.len() >= 3 || self.looks.iter().any(|(one, _)| busy(one)) {
            return false;
        }
        pending.remove(&work);
        let (collector, own) = (self.collector.clone(), work.clone());
        let look: Look = Box::pin(async move {
            match own {
                Work::Delete(uid) | Work::DeleteLater(uid) => collector.delete(&uid).await,
                Work::Orphan(uid) => collector.orphan(&uid).await,
            }
        });
        self.looks.push((work, look));
        true
    }

    /// One of those who look goes on; whether there was one.
    fn go_on(&mut self) -> bool {
        if self.looks.is_empty() {
            return false;
        }
        let at = self.rng.random_range(0..self.looks.len());
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(looked) = self.looks[at].1.as_mut().poll(&mut context) {
            let (work, _) = self.looks.remove(at);
            if looked == Looked::Again {
                self.pending.lock().insert(work);
            }
        }
        self.collector.graph.lock().check();
        true
    }

    fn step(&mut self) {
        match self.rng.random_range(0..20) {
            0..=3 => self.create(),
            4 => self.user_deletes(),
            5..=6 => self.user_edits(),
            7..=10 => {
                let kind = KINDS[self.rng.random_range(0..KINDS.len())];
                self.hear(kind);
            }
            11..=13 => {
                self.look();
            }
            _ => {
                self.go_on();
            }
        }
        if !self.lags {
            self.hear_all();
            self.check_foreground();
        }
    }

    /// Where nothing lags, who goes in the foreground goes after all that block it.
    fn check_foreground(&self) {
        let truth = self.truth.lock();
        for (gone, _) in truth.history.values().flatten().filter(|(_, gone)| *gone) {
            let waited = truth.history[&gone.place.0].iter().any(|(object, _)| {
                object.live.uid == gone.live.uid && object.live.deleting && object.live.has(FOREGROUND)
            });
            let blocks = |object: &&Object| {
                let mut owners = object.live.owners.iter();
                owners.any(|owner| owner.uid == gone.live.uid && owner.block_owner_deletion == Some(true))
            };
            let left = truth.objects.values().find(blocks);
            assert!(!waited || left.is_none(), "{gone:?} went before {left:?}");
        }
    }

    /// All trouble ends, users let go, and everything goes on until nothing happens any more.
    fn settle(&mut self) {
        self.truth.lock().trouble = 0;
        let mut quiet = 0;
        for _ in 0..100_000 {
            let held: Vec<_> = {
                let truth = self.truth.lock();
                let held = truth.objects.values().filter(|one| one.live.deleting && one.live.has(USERS));
                held.cloned().collect()
            };
            for mut object in held {
                object.live.finalizers.retain(|one| one != USERS);
                self.truth.lock().put(object);
            }
            let before = self.truth.lock().version;
            let busy = self.hear_all() | self.look() | self.go_on();
            let changed = self.truth.lock().version != before;
            quiet = if busy && !changed { quiet + 1 } else { 0 };
            // Those that are looked at again and again wait for nothing.
            if !busy || quiet > 500 {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn check_end(&self) {
        let truth = self.truth.lock();
        for object in truth.objects.values() {
            assert!(!object.live.deleting, "{object:?} does not go");
            let gone = |owner: &OwnerReference| truth.owner(owner, &object.place.1).is_none();
            let lost = !object.live.owners.is_empty() && object.live.owners.iter().all(gone);
            assert!(!lost, "{object:?} has no owner left");
        }
        let graph = self.collector.graph.lock();
        for object in truth.objects.values() {
            assert!(graph.node(&object.live.uid).is_some_and(|node| !node.is_virtual), "{object:?}");
        }
        assert_eq!(graph.len(), truth.objects.len(), "nodes without objects");
    }

    /// Who was left behind is there, unless a user deleted it later. Holds where nothing lags.
    fn check_left_behind(&self) {
        let truth = self.truth.lock();
        for uid in self.left_behind.difference(&self.deleted) {
            assert!(truth.objects.values().any(|object| object.live.uid == *uid), "{uid} is gone");
        }
    }
}

fn run(seed: u64, steps: usize, trouble: u32, lags: bool) -> World {
    let mut world = World::new(seed, lags);
    world.truth.lock().trouble = trouble;
    for _ in 0..steps {
        world.step();
    }
    world.settle();
    world.check_end();
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn what_has_no_owner_left_goes_and_nothing_else(seed in any::<u64>(), steps in 0usize..400, trouble in 0u32..30) {
        run(seed, steps, trouble, true);
    }

    #[test]
    fn owners_wait_for_those_that_block_them_and_orphans_stay(
        seed in any::<u64>(), steps in 0usize..400, trouble in 0u32..30
    ) {
        run(seed, steps, trouble, false).check_left_behind();
    }
}

#[test]
fn an_owner_of_another_namespace_is_none_and_people_are_told() {
    let mut world = World::new(0, false);
    let object = |kind: &str, namespace: &str, name: &str, owners| Object {
        live: Live {
            uid: format!("uid-{name}"),
            version: String::new(),
            owners,
            finalizers: Vec::new(),
            deleting: false,
        },
        place: (kind.into(), namespace.into(), name.into()),
    };
    let owner = OwnerReference {
        api_version: VERSION.into(),
        kind: "A".into(),
        name: "owner".into(),
        uid: "uid-owner".into(),
        controller: None,
        block_owner_deletion: None,
    };
    world.truth.lock().put(object("A", "m", "owner", Vec::new()));
    world.hear_all();
    world.truth.lock().put(object("B", "n", "far", vec![owner.clone()]));
    world.truth.lock().put(object("B", "m", "near", vec![owner]));
    world.settle();
    let truth = world.truth.lock();
    let names: Vec<_> = truth.objects.keys().map(|(_, _, name)| name.as_str()).collect();
    assert_eq!(names, ["owner", "near"]);
    let strangers = world.strangers.lock();
    let told: Vec<_> =
        strangers.iter().map(|(dependent, owner)| format!("{} {owner}", dependent.name)).collect();
    assert_eq!(told, ["far [x.org/v1/A, namespace: n, name: owner, uid: uid-owner]"]);
}

#[test]
fn owners_that_own_each_other_go_together() {
    for seed in 0..50 {
        let mut world = World::new(seed, seed % 2 == 0);
        let object = |name: &str, owner: &str| Object {
            live: Live {
                uid: format!("uid-{name}"),
                version: String::new(),
                owners: vec![OwnerReference {
                    api_version: VERSION.into(),
                    kind: "A".into(),
                    name: owner.into(),
                    uid: format!("uid-{owner}"),
                    controller: None,
                    block_owner_deletion: Some(true),
                }],
                finalizers: Vec::new(),
                deleting: false,
            },
            place: ("A".into(), "n".into(), name.into()),
        };
        for (name, owner) in [("first", "third"), ("second", "first"), ("third", "second")] {
            world.truth.lock().put(object(name, owner));
        }
        world.settle();
        assert_eq!(world.truth.lock().objects.len(), 3);
        world.truth.lock().delete(&("A".into(), "n".into(), "first".into()), Propagation::Foreground);
        world.settle();
        assert!(world.truth.lock().objects.is_empty(), "{:?}", world.truth.lock().objects);
    }
}

/// Found by chance: it was taken for one that nobody had deleted.
#[test]
fn dependents_stay_that_a_user_leaves_behind_between_unblocking_and_deleting() {
    run(2018214028645965051, 148, 1, false).check_left_behind();
}

#[test]
fn who_is_deleted_while_it_is_unblocked_goes_as_its_user_said() {
    let mut world = World::new(0, false);
    let object = |name: &str, owner: Option<&str>, finalizers: &[&str]| Object {
        live: Live {
            uid: format!("uid-{name}"),
            version: String::new(),
            owners: Vec::from_iter(owner.map(|owner| OwnerReference {
                api_version: VERSION.into(),
                kind: "A".into(),
                name: owner.into(),
                uid: format!("uid-{owner}"),
                controller: None,
                block_owner_deletion: Some(true),
            })),
            finalizers: finalizers.iter().map(|one| (*one).to_owned()).collect(),
            deleting: false,
        },
        place: ("A".into(), "n".into(), name.into()),
    };
    let place = |name: &str| ("A".to_owned(), "n".to_owned(), name.to_owned());
    let of = |world: &World, name: &str| world.truth.lock().objects.get(&place(name)).cloned();
    for (name, owner, finalizers) in [
        ("root", None, &[][..]),
        ("middle", Some("root"), &[]),
        ("left", Some("middle"), &[]),
        ("waiting", Some("middle"), &[]),
        ("held", Some("waiting"), &[USERS]),
    ] {
        world.truth.lock().put(object(name, owner, finalizers));
    }
    // The middle one has a dependent that waits, so that nobody may wait for the middle one when it is to go with the root.
    world.truth.lock().delete(&place("waiting"), Propagation::Foreground);
    world.truth.lock().delete(&place("root"), Propagation::Foreground);
    world.hear_all();
    let collector = world.collector.clone();
    let mut look = Box::pin(collector.delete("uid-middle"));
    let mut context = Context::from_waker(Waker::noop());
    while of(&world, "middle").unwrap().live.owners[0].block_owner_deletion == Some(true) {
        assert!(look.as_mut().poll(&mut context).is_pending());
    }
    world.truth.lock().delete(&place("middle"), Propagation::Orphan);
    while look.as_mut().poll(&mut context).is_pending() {}
    drop(look);
    assert_eq!(of(&world, "middle").unwrap().live.finalizers, [ORPHAN]);
    world.settle();
    assert!(of(&world, "middle").is_none());
    assert!(of(&world, "left").unwrap().live.owners.is_empty());
}
