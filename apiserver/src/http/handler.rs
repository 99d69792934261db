//! The way of every request: who asks, whether they may, what it is about, and the answer, in the order of Kubernetes'
//! filters. Must never do what a filter refused.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use barque_api::field_selector::FieldSelector;
use barque_api::kind::GroupResource;
use barque_api::status::{Reason, Status};
use barque_api::time::{GoDuration, Time};
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{ACCEPT, HeaderName};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Body};
use super::documents::{self, Documents};
use super::health::{self, Check};
use super::negotiation::{self, Offer};
use super::parameters::Parameters;
use super::request_info::{RequestInfo, ResourceRequest, request_info};
use super::serve::{Handler, Peer};
use super::verbs::{self, Call};
use super::{body, compression, reviews};
use crate::aggregation::{Aggregation, Route};
use crate::authentication::{Authenticator, Credentials, impersonation};
use crate::authorization::follower::Authorization;
use crate::authorization::{Action, User};
use crate::keeper::Kept;
use crate::registry::pipeline::Pipeline;
use crate::registry::uid::new_uid;
use crate::storage::Storage;

/// Requests that are no watch and no stream are answered within this time.
const REQUEST_DEADLINE: Duration = Duration::from_secs(60);

/// What requests are answered with.
pub struct Parts<S: Storage> {
    /// Writes objects, and knows them all.
    pub pipeline: Pipeline<S>,
    /// Who asks.
    pub authenticator: Authenticator<S>,
    /// Who may what.
    pub authorization: Authorization,
    /// What others serve.
    pub aggregation: Aggregation,
    /// Whether the objects of the start are there.
    pub kept: Kept,
    /// Where clients inside of the cluster find this server, as host and port.
    pub address: String,
    /// Watches end at this.
    pub stop: CancellationToken,
}

struct Inner<S: Storage> {
    parts: Parts<S>,
    documents: Documents,
}

/// See the module's description. Cloning copies a pointer.
pub struct ApiHandler<S: Storage>(Arc<Inner<S>>);

impl<S: Storage> Clone for ApiHandler<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> Handler for ApiHandler<S> {
    async fn handle(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let id = request.headers().get("audit-id").cloned();
        let id = id.filter(|id| id.len() <= 64).or_else(|| HeaderValue::from_str(&new_uid()).ok());
        // A fault in one request must not take the connection's others with it.
        let answered = std::panic::AssertUnwindSafe(self.answer(request, peer)).catch_unwind().await;
        let mut response = answered.unwrap_or_else(|_| {
            tracing::error!("a request's handler panicked");
            answer::failure(&Status::internal("the request could not be handled"), None)
        });
        if let Some(id) = id {
            response.headers_mut().insert(HeaderName::from_static("audit-id"), id);
        }
        response
    }
}

impl<S: Storage> ApiHandler<S> {
    /// Answers with these.
    #[must_use]
    pub fn new(parts: Parts<S>) -> Self {
        Self(Arc::new(Inner { parts, documents: Documents::default() }))
    }

    async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<Body> {
        let (head, body) = request.into_parts();
        let parameters = Parameters::of(head.uri.query().unwrap_or_default());
        let path = head.uri.path();
        let info = request_info(head.method.as_str(), path, parameters.of_verb());
        let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let form = negotiation::accepted(accept, Offer { protobuf: true, views: false });
        let gzip = compression::accepts(&head.headers);

        let route = self.0.parts.aggregation.route(path);
        let asked =
            Asked { head: &head, parameters: &parameters, info: &info, peer: &peer, route: route.as_deref() };
        let answered = self.within_deadline(&asked, body).await;
        let is_watch = matches!(&info, RequestInfo::Resource(resource) if is_long_running(resource));
        match answered {
            Ok(response) if gzip && !is_watch && route.is_none() => compression::compress(response),
            Ok(response) => response,
            Err(status) => answer::failure(&status, form),
        }
    }

    async fn within_deadline(&self, asked: &Asked<'_>, body: Incoming) -> Result<Response<Body>, Status> {
        if matches!(asked.info, RequestInfo::Resource(resource) if is_long_running(resource)) {
            return self.filtered(asked, body).await;
        }
        let seconds = asked.parameters.text("timeout");
        let deadline = go_seconds(seconds).filter(|wanted| *wanted < REQUEST_DEADLINE);
        let deadline = deadline.unwrap_or(REQUEST_DEADLINE);
        match tokio::time::timeout(deadline, self.filtered(asked, body)).await {
            Ok(answered) => answered,
            Err(_) => Err(Status::new(
                Reason::Timeout,
                "Timeout: request did not complete within the allotted timeout",
            )),
        }
    }

