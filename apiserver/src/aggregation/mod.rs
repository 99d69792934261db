//! Groups that other servers serve (`APIService`): where their requests go, whether they can be reached, and what discovery
//! tells of them. Must never judge who may do something.
//!
//! ```text
//! task          ends when   what it does
//! followers     stop        keep the picture of APIServices, Services, EndpointSlices and definitions
//! availability  stop        asks services whether they serve, and writes the condition Available
//! registrar     stop        makes and removes APIServices of CustomResourceDefinitions
//! ```

mod availability;
pub mod condition;
pub mod dial;
pub mod endpoints;
pub mod headers;
mod picture;
pub mod proxy;
mod registering;
pub mod registrar;
pub mod registration;
pub mod schedule;
pub mod told;

#[cfg(test)]
mod fake_extension;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use barque_api::kind::GroupResource;
use barque_api::status::Status;
use barque_store::config::TlsFiles;
use barque_store::tls::TlsError;
use barque_streams::upgrade::is_upgrade;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use rand::seq::IndexedRandom as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dial::Dialer;
use self::endpoints::Address;
use self::picture::Picture;
pub use self::picture::Route;
use self::proxy::{Sender, Target};
use self::registration::ServicePort;
use crate::authorization::User;
use crate::discovery::Elsewhere;
use crate::http::answer::{self, Body};
use crate::http::serve::Peer;
use crate::registry::collections::{Collection, Collections, parse};
use crate::registry::follow::{Followed, follow};
use crate::registry::own_client::OwnClient;
use crate::relay::{Relay, nothing};
use crate::storage::Storage;
use crate::watch_cache::object::Object;
use crate::watch_cache::query::ListQuery;
use crate::watch_cache::registry::Selection;

/// The label of a slice that names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

struct Inner {
    picture: Picture,
    sender: Sender,
}

/// See the module's description. Cloning copies a pointer.
#[derive(Clone)]
pub struct Aggregation(Arc<Inner>);

impl Aggregation {
    /// Follows what it depends on with `tasks` until `stop`. Services are shown the certificate of `files`. What is passed on
    /// without an end ends with `drain`.
    ///
    /// # Errors
    /// When the certificate cannot be used.
    pub fn start<S: Storage>(
        client: &OwnClient<S>,
        collections: &Collections<S>,
        files: &TlsFiles,
        drain: CancellationToken,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, TlsError> {
        let sender =
            Sender { dialer: Dialer::new(files)?, relay: Relay::new(tasks.clone(), stop.clone()), drain };
        let inner = Arc::new(Inner { picture: Picture::default(), sender });
        follow_all(&inner, collections, tasks, stop);
        tasks.spawn(availability::run(client.clone(), collections.clone(), Arc::clone(&inner), stop.clone()));
        tasks.spawn(registering::run(client.clone(), Arc::clone(&inner), stop.clone()));
        Ok(Self(inner))
    }

    /// Whether all `APIService` objects were told once.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.0.picture.is_in_step()
    }

    /// Where a request for this path goes, if this server does not serve it.
    #[must_use]
    pub fn route(&self, path: &str) -> Option<Arc<Route>> {
        let (group, version) = registration::of_path(path)?;
        self.0.picture.route(group, version)
    }

    /// What others serve, as discovery tells it.
    #[must_use]
    pub fn elsewhere(&self) -> Arc<Elsewhere> {
        self.0.picture.elsewhere()
    }

    /// Passes a request on in the name of a user, who may do what it asks for. An answer that is `endless` ends when the
    /// server drains. What fails is told in Kubernetes' words, as text.
    pub async fn serve<S: Storage>(
        &self,
        route: &Route,
        collections: &Collections<S>,
        request: Request<Incoming>,
        (user, peer): (&User, &Peer),
        endless: bool,
    ) -> Response<Body> {
        if !route.available {
            return unavailable();
        }
        let verifier = match &route.verifier {
            Ok(verifier) => Arc::clone(verifier),
            Err(why) => return answer::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{why}\n")),
        };
        let address = match resolve(collections, &route.at).await {
            Ok(addresses) => addresses.choose(&mut rand::rng()).cloned(),
            Err(why) => {
                tracing::warn!(service = route.name, "cannot be reached: {why}");
                None
            }
        };
        let Some(address) = address else { return unavailable() };
        let target = Target { address, host: route.at.host(), verifier };

        let (mut head, body) = request.into_parts();
        let upgrade = head.extensions.remove::<OnUpgrade>().filter(|_| is_upgrade(&head.headers));
        let headers = match headers::passed_on(&head, user, peer.address.ip()) {
            Ok(headers) => headers,
            Err(why) => return unreachable(&why),
        };
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let sender = &self.0.sender;
        match upgrade {
            Some(upgrade) => match sender.send(&target, head.method, path, headers, nothing()).await {
                Ok(response) => sender.coupled(response, upgrade),
                Err(why) => {
                    answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("error dialing backend: {why}\n"))
                }
            },
            None => match sender.send(&target, head.method, path, headers, body.boxed_unsync()).await {
                Ok(response) => sender.passed_back(response, endless),
                Err(why) => unreachable(&why),
            },
        }
    }
}

