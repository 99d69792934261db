//! Asks services whether they serve what their `APIService` says, writes what is found out, and fetches what they tell of it.
//! Must never let a service that hangs hold up another.

use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::GroupVersion;
use barque_api::status::{Reason, Status};
use barque_api::time::Time;
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use rand::seq::SliceRandom as _;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::condition::{self, Verdict};
use super::dial::Verifier;
use super::picture::{Found, Route};
use super::proxy::Target;
use super::registering::api_services;
use super::schedule::{Next, Schedule};
use super::{Inner, endpoints, headers, place, resolve, told};
use crate::authorization::{MASTERS, User};
use crate::bootstrap::locally_available;
use crate::clock;
use crate::registry::collections::Collections;
use crate::registry::own_client::OwnClient;
use crate::relay::nothing;
use crate::storage::Storage;

/// A service must answer within this time.
const DEADLINE: Duration = Duration::from_secs(5);
/// So many of those behind a service are asked at once; one that answers is enough.
const ASKED: usize = 5;
/// The most bytes of a document.
const MOST_BYTES: usize = 32 << 20;
/// What aggregated discovery is asked with.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";

/// Until `stop`.
pub(super) async fn run<S: Storage>(
    client: OwnClient<S>,
    collections: Collections<S>,
    inner: Arc<Inner>,
    stop: CancellationToken,
) {
    let keeper = Keeper { client, collections, inner };
    let mut schedule = Schedule::default();
    let mut looks = FuturesUnordered::new();
    loop {
        for name in keeper.inner.picture.take_changed() {
            match keeper.inner.picture.service(&name) {
                Some(_) => schedule.changed(&name, Instant::now()),
                None => schedule.gone(&name),
            }
        }
        for name in schedule.take(Instant::now()) {
            looks.push(keeper.look(name));
        }
        let next = schedule.next();
        tokio::select! {
            () = stop.cancelled() => return,
            () = keeper.inner.picture.look.notified() => {}
            Some((name, next)) = looks.next(), if !looks.is_empty() => schedule.done(&name, next, Instant::now()),
            () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
        }
    }
}

struct Keeper<S: Storage> {
    client: OwnClient<S>,
    collections: Collections<S>,
    inner: Arc<Inner>,
}

impl<S: Storage> Keeper<S> {
    async fn look(&self, name: String) -> (String, Next) {
        let Some((object, route)) = self.inner.picture.service(&name) else { return (name, Next::Changed) };
        let next = match route {
            None => match self.write(&name, &object, locally_available).await {
                Ok(()) => Next::Changed,
                Err(status) => {
                    tracing::warn!(service = name, "cannot be told to be available yet: {status}");
                    Next::Soon
                }
            },
            Some(route) => self.look_at(&route, &object).await,
        };
        (name, next)
    }

    async fn look_at(&self, route: &Route, object: &Value) -> Next {
        let verdict = match place(&self.collections, &route.at).await {
            Err(status) => {
                tracing::warn!(service = route.name, "cannot be looked at yet: {status}");
                return Next::Soon;
            }
            Ok((service, slices)) => match endpoints::check(&route.at, service.as_ref(), &slices) {
                Err(missing) => Verdict::from(missing),
                Ok(()) => match self.probe(route).await {
                    Ok(()) => Verdict::passed(),
                    Err(why) => Verdict::failed(why),
                },
            },
        };
        let found = if verdict.available { self.fetch(route).await } else { None };
        let told = found.is_some();
        self.inner.picture.found(&route.name, found);
        let written = self
            .write(&route.name, object, |object, now| condition::with_verdict(object, &verdict, now))
            .await;
        if let Err(status) = written {
            tracing::warn!(service = route.name, "its availability cannot be written yet: {status}");
            return Next::Soon;
        }
        match (verdict.available, verdict.reason) {
            (true, _) if told => Next::Later,
            (true, _) | (false, "FailedDiscoveryCheck") => Next::Soon,
            (false, _) => Next::Later,
        }
    }

    /// Writes the status if it is to change.
    async fn write(
        &self,
        name: &str,
        object: &Value,
        change: impl Fn(&Value, Time) -> Option<Value>,
    ) -> Result<(), Status> {
        let time = clock::now();
        if change(object, time).is_none() {
            return Ok(());
        }
        let Some(newest) = self.client.get(&api_services(), "", name).await? else { return Ok(()) };
        // Who serves it has changed: what was found out is of somebody else.
        if newest["spec"] != object["spec"] {
            return Ok(());
        }
        let Some(changed) = change(&newest, time) else { return Ok(()) };
        match self.client.update(&api_services(), "", name, "status", changed).await {
            // Another server was first, or a change is on its way here.
            Err(status) if [Reason::Conflict, Reason::NotFound].contains(&status.reason) => Ok(()),
            written => written.map(|_| ()),
        }
    }

