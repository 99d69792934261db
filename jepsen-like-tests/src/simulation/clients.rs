//! Clients: each asks one thing after the other, of any member, and notes what it is told. What a process that ended left
//! unanswered stays unknown for ever.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::host::Host;
use super::look::Look;
use super::network::Place;
use super::operation::{Access, Answer, Direct, Operation, Request, ask, lease_key};
use super::plan::Plan;
use super::planted::{DoubleWrites, LeaseReads, Planted, StaleReads};

/// Compaction leaves so many revisions.
const KEPT_REVISIONS: i64 = 200;
/// Leases that are renewed.
const LIVE_LEASES: usize = 4;

#[derive(Clone, Debug, Default)]
struct Client {
    /// What it waits for.
    waits_for: Option<u64>,
    next_ms: u64,
}

type Answers = Arc<Mutex<VecDeque<(u64, Answer)>>>;

/// All clients.
pub struct Clients {
    clients: Vec<Client>,
    open: BTreeMap<u64, (Operation, u64)>,
    /// Answers that processes gave, heard or not.
    answers: Answers,
    access: Arc<dyn Access>,
    keys: usize,
    think_ms: u64,
    next_id: u64,
    chance: StdRng,
    stopped: bool,
    leases: Vec<i64>,
    /// What clients know of keys: when they were changed.
    known: BTreeMap<Bytes, i64>,
    /// Places where a last write has still to succeed.
    probes: Vec<Place>,
    /// Places where the last write was refused: there is no room.
    full: Vec<Place>,
    asked: u64,
    refused: u64,
}

impl Clients {
    /// As many as planned, all idle.
    #[must_use]
    pub fn new(plan: &Plan, planted: Option<Planted>, seed: u64) -> Self {
        let access: Arc<dyn Access> = match planted {
            Some(Planted::StaleRead) => Arc::new(StaleReads),
            Some(Planted::LeaseRead) => Arc::new(LeaseReads),
            Some(Planted::DoubleApply) => Arc::new(DoubleWrites),
            _ => Arc::new(Direct),
        };
        Self {
            clients: vec![Client::default(); plan.clients],
            open: BTreeMap::new(),
            answers: Answers::default(),
            access,
            keys: plan.keys,
            think_ms: plan.think_ms,
            next_id: 1,
            chance: StdRng::seed_from_u64(seed),
            stopped: false,
            leases: Vec::new(),
            known: BTreeMap::new(),
            probes: Vec::new(),
            full: Vec::new(),
            asked: 0,
            refused: 0,
        }
    }

    /// How many requests were executed and refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// How many requests were made.
    #[must_use]
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// No more requests, but one write at each of these places, again and again until it succeeds.
    pub fn stop(&mut self, probes: Vec<Place>) {
        self.stopped = true;
        self.probes = probes;
    }

    /// Whether somebody waits for an answer, or has still to get one.
    #[must_use]
    pub fn waits(&self) -> bool {
        !self.open.is_empty() || !self.probes.is_empty()
    }

    /// A process ended: nobody will hear what it was asked.
    pub fn ended(&mut self, place: Place) {
        let gone = |(operation, _): &(Operation, u64)| operation.place == place;
        let gone: Vec<u64> = self.open.iter().filter(|(_, open)| gone(open)).map(|(id, _)| *id).collect();
        for id in gone {
            self.close(id);
        }
    }

    /// Nothing is expected of a place any more.
    pub fn give_up(&mut self, place: Place) {
        self.probes.retain(|probe| *probe != place);
    }

    fn close(&mut self, id: u64) -> Option<Operation> {
        let (operation, _) = self.open.remove(&id)?;
        if let Some(client) = self.clients.get_mut(operation.client) {
            client.waits_for = None;
        }
        Some(operation)
    }

    /// What was answered since the last call, by processes that still run.
    pub fn take_answers(&mut self, hosts: &[Host]) -> Vec<Operation> {
        let answers: Vec<_> = self.answers.lock().unwrap_or_else(PoisonError::into_inner).drain(..).collect();
        let mut answered = Vec::new();
        for (id, answer) in answers {
            let Some((place, boot)) = self.open.get(&id).map(|(operation, boot)| (operation.place, *boot))
            else {
                continue;
            };
            let Some(mut operation) = self.close(id) else { continue };
            if hosts[place].member().is_some_and(|(_, now)| now == boot) {
                operation.answer = answer;
            }
            self.learn(&operation);
            answered.push(operation);
        }
        answered
    }

