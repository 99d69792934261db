//! A store that is right, and its clients: requests overlap, some answers are lost, informers are late and change servers, two
//! processes have a Lease by turns.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::history::{ClientId, OperationId};
use crate::masters::entry::{Act, LeaseVersion, Object, Outcome, Request, Told};
use crate::masters::history::{History, Operation, Step, Steps};

const CLIENTS: u32 = 5;
const NAMES: u32 = 3;
const OPERATIONS: usize = 160;
const INFORMERS: u32 = 3;
pub(super) const LEASE: &str = "kube-controller-manager";
pub(super) const SECOND_US: i64 = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Invoke(u32),
    Effect(usize),
    Complete(usize),
}

struct Model {
    rng: StdRng,
    version: i64,
    objects: BTreeMap<String, Object>,
    before: BTreeMap<String, Object>,
    changes: Vec<(u64, Told)>,
    history: History,
    outcomes: Vec<Outcome>,
}

/// A history that is right.
pub(super) fn history(seed: u64) -> History {
    let mut model = Model {
        rng: StdRng::seed_from_u64(seed),
        version: 10,
        objects: BTreeMap::new(),
        before: BTreeMap::new(),
        changes: Vec::new(),
        history: History::default(),
        outcomes: Vec::new(),
    };
    model.run();
    model.history.informers =
        (0..INFORMERS).map(|number| (ClientId(1000 + number), model.informer(number))).collect();
    model.lead();
    model.history
}

impl Model {
    fn run(&mut self) {
        let mut queue = BinaryHeap::new();
        for client in 0..CLIENTS {
            queue.push(Reverse((u64::from(client), Event::Invoke(client))));
        }
        while let Some(Reverse((now, event))) = queue.pop() {
            match event {
                Event::Invoke(client) if self.history.operations.len() < OPERATIONS => {
                    let index = self.invoke(now, client);
                    queue.push(Reverse((now + self.rng.random_range(1..9), Event::Effect(index))));
                }
                Event::Invoke(_) => {}
                Event::Effect(index) => {
                    let outcome = self.effect(now, index);
                    self.outcomes[index] = outcome;
                    queue.push(Reverse((now + self.rng.random_range(1..9), Event::Complete(index))));
                }
                Event::Complete(index) => {
                    let client = self.history.operations[index].client.0;
                    self.history.operations[index].completed = Some((now, self.outcomes[index].clone()));
                    queue.push(Reverse((now + self.rng.random_range(1..9), Event::Invoke(client))));
                }
            }
        }
    }

    fn invoke(&mut self, now: u64, client: u32) -> usize {
        let index = self.history.operations.len();
        let name = format!("o-{}", self.rng.random_range(0..NAMES));
        let value = format!("{client}-{index}");
        let stale = self.rng.random_range(0..4) == 0;
        // What a client knows may be out of date.
        let known = if stale { self.before.get(&name) } else { self.objects.get(&name) };
        let request = match (self.rng.random_range(0..10), known.cloned()) {
            (0 | 1, _) => Request::Get { name, stale },
            (2, _) => Request::List { stale },
            (3, Some(Object { uid, version, .. })) => {
                Request::Delete { name, uid, version: self.rng.random::<bool>().then_some(version) }
            }
            (4, _) | (_, None) => Request::Create { name, value },
            (_, Some(Object { version, .. })) => Request::Update { name, version, value },
        };
        self.history.operations.push(Operation {
            id: OperationId(index as u64 + 1),
            client: ClientId(client),
            member: "m1".to_owned(),
            request,
            invoked_ns: now,
            completed: None,
        });
        self.outcomes.push(Outcome::Unknown { error: String::new() });
        index
    }

    fn change(&mut self, now: u64, object: Object, is_gone: bool) -> Object {
        self.version += self.rng.random_range(1..4);
        let object = Object { version: self.version, ..object };
        let was = self.objects.remove(&object.name);
        let told = match (&was, is_gone) {
            (None, _) => Told::Added { object: object.clone() },
            (Some(_), false) => Told::Modified { object: object.clone() },
            (Some(_), true) => Told::Deleted { object: object.clone() },
        };
        self.changes.push((now, told));
        if let Some(was) = was {
            self.before.insert(object.name.clone(), was);
        }
        if !is_gone {
            self.objects.insert(object.name.clone(), object.clone());
        }
        object
    }

