//! All levels together: who begins now, who waits, who is sent away, and whose turn it is when seats become free. A level
//! borrows only what others neither keep nor wait for. Pure: events go in, grants come out.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::allotment::{Allotment, allot, total_seats};
use super::classify::CATCH_ALL;
use super::level::{Level, Response};
use super::queues::{Queues, Ticket};

/// No more requests wait than this, whatever the levels say. It bounds memory.
pub const MOST_WAITING: usize = 20_000;

/// The seats of a request that is worked on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose seats.
    pub level: Arc<str>,
    queue: u32,
    /// How many; 0 for requests that are exempt.
    pub seats: u32,
}

/// What becomes of a request that comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It begins.
    Begins(Place),
    /// It waits; a [`Grant`] will name its ticket.
    Waits(Place),
    /// It is sent away.
    Refused(Refusal),
}

/// Why a request is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no room, and its level lets none wait.
    ConcurrencyLimit,
    /// Too many wait before it.
    QueueFull,
    /// It waited too long.
    TimeOut,
    /// The client went away while it waited.
    Cancelled,
}

impl Refusal {
    /// As metrics name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConcurrencyLimit => "concurrency-limit",
            Self::QueueFull => "queue-full",
            Self::TimeOut => "time-out",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A request that waited begins.
pub type Grant = (Ticket, Place);

#[derive(Debug)]
struct Group {
    level: Arc<Level>,
    allotment: Allotment,
    queues: Queues,
    used: u32,
    /// It is no more, but for requests that came before.
    gone: bool,
}

impl Group {
    /// What others must leave for it: what is kept, and its whole part while it has requests that wait.
    fn reserved(&self) -> u32 {
        self.allotment.kept.saturating_sub(self.used)
    }

    fn claimed(&self) -> u32 {
        let wants = if self.queues.waiting() > 0 { self.allotment.nominal } else { self.allotment.kept };
        wants.saturating_sub(self.used)
    }

    /// The most seats of one request: it must fit when nothing is lent.
    fn widest(&self) -> u32 {
        self.allotment.nominal.max(1)
    }

    fn is_idle(&self) -> bool {
        self.used == 0 && self.queues.waiting() == 0
    }
}

/// See the module's description.
#[derive(Debug)]
pub struct Scheduler {
    asked: u32,
    total: u32,
    used: u32,
    waiting: usize,
    groups: BTreeMap<Arc<str>, Group>,
}

impl Scheduler {
    /// With so many seats; there are no levels yet.
    #[must_use]
    pub fn new(seats: u32) -> Self {
        Self { asked: seats, total: seats, used: 0, waiting: 0, groups: BTreeMap::new() }
    }

    /// All seats.
    #[must_use]
    pub fn total(&self) -> u32 {
        self.total
    }

    /// Seats that are used.
    #[must_use]
    pub fn used(&self) -> u32 {
        self.used
    }

    /// Requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// What each level may use.
    pub fn allotments(&self) -> impl Iterator<Item = (&Arc<str>, Allotment)> {
        self.groups.iter().map(|(name, group)| (name, group.allotment))
    }

    /// The part of one level; 0 for one that is not there.
    #[must_use]
    pub fn nominal(&self, level: &str) -> u32 {
        self.groups.get(level).map_or(0, |group| group.allotment.nominal)
    }

    /// Takes the levels as they are now. Those that are gone keep their seats until the last of their requests is done.
    pub fn configure<'a>(&mut self, levels: impl IntoIterator<Item = &'a Arc<Level>>) -> Vec<Grant> {
        for group in self.groups.values_mut() {
            group.gone = true;
        }
        for level in levels {
            let group = self.groups.entry(Arc::clone(&level.name)).or_insert_with(|| Group {
                level: Arc::clone(level),
                allotment: Allotment::default(),
                queues: Queues::default(),
                used: 0,
                gone: false,
            });
            group.level = Arc::clone(level);
            group.gone = false;
        }
        self.allot();
        self.dispatch()
    }

    fn allot(&mut self) {
        self.groups.retain(|_, group| !(group.gone && group.is_idle()));
        let levels: Vec<Arc<Level>> = self.groups.values().map(|group| Arc::clone(&group.level)).collect();
        let levels: Vec<&Level> = levels.iter().map(|level| &**level).collect();
        self.total = total_seats(self.asked, &levels);
        let allotted = allot(self.total, &levels);
        for (name, group) in &mut self.groups {
            group.allotment = allotted.get(name).copied().unwrap_or_default();
        }
    }

