//! A client that watches: everything that its watches deliver is taken down, and a watch that breaks is continued.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use super::session::{Endpoint, LOGIN_PATIENCE, REQUEST_PATIENCE, Shared};
use super::wire;
use crate::client::{Client, WatchStream};
use crate::history::{ClientId, Entry, Event, WatchId, WatchRequest};

/// A watch on which nothing comes for so long is asked for its progress, and given up when that brings nothing either:
/// its member may be paused.
const IDLE: Duration = Duration::from_secs(1);

/// Answers between two questions for progress.
const ASK_EVERY: u32 = 5;

/// How a watcher goes on when its watch ends.
enum Next {
    /// It has everything.
    Done,
    /// From this revision on, elsewhere.
    Resume(i64),
    /// This revision is compacted.
    Compacted(i64),
}

/// One client with one watch at a time.
pub struct Watcher {
    shared: Shared,
    id: ClientId,
    endpoints: watch::Receiver<Vec<Endpoint>>,
    member: usize,
    /// The revision up to which it goes on; `None` while the run lasts.
    last: watch::Receiver<Option<i64>>,
    /// Told each answer's events and revision.
    told: Option<watch::Sender<i64>>,
    /// Events, if they are to be kept.
    kept: Vec<Event>,
    keeps: bool,
    /// Whether it asks for progress all the time.
    asks: bool,
}

impl Watcher {
    /// A watcher that begins at member `id`.
    #[must_use]
    pub fn new(shared: &Shared, id: u32, last: watch::Receiver<Option<i64>>) -> Self {
        let endpoints = shared.endpoints.clone();
        let (shared, member) = (shared.clone(), id as usize);
        let id = ClientId(id);
        Self { shared, id, endpoints, member, last, told: None, kept: Vec::new(), keeps: false, asks: false }
    }

    /// A watcher that keeps what comes, and tells how far it is.
    #[must_use]
    pub fn keeping(mut self, told: watch::Sender<i64>) -> Self {
        (self.told, self.keeps) = (Some(told), true);
        self
    }

    /// A watcher that begins at another member.
    #[must_use]
    pub fn beginning_at(mut self, member: usize) -> Self {
        self.member = member;
        self
    }

    /// A watcher that asks for progress while events flow.
    #[must_use]
    pub fn asking(mut self) -> Self {
        self.asks = true;
        self
    }

    /// Watches until it has everything up to the end of the run; gives what it kept.
    pub async fn run(mut self, mut request: WatchRequest) -> Vec<Event> {
        loop {
            let (watch, next) = self.watch(&request).await;
            match next {
                Next::Done => return self.kept,
                Next::Resume(start_revision) => {
                    request.start_revision = start_revision;
                    request.resumes = watch;
                }
                Next::Compacted(revision) => {
                    request.start_revision = revision;
                    request.resumes = None;
                }
            }
        }
    }

    fn done(&self, next_revision: i64) -> bool {
        self.last.borrow().is_some_and(|last| next_revision > last)
    }

    fn note(&self, entry: Entry) {
        self.shared.recorder.note(entry);
    }

    fn close(&self, watch: WatchId, complete_to: Option<i64>, compacted: Option<i64>, why: &str) {
        let (time_ns, why) = (self.shared.recorder.now_ns(), why.to_owned());
        self.note(Entry::WatchClosed { time_ns, watch, complete_to, compacted, why });
    }

    /// One watch at one member, until it ends.
    async fn watch(&mut self, request: &WatchRequest) -> (Option<WatchId>, Next) {
        let start = request.start_revision;
        if self.done(start) {
            return (None, Next::Done);
        }
        let Endpoint { name, url } = {
            let endpoints = self.endpoints.borrow_and_update();
            endpoints[self.member % endpoints.len()].clone()
        };
        self.member += 1;
        let watch = self.shared.recorder.watch_opened(self.id, &name, request.clone());
        let client = Client::through(&url, self.shared.doors.of(self.id));
        let opening = async {
            match timeout(LOGIN_PATIENCE, client.enter()).await {
                Ok(true) => timeout(REQUEST_PATIENCE, client.watch(wire::watch(request))).await,
                _ => Ok(Err(tonic::Status::unauthenticated("no login"))),
            }
        };
        match opening.await {
            Ok(Ok(stream)) => (Some(watch), self.follow(watch, stream, start).await),
            other => {
                let why = match other {
                    Ok(Err(status)) => status.to_string(),
                    _ => "no answer".to_owned(),
                };
                self.close(watch, None, None, &why);
                tokio::time::sleep(Duration::from_millis(50)).await;
                // An attempt that brought nothing is none that could be continued.
                (request.resumes, Next::Resume(start))
            }
        }
    }

