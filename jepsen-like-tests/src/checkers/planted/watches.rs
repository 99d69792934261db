//! Watches of the model store: what a correct one would have delivered, and what a broken one did.

use rand::Rng;

use super::{Fault, SECOND_NS, WatchFault, World};
use crate::history::{ClientId, Event, Span, Watch, WatchAnswer, WatchId, WatchRequest};

impl World {
    /// Opens some watches, of which the last is a broken one if the fault is theirs.
    pub(super) fn watch(&mut self) {
        let newest = self.past.newest();
        for number in 1..=8_u64 {
            let spans =
                [Span::everything(), Span::prefix("key/"), Span::one("key/2"), Span::prefix("leased/")];
            let faulty = number == 8;
            let filter = if faulty { 9 } else { self.rng.random_range(0..10) };
            let request = WatchRequest {
                span: if faulty { Span::prefix("key/") } else { spans[number as usize % 4].clone() },
                start_revision: if faulty { 2 } else { self.rng.random_range(2..newest.max(2) + 5) },
                prev_kv: faulty || self.rng.random(),
                no_put: filter == 0,
                no_delete: filter == 1,
                resumes: None,
            };
            let mut watch = Watch {
                id: WatchId(number),
                client: ClientId(100 + number as u32),
                member: "m1".to_owned(),
                opened_ns: 0,
                answers: self.deliver(&request),
                complete_to: Some(newest),
                compacted: None,
                request,
            };
            if let (true, Some(Fault::Watch(fault))) = (faulty, self.fault) {
                self.applied = self.spoil(&mut watch, fault);
            }
            let broken = (!faulty && watch.answers.len() > 4).then(|| self.break_off(&mut watch));
            self.history.watches.push(watch);
            self.history.watches.extend(broken);
        }
    }

    fn deliver(&mut self, request: &WatchRequest) -> Vec<WatchAnswer> {
        let mut answers: Vec<WatchAnswer> = Vec::new();
        let mut now_ns = 0;
        let mut joins = false;
        for revision in request.start_revision.max(2)..=self.past.newest() {
            now_ns =
                now_ns.max(self.times[(revision - 2) as usize]) + self.rng.random_range(1..SECOND_NS / 100);
            let wanted = |event: &&Event| {
                let filtered = if event.deleted { request.no_delete } else { request.no_put };
                request.span.contains(&event.kv.key) && !filtered
            };
            let mut events: Vec<Event> = self.past.events(revision).iter().filter(wanted).cloned().collect();
            for event in &mut events {
                let before = self.past.get(&event.kv.key, revision - 1).filter(|_| request.prev_kv);
                event.prev = before.cloned();
            }
            if events.is_empty() || self.rng.random_range(0..20) == 0 {
                // Progress: everything up to here has come.
                let told = if events.is_empty() { revision } else { revision - 1 };
                if self.rng.random_range(0..4) == 0 && told >= request.start_revision {
                    answers.push(WatchAnswer { time_ns: now_ns, revision: told, events: vec![] });
                    joins = false;
                }
            }
            if events.is_empty() {
                continue;
            }
            match answers.last_mut() {
                // Some answers carry several revisions.
                Some(answer) if joins => {
                    answer.events.extend(events);
                    (answer.time_ns, answer.revision) = (now_ns, revision);
                }
                _ => answers.push(WatchAnswer { time_ns: now_ns, revision, events }),
            }
            joins = self.rng.random_range(0..3) == 0;
        }
        answers
    }

    /// Ends a watch in the middle and goes on with another.
    fn break_off(&mut self, watch: &mut Watch) -> Watch {
        let rest = watch.answers.split_off(self.rng.random_range(1..watch.answers.len()));
        let last = watch.answers.iter().rev().find_map(|answer| answer.events.last());
        let start_revision = last.map_or(watch.request.start_revision, |event| event.kv.mod_revision + 1);
        let request = WatchRequest { start_revision, resumes: Some(watch.id), ..watch.request.clone() };
        let opened_ns = watch.answers.last().map_or(0, |answer| answer.time_ns);
        let resumed =
            Watch { id: WatchId(watch.id.0 + 100), answers: rest, request, opened_ns, ..watch.clone() };
        watch.complete_to = None;
        resumed
    }

    /// Answers with events, without the first and the last ones.
    fn some_answer(&mut self, watch: &Watch, fits: impl Fn(&WatchAnswer) -> bool) -> Option<usize> {
        let count = watch.answers.len();
        let fitting: Vec<usize> =
            (2..count.saturating_sub(2)).filter(|&index| fits(&watch.answers[index])).collect();
        (!fitting.is_empty()).then(|| fitting[self.rng.random_range(0..fitting.len())])
    }

    fn spoil(&mut self, watch: &mut Watch, fault: WatchFault) -> bool {
        let has_events = |answer: &WatchAnswer| !answer.events.is_empty();
        let two_of_one = |answer: &WatchAnswer| {
            answer.events.len() > 1
                && answer.events.iter().all(|event| event.kv.mod_revision == answer.revision)
        };
        let has_prev = |answer: &WatchAnswer| answer.events.first().is_some_and(|event| event.prev.is_some());
        let is_create =
            |answer: &WatchAnswer| answer.events.first().is_some_and(|event| event.kv.version == 1);
        let fits: &dyn Fn(&WatchAnswer) -> bool = match fault {
            WatchFault::Split => &two_of_one,
            WatchFault::WrongPrev | WatchFault::NoPrev => &has_prev,
            WatchFault::WrongIsCreate => &is_create,
            WatchFault::WrongValue => &|answer| answer.events.first().is_some_and(|event| !event.deleted),
            _ => &has_events,
        };
        let Some(index) = self.some_answer(watch, fits) else { return false };
        let answers = &mut watch.answers;
        match fault {
            WatchFault::Dropped => drop(answers[index].events.remove(0)),
            WatchFault::LastDropped => {
                while answers.last().is_some_and(|answer| answer.events.is_empty()) {
                    answers.pop();
                }
                if let Some(answer) = answers.last_mut() {
                    answer.events.pop();
                }
            }
            WatchFault::Reordered => {
                let Some(other) = (index + 1..answers.len()).find(|&at| has_events(&answers[at])) else {
                    return false;
                };
                let (events, others) = (answers[index].events.clone(), answers[other].events.clone());
                (answers[index].events, answers[other].events) = (others, events);
            }
            WatchFault::Repeated => {
                let event = answers[index].events[0].clone();
                answers[index].events.insert(0, event);
            }
            WatchFault::BackInTime => {
                let again = answers[index].clone();
                answers.push(again);
            }
            WatchFault::Split => {
                let rest = answers[index].events.split_off(1);
                let second = WatchAnswer { events: rest, ..answers[index] };
                answers.insert(index + 1, second);
            }
            WatchFault::WrongPrev => {
                if let Some(prev) = &mut answers[index].events[0].prev {
                    prev.value.push('!');
                }
            }
            WatchFault::NoPrev => answers[index].events[0].prev = None,
            WatchFault::ProgressTooFar => {
                let revision = answers[index].events[0].kv.mod_revision;
                let progress = WatchAnswer { events: vec![], revision, ..answers[index] };
                answers.insert(index, progress);
            }
            WatchFault::NotAskedFor => answers[index].events[0].kv.key.insert(0, 'x'),
            WatchFault::WrongIsCreate => answers[index].events[0].kv.version = 2,
            WatchFault::WrongValue => answers[index].events[0].kv.value.push('!'),
        }
        true
    }
}