fn unavailable() -> Response<Body> {
    answer::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n")
}

fn unreachable(why: &impl std::error::Error) -> Response<Body> {
    answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("error trying to reach service: {why}\n"))
}

/// All addresses of a service.
async fn resolve<S: Storage>(collections: &Collections<S>, at: &ServicePort) -> Result<Vec<Address>, String> {
    let (service, slices) = place(collections, at).await.map_err(|status| status.message)?;
    endpoints::addresses(at, service.as_ref(), &slices)
}

/// A service, and the slices of those behind it.
async fn place<S: Storage>(
    collections: &Collections<S>,
    at: &ServicePort,
) -> Result<(Option<Value>, Vec<Value>), Status> {
    let service = collections.object(&GroupResource::new("", "services"), &at.namespace, &at.name).await?;
    let slices = GroupResource::new("discovery.k8s.io", "endpointslices");
    let Some(slices) = collections.collection(&slices) else { return Ok((service, Vec::new())) };
    let name = at.name.clone();
    let query = ListQuery { resource_version: "0".to_owned(), ..ListQuery::default() };
    let selection = Selection {
        prefix: slices.keys.namespace_prefix(&at.namespace),
        filter: Some(Arc::new(move |slice: &Object| slice.label(SERVICE_NAME) == Some(name.as_str()))),
        ..Selection::default()
    };
    let list = slices.cache.list(&query, &selection).await?;
    let slices = list.objects.iter().map(|object| parse(object)).collect::<Result<Vec<Value>, Status>>()?;
    Ok((service, slices))
}

/// What an object of a followed collection means.
#[derive(Clone, Copy)]
enum Meaning {
    ApiService,
    Service,
    Slice,
    Definition,
}

const FOLLOWED: [(&str, &str, Meaning); 4] = [
    (registration::GROUP, "apiservices", Meaning::ApiService),
    ("", "services", Meaning::Service),
    ("discovery.k8s.io", "endpointslices", Meaning::Slice),
    ("apiextensions.k8s.io", "customresourcedefinitions", Meaning::Definition),
];

fn follow_all<S: Storage>(
    inner: &Arc<Inner>,
    collections: &Collections<S>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    for (group, resource, meaning) in FOLLOWED {
        let Some(collection) = collections.collection(&GroupResource::new(group, resource)) else { continue };
        let (inner, named) = (Arc::clone(inner), Arc::clone(&collection));
        let tell = move |followed: Followed| match followed {
            Followed::Is(object) => inner.enter(meaning, &object, &named, true),
            Followed::Gone(object) => inner.enter(meaning, &object, &named, false),
            Followed::InStep => match meaning {
                Meaning::ApiService => inner.picture.services_are_in_step(),
                Meaning::Definition => inner.picture.definitions_are_in_step(),
                Meaning::Service | Meaning::Slice => {}
            },
        };
        tasks.spawn(follow(collection, stop.clone(), tell));
    }
}

impl Inner {
    fn enter<S: Storage>(&self, meaning: Meaning, object: &Object, of: &Collection<S>, is_there: bool) {
        let (namespace, name) = of.keys.names(object.key()).unwrap_or_default();
        match meaning {
            Meaning::Service => self.picture.place_changed(namespace, name),
            Meaning::Slice => {
                self.picture.place_changed(namespace, object.label(SERVICE_NAME).unwrap_or_default());
            }
            Meaning::ApiService => match read(object, is_there) {
                Some(value) => self.picture.service_is(name, value, &self.sender.dialer),
                None => self.picture.service_is_gone(name),
            },
            Meaning::Definition => {
                let served = read(object, is_there).as_ref().map(registrar::served).unwrap_or_default();
                self.picture.definition_is(name, served);
            }
        }
    }
}

fn read(object: &Object, is_there: bool) -> Option<Value> {
    if !is_there {
        return None;
    }
    parse(object).inspect_err(|status| tracing::error!("nothing is served by it: {status}")).ok()
}
