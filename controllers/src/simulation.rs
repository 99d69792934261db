//! A bed for tests of controllers: their real passes, queues and caches over a simulated API, with watches that lag and writes
//! that fail as a seed says. Must never be part of the product.
//!
//! A test makes a [`World`], lets controllers run in it, adds what must always hold, and makes objects. [`World::step`] does
//! one random thing; [`World::settle`] stops all trouble and goes on until nothing happens any more, then checks that every
//! plan repeated on its own result is empty.

mod api;
mod kubelet;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub(crate) use api::{SimulatedApi, Trouble};

use crate::cache::Caches;
use crate::clock::Clock;
use crate::controller::{AllKeys, Controller, Watches};
use crate::kind::{Key, Kind, Object};
use crate::metrics::Metrics;
use crate::plan::Told;
use crate::queue::WorkQueue;
use crate::reconcile::{Next, Reconciler, Teller};

/// When simulated time begins, in seconds since 1970.
const BEGINNING: i64 = 1_800_000_000;
/// After so many steps without an end, something goes in circles.
const STEPS_MAX: usize = 200_000;

/// What must hold after every write.
type Invariant = Box<dyn Fn(&SimulatedApi)>;

/// Simulated time, shared by everything in a world.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<AtomicU64>);

impl Time {
    /// Since the beginning.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    /// The time of day.
    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_second(BEGINNING).unwrap() + self.elapsed()
    }

    /// As controllers ask for it.
    pub(crate) fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::new(move || time.elapsed())
    }

    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
    }
}

/// Controllers over a simulated API.
pub(crate) struct World {
    /// The API.
    pub(crate) api: SimulatedApi,
    /// Chance.
    pub(crate) rng: StdRng,
    /// Time.
    pub(crate) time: Time,
    /// What people were told.
    pub(crate) told: Arc<Mutex<Vec<Told>>>,
    makers: Vec<Maker>,
    caches: Caches,
    actors: Vec<Actor>,
    /// How much of the API's history each cache has been told.
    heard: BTreeMap<Kind, usize>,
    invariants: Vec<Invariant>,
    /// Whether nothing bad happens to pods by itself.
    healthy: bool,
}

type Maker = Box<dyn Fn(&mut Caches, &Time) -> Actor>;

/// A controller with its queue.
struct Actor {
    queue: WorkQueue,
    keys: Vec<AllKeys>,
    pass: Pass,
}

type Pass = Box<dyn Fn(&Key, &Caches, &SimulatedApi, &Ears, &WorkQueue, (Timestamp, Duration)) -> Next>;

/// Listens to what people are told.
struct Ears(Arc<Mutex<Vec<Told>>>);

impl Teller for Ears {
    fn tell(&self, told: Told) {
        self.0.lock().push(told);
    }
}

impl World {
    /// An empty one.
    pub(crate) fn new(seed: u64) -> Self {
        let time = Time::default();
        Self {
            api: SimulatedApi::new(seed, time.clone()),
            rng: StdRng::seed_from_u64(seed),
            time,
            told: Arc::default(),
            makers: Vec::new(),
            caches: Caches::default(),
            actors: Vec::new(),
            heard: BTreeMap::new(),
            invariants: Vec::new(),
            healthy: false,
        }
    }

    /// These controllers run, each made by its function, again after a [`restart`](Self::restart).
    pub(crate) fn run<C: Controller>(&mut self, make: fn() -> C) {
        self.run_with(move |_| make());
    }

    /// As [`run`](Self::run), of controllers that must know the time.
    pub(crate) fn run_with<C: Controller>(&mut self, make: impl Fn(&Time) -> C + 'static) {
        self.makers.push(Box::new(move |caches, time| {
            let clock = time.clock();
            let queue = WorkQueue::with_clock(Metrics::new().queue("test"), Box::new(move || clock.now()));
            let controller = make(time);
            let mut watches = Watches::new(caches, queue.clone());
            controller.watch(&mut watches);
            let (_, keys) = watches.into_parts();
            let reconciler = Reconciler::new(controller);
            let pass: Pass = Box::new(move |key, caches, api, ears, queue, now| {
                let pass = reconciler.pass(key, caches, api, ears, queue, now);
                pass.now_or_never().expect("the simulated API answers at once")
            });
            Actor { queue, keys, pass }
        }));
        self.restart();
    }

    /// Pods do not fail, become unready or vanish by themselves.
    pub(crate) fn healthy_nodes(&mut self) {
        self.healthy = true;
    }

    /// From here on, questions for one object of a kind of this plural are answered from what there is.
    pub(crate) fn answer_from_objects<K: Object>(&self, plural: &'static str) {
        self.api.answer_from_objects(Kind::of::<K>(), plural);
    }

    /// This must hold after every write.
    pub(crate) fn always(&mut self, invariant: impl Fn(&SimulatedApi) + 'static) {
        self.invariants.push(Box::new(invariant));
    }

