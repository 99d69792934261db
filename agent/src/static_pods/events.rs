//! The pods of a node, wherever they come from, as one stream of events: those of the API server without the ones that only stand for
//! others, and those of files. Must never let the one hide the other.

use std::collections::VecDeque;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::{self, Event};
use tokio::sync::watch;

use super::files::Described;
use super::manifest;
use super::mirrors::Mirrors;

type Told = watcher::Result<Event<Pod>>;

struct Merged<S> {
    of_server: S,
    described: watch::Receiver<Described>,
    mirrors: Mirrors,
    /// Pods of files that were told.
    told: Described,
    pending: VecDeque<Told>,
}

/// Both in one. Pods of files are told at once, whether there is a server or not.
pub fn merged(
    of_server: impl Stream<Item = Told> + Send + Unpin,
    mut described: watch::Receiver<Described>,
    mirrors: Mirrors,
) -> impl Stream<Item = Told> + Send {
    described.mark_changed();
    let merged = Merged { of_server, described, mirrors, told: Described::new(), pending: VecDeque::new() };
    futures::stream::unfold(merged, async |mut merged| {
        let event = merged.next().await?;
        Some((event, merged))
    })
}

impl<S: Stream<Item = Told> + Send + Unpin> Merged<S> {
    async fn next(&mut self) -> Option<Told> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Some(event);
            }
            tokio::select! {
                biased;
                Ok(()) = self.described.changed() => self.compare(),
                event = self.of_server.next() => match event? {
                    Ok(event) => self.take(event),
                    Err(error) => return Some(Err(error)),
                },
            }
        }
    }

    /// What has changed about files.
    fn compare(&mut self) {
        let now = self.described.borrow_and_update().clone();
        for (uid, pod) in &self.told {
            if !now.contains_key(uid) {
                self.pending.push_back(Ok(Event::Delete(self.mirrors.with_status(pod))));
                self.mirrors.forget(pod);
            }
        }
        self.mirrors.are_of_files(now.keys());
        let new = now.iter().filter(|(uid, _)| !self.told.contains_key(*uid));
        self.pending.extend(new.map(|(_, pod)| Ok(Event::Apply(pod.as_ref().clone()))));
        self.told = now;
    }

    fn take(&mut self, event: Event<Pod>) {
        let is_mirror = |pod: &Pod| manifest::mirrored(pod).is_some();
        match event {
            Event::InitApply(pod) | Event::Apply(pod) if is_mirror(&pod) => self.mirrors.is_there(pod),
            Event::Delete(pod) if is_mirror(&pod) => self.mirrors.is_gone(&pod),
            Event::Init => {
                self.mirrors.begin_list();
                self.pending.push_back(Ok(Event::Init));
            }
            Event::InitDone => {
                self.mirrors.end_list();
                let told = self.told.values().map(|pod| Ok(Event::InitApply(self.mirrors.with_status(pod))));
                self.pending.extend(told);
                self.pending.push_back(Ok(Event::InitDone));
            }
            other => self.pending.push_back(Ok(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, annotations: serde_json::Value) -> Pod {
        let metadata = json!({"name": name, "namespace": "default", "uid": name, "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn word(event: Told) -> String {
        match event.unwrap() {
            Event::Init => "init".to_owned(),
            Event::InitDone => "done".to_owned(),
            Event::InitApply(pod) => format!("listed {}", pod.metadata.name.unwrap()),
            Event::Apply(pod) => format!("is {}", pod.metadata.name.unwrap()),
            Event::Delete(pod) => format!("gone {}", pod.metadata.name.unwrap()),
        }
    }

    #[tokio::test]
    async fn lists_have_the_pods_of_files_and_not_what_stands_for_them() {
        let of_file = Arc::new(pod("f", json!({"kubernetes.io/config.source": "file"})));
        let described = watch::Sender::new(Described::from([("f".to_owned(), of_file)]));
        let stands = || pod("f-mirror", json!({"kubernetes.io/config.mirror": "f"}));
        let of_server = futures::stream::iter([
            Ok(Event::Init),
            Ok(Event::InitApply(pod("a", json!({})))),
            Ok(Event::InitApply(stands())),
            Ok(Event::InitDone),
            Ok(Event::Apply(stands())),
            Ok(Event::Delete(pod("a", json!({})))),
        ]);
        let of_server = of_server.chain(futures::stream::pending());
        let mut all = Box::pin(merged(of_server, described.subscribe(), Mirrors::default()));
        let mut words = Vec::new();
        for _ in 0..6 {
            words.push(word(all.next().await.unwrap()));
        }
        assert_eq!(words, ["is f", "init", "listed a", "listed f", "done", "gone a"]);
        described.send_replace(Described::new());
        assert_eq!(word(all.next().await.unwrap()), "gone f");
    }
}
