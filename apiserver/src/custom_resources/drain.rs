//! Empties the collection of a definition that goes: deletes every object, as any client would, and waits until the last one is
//! gone, which may take as long as somebody's finalizer. Must never look at the store again and again: events tell.

use std::collections::HashMap;
use std::sync::Arc;

use barque_api::kind::GroupVersionResource;
use barque_api::status::{Reason, Status};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::registry::collections::Collections;
use crate::registry::follow::{Followed, follow};
use crate::registry::own_client::OwnClient;
use crate::storage::Storage;

/// An object that is still there.
struct Left {
    namespace: String,
    name: String,
    /// It was told to go.
    told: bool,
}

#[derive(Default)]
struct Picture {
    left: HashMap<Bytes, Left>,
    in_step: bool,
}

/// Deletes all objects of a collection, by its stored version; ends when there are none.
///
/// # Errors
/// The first that a deletion met; that the collection is not served.
pub(super) async fn drain<S: Storage>(
    client: OwnClient<S>,
    collections: Collections<S>,
    resource: GroupVersionResource,
    stop: CancellationToken,
) -> Result<(), Status> {
    let catalog = collections.catalog();
    let collection = catalog.named(&resource).and_then(|one| one.collection.clone());
    let collection = collection.ok_or_else(Status::no_such_path)?;
    drop(catalog);
    let (picture, changed) = (Mutex::new(Picture::default()), Notify::new());
    let field = |path: &str| collection.cache.field(path);
    let (name, namespace) = (field("metadata.name"), field("metadata.namespace"));
    let tell = |followed: Followed| {
        let mut picture = picture.lock();
        match followed {
            Followed::Is(object) => {
                let text = |index| object.field(index).to_owned();
                let told = picture.left.get(object.key()).is_some_and(|left| left.told);
                let left = Left {
                    namespace: namespace.map(text).unwrap_or_default(),
                    name: name.map(text).unwrap_or_default(),
                    told,
                };
                picture.left.insert(object.key().clone(), left);
            }
            Followed::Gone(object) => {
                picture.left.remove(object.key());
            }
            Followed::InStep => picture.in_step = true,
        }
        drop(picture);
        changed.notify_one();
    };
    let followed = follow(Arc::clone(&collection), stop, tell);
    let emptied = async {
        loop {
            changed.notified().await;
            for (namespace, name) in untold(&picture) {
                match client.delete(&resource, &namespace, &name).await {
                    Ok(()) => {}
                    Err(status) if status.reason == Reason::NotFound => {}
                    Err(status) => return Err(status),
                }
            }
            let picture = picture.lock();
            if picture.in_step && picture.left.is_empty() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        emptied = emptied => emptied,
        () = followed => Err(Status::internal("the server stops")),
    }
}

/// Objects that were not told to go; from now on they were.
fn untold(picture: &Mutex<Picture>) -> Vec<(String, String)> {
    let mut picture = picture.lock();
    let untold = picture.left.values_mut().filter(|left| !left.told);
    untold
        .map(|left| {
            left.told = true;
            (left.namespace.clone(), left.name.clone())
        })
        .collect()
}
