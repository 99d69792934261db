//! Which fault a request meets, chosen by a seed, and how often each truly happened.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fault {
    /// 409, and nothing was done.
    Conflict,
    /// 429 that says when to come again.
    TooMany,
    /// 429 that does not.
    TooManyUnsaid,
    /// 500, and nothing was done.
    Internal,
    /// 503, and nothing was done.
    Unavailable,
    /// 504, and nothing was done.
    TimedOut,
    /// 504, and it was done.
    DoneTimedOut,
    /// It was done, and the connection breaks before the answer.
    DoneLost,
    /// The connection breaks before anybody was asked.
    Lost,
    /// The connection breaks in the middle of the answer.
    Cut,
    /// The answer takes its time.
    Slow,
    /// A watch ends after some events.
    WatchEnds,
    /// A watch breaks in the middle of an event.
    WatchBreaks,
    /// A watch says that its version is too old.
    WatchGone,
    /// Bookmarks of a watch get lost, and with the one that ends the list the connection.
    WatchWithoutBookmarks,
    /// A watch is silent for a while; what happens meanwhile comes later.
    WatchSilent,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asks {
    /// A change.
    Write,
    /// Objects, or anything else.
    Read,
    /// A watch.
    Watch,
}

/// All of them.
pub(crate) const ALL: &[Fault] = &[
    Fault::Conflict,
    Fault::TooMany,
    Fault::TooManyUnsaid,
    Fault::Internal,
    Fault::Unavailable,
    Fault::TimedOut,
    Fault::DoneTimedOut,
    Fault::DoneLost,
    Fault::Lost,
    Fault::Cut,
    Fault::Slow,
    Fault::WatchEnds,
    Fault::WatchBreaks,
    Fault::WatchGone,
    Fault::WatchWithoutBookmarks,
    Fault::WatchSilent,
];

/// Whether a fault can happen to an answer, or to the beginning of a watch.
fn strikes(fault: Fault, asks: Asks) -> bool {
    match fault {
        Fault::Conflict | Fault::DoneTimedOut | Fault::DoneLost => asks == Asks::Write,
        Fault::Cut => asks != Asks::Watch,
        other => !spoils(other),
    }
}

/// Whether a fault happens to a watch that has begun.
fn spoils(fault: Fault) -> bool {
    use Fault::{WatchBreaks, WatchEnds, WatchGone, WatchSilent, WatchWithoutBookmarks};
    matches!(fault, WatchEnds | WatchBreaks | WatchGone | WatchWithoutBookmarks | WatchSilent)
}

/// Of a hundred writes, and of a hundred reads and beginnings of watches, so many meet a fault.
const WRITES: u64 = 20;
const READS: u64 = 10;
/// Of a hundred watches that begin, so many come to a bad end.
const WATCHES: u64 = 60;
/// After at most so many events.
const EVENTS: u64 = 4;

/// A fault, and after how many events of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chosen {
    pub(crate) fault: Fault,
    pub(crate) events: u64,
}

/// The faults of one client.
pub(crate) struct Faults {
    client: &'static str,
    seed: u64,
    number: AtomicU64,
    active: AtomicBool,
    ends_watches: AtomicBool,
    happened: Mutex<BTreeMap<Fault, u64>>,
    asked: Mutex<BTreeMap<String, u64>>,
}

impl Faults {
    /// Those of a seed, or none.
    pub(crate) fn new(client: &'static str, seed: Option<u64>) -> Self {
        let salt = client.bytes().fold(seed.unwrap_or_default(), |salt, byte| mixed(salt ^ u64::from(byte)));
        Self {
            client,
            seed: salt,
            number: AtomicU64::new(0),
            active: AtomicBool::new(seed.is_some()),
            ends_watches: AtomicBool::new(false),
            happened: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Whose they are.
    pub(crate) fn client(&self) -> &'static str {
        self.client
    }

    /// From now on requests meet none.
    pub(crate) fn end(&self) {
        self.active.store(false, Ordering::Relaxed);
    }

    /// Whether there still are faults.
    pub(crate) fn active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    /// From now on every watch ends as soon as it has begun.
    pub(crate) fn end_watches(&self) {
        self.ends_watches.store(true, Ordering::Relaxed);
    }

    /// What the next request meets.
    pub(crate) fn choose(&self, asks: Asks) -> Option<Chosen> {
        if asks == Asks::Watch && self.ends_watches.load(Ordering::Relaxed) {
            return Some(Chosen { fault: Fault::WatchEnds, events: 0 });
        }
        if !self.active() {
            return None;
        }
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let chance = mixed(self.seed ^ mixed(number));
        let (percent, which, events) = (chance % 100, (chance >> 16) % 1009, (chance >> 32) % EVENTS);
        let of = |fits: &dyn Fn(Fault) -> bool| {
            let fitting: Vec<Fault> = ALL.iter().copied().filter(|fault| fits(*fault)).collect();
            fitting[usize::try_from(which).unwrap() % fitting.len()]
        };
        let begins = percent < if asks == Asks::Write { WRITES } else { READS };
        let fault = if begins {
            Some(of(&|fault| strikes(fault, asks)))
        } else {
            (asks == Asks::Watch && percent < READS + WATCHES).then(|| of(&spoils))
        };
        fault.map(|fault| Chosen { fault, events })
    }

    /// It happened.
    pub(crate) fn happened(&self, fault: Fault) {
        *self.happened.lock().unwrap().entry(fault).or_default() += 1;
    }

    /// How often each has happened.
    pub(crate) fn counts(&self) -> BTreeMap<Fault, u64> {
        self.happened.lock().unwrap().clone()
    }

    /// A request came in.
    pub(crate) fn asked(&self, what: String) {
        *self.asked.lock().unwrap().entry(what).or_default() += 1;
    }

    /// What was asked, and how often.
    pub(crate) fn all_asked(&self) -> BTreeMap<String, u64> {
        self.asked.lock().unwrap().clone()
    }
}

/// A number in which each bit depends on each of another (splitmix64).
fn mixed(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
