//! Follows the metadata of a collection that discovery tells of. Must never tell part of a list as the whole.

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};

use crate::cache::cannot_stream;
use crate::discovery::Collection;

/// What was told.
pub(crate) enum Told {
    /// These are all.
    All(Vec<ObjectMeta>),
    /// It is so.
    Is(ObjectMeta),
    /// It is gone; as it was last.
    Gone(ObjectMeta),
}

/// Follows a collection for ever, in all namespaces.
pub(crate) async fn follow(client: Client, collection: &Collection, mut tell: impl FnMut(Told)) {
    let objects = Api::<PartialObjectMeta<DynamicObject>>::all_with(client, &collection.api_resource());
    let mut streaming = true;
    loop {
        let config = if streaming { Config::default().streaming_lists() } else { Config::default() };
        let mut events = watcher(objects.clone(), config).default_backoff().boxed();
        let mut list = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => list.clear(),
                Ok(Event::InitApply(object)) => list.push(slim(object.metadata)),
                Ok(Event::InitDone) => tell(Told::All(std::mem::take(&mut list))),
                Ok(Event::Apply(object)) => tell(Told::Is(slim(object.metadata))),
                Ok(Event::Delete(object)) => tell(Told::Gone(slim(object.metadata))),
                Err(error) if streaming && cannot_stream(&error) => {
                    streaming = false;
                    break;
                }
                // One that is not served any more fails until discovery tells that it is gone.
                Err(error) => tracing::debug!(%collection, %error, "a watch broke off and begins anew"),
            }
        }
    }
}

/// Without what is large and nobody asks for.
fn slim(mut meta: ObjectMeta) -> ObjectMeta {
    meta.managed_fields = None;
    meta.annotations = None;
    meta.labels = None;
    meta
}