    /// All controllers begin anew, as with another leader: they have listed what there is and remember nothing.
    pub(crate) fn restart(&mut self) {
        self.caches = Caches::default();
        self.actors = self.makers.iter().map(|make| make(&mut self.caches, &self.time)).collect();
        let heard = self.api.history_len();
        for (kind, cache) in self.caches.kinds() {
            cache.told_all(self.api.list(&kind), &self.caches);
            self.heard.insert(kind, heard);
        }
    }

    /// Checks what must always hold.
    pub(crate) fn check(&self) {
        for invariant in &self.invariants {
            invariant(&self.api);
        }
    }

    /// One random thing: a cache hears of a change, a controller makes a pass, a node does something, or time passes.
    pub(crate) fn step(&mut self) {
        match self.rng.random_range(0..10) {
            0..=2 => {
                let kinds: Vec<_> = self.heard.keys().copied().collect();
                let kind = kinds[self.rng.random_range(0..kinds.len())];
                self.hear(&kind);
            }
            3..=5 => {
                let actor = self.rng.random_range(0..self.actors.len());
                self.act(actor);
            }
            6..=8 => kubelet::step(&self.api, &mut self.rng, self.healthy),
            _ => {
                let seconds = self.rng.random_range(0..5);
                self.time.pass(Duration::from_secs(seconds));
            }
        }
        self.check();
    }

    /// A cache hears of the next change of its kind; whether there was one.
    fn hear(&mut self, kind: &Kind) -> bool {
        let Some(heard) = self.heard.get_mut(kind) else { return false };
        let Some((at, object, gone)) = self.api.next_change(kind, *heard) else { return false };
        *heard = at + 1;
        let found = self.caches.kinds().find(|(known, _)| known == kind);
        let (_, cache) = found.expect("it was made with the caches");
        cache.told(object, gone, &self.caches);
        true
    }

    /// A controller makes a pass over one key; whether there was one.
    fn act(&mut self, actor: usize) -> bool {
        let actor = &self.actors[actor];
        let Ok(key) = actor.queue.try_take() else { return false };
        let now = (self.time.now(), self.time.elapsed());
        let next = (actor.pass)(&key, &self.caches, &self.api, &Ears(self.told.clone()), &actor.queue, now);
        next.follow_up(&actor.queue, &key);
        true
    }

    /// All trouble ends, nodes do their work, and everything goes on until nothing happens any more.
    pub(crate) fn settle(&mut self) {
        self.api.trouble(Trouble::None);
        for _ in 0..STEPS_MAX {
            let mut busy = self.round();
            if !busy {
                busy = kubelet::work(&self.api);
            }
            self.check();
            if busy {
                continue;
            }
            // Nothing can be done now: time passes until something can, if that is soon.
            let next = self.actors.iter().filter_map(|actor| actor.queue.try_take().err().flatten()).min();
            match next {
                Some(wait) if wait < Duration::from_secs(3600) => {
                    self.time.pass(wait.max(Duration::from_millis(1)));
                }
                _ => return self.again_changes_nothing(),
            }
        }
        panic!("it does not come to rest");
    }

    /// Every cache hears what there is to hear, and every controller makes a pass; whether there was anything.
    fn round(&mut self) -> bool {
        let kinds: Vec<_> = self.heard.keys().copied().collect();
        let mut busy = false;
        for kind in kinds {
            while self.hear(&kind) {
                busy = true;
            }
        }
        for actor in 0..self.actors.len() {
            busy |= self.act(actor);
        }
        busy
    }

    /// So much time passes, and controllers do what they have to as soon as they can. Nodes do nothing.
    pub(crate) fn let_pass(&mut self, time: Duration) {
        let until = self.time.elapsed() + time;
        for _ in 0..STEPS_MAX {
            let busy = self.round();
            self.check();
            if busy {
                continue;
            }
            let left = until.saturating_sub(self.time.elapsed());
            if left.is_zero() {
                return;
            }
            let next = self.actors.iter().filter_map(|actor| actor.queue.try_take().err().flatten()).min();
            self.time.pass(next.map_or(left, |wait| wait.max(Duration::from_millis(1)).min(left)));
        }
        panic!("it does not come to rest");
    }

    fn again_changes_nothing(&mut self) {
        let before = self.api.history_len();
        for actor in &self.actors {
            for key in actor.keys.iter().flat_map(|keys| keys(&self.caches)) {
                actor.queue.add(key);
            }
        }
        for actor in 0..self.actors.len() {
            while self.act(actor) {}
        }
        let after: Vec<_> = self.api.changes_since(before);
        assert!(after.is_empty(), "plans repeated on their own results are not empty: {after:#?}");
    }

    /// Somebody makes an object.
    pub(crate) fn create<K: Object>(&mut self, object: serde_json::Value) -> K {
        self.api.create_as_user(object)
    }

    /// Somebody changes an object.
    pub(crate) fn edit<K: Object>(&mut self, namespace: &str, name: &str, change: impl FnOnce(&mut K)) {
        self.api.edit(&Key::new(namespace, name), change);
    }
}
