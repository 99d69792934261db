//! The way of every request: who asks, whether they may, what it is about, and the answer, in the order of Kubernetes'
//! filters. Must never do what a filter refused.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use barque_api::field_selector::FieldSelector;
use barque_api::kind::GroupResource;
use barque_api::status::{Reason, Status};
use barque_api::time::GoDuration;
use bytes::Bytes;
use futures::FutureExt as _;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::upgrade::OnUpgrade;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, Body};
use super::auditing::{Arrived, Auditor, Trail};
use super::documents::{self, Documents};
use super::health::{self, Check};
use super::negotiation::{self, Offer};
use super::parameters::Parameters;
use super::request_info::{RequestInfo, ResourceRequest, is_plain, request_info};
use super::serve::{Handler, Peer};
use super::verbs::{self, Call};
use super::{body, compression, reviews};
use crate::admission::{Attributes, Operation, Told};
use crate::aggregation::{Aggregation, Route};
use crate::authentication::{Authenticator, Credentials, impersonation};
use crate::authorization::chain::Authorizer as _;
use crate::authorization::{Action, Decision, User, refusal};
use crate::clock;
use crate::custom_resources::controller::Definitions;
use crate::flow_control::bodies::BodyRoom;
use crate::flow_control::classify::Classified;
use crate::flow_control::follower::InStep;
use crate::flow_control::limits::{Limits, Permit};
use crate::flow_control::width::{self, Extent};
use crate::keeper::Kept;
use crate::metrics::{Metrics, Ongoing, PartMetrics, Seen, Subject};
use crate::registry::pipeline::Pipeline;
use crate::registry::uid::new_uid;
use crate::resource_metrics::ResourceMetrics;
use crate::rights::Authorization;
use crate::storage::Storage;
use crate::streaming::{self, Streaming};
use crate::ui::{self, masters};

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
    /// What is written down of requests.
    pub auditor: Option<Auditor>,
    /// Which requests wait, and which are sent away.
    pub limits: Limits,
    /// Whether limits are as the store has them.
    pub limits_in_step: InStep,
    /// Requests that are no watch and no stream are answered within this time (`--request-timeout`).
    pub request_timeout: Duration,
    /// Room for bodies.
    pub room: BodyRoom,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What other parts of this process count.
    pub part_metrics: PartMetrics,
    /// Whether the objects of the start are there.
    pub kept: Kept,
    /// Whether custom kinds are served.
    pub definitions: Definitions,
    /// Where clients inside of the cluster find this server, as host and port.
    pub address: String,
    /// Serves what is streamed to nodes, pods and services.
    pub streaming: Streaming,
    /// Serves what nodes and pods use.
    pub resource_metrics: ResourceMetrics,
    /// Watches end at this.
    pub stop: CancellationToken,
    /// Own what goes on after an answer.
    pub tasks: TaskTracker,
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
        let name = id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
        let (handler, tasks) = (self.clone(), &self.0.parts.tasks);
        let work = async move {
            // A fault in one request must not take the connection's others with it.
            std::panic::AssertUnwindSafe(handler.answer(request, peer, &name)).catch_unwind().await
        };
        // A client that goes away does not stop a change in its midst: what was taken for it would belong to nobody.
        let answered = if changes {
            tasks.spawn(work).await.unwrap_or_else(|ended| Err(Box::new(ended)))
        } else {
            work.await
        };
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

    async fn answer(&self, request: Request<Incoming>, peer: Peer, id: &str) -> Response<Body> {
        let (head, body) = request.into_parts();
        let parameters = Parameters::of(head.uri.query().unwrap_or_default());
        let path = head.uri.path();
        let info = request_info(head.method.as_str(), path, parameters.of_verb());
        let accept = head.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let form = negotiation::accepted(accept, Offer { protobuf: true, views: false });
        let gzip = compression::accepts(&head.headers);

        let route = self.0.parts.aggregation.route(path).filter(|_| goes_elsewhere(&info, path));
        let asked = Asked {
            head: &head,
            parameters: &parameters,
            info: &info,
            peer: &peer,
            route: route.as_deref(),
            id,
        };
        let follows = matches!(&info, RequestInfo::Resource(resource) if is_long_running(resource));
        let parts = &self.0.parts;
        let ongoing = parts.metrics.request_began(self.subject(&asked), follows);
        let mut passage =
            Passage { trail: Trail::default(), told: Told::default(), ongoing, classified: None };
        let answered = self.within_deadline(&asked, body, &mut passage).await;
        let Passage { mut trail, told, ongoing, classified } = passage;
        trail.admitted(&told);
        let mut response = answered.unwrap_or_else(|status| {
            trail.failed(&status);
            answer::failure(&status, form)
        });
        answer::warn(&mut response, &told.warnings);
        if let Some(classified) = classified {
            classified.write_headers(response.headers_mut());
        }
        if let Some(auditor) = &parts.auditor {
            response = auditor.answered(trail, response, follows).await;
        }
        if gzip && !follows && route.is_none() {
            response = compression::compress(response);
        }
        ongoing.answered(response)
    }

    /// What is counted of a request.
    fn subject(&self, asked: &Asked<'_>) -> Subject {
        let catalog = self.0.parts.pipeline.collections.catalog();
        let content_type = asked.head.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let seen = Seen {
            is_served: match asked.info {
                RequestInfo::Resource(resource) => catalog.named(&resource.resource).is_some(),
                RequestInfo::Other { .. } => false,
            },
            is_apply: content_type.is_some_and(|text| text.starts_with("application/apply-patch")),
            is_dry_run: asked.parameters.has("dryRun"),
        };
        Subject::of(asked.info, seen)
    }

    async fn within_deadline(
        &self,
        asked: &Asked<'_>,
        body: Incoming,
        passage: &mut Passage,
    ) -> Result<Response<Body>, Status> {
        if matches!(asked.info, RequestInfo::Resource(resource) if is_long_running(resource)) {
            return self.filtered(asked, body, passage).await;
        }
        let longest = self.0.parts.request_timeout;
        let wanted = go_seconds(asked.parameters.text("timeout"));
        let timeout = wanted.map_or(longest, |wanted| wanted.min(longest));
        match tokio::time::timeout(timeout, self.filtered(asked, body, passage)).await {
            Ok(answered) => answered,
            Err(_) => {
                let why = "Timeout: request did not complete within the allotted timeout";
                let status = Status::new(Reason::Timeout, why);
                passage.ongoing.terminated(status.reason.code());
                Err(status)
            }
        }
    }

    async fn filtered(
        &self,
        asked: &Asked<'_>,
        body: Incoming,
        passage: &mut Passage,
    ) -> Result<Response<Body>, Status> {
        let user = self.user(asked, &mut passage.trail).await?;
        // Held until there is an answer.
        let _permit = self.admit(asked, &user, passage).await?;
        self.authorize(asked, &user, &mut passage.trail)?;
        if let Some(route) = asked.route {
            return Ok(Box::pin(self.elsewhere(asked, route, &user, body)).await);
        }
        match asked.info {
            RequestInfo::Other { path, .. } => self.other(asked, path).await,
            RequestInfo::Resource(resource) if streaming::serves(resource) => {
                let request = Request::from_parts(asked.head.clone(), body);
                Box::pin(self.stream(asked, resource, &user, request, &mut passage.told)).await
            }
            RequestInfo::Resource(resource) => {
                let declared = body.size_hint().exact();
                let _room = self.0.parts.room.take(declared)?;
                let body = body::read(body).await?;
                passage.trail.sent(&asked.head.headers, &body);
                self.resource(asked, resource, &user, body, &mut passage.told).await
            }
        }
    }

    /// Serves a stream, if admission lets it begin; it may change the options.
    async fn stream(
        &self,
        asked: &Asked<'_>,
        resource: &ResourceRequest,
        user: &User,
        request: Request<Incoming>,
        told: &mut Told,
    ) -> Result<Response<Body>, Status> {
        let parts = &self.0.parts;
        let mut resource = Cow::Borrowed(resource);
        let mut parameters = Cow::Borrowed(asked.parameters);
        if let Some((kind, options)) = streaming::options::of_connection(&resource, &parameters)? {
            let attributes = Attributes {
                operation: Operation::Connect,
                user,
                kind: &kind,
                resource: &resource.resource,
                subresource: &resource.subresource,
                namespace: &resource.namespace,
                name: &resource.name,
                old: None,
                options: &Value::Null,
                dry_run: false,
                now: clock::now(),
            };
            let mut changed = options.clone();
            parts.pipeline.admission.admit(&attributes, &mut changed, told).await?;
            if changed != options {
                if resource.subresource == "proxy" {
                    resource.to_mut().rest = streaming::options::as_rest(&changed);
                } else {
                    parameters = Cow::Owned(streaming::options::as_parameters(&changed));
                }
            }
        }
        let (streaming, collections) = (&parts.streaming, &parts.pipeline.collections);
        streaming::serve(streaming, collections, request, &resource, &parameters, asked.peer).await
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

    /// Waits until the request may be worked on.
    async fn admit(
        &self,
        asked: &Asked<'_>,
        user: &User,
        passage: &mut Passage,
    ) -> Result<Option<Permit>, Status> {
        let limits = &self.0.parts.limits;
        let classified = limits.classify(user, asked.info);
        if matches!(asked.info, RequestInfo::Resource(resource) if resource.verb != "watch" && is_long_running(resource))
        {
            return Ok(None);
        }
        let extent = || {
            let RequestInfo::Resource(resource) = asked.info else { return None };
            let catalog = self.0.parts.pipeline.collections.catalog();
            let collection = catalog.named(&resource.resource)?.collection.as_ref()?;
            Some(Extent::from(collection.cache.counts()))
        };
        let seats = width::seats(asked.info, asked.parameters, extent, limits.widest(&classified));
        let admitted = limits.admit(&classified, seats).await;
        passage.classified = Some(classified);
        match admitted {
            Ok(permit) => {
                passage.ongoing.waited(permit.waited());
                Ok(Some(permit))
            }
            Err(status) => {
                passage.ongoing.terminated(status.reason.code());
                Err(status)
            }
        }
    }

    /// Who asks, or whom they act as.
    async fn user(&self, asked: &Asked<'_>, trail: &mut Trail) -> Result<User, Status> {
        let credentials = Credentials {
            certificates: &asked.peer.certificates,
            headers: &asked.head.headers,
            path: asked.head.uri.path(),
        };
        let began = Instant::now();
        let known = self.0.parts.authenticator.authenticate(&credentials, clock::now()).await;
        let result = match &known {
            Ok(user) => Ok(Some(user.name.as_str())),
            Err(_) if !credentials.are_shown() => Ok(None),
            Err(status) => Err(status),
        };
        self.0.parts.metrics.access.authenticated(&result, began.elapsed());
        if let Some(auditor) = &self.0.parts.auditor {
            let nobody = User::default();
            *trail = auditor.arrived(&asked.arrived(), known.as_ref().unwrap_or(&nobody)).await;
        }
        let user = known?;
        let Some(acting) = impersonation::requested(&asked.head.headers)? else { return Ok(user) };
        for action in &acting.actions {
            let fields = FieldSelector::default();
            let decided = self.0.parts.authorization.ask(|chain| chain.authorize(&user, action, &fields));
            if let (Err(why), Action::Resource { group, resource, name, .. }) = (decided, action) {
                return Err(Status::forbidden(&GroupResource::new(group, resource), name, why));
            }
        }
        trail.impersonated(&acting.user);
        Ok(acting.user)
    }

    /// Whether the user may do what is asked.
    fn authorize(&self, asked: &Asked<'_>, user: &User, trail: &mut Trail) -> Result<(), Status> {
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
        let mut actions = vec![action];
        if let RequestInfo::Resource(info) = asked.info
            && let Some(verb) = streaming::extra_action(info, &asked.head.headers)
        {
            actions.push(action_of(&ResourceRequest { verb, ..info.clone() }));
        }
        let metrics = &self.0.parts.metrics.access;
        let (mut word, mut reasons) = ("allow", Vec::new());
        let decided = self.0.parts.authorization.ask(|chain| {
            for action in &actions {
                let began = Instant::now();
                let decision = chain.decide(user, action, &fields);
                metrics.authorized(&decision, began.elapsed());
                match decision {
                    Decision::Allow(reason) => reasons.push(reason),
                    Decision::Deny(reason) | Decision::NoOpinion(reason) => {
                        word = "forbid";
                        let why = refusal(user, action, std::slice::from_ref(&reason));
                        reasons = vec![reason];
                        return Err(why);
                    }
                }
            }
            Ok(())
        });
        trail.annotate("authorization.k8s.io/decision", word);
        trail.annotate("authorization.k8s.io/reason", reasons.first().map_or("", String::as_str));
        decided.map_err(|why| Status::forbidden(&resource, name, why))
    }

    async fn other(&self, asked: &Asked<'_>, path: &str) -> Result<Response<Body>, Status> {
        let method = &asked.head.method;
        if method != Method::GET && method != Method::HEAD {
            return Err(Status::no_such_path());
        }
        let catalog = self.0.parts.pipeline.collections.catalog();
        let document = documents::Asked {
            path,
            parameters: asked.parameters,
            headers: &asked.head.headers,
            address: &self.0.parts.address,
            parts: &self.0.parts.part_metrics,
        };
        let elsewhere = self.0.parts.aggregation.elsewhere();
        if let Some(response) = self.0.documents.answer(document, &catalog, &elsewhere)? {
            return Ok(response);
        }
        if path == "/metrics" {
            let text = self.0.parts.metrics.text();
            return Ok(answer::with(StatusCode::OK, Metrics::CONTENT_TYPE, answer::whole(text)));
        }
        if let Some(text) = self.0.parts.part_metrics.at(path) {
            return Ok(answer::with(StatusCode::OK, Metrics::CONTENT_TYPE, answer::whole(text)));
        }
        if let Some(document) = self.token_document(path) {
            return Ok(answer::json(&document));
        }
        if ui::PAGES.contains(&path) {
            return Ok(ui::page(&asked.head.headers));
        }
        if path == ui::MASTERS {
            let members = self.0.parts.pipeline.collections.storage().members().await;
            return Ok(answer::json(&masters::document(&members.map_err(|error| error.to_status())?)));
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
            // A custom kind that is new is no reason to send nobody here.
            let builtin = catalog.endpoints.iter().filter(|one| !one.served.is_custom());
            let waits = builtin.filter_map(|one| one.collection.as_ref());
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
            let limited = self.0.parts.limits_in_step.is_reached();
            let failure = (!limited).then(|| "limits are not known yet".to_owned());
            checks.push(Check { name: "poststarthook/priority-and-fairness-config-consumer", failure });
            let served = self.0.parts.definitions.are_served();
            let failure = (!served).then(|| "custom kinds are not served yet".to_owned());
            checks.push(Check { name: "poststarthook/crd-informer-synced", failure });
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
        told: &mut Told,
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
            now: clock::now(),
            stop: &self.0.parts.stop,
            upgrade: asked.head.extensions.get::<OnUpgrade>().cloned(),
            tasks: &self.0.parts.tasks,
        };
        let parts = &self.0.parts;
        if let Some(response) = parts.resource_metrics.answer(&call, &parts.pipeline.collections).await? {
            return Ok(response);
        }
        let (authorizer, admission) = (&parts.authorization, &parts.pipeline.admission);
        match reviews::answer(&call, authorizer, &parts.authenticator, admission, told).await? {
            Some(response) => Ok(response),
            None => verbs::carry_out(&call, &parts.pipeline, told).await,
        }
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

/// What becomes of a request on its way.
struct Passage {
    trail: Trail,
    /// What is said beside the answer, whether that is good or bad.
    told: Told,
    ongoing: Ongoing,
    classified: Option<Classified>,
}

/// A request and what was read of it.
struct Asked<'a> {
    head: &'a http::request::Parts,
    parameters: &'a Parameters,
    info: &'a RequestInfo,
    peer: &'a Peer,
    /// Where it goes, if this server does not serve it.
    route: Option<&'a Route>,
    /// Names the request.
    id: &'a str,
}

impl<'a> Asked<'a> {
    fn arrived(&self) -> Arrived<'a> {
        Arrived {
            id: self.id,
            uri: self.head.uri.path_and_query().map_or("", |uri| uri.as_str()),
            info: self.info,
            headers: &self.head.headers,
            address: &self.peer.ip,
        }
    }
}

/// Whether whoever serves a path reads it as it was authorized here: as that of a resource, or of a document.
fn goes_elsewhere(info: &RequestInfo, path: &str) -> bool {
    /// `apis`, the group and the version.
    const DISCOVERY_PARTS: usize = 3;
    let is_document =
        path.starts_with("/openapi/") || path.trim_matches('/').split('/').count() <= DISCOVERY_PARTS;
    is_plain(path) && (matches!(info, RequestInfo::Resource(_)) || is_document)
}

/// Whether a request may take as long as it likes: it follows something.
fn is_long_running(resource: &ResourceRequest) -> bool {
    resource.verb == "watch"
        || ["log", "exec", "attach", "portforward", "proxy"].contains(&resource.subresource.as_str())
}

/// A duration as Go's clients write it.
fn go_seconds(text: &str) -> Option<Duration> {
    let nanos = GoDuration::parse(text).ok()?.nanos();
    u64::try_from(nanos).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}