    fn learn(&mut self, operation: &Operation) {
        match (&operation.request, &operation.answer) {
            (Request::Put { key, .. }, Answer::Written { revision, .. }) => {
                self.known.insert(key.clone(), *revision);
            }
            (Request::CompareAndPut { key, .. }, Answer::Written { revision, took_effect: true }) => {
                self.known.insert(key.clone(), *revision);
            }
            (Request::Delete { key }, Answer::Written { .. }) => {
                self.known.insert(key.clone(), 0);
            }
            (Request::Get { key }, Answer::Read { found, .. }) => {
                self.known.insert(key.clone(), found.as_ref().map_or(0, |(modified, _)| *modified));
            }
            (Request::Grant { id, .. }, Answer::Written { .. }) => self.leases.push(*id),
            _ => {}
        }
        let is_refused = matches!(operation.answer, Answer::Refused(_));
        self.refused += u64::from(is_refused);
        // The last write of a place has an id of no client.
        if operation.client == usize::MAX {
            let place = operation.place;
            let is_put = matches!(operation.request, Request::Put { .. });
            if is_put && matches!(operation.answer, Answer::Written { .. }) {
                self.probes.retain(|probe| *probe != place);
            }
            self.full.retain(|full| *full != place);
            if is_put && is_refused {
                self.full.push(place);
            }
        }
    }

    /// Makes requests that are due.
    pub fn go_on(&mut self, now_ms: u64, hosts: &[Host], floor: i64, looks: &BTreeMap<Place, Look>) {
        let places: Vec<Place> = looks.keys().copied().collect();
        if places.is_empty() {
            return;
        }
        if self.stopped {
            for place in self.probes.clone() {
                let asked = self.open.values().any(|(operation, _)| operation.place == place);
                if !asked && places.contains(&place) {
                    let value = format!("last{}", self.next_id).into();
                    let request = if self.full.contains(&place) {
                        Request::Delete { key: format!("k{}", self.chance.random_range(0..self.keys)).into() }
                    } else {
                        Request::Put { key: Bytes::from_static(b"last"), value, lease: None }
                    };
                    self.ask(usize::MAX, place, now_ms, floor, request, hosts);
                }
            }
            return;
        }
        for client in 0..self.clients.len() {
            if self.clients[client].waits_for.is_some() || self.clients[client].next_ms > now_ms {
                continue;
            }
            let pause_ms = self.chance.random_range(0..=self.think_ms);
            self.clients[client].next_ms = now_ms + pause_ms;
            let place = places[self.chance.random_range(0..places.len())];
            let request = self.draw(floor);
            self.ask(client, place, now_ms, floor, request, hosts);
        }
    }

    fn value(&mut self) -> Bytes {
        format!("v{}-{}", self.next_id, "x".repeat(self.chance.random_range(0..200))).into()
    }

    fn draw(&mut self, floor: i64) -> Request {
        let key = Bytes::from(format!("k{}", self.chance.random_range(0..self.keys)));
        match self.chance.random_range(0..100) {
            0..35 => Request::Put { key, value: self.value(), lease: None },
            35..60 => Request::Get { key },
            60..75 => {
                let expected = self.known.get(&key).copied().unwrap_or(0);
                Request::CompareAndPut { key, expected, value: self.value() }
            }
            75..82 => Request::Delete { key },
            82..86 => Request::Grant {
                id: i64::try_from(self.next_id).unwrap_or(1),
                ttl_s: self.chance.random_range(1..4),
            },
            86..92 => match self.recent_lease() {
                Some(id) => Request::Put { key: lease_key(id), value: self.value(), lease: Some(id) },
                None => Request::Get { key },
            },
            92..98 => match self.recent_lease() {
                Some(id) => Request::KeepAlive { id },
                None => Request::Get { key },
            },
            _ if floor > KEPT_REVISIONS + 1 => Request::Compact { revision: floor - KEPT_REVISIONS },
            _ => Request::Get { key },
        }
    }

    fn recent_lease(&mut self) -> Option<i64> {
        let recent = &self.leases[self.leases.len().saturating_sub(LIVE_LEASES)..];
        (!recent.is_empty()).then(|| recent[self.chance.random_range(0..recent.len())])
    }

    fn ask(
        &mut self,
        client: usize,
        place: Place,
        asked_ms: u64,
        floor: i64,
        request: Request,
        hosts: &[Host],
    ) {
        let Some((member, boot)) = hosts[place].member() else { return };
        let id = self.next_id;
        self.next_id += 1;
        self.asked += 1;
        let (answers, access) = (Arc::clone(&self.answers), Arc::clone(&self.access));
        let asked = request.clone();
        hosts[place].spawn(|state| async move {
            let answer = ask(access, member, asked).await;
            if state.is_alive() {
                answers.lock().unwrap_or_else(PoisonError::into_inner).push_back((id, answer));
            }
        });
        let operation = Operation { id, client, place, asked_ms, floor, request, answer: Answer::Unknown };
        self.open.insert(id, (operation, boot));
        if let Some(client) = self.clients.get_mut(client) {
            client.waits_for = Some(id);
        }
    }
}
