//! Informers: a list, a watch from there on, and after each end a watch at another API server from what was seen last; a list again
//! only when that is not kept any more.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Session, Shared};
use crate::history::ClientId;
use crate::masters::client::{MAPS, Server, list, told};
use crate::masters::entry::{Entry, Told};

/// Who is told nothing for so long, while clients write, asks another server.
const SILENCE: Duration = Duration::from_secs(3);
/// The code of HTTP for what is not kept any more.
const GONE: u16 = 410;

/// Follows all objects until it has seen the version that `last` tells, once that is told.
pub(crate) async fn run(shared: Shared, id: u32, last: watch::Receiver<Option<i64>>) {
    let mut informer = Informer { session: Session::new(&shared, id), shared, id: ClientId(id), last };
    // Each begins at another server, and goes on to the next one.
    let mut servers = informer.shared.servers.clone().into_iter().cycle().skip(id as usize % 3);
    let mut position = None;
    while !informer.has_all(position) {
        let Some(server) = servers.next() else { return };
        let recorder = informer.shared.recorder.clone();
        let from = match position {
            Some(version) => version,
            None => match informer.relist(&server).await {
                Ok(version) => version,
                Err(why) => {
                    recorder.note(Entry::Broken { time_ns: recorder.now_ns(), informer: informer.id, why });
                    informer.session.pause().await;
                    continue;
                }
            },
        };
        let (seen, why) = informer.follow(&server, from).await;
        position = seen;
        recorder.note(Entry::Broken { time_ns: recorder.now_ns(), informer: informer.id, why });
    }
}

struct Informer {
    session: Session,
    shared: Shared,
    id: ClientId,
    last: watch::Receiver<Option<i64>>,
}

impl Informer {
    fn has_all(&self, position: Option<i64>) -> bool {
        let last = *self.last.borrow();
        last.is_some_and(|last| position.is_some_and(|position| position >= last))
    }

    async fn relist(&self, server: &Server) -> Result<i64, String> {
        let answer = server.ask("GET", MAPS, None).await.done()?;
        let (version, objects) = list(&answer).ok_or_else(|| format!("not a list: {answer}"))?;
        let (time_ns, member) = (self.shared.recorder.now_ns(), server.name.clone());
        self.shared.recorder.note(Entry::Relisted { time_ns, informer: self.id, member, version, objects });
        Ok(version)
    }

    /// Follows from behind a version; what was seen last, if that is still kept, and why it ended.
    async fn follow(&mut self, server: &Server, mut position: i64) -> (Option<i64>, String) {
        let recorder = self.shared.recorder.clone();
        let (time_ns, member) = (recorder.now_ns(), server.name.clone());
        recorder.note(Entry::Resumed { time_ns, informer: self.id, member, version: position });
        let for_s = 2 + self.session.below(9);
        let mut events = match server.watch(MAPS, position, for_s).await {
            Ok(events) => std::pin::pin!(events),
            // What is gone is told by the answer or by an event.
            Err(why) if why.contains("Expired") || why.contains("too old") => return (None, why),
            Err(why) => {
                self.session.pause().await;
                return (Some(position), why);
            }
        };
        loop {
            if self.has_all(Some(position)) {
                return (Some(position), "all is seen".to_owned());
            }
            let next = tokio::select! {
                next = timeout(SILENCE, events.next()) => next,
                // Looks again whether it has everything.
                _ = self.last.changed() => continue,
            };
            let event = match next {
                Err(_) => return (Some(position), format!("nothing for {SILENCE:?}")),
                Ok(None) => return (Some(position), "the server ended it".to_owned()),
                Ok(Some(Err(why))) => return (Some(position), why),
                Ok(Some(Ok(event))) => event,
            };
            let told = match told(event) {
                Ok(None) => continue,
                Ok(Some(told)) => told,
                Err((GONE, why)) => return (None, why),
                Err((_, why)) => return (Some(position), why),
            };
            position = match &told {
                Told::Added { object } | Told::Modified { object } | Told::Deleted { object } => {
                    object.version
                }
                Told::Bookmark { version } => *version,
            };
            recorder.note(Entry::Told { time_ns: recorder.now_ns(), informer: self.id, told });
        }
    }
}