    fn effect(&mut self, now: u64, index: usize) -> Outcome {
        let lost = Outcome::Unknown { error: "lost".to_owned() };
        let luck = self.rng.random_range(0..20);
        if luck == 0 {
            return lost;
        }
        let outcome = self.outcome(now, index);
        if luck == 1 { lost } else { outcome }
    }

    fn outcome(&mut self, now: u64, index: usize) -> Outcome {
        let refused = |code, reason: &str| Outcome::Refused { code, reason: reason.to_owned() };
        match self.history.operations[index].request.clone() {
            Request::Create { name, .. } if self.objects.contains_key(&name) => refused(409, "AlreadyExists"),
            Request::Create { name, value } => {
                let object = Object { name, uid: format!("u{index}"), version: 0, value };
                Outcome::Done { object: Some(self.change(now, object, false)) }
            }
            Request::Update { name, version, value } => match self.objects.get(&name).cloned() {
                None => refused(404, "NotFound"),
                Some(object) if object.version != version => refused(409, "Conflict"),
                Some(object) => {
                    Outcome::Done { object: Some(self.change(now, Object { value, ..object }, false)) }
                }
            },
            Request::Delete { name, uid, version } => match self.objects.get(&name).cloned() {
                None => refused(404, "NotFound"),
                Some(object) if object.uid != uid || version.is_some_and(|it| it != object.version) => {
                    refused(409, "Conflict")
                }
                Some(object) => {
                    self.change(now, object, true);
                    Outcome::Done { object: None }
                }
            },
            Request::Get { name, .. } => match self.objects.get(&name).cloned() {
                None => refused(404, "NotFound"),
                Some(object) => Outcome::Found { object },
            },
            Request::List { .. } => {
                Outcome::Listed { version: self.version, objects: self.objects.values().cloned().collect() }
            }
            Request::Other { .. } => Outcome::Done { object: None },
        }
    }

    /// Told of everything from the beginning, later than it happened; now and then elsewhere, or by a bookmark.
    fn informer(&mut self, number: u32) -> Steps {
        let at = |server: u32| format!("m{}", server % 3 + 1);
        let mut server = number;
        let mut steps = vec![
            (0, at(server), Step::Relisted { version: 10, objects: Vec::new() }),
            (0, at(server), Step::Resumed { version: 10 }),
        ];
        let mut now = 0;
        for (changed, told) in self.changes.clone() {
            now = (changed + self.rng.random_range(1..12)).max(now);
            let (Told::Added { object } | Told::Modified { object } | Told::Deleted { object }) = &told
            else {
                continue;
            };
            let version = object.version;
            steps.push((now, at(server), Step::Told(told)));
            match self.rng.random_range(0..8) {
                0 => steps.push((now, at(server), Step::Told(Told::Bookmark { version }))),
                1 => {
                    server += 1;
                    steps.push((now, at(server), Step::Resumed { version }));
                }
                _ => {}
            }
        }
        steps
    }

    /// Two processes by turns, each for some renewals; what each does meanwhile.
    fn lead(&mut self) {
        let mut now_us = SECOND_US;
        let mut version = 1_000_000;
        let mut acquired_us = 0;
        for transitions in 0..4_i64 {
            let process = format!("m{}-1", transitions % 2 + 1);
            let holder = format!("holder-{}", transitions % 2 + 1);
            self.history.candidates.insert(holder.clone(), process.clone());
            for renewal in 0..4 {
                if renewal == 0 {
                    acquired_us = now_us;
                }
                version += 1;
                let lease = LeaseVersion {
                    lease: LEASE.to_owned(),
                    version,
                    holder: holder.clone(),
                    transitions,
                    duration_s: 6,
                    acquired_us,
                    renewed_us: now_us,
                };
                self.history.leases.push((u64::try_from(now_us).unwrap_or_default(), lease));
                self.history.written_us.insert((LEASE.to_owned(), version), now_us + 1000);
                for _ in 0..2 {
                    version += 1;
                    let has_version = *[true, false].choose(&mut self.rng).unwrap_or(&true);
                    self.history.acts.push(Act {
                        process: process.clone(),
                        lease: LEASE.to_owned(),
                        what: "update something".to_owned(),
                        received_us: now_us + 2000,
                        completed_us: now_us + 3000,
                        version: has_version.then_some(version),
                    });
                }
                now_us += SECOND_US;
            }
            // The next one has waited.
            now_us += 6 * SECOND_US;
        }
    }
}
