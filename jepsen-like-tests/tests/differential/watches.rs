//! The same watches on two stores with the same history, and what each of them told.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb;
use jepsen_like_tests::client::{Client, WatchStream};
use jepsen_like_tests::replay::{known, without_ids};

use crate::requests::{KEYS, Requests};

const PATIENCE: Duration = Duration::from_secs(10);

/// What one watch told.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) created: Option<pb::WatchResponse>,
    pub(crate) events: Vec<mvccpb::Event>,
    pub(crate) cancelled: Option<pb::WatchResponse>,
}

/// Watches on one stream, in the order in which they are asked for.
pub(crate) type Plan = Vec<pb::WatchCreateRequest>;

/// A random watch; nearly every start, filter and option occurs.
pub(crate) fn random(requests: &mut Requests) -> pb::WatchCreateRequest {
    let (key, range_end) = requests.key_range();
    let asked = requests.read_revision(15);
    let start_revision = if known::of_watch(asked, requests.compacted) { (asked + 1).max(0) } else { asked };
    let mut filters = Vec::new();
    for filter in
        [pb::watch_create_request::FilterType::Noput, pb::watch_create_request::FilterType::Nodelete]
    {
        if requests.chance(12) {
            filters.push(filter.into());
        }
    }
    pb::WatchCreateRequest {
        key,
        range_end,
        start_revision,
        progress_notify: requests.chance(20),
        filters,
        prev_kv: requests.chance(40),
        watch_id: if requests.chance(20) { 3 } else { 0 },
        fragment: requests.chance(20),
    }
}

/// The streams of one store while the last writes are made.
pub(crate) struct Open {
    stream: WatchStream,
    told: Vec<Told>,
    /// The place in `told` of each live watch.
    places: BTreeMap<i64, usize>,
}

impl Open {
    /// Asks for every watch of the plan, one after the other, so that the ids are the same everywhere.
    pub(crate) async fn start(client: &Client, plan: &Plan) -> Self {
        let stream = client.watch(plan[0].clone()).await.expect("a watch stream opens");
        let mut open = Self { stream, told: vec![Told::default(); plan.len()], places: BTreeMap::new() };
        for (place, create) in plan.iter().enumerate() {
            if place > 0 {
                open.stream.create(create.clone()).await.expect("the stream takes requests");
            }
            while open.told[place].created.is_none() {
                open.hear(place).await;
            }
        }
        open
    }

    /// One answer; `creating` is the watch whose creation has been asked for last.
    async fn hear(&mut self, creating: usize) {
        let answer = self.stream.next(PATIENCE).await;
        let mut answer = answer.unwrap_or_else(|status| {
            panic!("a watch stream says {status:?}; until then its watches told {:#?}", self.told)
        });
        without_ids(&mut answer.header);
        if answer.created {
            if !answer.canceled {
                self.places.insert(answer.watch_id, creating);
            }
            self.told[creating].created = Some(answer);
            return;
        }
        let place = *self.places.get(&answer.watch_id).unwrap_or_else(|| panic!("unasked: {answer:?}"));
        let told = &mut self.told[place];
        if answer.canceled {
            // The store goes on writing while a cancellation is on its way.
            answer.header = None;
            self.places.remove(&answer.watch_id);
            told.cancelled = Some(answer);
            return;
        }
        let revision = |event: &mvccpb::Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        if let (Some(last), Some(first)) = (told.events.last(), answer.events.first()) {
            assert!(
                revision(last) < revision(first) || answer.fragment,
                "a revision was split without being asked for: {answer:?}"
            );
        }
        told.events.append(&mut answer.events);
    }

    /// Hears everything up to the last writes (all keys put at `put`, all deleted at `delete`), then cancels
    /// what is left.
    pub(crate) async fn finish(mut self, plan: &Plan, put: i64, delete: i64) -> Vec<Told> {
        for (place, create) in plan.iter().enumerate() {
            let last = last_event(create, put, delete);
            while !self.has_told(place, last) {
                self.hear(place).await;
            }
        }
        for id in self.places.clone().into_keys() {
            let place = self.places[&id];
            self.stream.cancel(id).await.expect("the stream takes requests");
            while self.told[place].cancelled.is_none() {
                self.hear(place).await;
            }
        }
        self.told
    }

    fn has_told(&self, place: usize, last: Option<i64>) -> bool {
        let told = &self.told[place];
        let refused = told.created.as_ref().is_some_and(|answer| answer.canceled);
        let Some(last) = last else { return true };
        let newest = told.events.last().and_then(|event| event.kv.as_ref()).map_or(0, |kv| kv.mod_revision);
        refused || told.cancelled.is_some() || newest >= last
    }
}

/// The revision of the last event that a watch will see, if it will see any.
fn last_event(create: &pb::WatchCreateRequest, put: i64, delete: i64) -> Option<i64> {
    let (noput, nodelete) = (create.filters.contains(&0), create.filters.contains(&1));
    let last = match (noput, nodelete) {
        (true, true) => return None,
        (_, false) => delete,
        (false, true) => put,
    };
    let start = if create.key.is_empty() { &b"\0"[..] } else { &create.key };
    let sees = |key: &[u8]| match create.range_end.as_ref() {
        b"" => key == start,
        b"\0" => key >= start,
        end => key >= start && key < end,
    };
    (KEYS.iter().any(|key| sees(key)) && create.start_revision <= last).then_some(last)
}
