//! Linearizability by search, for what carries no revision: is there any order that real time and a model allow?
//!
//! The algorithm of Wing and Gong (1993) with Lowe's memory of what was tried (2017): requests are taken one by one out
//! of those that may come next, each step goes through the model, dead ends are taken back, and a set of requests
//! with a state is tried only once. The time is bounded, since the search may grow exponentially.

use std::collections::HashSet;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// A request to put in order.
#[derive(Clone, Debug)]
pub struct Call<I> {
    /// What it was and what it answered.
    pub input: I,
    /// When it was sent.
    pub invoked_ns: u64,
    /// When its answer came; `None` for one that may take effect at any later time, or never.
    pub returned_ns: Option<u64>,
}

/// What the search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is an order.
    Linearizable,
    /// There is none; the most that could be put in order was so many requests.
    Impossible {
        /// How many.
        longest: usize,
    },
    /// The time was over.
    OutOfTime,
}

/// Begin and end of calls in time, as a list from which they are lifted and into which they are put back.
struct Timeline {
    /// The call of an entry, and whether the entry is its end.
    entries: Vec<(usize, bool)>,
    next: Vec<usize>,
    prev: Vec<usize>,
    /// The entries at which each call begins and ends.
    begins: Vec<usize>,
    ends: Vec<Option<usize>>,
}

/// The place before the first entry.
const HEAD: usize = 0;

impl Timeline {
    fn of<I>(calls: &[Call<I>]) -> Self {
        let mut moments: Vec<(u64, bool, usize)> = Vec::new();
        for (call, entry) in calls.iter().enumerate() {
            moments.push((entry.invoked_ns, false, call));
            if let Some(returned_ns) = entry.returned_ns {
                moments.push((returned_ns, true, call));
            }
        }
        // At equal times beginnings come first: such calls overlap.
        moments.sort_unstable();
        let len = moments.len() + 1;
        let mut timeline = Self {
            entries: vec![(usize::MAX, false)],
            next: (1..=len).collect(),
            prev: (0..=len).map(|entry| entry.saturating_sub(1)).collect(),
            begins: vec![0; calls.len()],
            ends: vec![None; calls.len()],
        };
        for (_, is_end, call) in moments {
            let entry = timeline.entries.len();
            match is_end {
                true => timeline.ends[call] = Some(entry),
                false => timeline.begins[call] = entry,
            }
            timeline.entries.push((call, is_end));
        }
        timeline
    }

    fn first(&self) -> usize {
        self.next[HEAD]
    }

    fn get(&self, entry: usize) -> Option<(usize, bool)> {
        self.entries.get(entry).copied()
    }

    fn unlink(&mut self, entry: usize) {
        let (before, after) = (self.prev[entry], self.next[entry]);
        self.next[before] = after;
        self.prev[after] = before;
    }

    fn relink(&mut self, entry: usize) {
        let (before, after) = (self.prev[entry], self.next[entry]);
        self.next[before] = entry;
        self.prev[after] = entry;
    }

    fn lift(&mut self, call: usize) {
        self.unlink(self.begins[call]);
        if let Some(end) = self.ends[call] {
            self.unlink(end);
        }
    }

    /// Takes back the latest [`Timeline::lift`] that was not taken back yet.
    fn unlift(&mut self, call: usize) {
        if let Some(end) = self.ends[call] {
            self.relink(end);
        }
        self.relink(self.begins[call]);
    }
}