    async fn filtered(&self, asked: &Asked<'_>, body: Incoming) -> Result<Response<Body>, Status> {
        let user = self.user(asked).await?;
        self.authorize(asked, &user)?;
        if let Some(route) = asked.route {
            return Ok(Box::pin(self.elsewhere(asked, route, &user, body)).await);
        }
        match asked.info {
            RequestInfo::Other { path, .. } => self.other(asked, path).await,
            RequestInfo::Resource(resource) => {
                let body = body::read(body).await?;
                self.resource(asked, resource, &user, body).await
            }
        }
    }

    /// Passes a request on to whoever serves it.
    async fn elsewhere(
        &self,
        asked: &Asked<'_>,
        route: &Route,
        user: &User,
        body: Incoming,
    ) -> Response<Body> {
        let request = Request::from_parts(asked.head.clone(), body);
        let endless = matches!(asked.info, RequestInfo::Resource(resource) if is_long_running(resource));
        let parts = &self.0.parts;
        let collections = &parts.pipeline.collections;
        parts.aggregation.serve(route, collections, request, (user, asked.peer), endless).await
    }

    /// Who asks, or whom they act as.
    async fn user(&self, asked: &Asked<'_>) -> Result<User, Status> {
        let credentials = Credentials {
            certificates: &asked.peer.certificates,
            headers: &asked.head.headers,
            path: asked.head.uri.path(),
        };
        let user = self.0.parts.authenticator.authenticate(&credentials, now()).await?;
        let Some(acting) = impersonation::requested(&asked.head.headers)? else { return Ok(user) };
        for action in &acting.actions {
            let fields = FieldSelector::default();
            let decided = self.0.parts.authorization.ask(|chain| chain.authorize(&user, action, &fields));
            if let (Err(why), Action::Resource { group, resource, name, .. }) = (decided, action) {
                return Err(Status::forbidden(&GroupResource::new(group, resource), name, why));
            }
        }
        Ok(acting.user)
    }

    /// Whether the user may do what is asked.
    fn authorize(&self, asked: &Asked<'_>, user: &User) -> Result<(), Status> {
        let (action, resource, name) = match asked.info {
            RequestInfo::Other { verb, path } => {
                let action = Action::Path { verb: verb.clone(), path: path.clone() };
                (action, GroupResource::new("", ""), "")
            }
            RequestInfo::Resource(info) => {
                let action = action_of(info);
                (action, info.resource.group_resource(), info.name.as_str())
            }
        };
        // One that cannot be read is refused where it is used; here it selects nothing in particular.
        let fields = asked.parameters.text("fieldSelector").parse().unwrap_or_default();
        let decided = self.0.parts.authorization.ask(|chain| chain.authorize(user, &action, &fields));
        decided.map_err(|why| Status::forbidden(&resource, name, why))
    }

    async fn other(&self, asked: &Asked<'_>, path: &str) -> Result<Response<Body>, Status> {
        let method = &asked.head.method;
        if method != http::Method::GET && method != http::Method::HEAD {
            return Err(Status::no_such_path());
        }
        let catalog = self.0.parts.pipeline.collections.catalog();
        let document = documents::Asked {
            path,
            parameters: asked.parameters,
            headers: &asked.head.headers,
            address: &self.0.parts.address,
        };
        let elsewhere = self.0.parts.aggregation.elsewhere();
        if let Some(response) = self.0.documents.answer(document, &catalog, &elsewhere)? {
            return Ok(response);
        }
        if let Some(document) = self.token_document(path) {
            return Ok(answer::json(&document));
        }
        let first = path.trim_matches('/').split('/').next().unwrap_or_default();
        if ["livez", "readyz", "healthz"].contains(&first)
            && let Some(response) = health::answer(path, asked.parameters, &self.checks(first).await)
        {
            return Ok(response);
        }
        Ok(answer::text(StatusCode::NOT_FOUND, "404 page not found\n"))
    }

    /// How others find out whether a token is this cluster's.
    fn token_document(&self, path: &str) -> Option<Value> {
        let accounts = self.0.parts.authenticator.settings().service_accounts.as_ref()?;
        match path {
            "/openid/v1/jwks" => Some(accounts.key_set()),
            "/.well-known/openid-configuration" => {
                accounts.discovery(&format!("https://{}/openid/v1/jwks", self.0.parts.address))
            }
            _ => None,
        }
    }

