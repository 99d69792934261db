//! Reads a picture of a cluster: every collection once, many at a time, in pages. Must never take a part of a list for the whole.

use std::sync::Arc;

use barque_client::discovery::{Collection, Discovered, DiscoveryError, discover};
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::{DynamicObject, ListParams, ObjectList};
use kube::core::PartialObjectMeta;
use kube::{Api, Client};

use crate::snapshot::{Kept, Meta, Snapshot, Visitor, is_listed, visit};

/// How many lists are read at once.
const AT_ONCE: usize = 8;
/// How many objects are asked for at once.
const PAGE: u32 = 500;
/// How often a list is begun anew whose next page is not kept any more.
const TRIES: usize = 3;

/// Why there is no picture.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody says what is served.
    #[error("what the API serves: {0}")]
    Discovery(#[from] DiscoveryError),
    /// A kind without which little can be said.
    #[error("{0} is not served in the version that is needed")]
    NotServed(&'static str),
    /// A collection without which little can be said.
    #[error("{collection}: {error}")]
    List {
        /// As `resource.group`.
        collection: String,
        /// What went wrong.
        error: Box<kube::Error>,
    },
}

/// What a list adds to a picture.
type Part = Box<dyn FnOnce(&mut Snapshot) + Send>;

/// Reads everything that can be listed. Lists are not of one moment: what came or went meanwhile is in some of them only.
///
/// Collections that cannot be read are told in [`Snapshot::unread`], if they are not among the kinds that are kept whole.
///
/// # Errors
/// When the API does not answer, or does not show a kind that is kept whole.
pub async fn read(client: &Client) -> Result<Snapshot, ReadError> {
    let served = Arc::new(discover(client).await?);
    let listed = served.preferred().into_iter().filter(|collection| is_listed(collection));
    let parts: Vec<Part> = stream::iter(listed)
        .map(|collection| list(client.clone(), served.clone(), collection))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let mut snapshot = Snapshot { at: Timestamp::now(), ..Snapshot::default() };
    for part in parts {
        part(&mut snapshot);
    }
    snapshot
        .unread
        .extend(served.stale().into_iter().map(|version| (version, "its server does not answer".to_owned())));
    snapshot.served = (*served).clone();
    snapshot.missing().map_or(Ok(snapshot), |kind| Err(ReadError::NotServed(kind)))
}

/// Lists a kind with all that its objects are.
struct Whole {
    client: Client,
    served: Arc<Discovered>,
    collection: Arc<Collection>,
}

impl Visitor for Whole {
    /// Nothing when this version of the kind is not served.
    type Output = Option<BoxFuture<'static, Result<Part, ReadError>>>;

    fn visit<K: Kept>(self) -> Self::Output {
        self.served.of_kind(K::API_VERSION, <K as k8s_openapi::Resource>::KIND)?;
        let objects = Api::<K>::all(self.client);
        let collection = self.collection;
        let reading = async move {
            match pages(|params| list_page(objects.clone(), params)).await {
                Ok(all) => {
                    Ok(Box::new(move |snapshot: &mut Snapshot| snapshot.keep(&collection, all)) as Part)
                }
                Err(error) => {
                    Err(ReadError::List { collection: collection.group_resource(), error: Box::new(error) })
                }
            }
        };
        Some(reading.boxed())
    }
}

async fn list(
    client: Client,
    served: Arc<Discovered>,
    collection: Arc<Collection>,
) -> Result<Part, ReadError> {
    let whole = Whole { client: client.clone(), served, collection: collection.clone() };
    if let Some(reading) = visit(&collection, whole).flatten() {
        return reading.await;
    }
    let objects = Api::<DynamicObject>::all_with(client, &collection.api_resource());
    Ok(match pages(|params| metadata_page(objects.clone(), params)).await {
        Ok(all) => Box::new(move |snapshot| {
            snapshot.objects.extend(all.iter().map(|object| Meta::of(&collection, &object.metadata)));
        }),
        Err(error) => Box::new(move |snapshot| {
            snapshot.unread.insert(collection.group_resource(), error.to_string());
        }),
    })
}

async fn list_page<K: Kept>(objects: Api<K>, params: ListParams) -> kube::Result<ObjectList<K>> {
    objects.list(&params).await
}

async fn metadata_page(
    objects: Api<DynamicObject>,
    params: ListParams,
) -> kube::Result<ObjectList<PartialObjectMeta<DynamicObject>>> {
    objects.list_metadata(&params).await
}

/// All pages of a list.
async fn pages<K: Clone, F: Future<Output = kube::Result<ObjectList<K>>>>(
    page: impl Fn(ListParams) -> F,
) -> kube::Result<Vec<K>> {
    let mut tries = TRIES;
    'list: loop {
        tries -= 1;
        let (mut all, mut params) = (Vec::new(), ListParams::default().limit(PAGE));
        loop {
            let mut list = match page(params.clone()).await {
                Err(kube::Error::Api(status)) if status.code == 410 && tries > 0 => continue 'list,
                other => other?,
            };
            all.append(&mut list.items);
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(all),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use kube::core::Status;
    use serde_json::json;

    use super::*;

    /// A page of one object, and the token of the next one.
    fn page(name: &str, next: Option<&str>) -> kube::Result<ObjectList<DynamicObject>> {
        let list = json!({
            "metadata": {"continue": next.unwrap_or_default()}, "items": [{"metadata": {"name": name}}],
        });
        Ok(serde_json::from_value(list).unwrap())
    }

    /// What is read of these answers, and the tokens that were asked with.
    async fn answered(answers: Vec<kube::Result<ObjectList<DynamicObject>>>) -> (String, String) {
        let (answers, asked) = (RefCell::new(answers.into_iter()), RefCell::new(Vec::new()));
        let read = pages(|params| {
            asked.borrow_mut().push(params.continue_token.unwrap_or_default());
            let answer = answers.borrow_mut().next().unwrap();
            async { answer }
        });
        let text = match read.await {
            Ok(all) => {
                all.into_iter().filter_map(|object| object.metadata.name).collect::<Vec<_>>().join(" ")
            }
            Err(error) => error.to_string(),
        };
        (text, asked.into_inner().join(","))
    }

    #[tokio::test]
    async fn lists_are_read_to_their_end() {
        let gone = || Err(kube::Error::Api(Box::new(Status::failure("too old", "Expired").with_code(410))));
        let whole = |answers| async move { answered(answers).await };
        let (read, asked) = whole(vec![page("a", Some("2")), page("b", Some("3")), page("c", None)]).await;
        assert_eq!((&*read, &*asked), ("a b c", ",2,3"));
        // Begun anew when a page is not kept any more, and given up in the end.
        let (read, asked) =
            whole(vec![page("a", Some("2")), gone(), page("b", Some("3")), page("c", None)]).await;
        assert_eq!((&*read, &*asked), ("b c", ",2,,3"));
        let (read, _) = whole(vec![gone(), gone(), gone()]).await;
        assert!(read.contains("too old"), "{read}");
    }
}