    async fn follow(&mut self, watch: WatchId, mut stream: WatchStream, start: i64) -> Next {
        let (mut next_revision, mut asked, mut answers) = (start, false, 0_u32);
        loop {
            let answer = tokio::select! {
                answer = stream.next(IDLE) => answer,
                Ok(()) = self.last.changed() => {
                    if self.done(next_revision) {
                        self.close(watch, Some(next_revision - 1), None, "complete");
                        return Next::Done;
                    }
                    // What is filtered away never comes; progress tells when that is so.
                    asked = stream.progress().await.is_ok();
                    continue;
                }
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(status) if status.code() == tonic::Code::DeadlineExceeded && !asked => {
                    asked = stream.progress().await.is_ok();
                    if asked {
                        continue;
                    }
                    self.close(watch, None, None, "the stream takes nothing more");
                    return Next::Resume(next_revision);
                }
                Err(status) => {
                    self.close(watch, None, None, &status.to_string());
                    return Next::Resume(next_revision);
                }
            };
            if answer.canceled {
                let compacted = Some(answer.compact_revision).filter(|revision| *revision > 0);
                self.close(watch, None, compacted, &answer.cancel_reason);
                return compacted.map_or(Next::Resume(next_revision), Next::Compacted);
            }
            if answer.created {
                // Its header promises nothing.
                continue;
            }
            asked = false;
            answers = answers.wrapping_add(1);
            if self.asks && answers % ASK_EVERY == 1 {
                asked = stream.progress().await.is_ok();
            }
            let time_ns = self.shared.recorder.now_ns();
            let revision = answer.header.map_or(0, |header| header.revision);
            let events: Vec<Event> = answer.events.iter().map(wire::event).collect();
            let Some((revision, events)) = before_the_end(*self.last.borrow(), revision, events) else {
                self.close(watch, *self.last.borrow(), None, "complete");
                return Next::Done;
            };
            self.note(Entry::WatchAnswered { time_ns, watch, revision, events: events.clone() });
            let seen = events.last().map_or(revision, |event| event.kv.mod_revision);
            next_revision = next_revision.max(seen + 1);
            if let Some(told) = &self.told {
                told.send_replace(next_revision - 1);
            }
            if self.keeps {
                self.kept.extend(events);
            }
            if self.done(next_revision) {
                self.close(watch, Some(next_revision - 1), None, "complete");
                return Next::Done;
            }
        }
    }
}

/// An answer without what is later than the end of the record: a request that was never answered may still be done when
/// all is over. `None` when nothing of it is left.
fn before_the_end(last: Option<i64>, revision: i64, mut events: Vec<Event>) -> Option<(i64, Vec<Event>)> {
    let Some(last) = last else { return Some((revision, events)) };
    let is_progress = events.is_empty();
    events.retain(|event| event.kv.mod_revision <= last);
    (is_progress || !events.is_empty()).then(|| (revision.min(last), events))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::KeyValue;

    #[test]
    fn nothing_later_than_the_end_is_recorded() {
        let event = |mod_revision| Event {
            kv: KeyValue { mod_revision, ..KeyValue::default() },
            deleted: false,
            prev: None,
        };
        for (last, revision, events, left) in [
            (None, 9, vec![8, 9], Some((9, vec![8, 9]))),
            (Some(9), 9, vec![8, 9], Some((9, vec![8, 9]))),
            (Some(8), 9, vec![8, 9], Some((8, vec![8]))),
            (Some(7), 9, vec![8, 9], None),
            (Some(7), 9, vec![], Some((7, vec![]))),
        ] {
            let of = |revisions: Vec<i64>| revisions.into_iter().map(event).collect::<Vec<_>>();
            let left = left.map(|(revision, events)| (revision, of(events)));
            assert_eq!(before_the_end(last, revision, of(events)), left, "{last:?}");
        }
    }
}
