//! One store under replay: calls one after another, and after each of them everything that watches must have told.

use std::collections::BTreeMap;
use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::mvccpb;
use tokio::time::timeout;
use tonic::Status;

use super::answer::{Answer, ask, without_ids};
use super::compare::{Store, Told};
use super::known;
use super::plan::{EVERYTHING, Step, everything};
use crate::call::Call;
use crate::client::{Client, WatchStream};
use crate::history::WatchId;

/// Nothing takes longer at a store that is well.
const PATIENCE: Duration = Duration::from_secs(20);

/// The replay cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// A call without an answer.
    #[error("{store} does not answer {call:?} within {PATIENCE:?}")]
    Silent {
        /// Which store.
        store: String,
        /// What it was asked.
        call: Box<Call>,
    },
    /// A watch that does not tell what it must.
    #[error("the watch {watch} of {store} waits for {what} and got: {source}; until then it told {told:?}")]
    Watch {
        /// Which store.
        store: String,
        /// Which watch of the record; 0 is the one of everything.
        watch: u64,
        /// What was to come.
        what: &'static str,
        /// What came.
        source: Status,
        /// What came before, since the last step.
        told: Box<Heard>,
    },
}

/// What a watch told during one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heard {
    /// That it is there.
    pub created: Option<pb::WatchResponse>,
    /// What changed.
    pub events: Vec<mvccpb::Event>,
    /// Whether an answer began with the revision with which the one before ended.
    pub split: bool,
    /// How far it has come.
    pub progress: Option<pb::WatchResponse>,
    /// That it is over.
    pub cancelled: Option<pb::WatchResponse>,
}

struct Watching {
    store: String,
    id: WatchId,
    create: pb::WatchCreateRequest,
    stream: WatchStream,
    watch_id: i64,
    /// Events that came, and that must have come.
    came: usize,
    due: usize,
    last_revision: i64,
    is_over: bool,
    heard: Heard,
}

/// A store with the watches on it.
pub struct Live {
    name: String,
    client: Client,
    watches: BTreeMap<WatchId, Watching>,
    /// Everything that has happened.
    events: Vec<mvccpb::Event>,
    revision: i64,
    compacted: i64,
}

