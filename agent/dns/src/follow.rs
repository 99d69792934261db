//! Watches keep the names up to date. Must never answer anything.

use std::sync::Arc;

use futures::{Stream, StreamExt as _};
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::runtime::watcher::{self, Event};
use parking_lot::RwLock;
use tokio_util::sync::CancellationToken;

use crate::names::Names;

/// A kind of objects that have names: [`Service`], [`EndpointSlice`] and [`Namespace`].
pub trait Watched: ResourceExt + Send {
    /// It is there, or is different now.
    fn apply(&self, names: &mut Names);
    /// It is gone.
    fn delete(&self, names: &mut Names);
    /// These are all.
    fn replace(all: &[Self], names: &mut Names)
    where
        Self: Sized;
}

impl Watched for Service {
    fn apply(&self, names: &mut Names) {
        names.apply_service(self);
    }

    fn delete(&self, names: &mut Names) {
        names.delete_service(&self.namespace().unwrap_or_default(), &self.name_any());
    }

    fn replace(all: &[Self], names: &mut Names) {
        names.replace_services(all);
    }
}

impl Watched for EndpointSlice {
    fn apply(&self, names: &mut Names) {
        names.apply_slice(self);
    }

    fn delete(&self, names: &mut Names) {
        names.delete_slice(&self.namespace().unwrap_or_default(), &self.name_any());
    }

    fn replace(all: &[Self], names: &mut Names) {
        names.replace_slices(all);
    }
}

impl Watched for Namespace {
    fn apply(&self, names: &mut Names) {
        names.apply_namespace(self);
    }

    fn delete(&self, names: &mut Names) {
        names.delete_namespace(&self.name_any());
    }

    fn replace(all: &[Self], names: &mut Names) {
        names.replace_namespaces(all);
    }
}

/// Keeps one kind of the names up to date until the token is cancelled. Names are complete when all three kinds were listed
/// once; a watch that begins anew replaces what it had when it has everything.
pub async fn follow<K: Watched>(
    names: Arc<RwLock<Names>>,
    mut events: impl Stream<Item = watcher::Result<Event<K>>> + Unpin,
    stop: CancellationToken,
) {
    let mut listed: Vec<K> = Vec::new();
    while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(object)) => listed.push(lean(object)),
            Ok(Event::InitDone) => K::replace(&std::mem::take(&mut listed), &mut names.write()),
            Ok(Event::Apply(object)) => object.apply(&mut names.write()),
            Ok(Event::Delete(object)) => object.delete(&mut names.write()),
            // The watcher asks again by itself.
            Err(error) => tracing::warn!(%error, "a watch of names broke off"),
        }
    }
}

/// Without what has nothing to do with names, while a list is collected.
fn lean<K: ResourceExt>(mut object: K) -> K {
    object.managed_fields_mut().clear();
    object.annotations_mut().clear();
    object
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::RecordType;
    use serde_json::json;

    use super::*;
    use crate::answer::{Answer, answer};
    use crate::names::Zone;

    fn service(name: &str, ip: &str) -> Service {
        serde_json::from_value(
            json!({"metadata": {"namespace": "default", "name": name}, "spec": {"clusterIP": ip}}),
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_watch_that_begins_anew_replaces_what_it_had_only_when_it_has_everything() {
        let zone = Zone { domain: "cluster.local.".parse().unwrap(), ttl: 5, servers: Vec::new() };
        let names = Arc::new(RwLock::new(Names::new(zone)));
        names.write().replace_namespaces(&[]);
        names.write().replace_slices(&[]);
        let has = |name: &str| {
            let name = format!("{name}.default.svc.cluster.local.").parse().unwrap();
            matches!(answer(&Query::query(name, RecordType::A), &names.read()), Answer::Records { .. })
        };
        let run = async |events: Vec<Event<Service>>| {
            let events = futures::stream::iter(events.into_iter().map(Ok));
            follow(Arc::clone(&names), events, CancellationToken::new()).await;
        };
        run(vec![Event::Init, Event::InitApply(service("a", "10.0.0.1"))]).await;
        assert!(!names.read().is_complete());
        run(vec![Event::Init, Event::InitApply(service("a", "10.0.0.1")), Event::InitDone]).await;
        assert!(names.read().is_complete() && has("a"));
        run(vec![Event::Apply(service("b", "10.0.0.2")), Event::Delete(service("a", "10.0.0.1"))]).await;
        assert!(has("b") && !has("a"));
        run(vec![Event::Init, Event::InitApply(service("c", "10.0.0.3"))]).await;
        assert!(has("b") && !has("c"));
        run(vec![Event::Init, Event::InitApply(service("c", "10.0.0.3")), Event::InitDone]).await;
        assert!(has("c") && !has("b"));
    }
}