    /// What is looked at to tell whether this server serves.
    async fn checks(&self, endpoint: &str) -> Vec<Check> {
        let mut checks = vec![Check { name: "ping", failure: None }, Check { name: "log", failure: None }];
        let storage = self.0.parts.pipeline.collections.storage();
        let read = tokio::time::timeout(Duration::from_secs(2), storage.current_revision()).await;
        checks.push(Check {
            name: "etcd",
            failure: match read {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("the store does not answer".to_owned()),
            },
        });
        if endpoint != "livez" {
            let catalog = self.0.parts.pipeline.collections.catalog();
            let waits = catalog.endpoints.iter().filter_map(|one| one.collection.as_ref());
            let waits: Vec<_> = waits
                .filter(|one| one.cache.revision().is_none())
                .map(|one| one.resource.to_string())
                .collect();
            checks.push(Check {
                name: "informer-sync",
                failure: (!waits.is_empty()).then(|| format!("not listed yet: {}", waits.join(", "))),
            });
            let synced = self.0.parts.authorization.is_in_step();
            let failure = (!synced).then(|| "rights are not known yet".to_owned());
            checks.push(Check { name: "poststarthook/rbac/bootstrap-roles", failure });
            let registered = self.0.parts.aggregation.is_in_step();
            let failure = (!registered).then(|| "it is not known yet what others serve".to_owned());
            checks.push(Check { name: "poststarthook/apiservice-registration-controller", failure });
            let kept = self.0.parts.kept.is_done();
            let failure = (!kept).then(|| "objects of the start are not written yet".to_owned());
            checks.push(Check { name: "poststarthook/start-system-namespaces-controller", failure });
            let stops = self.0.parts.stop.is_cancelled();
            let failure = stops.then(|| "process is shutting down".to_owned());
            checks.push(Check { name: "shutdown", failure });
        }
        checks
    }

    async fn resource(
        &self,
        asked: &Asked<'_>,
        info: &ResourceRequest,
        user: &User,
        body: Bytes,
    ) -> Result<Response<Body>, Status> {
        let catalog = self.0.parts.pipeline.collections.catalog();
        let endpoint = catalog.named(&info.resource).ok_or_else(Status::no_such_path)?;
        let call = Call {
            info,
            endpoint,
            user,
            parameters: asked.parameters,
            headers: &asked.head.headers,
            body,
            now: now(),
            stop: &self.0.parts.stop,
        };
        let mut warnings = Vec::new();
        let parts = &self.0.parts;
        let answered = match reviews::answer(&call, &parts.authorization, &parts.authenticator).await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => verbs::carry_out(&call, &parts.pipeline, &mut warnings).await,
            Err(status) => Err(status),
        };
        let mut response = match answered {
            Ok(response) => response,
            Err(status) => {
                let accept = asked.head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
                let form = negotiation::accepted(accept, Offer { protobuf: true, views: false });
                answer::failure(&status, form)
            }
        };
        answer::warn(&mut response, &warnings);
        Ok(response)
    }
}

/// What a request for a resource does, as it is asked whether somebody may.
fn action_of(info: &ResourceRequest) -> Action {
    let resource = &info.resource.resource;
    Action::Resource {
        verb: info.verb.to_owned(),
        group: info.resource.group.to_string(),
        resource: match info.subresource.as_str() {
            "" => resource.to_string(),
            below => format!("{resource}/{below}"),
        },
        namespace: info.namespace.clone(),
        name: info.name.clone(),
    }
}

/// A request and what was read of it.
struct Asked<'a> {
    head: &'a http::request::Parts,
    parameters: &'a Parameters,
    info: &'a RequestInfo,
    peer: &'a Peer,
    /// Where it goes, if this server does not serve it.
    route: Option<&'a Route>,
}

/// Whether a request may take as long as it likes: it follows something.
fn is_long_running(resource: &ResourceRequest) -> bool {
    resource.verb == "watch"
        || ["log", "exec", "attach", "portforward", "proxy"].contains(&resource.subresource.as_str())
}

/// The time of day.
fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Time::of_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

/// A duration as Go's clients write it.
fn go_seconds(text: &str) -> Option<Duration> {
    let nanos = GoDuration::parse(text).ok()?.nanos();
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}