/// Looks for an order of `calls` in which `step` takes each from one state to the next; `None` refuses it.
pub fn search<I, S: Clone + Eq + Hash>(
    calls: &[Call<I>],
    first: S,
    mut step: impl FnMut(&S, &I) -> Option<S>,
    budget: Duration,
) -> Found {
    let deadline = Instant::now() + budget;
    let mut timeline = Timeline::of(calls);
    let mut waiting = calls.iter().filter(|call| call.returned_ns.is_some()).count();
    let mut done = vec![0_u64; calls.len().div_ceil(64)];
    let mut tried: HashSet<(Vec<u64>, S)> = HashSet::new();
    let mut taken: Vec<(usize, S)> = Vec::new();
    let (mut state, mut longest, mut steps) = (first, 0, 0_u32);
    let mut entry = timeline.first();
    while waiting > 0 {
        steps = steps.wrapping_add(1);
        if steps.is_multiple_of(1024) && Instant::now() >= deadline {
            return Found::OutOfTime;
        }
        if let Some((call, false)) = timeline.get(entry) {
            let mut next = None;
            if let Some(after) = step(&state, &calls[call].input) {
                done[call / 64] |= 1 << (call % 64);
                if tried.insert((done.clone(), after.clone())) {
                    next = Some(after);
                } else {
                    done[call / 64] &= !(1 << (call % 64));
                }
            }
            match next {
                Some(after) => {
                    taken.push((call, std::mem::replace(&mut state, after)));
                    longest = longest.max(taken.len());
                    waiting -= usize::from(calls[call].returned_ns.is_some());
                    timeline.lift(call);
                    entry = timeline.first();
                }
                None => entry = timeline.next[entry],
            }
            continue;
        }
        // The end of a call that is not in order yet, or of all: something before it was wrong.
        let Some((call, before)) = taken.pop() else { return Found::Impossible { longest } };
        state = before;
        done[call / 64] &= !(1 << (call % 64));
        waiting += usize::from(calls[call].returned_ns.is_some());
        timeline.unlift(call);
        entry = timeline.next[timeline.begins[call]];
    }
    Found::Linearizable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy, Debug)]
    enum Register {
        Write(u8),
        Read(u8),
        Swap(u8, u8),
    }
    use Register::{Read, Swap, Write};

    fn step(state: &u8, input: &Register) -> Option<u8> {
        match *input {
            Write(value) => Some(value),
            Read(value) => (*state == value).then_some(value),
            Swap(from, to) => (*state == from).then_some(to),
        }
    }

    fn judge(calls: &[(Register, u64, Option<u64>)]) -> Found {
        let calls: Vec<_> = calls
            .iter()
            .map(|&(input, invoked_ns, returned_ns)| Call { input, invoked_ns, returned_ns })
            .collect();
        search(&calls, 0, step, Duration::from_secs(60))
    }

    #[test]
    fn known_histories() {
        for (calls, linearizable, why) in [
            (vec![], true, "nothing happened"),
            (vec![(Write(1), 0, Some(1)), (Read(1), 2, Some(3))], true, "one after the other"),
            (vec![(Write(1), 0, Some(1)), (Read(0), 2, Some(3))], false, "a stale read"),
            (vec![(Write(1), 0, Some(5)), (Read(0), 2, Some(3))], true, "both at once, the read first"),
            (
                vec![(Write(1), 0, Some(9)), (Read(1), 1, Some(2)), (Read(0), 3, Some(4))],
                false,
                "a read that goes back",
            ),
            (vec![(Write(1), 0, None), (Read(1), 5, Some(6))], true, "an open write that happened"),
            (vec![(Write(1), 0, None), (Read(0), 5, Some(6))], true, "an open write that did not, or later"),
            (
                vec![(Write(1), 0, None), (Read(1), 5, Some(6)), (Read(0), 7, Some(8))],
                false,
                "an open write that was undone",
            ),
            (vec![(Read(1), 0, Some(1)), (Write(1), 2, Some(3))], false, "a read of the future"),
            (
                vec![(Swap(0, 1), 0, Some(9)), (Swap(0, 2), 0, Some(9))],
                false,
                "two swaps that both found the first value",
            ),
            (vec![(Swap(1, 2), 0, Some(9)), (Swap(0, 1), 0, Some(9))], true, "two swaps in the other order"),
            (vec![(Write(1), 0, Some(2)), (Read(0), 2, Some(3))], true, "equal times overlap"),
        ] {
            assert_eq!(judge(&calls) == Found::Linearizable, linearizable, "{why}");
        }
    }

    #[test]
    fn the_time_is_bounded() {
        // Writes at once whose order nobody knows, and a read of what nobody wrote.
        let mut calls: Vec<_> =
            (0..64).map(|value| Call { input: Write(value), invoked_ns: 0, returned_ns: Some(10) }).collect();
        calls.push(Call { input: Read(200), invoked_ns: 0, returned_ns: Some(10) });
        assert_eq!(search(&calls, 0, step, Duration::ZERO), Found::OutOfTime);
    }
}