    /// A request comes. One whose level is gone meanwhile belongs to the one that takes everything.
    pub fn arrive(&mut self, ticket: Ticket, level: &str, flow: u64, seats: u32) -> Arrival {
        let level = if self.groups.contains_key(level) { level } else { CATCH_ALL };
        let Some((name, group)) = self.groups.get_key_value(level) else {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        };
        let name = Arc::clone(name);
        let queuing = match group.level.response {
            Response::Exempt => return Arrival::Begins(Place { level: name, queue: 0, seats: 0 }),
            Response::Reject => None,
            Response::Queue(queuing) => Some(queuing),
        };
        let seats = seats.clamp(1, group.widest());
        let queue = queuing.map_or(0, |queuing| group.queues.deal(flow, &queuing));
        let begins = group.queues.waiting() == 0 && self.has_room(level, seats);
        let full = queuing.is_some_and(|queuing| {
            group.queues.len_of(queue) >= queuing.queue_length_limit as usize || self.waiting >= MOST_WAITING
        });
        let place = Place { level: Arc::clone(&name), queue, seats };
        let Some(group) = self.groups.get_mut(&name) else {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        };
        if begins {
            group.queues.begin(queue, seats);
            group.used += seats;
            self.used += seats;
            Arrival::Begins(place)
        } else if queuing.is_none() {
            Arrival::Refused(Refusal::ConcurrencyLimit)
        } else if full {
            Arrival::Refused(Refusal::QueueFull)
        } else {
            group.queues.wait(queue, ticket, seats);
            self.waiting += 1;
            Arrival::Waits(place)
        }
    }

    /// A request that was worked on is done.
    pub fn end(&mut self, place: &Place) -> Vec<Grant> {
        if let Some(group) = self.groups.get_mut(&place.level)
            && place.seats > 0
        {
            group.queues.end(place.queue, place.seats);
            group.used -= place.seats;
            self.used -= place.seats;
        }
        self.settle()
    }

    /// A request that waits at this place goes away.
    pub fn leave(&mut self, ticket: Ticket, place: &Place) -> Vec<Grant> {
        if let Some(group) = self.groups.get_mut(&place.level)
            && group.queues.leave(place.queue, ticket)
        {
            self.waiting -= 1;
        }
        self.settle()
    }

    fn settle(&mut self) -> Vec<Grant> {
        if self.groups.values().any(|group| group.gone && group.is_idle()) {
            self.allot();
        }
        self.dispatch()
    }

    /// Whether a level may use so many seats more.
    fn has_room(&self, level: &str, seats: u32) -> bool {
        let Some(group) = self.groups.get(level) else { return false };
        let after = group.used + seats;
        if after > group.allotment.most {
            return false;
        }
        let others = self.groups.iter().filter(|(name, _)| &***name != level).map(|(_, other)| other);
        let left: u64 = if after <= group.allotment.nominal {
            others.map(|other| u64::from(other.reserved())).sum()
        } else {
            others.map(|other| u64::from(other.claimed())).sum()
        };
        u64::from(self.used) + u64::from(seats) + left <= u64::from(self.total)
    }

    /// Begins whatever may begin: the level that uses the least of its part comes first.
    fn dispatch(&mut self) -> Vec<Grant> {
        let mut grants = Vec::new();
        while self.waiting > 0 {
            let mut wanting: Vec<_> = self
                .groups
                .iter()
                .filter_map(|(name, group)| Some((name, group, group.queues.first()?.min(group.widest()))))
                .collect();
            wanting.sort_by_key(|(_, group, _)| {
                u64::from(group.used) * 1_000_000 / u64::from(group.allotment.nominal.max(1))
            });
            let next = wanting.into_iter().find_map(|(name, group, seats)| {
                let exempt = group.level.response == Response::Exempt;
                (exempt || self.has_room(name, seats)).then(|| Arc::clone(name))
            });
            let Some(level) = next else { break };
            let Some(group) = self.groups.get_mut(&level) else { break };
            let Some((ticket, queue, seats)) = group.queues.take(group.widest()) else { break };
            group.used += seats;
            self.used += seats;
            self.waiting -= 1;
            grants.push((ticket, Place { level, queue, seats }));
        }
        grants
    }
}

#[cfg(test)]
mod tests;