fn revision_of(event: &mvccpb::Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Whether a watch must tell of an event.
fn wants(create: &pb::WatchCreateRequest, event: &mvccpb::Event) -> bool {
    let Some(kv) = &event.kv else { return false };
    let start = if create.key.is_empty() { &b"\0"[..] } else { &create.key };
    let contains = match create.range_end.as_ref() {
        b"" => kv.key.as_ref() == start,
        b"\0" => kv.key.as_ref() >= start,
        end => kv.key.as_ref() >= start && kv.key.as_ref() < end,
    };
    // The numbers of filters are those of the kinds of events.
    contains && kv.mod_revision >= create.start_revision && !create.filters.contains(&event.r#type)
}

impl Watching {
    async fn open(
        store: &str,
        client: &Client,
        id: WatchId,
        create: &pb::WatchCreateRequest,
    ) -> Result<Self, LiveError> {
        let opening = timeout(PATIENCE, client.watch(create.clone()));
        let opened = opening.await.unwrap_or_else(|_| Err(Status::deadline_exceeded("no stream")));
        let stream = opened.map_err(|source| LiveError::Watch {
            store: store.to_owned(),
            watch: id.0,
            what: "its stream",
            source,
            told: Box::default(),
        })?;
        let mut watching = Self {
            store: store.to_owned(),
            id,
            create: create.clone(),
            stream,
            watch_id: 0,
            came: 0,
            due: 0,
            last_revision: 0,
            is_over: false,
            heard: Heard::default(),
        };
        while watching.heard.created.is_none() {
            watching.hear("its creation").await?;
        }
        Ok(watching)
    }

    fn failed(&self, what: &'static str, source: Status) -> LiveError {
        let told = Box::new(self.heard.clone());
        LiveError::Watch { store: self.store.clone(), watch: self.id.0, what, source, told }
    }

    /// Takes down the next answer.
    async fn hear(&mut self, what: &'static str) -> Result<(), LiveError> {
        let answer = self.stream.next(PATIENCE).await;
        let mut answer = answer.map_err(|source| self.failed(what, source))?;
        without_ids(&mut answer.header);
        self.is_over |= answer.canceled;
        if answer.created {
            self.watch_id = answer.watch_id;
            self.heard.created = Some(answer);
        } else if answer.canceled {
            // Known difference 4.
            answer.header = None;
            self.heard.cancelled = Some(answer);
        } else if answer.events.is_empty() {
            self.heard.progress = Some(answer);
        } else {
            let first = answer.events.first().map_or(0, revision_of);
            self.heard.split |= first <= self.last_revision;
            self.last_revision = answer.events.last().map_or(0, revision_of);
            self.came += answer.events.len();
            self.heard.events.append(&mut answer.events);
        }
        Ok(())
    }

    /// Waits for what must have come.
    async fn catch_up(&mut self) -> Result<(), LiveError> {
        while self.came < self.due && !self.is_over {
            self.hear("an event").await?;
        }
        Ok(())
    }

    /// Asks how far it is, where both stores tell, and ends it.
    async fn end(&mut self, revision: i64) -> Result<(), LiveError> {
        if self.is_over {
            return Ok(());
        }
        if !known::of_progress(self.create.start_revision, revision) {
            self.stream.progress().await.map_err(|source| self.failed("a question", source))?;
            while self.heard.progress.is_none() && !self.is_over {
                self.hear("its progress").await?;
            }
        }
        self.stream.cancel(self.watch_id).await.map_err(|source| self.failed("a question", source))?;
        while !self.is_over {
            self.hear("its end").await?;
        }
        Ok(())
    }
}

impl Live {
    /// A fresh store, with a watch of everything on it.
    ///
    /// # Errors
    /// When the watch cannot be opened.
    pub async fn begin(name: &str, client: Client) -> Result<Self, LiveError> {
        let watching = Watching::open(name, &client, EVERYTHING, &everything()).await?;
        let watches = BTreeMap::from([(EVERYTHING, watching)]);
        let name = name.to_owned();
        Ok(Self { name, client, watches, events: Vec::new(), revision: 1, compacted: 0 })
    }

    async fn call(&mut self, call: &Call) -> Result<Answer, LiveError> {
        let answer = timeout(PATIENCE, ask(&self.client, call)).await;
        let silent = |_| LiveError::Silent { store: self.name.clone(), call: Box::new(call.clone()) };
        let answer = answer.map_err(silent)?;
        if let (Call::Compact(compaction), Answer::Reply(_)) = (call, &answer) {
            self.compacted = self.compacted.max(compaction.revision);
        }
        self.follow(answer.revision().unwrap_or(0)).await?;
        Ok(answer)
    }

    /// Waits until every watch has told everything up to the revision.
    async fn follow(&mut self, revision: i64) -> Result<(), LiveError> {
        if revision <= self.revision {
            return Ok(());
        }
        self.revision = revision;
        let Some(all) = self.watches.get_mut(&EVERYTHING) else { return Ok(()) };
        let known = all.heard.events.len();
        while all.last_revision < revision && !all.is_over {
            all.hear("an event").await?;
        }
        let new = all.heard.events[known..].to_vec();
        for (id, watching) in &mut self.watches {
            if *id != EVERYTHING {
                watching.due += new.iter().filter(|event| wants(&watching.create, event)).count();
                watching.catch_up().await?;
            }
        }
        self.events.extend(new);
        Ok(())
    }

    async fn open(&mut self, id: WatchId, create: &pb::WatchCreateRequest) -> Result<(), LiveError> {
        let mut watching = Watching::open(&self.name, &self.client, id, create).await?;
        if (1..self.compacted).contains(&create.start_revision) {
            while !watching.is_over {
                watching.hear("its refusal").await?;
            }
        }
        // From 0 is from now on.
        if create.start_revision > 0 {
            watching.due = self.events.iter().filter(|event| wants(create, event)).count();
        }
        watching.catch_up().await?;
        self.watches.insert(id, watching);
        Ok(())
    }
}

impl Store for Live {
    type Error = LiveError;

    async fn take(&mut self, step: &Step) -> Result<Told, LiveError> {
        let mut ended = None;
        let answer = match step {
            Step::Call(call, _) => Some(self.call(call).await?),
            Step::Watch(id, create) => {
                self.open(*id, create).await?;
                None
            }
            Step::Unwatch(id) => {
                if let Some(mut watching) = self.watches.remove(id) {
                    watching.end(self.revision).await?;
                    ended = Some((*id, std::mem::take(&mut watching.heard)));
                }
                None
            }
        };
        let heard = self.watches.iter_mut().map(|(id, watching)| (*id, std::mem::take(&mut watching.heard)));
        let watches = heard.chain(ended).filter(|(_, heard)| *heard != Heard::default()).collect();
        Ok(Told { answer, watches })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_watch_must_tell() {
        let event = |key: &'static str, mod_revision, r#type| mvccpb::Event {
            r#type,
            kv: Some(mvccpb::KeyValue { key: key.into(), mod_revision, ..Default::default() }),
            prev_kv: None,
        };
        let create =
            |key: &'static str, end: &'static str, start_revision, filters: &[i32]| pb::WatchCreateRequest {
                key: key.into(),
                range_end: end.into(),
                start_revision,
                filters: filters.to_vec(),
                ..Default::default()
            };
        for (create, event, told) in [
            (create("a", "", 0, &[]), event("a", 2, 0), true),
            (create("a", "", 0, &[]), event("b", 2, 0), false),
            (create("a", "c", 0, &[]), event("b", 2, 0), true),
            (create("a", "c", 0, &[]), event("c", 2, 0), false),
            (create("a", "\0", 0, &[]), event("c", 2, 0), true),
            (create("a", "", 3, &[]), event("a", 2, 0), false),
            (create("a", "", 3, &[]), event("a", 3, 0), true),
            (create("a", "", 0, &[0]), event("a", 3, 0), false),
            (create("a", "", 0, &[0]), event("a", 3, 1), true),
            (create("a", "", 0, &[1]), event("a", 3, 1), false),
        ] {
            assert_eq!(wants(&create, &event), told, "{create:?} {event:?}");
        }
    }
}
