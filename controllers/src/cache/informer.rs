//! Feeds one cache from one watch. Must never poll, and never tell the cache part of a list as the whole.

use futures::StreamExt as _;
use kube::runtime::watcher::{Config, Error, Event};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client};

use super::{Cache, Caches};
use crate::kind::{Kind, Object};

/// Follows a kind, or what a field selector selects of it, for ever. Lists are streamed; a server that cannot is asked for pages.
pub(super) async fn follow<K: Object>(
    cache: &Cache<K>,
    client: Client,
    caches: &Caches,
    fields: Option<&'static str>,
) {
    let kind = Kind::of::<K>();
    let api = Api::<K>::all(client);
    let mut streaming = true;
    loop {
        let config = fields.map_or_else(Config::default, |fields| Config::default().fields(fields));
        let config = if streaming { config.streaming_lists() } else { config };
        let mut events = watcher(api.clone(), config).default_backoff().boxed();
        let mut list = Vec::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => list.clear(),
                Ok(Event::InitApply(object)) => list.push(object),
                Ok(Event::InitDone) => cache.replace(std::mem::take(&mut list), caches),
                Ok(Event::Apply(object)) => cache.apply(object, caches),
                Ok(Event::Delete(object)) => cache.delete(object, caches),
                Err(error) if streaming && cannot_stream(&error) => {
                    tracing::info!(%kind, "the server does not stream lists; they are read in pages");
                    streaming = false;
                    break;
                }
                Err(error) => tracing::warn!(%kind, %error, "a watch broke off and begins anew"),
            }
        }
    }
}

/// Whether the server refused the form of the watch, as those before 1.32 do unless told otherwise.
pub(crate) fn cannot_stream(error: &Error) -> bool {
    match error {
        Error::WatchStartFailed(kube::Error::Api(status)) | Error::WatchError(status) => {
            matches!(status.code, 400 | 422)
        }
        _ => false,
    }
}