    /// Whether anybody behind the service serves the group and version. Its certificate is not judged: what it says is not
    /// used.
    async fn probe(&self, route: &Route) -> Result<(), String> {
        let mut addresses = resolve(&self.collections, &route.at).await?;
        addresses.shuffle(&mut rand::rng());
        addresses.truncate(ASKED);
        let verifier = self.inner.sender.dialer.anybody();
        let path = path_of(&route.group_version);
        let mut asked: FuturesUnordered<_> = addresses
            .into_iter()
            .map(|address| {
                let target = Target { address, host: route.at.host(), verifier: Arc::clone(&verifier) };
                let path = &path;
                async move {
                    let url = format!("https://{}{path}", target.address);
                    let answer = self.get(&target, path, "*/*").await;
                    let why = match answer {
                        Ok(answer) if answer.code.is_success() => return Ok(()),
                        Ok(answer) => format!("bad status from {url}: {}", answer.code.as_u16()),
                        Err(why) => why,
                    };
                    Err(format!("failing or missing response from {url}: {why}"))
                }
            })
            .collect();
        let mut last = String::new();
        while let Some(answered) = asked.next().await {
            match answered {
                Ok(()) => return Ok(()),
                Err(why) => last = why,
            }
        }
        Err(last)
    }

    /// What the service tells of the group and version, from a server that proved who it is.
    async fn fetch(&self, route: &Route) -> Option<Found> {
        let found = match &route.verifier {
            Err(why) => Err(why.clone()),
            Ok(verifier) => self.documents(route, verifier).await,
        };
        found
            .inspect_err(|why| tracing::warn!(service = route.name, "what it serves is not known: {why}"))
            .ok()
    }

    async fn documents(&self, route: &Route, verifier: &Verifier) -> Result<Found, String> {
        let mut addresses = resolve(&self.collections, &route.at).await?;
        addresses.shuffle(&mut rand::rng());
        let Some(address) = addresses.pop() else { return Err("it has no address".to_owned()) };
        let target = Target { address, host: route.at.host(), verifier: Arc::clone(verifier) };
        let of = &route.group_version;
        let resources = match self.aggregated(&target, of).await? {
            Some(resources) => resources,
            None => {
                let answer = self.get(&target, &path_of(of), "application/json").await?;
                told::of_plain(&answer.document()?, of)
            }
        };
        let index = self.get(&target, "/openapi/v3", "application/json").await?;
        let index = if index.code == StatusCode::OK { index.document()? } else { Value::Null };
        Ok(Found { resources, openapi: told::openapi_url(&index, of) })
    }

    /// Aggregated discovery; nothing where the server knows only the plain one.
    async fn aggregated(&self, target: &Target, of: &GroupVersion) -> Result<Option<Value>, String> {
        let root = if of.group.is_empty() { "/api" } else { "/apis" };
        let answer = self.get(target, root, AGGREGATED).await?;
        if answer.code != StatusCode::OK || !answer.content_type.contains("as=APIGroupDiscoveryList") {
            return Ok(None);
        }
        Ok(told::of_aggregated(&answer.document()?, of))
    }

    /// Asks in the server's own name, with all rights.
    async fn get(&self, target: &Target, path: &str, accept: &'static str) -> Result<Answer, String> {
        let user =
            User { name: "system:kube-aggregator".into(), groups: vec![MASTERS.into()], ..User::default() };
        let mut headers = HeaderMap::new();
        headers::say_who(&mut headers, &user).map_err(|error| error.to_string())?;
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        let answered = async {
            let sent = self.inner.sender.send(target, Method::GET, path, headers, nothing()).await;
            let (head, body) = sent.map_err(|error| error.to_string())?.into_parts();
            let body = Limited::new(body, MOST_BYTES).collect().await.map_err(|error| error.to_string())?;
            let content_type = head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            let content_type = content_type.unwrap_or_default().replace(' ', "");
            Ok(Answer { code: head.status, content_type, body: body.to_bytes() })
        };
        let answered = tokio::time::timeout(DEADLINE, answered).await;
        let answered = answered.unwrap_or_else(|_| {
            Err("context deadline exceeded (Client.Timeout exceeded while awaiting headers)".to_owned())
        });
        answered.map_err(|why: String| format!("Get \"https://{}{path}\": {why}", target.address))
    }
}

struct Answer {
    code: StatusCode,
    content_type: String,
    body: Bytes,
}

impl Answer {
    fn document(&self) -> Result<Value, String> {
        if self.code != StatusCode::OK {
            return Err(format!("it answers {}", self.code.as_u16()));
        }
        serde_json::from_slice(&self.body).map_err(|error| format!("its answer is no JSON: {error}"))
    }
}

/// Where a group and version is discovered.
fn path_of(of: &GroupVersion) -> String {
    format!("/{}", barque_api::openapi::v3::path_of(of))
}
