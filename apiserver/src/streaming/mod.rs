//! Requests that are streams to nodes, pods and services: `log`, `exec`, `attach`, `portforward` and `proxy`. They are passed
//! on to the node's agent or straight to their target. Must never judge who may, nor pass on who the client is.

pub mod dial;
pub mod node;
mod node_verifier;
pub mod options;
pub mod plan;
pub mod proxy;
pub mod read;
pub mod refusal;
pub mod translate;

#[cfg(test)]
mod fake_agent;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod translate_tests;

use std::sync::Arc;

use barque_api::kind::GroupResource;
use barque_api::status::{Reason, Status};
use barque_store::tls::TlsError;
use barque_streams::tunnel;
use barque_streams::upgrade::{is_upgrade, is_websocket, protocols};
use barque_streams::websocket::{self, Protocol};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use rand::seq::SliceRandom as _;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::dial::{AgentFlags, Dialer};
use self::node::Agent;
use self::options::Streams;
use self::plan::{Target, Trust};
use self::proxy::{Sender, of_agent, of_proxy};
use crate::http::answer::{self, Body};
use crate::http::parameters::Parameters;
use crate::http::request_info::ResourceRequest;
use crate::http::serve::Peer;
use crate::registry::collections::Collections;
use crate::relay::{self, Relay, headers, nothing};
use crate::storage::Storage;

/// What streams need that is the same for all of them. Cloning copies a pointer.
#[derive(Clone)]
pub struct Streaming(Arc<Inner>);

struct Inner {
    sender: Sender,
    preferred_address_types: Vec<String>,
}

impl Streaming {
    /// Reads certificates. What is started for streams is owned by `tasks` and ends with `stop`.
    ///
    /// # Errors
    /// When a certificate cannot be used.
    pub fn new(flags: AgentFlags, tasks: TaskTracker, stop: CancellationToken) -> Result<Self, TlsError> {
        let sender = Sender { dialer: Dialer::new(&flags)?, relay: Relay::new(tasks, stop) };
        Ok(Self(Arc::new(Inner { sender, preferred_address_types: flags.preferred_address_types })))
    }
}

/// Whether a request is a stream that this module serves.
#[must_use]
pub fn serves(info: &ResourceRequest) -> bool {
    info.resource.group.is_empty()
        && matches!(
            (&*info.resource.resource, &*info.subresource),
            ("pods", "log" | "exec" | "attach" | "portforward" | "proxy") | ("nodes" | "services", "proxy")
        )
}

/// The verb that a stream must be allowed with besides its own: a WebSocket begins with GET, which is `get`, and does what
/// only `create` gives the right to. Since Kubernetes 1.35.
#[must_use]
pub fn extra_action(info: &ResourceRequest, headers: &HeaderMap) -> Option<&'static str> {
    let runs = &*info.resource.resource == "pods"
        && info.resource.group.is_empty()
        && ["exec", "attach", "portforward"].contains(&info.subresource.as_str());
    (runs && info.verb == "get" && is_websocket(headers)).then_some("create")
}

/// Serves one. The body of the request has not been read.
///
/// # Errors
/// Whatever it fails with before anything is streamed.
pub async fn serve<S: Storage>(
    streaming: &Streaming,
    collections: &Collections<S>,
    request: Request<Incoming>,
    info: &ResourceRequest,
    parameters: &Parameters,
    peer: &Peer,
) -> Result<Response<Body>, Status> {
    let inner = &*streaming.0;
    let stream = Stream { inner, collections, info, parameters };
    let (mut head, body) = request.into_parts();
    let upgrade = head.extensions.remove::<OnUpgrade>();
    match &*info.subresource {
        "log" => stream.log(&head).await,
        "proxy" => {
            let Some(path) = plan::proxied_path(head.uri.path(), &info.rest) else {
                return stream.proxy_root(&head).await;
            };
            let query = head.uri.query().unwrap_or_default().to_owned();
            let target = stream.proxy_target(path, query).await?;
            let headers = headers::passed_on(&head, peer.address.ip());
            if is_upgrade(&headers)
                && let Some(upgrade) = upgrade
            {
                let sent = inner.sender.send(&target, head.method, headers, nothing()).await;
                return inner.sender.coupled(sent.map_err(|error| of_agent(&error))?, upgrade);
            }
            let sent = inner.sender.send(&target, head.method, headers, body.boxed_unsync()).await;
            let response = sent.map_err(|error| of_proxy(&error))?;
            let mut response = inner.sender.passed_back(response);
            let (asked, backend) = (head.uri.path(), target.authority());
            headers::keep_behind_proxy(response.headers_mut(), asked, &target.path, &backend);
            Ok(response)
        }
        _ => {
            if head.method != Method::GET && head.method != Method::POST {
                return Err(stream.no_such_verb());
            }
            let target = stream.process_target().await?;
            let Some(upgrade) = upgrade.filter(|_| is_upgrade(&head.headers)) else {
                return Err(Status::bad_request("Upgrade request required"));
            };
            let headers = headers::passed_on(&head, peer.address.ip());
            let sent = inner.sender.send(&target, head.method.clone(), headers, nothing()).await;
            let response = sent.map_err(|error| of_agent(&error))?;
            if !is_websocket(&head.headers) || translate::goes_through(&head.headers, &response) {
                return inner.sender.coupled(response, upgrade);
            }
            stream.end_websocket(&head.headers, &target, upgrade, response).await
        }
    }
}

/// A request and what is needed to serve it.
struct Stream<'a, S: Storage> {
    inner: &'a Inner,
    collections: &'a Collections<S>,
    info: &'a ResourceRequest,
    parameters: &'a Parameters,
}

impl<S: Storage> Stream<'_, S> {
    async fn object(&self, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let resource = GroupResource::new("", resource);
        let found = self.collections.newest_object(&resource, namespace, name).await?;
        found.ok_or_else(|| Status::not_found(&resource, name))
    }

    async fn agent(&self, node: &str) -> Result<Agent, Status> {
        let node = self.object("nodes", "", node).await?;
        node::agent(&node, &self.inner.preferred_address_types)
    }

    fn no_such_verb(&self) -> Status {
        let resource = format!("{}/{}", self.info.resource.resource, self.info.subresource);
        Status::method_not_supported(&GroupResource::new("", &resource), self.info.verb)
    }

    async fn log(&self, head: &http::request::Parts) -> Result<Response<Body>, Status> {
        if head.method != Method::GET && head.method != Method::HEAD {
            return Err(self.no_such_verb());
        }
        let (namespace, name) = (&self.info.namespace, &self.info.name);
        let options = options::log(self.parameters, name)?;
        let pod = self.object("pods", namespace, name).await?;
        let container = plan::container(&pod, &options.container)?;
        let Some(node) = plan::node_name(&pod) else {
            // Nothing has run yet, so there is no log, and that is no fault.
            let mut response = Response::new(answer::whole(""));
            *response.status_mut() = StatusCode::NO_CONTENT;
            return Ok(response);
        };
        let agent = self.agent(node).await?;
        let path = format!("/containerLogs/{namespace}/{name}/{container}");
        let mut target = Target::agent(agent, path, options.query);
        if options.insecure {
            target.trust = Trust::UnverifiedAgent;
        }
        let sent = self.inner.sender.send(&target, Method::GET, HeaderMap::new(), nothing()).await;
        let response = sent.map_err(|error| {
            let address = format!("https://{}{}", target.authority(), target.path_and_query());
            Status::new(Reason::InternalError, format!("Get {address:?}: {error}"))
        })?;
        if !response.status().is_success() {
            return Err(refusal::of_log(response, name).await);
        }
        let body = relay::body(response.into_body(), self.inner.sender.relay.stop());
        Ok(answer::with(StatusCode::OK, "text/plain", body))
    }

    /// Where something runs in a container, or ports of a pod are forwarded.
    async fn process_target(&self) -> Result<Target, Status> {
        let (namespace, name) = (&self.info.namespace, &self.info.name);
        let pod = self.object("pods", namespace, name).await?;
        let (path, query) = match &*self.info.subresource {
            "portforward" => {
                (format!("/portForward/{namespace}/{name}"), options::ports_query(self.parameters)?)
            }
            kind => {
                let container = plan::container(&pod, self.parameters.text("container"))?;
                let query = options::process_query(self.parameters, kind == "exec");
                (format!("/{kind}/{namespace}/{name}/{container}"), query)
            }
        };
        let node = plan::node_name(&pod).ok_or_else(|| plan::no_host(name))?;
        Ok(Target::agent(self.agent(node).await?, path, query))
    }

    /// Ends the WebSocket of a client here and speaks SPDY to an agent that has refused it.
    async fn end_websocket(
        &self,
        request: &HeaderMap,
        target: &Target,
        client: OnUpgrade,
        refused: Response<Incoming>,
    ) -> Result<Response<Body>, Status> {
        let sender = &self.inner.sender;
        let ports = self.info.subresource == "portforward";
        let protocol = Protocol::chosen(&protocols(request), ports);
        let accepted = protocol.and_then(|one| Some((one, websocket::accepted(request, Some(one))?)));
        let Some((protocol, accepted)) = accepted else {
            return sender.coupled(refused, client);
        };
        drop(refused);
        let wanted = options::streams(self.parameters);
        if !ports && wanted == (Streams { tty: wanted.tty, ..Streams::default() }) {
            return Err(Status::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        let inside = if ports { translate::PORTS_PROTOCOL } else { translate::PROCESS_PROTOCOL };
        let response = sender.ask_spdy(target, inside).await.map_err(|error| of_agent(&error))?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return sender.coupled(response, client);
        }
        let agent = hyper::upgrade::on(response);
        let copying = Box::pin(async move {
            match tokio::try_join!(client, agent) {
                Ok((client, agent)) => {
                    let (client, agent) = (websocket::socket(client).await, TokioIo::new(agent));
                    if protocol == Protocol::Tunnel {
                        tunnel::carry(client, agent, relay::SILENCE).await;
                    } else {
                        translate::process(client, protocol, agent, wanted).await;
                    }
                }
                Err(error) => tracing::debug!("an upgrade broke off: {error}"),
            }
        });
        sender.relay.own(sender.relay.stop(), copying);
        Ok(accepted.map(|()| answer::whole("")))
    }

    async fn proxy_target(&self, path: String, query: String) -> Result<Target, Status> {
        let (namespace, id) = (&self.info.namespace, &self.info.name);
        match &*self.info.resource.resource {
            "nodes" => {
                let asked = plan::proxy_name(id, "node")?;
                plan::node_target(self.agent(asked.name).await?, asked, path, query)
            }
            "pods" => {
                let asked = plan::proxy_name(id, "pod")?;
                plan::pod_target(&self.object("pods", namespace, asked.name).await?, asked, path, query)
            }
            _ => {
                let asked = plan::proxy_name(id, "service")?;
                let service = self.object("services", namespace, asked.name).await?;
                let port = plan::service_port(&service, asked)?;
                let endpoints = self.object("endpoints", namespace, asked.name).await?;
                let mut backends = plan::backends(&endpoints, &port, namespace);
                backends.shuffle(&mut rand::rng());
                for backend in backends {
                    // Endpoints may be written by anybody in the namespace; only what its pods have is for them.
                    let pods = GroupResource::new("", "pods");
                    let pod = self.collections.newest_object(&pods, namespace, &backend.pod).await?;
                    if pod.is_some_and(|pod| plan::has_address(&pod, &backend.ip)) {
                        let (host, port) = (backend.ip, backend.port);
                        return Ok(Target { tls: asked.tls, host, port, path, query, trust: Trust::Anybody });
                    }
                }
                Err(plan::no_endpoints(id))
            }
        }
    }

    /// A proxy without a path: browsers are sent to the one with a slash, so that what is relative stays below it.
    async fn proxy_root(&self, head: &http::request::Parts) -> Result<Response<Body>, Status> {
        self.proxy_target("/".to_owned(), String::new()).await?;
        let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("{}/{query}", head.uri.path());
        let mut response = Response::new(answer::whole(""));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        let location = http::HeaderValue::from_str(&location).map_err(Status::internal)?;
        response.headers_mut().insert(http::header::LOCATION, location);
        Ok(response)
    }
}

#[cfg(test)]
mod decisions {
    use super::*;
    use crate::http::request_info::{Query, RequestInfo, request_info};

    fn resource(method: &str, path: &str) -> ResourceRequest {
        match request_info(method, path, Query::default()) {
            RequestInfo::Resource(resource) => resource,
            RequestInfo::Other { .. } => panic!("{path} is no resource"),
        }
    }

    #[test]
    fn what_is_streamed_is_told_by_the_path() {
        let table = [
            ("/api/v1/namespaces/a/pods/p/log", true),
            ("/api/v1/namespaces/a/pods/p/exec", true),
            ("/api/v1/namespaces/a/services/s/proxy/x", true),
            ("/api/v1/nodes/n/proxy", true),
            ("/api/v1/nodes/n/log", false),
            ("/api/v1/namespaces/a/pods/p/status", false),
            ("/apis/example.com/v1/namespaces/a/pods/p/log", false),
        ];
        for (path, wanted) in table {
            assert_eq!(serves(&resource("GET", path)), wanted, "{path}");
        }
    }

    #[test]
    fn a_websocket_that_runs_something_needs_the_right_to_create() {
        let mut headers = HeaderMap::new();
        let exec = "/api/v1/namespaces/a/pods/p/exec";
        assert_eq!(extra_action(&resource("GET", exec), &headers), None);
        headers.insert("connection", http::HeaderValue::from_static("Upgrade"));
        headers.insert("upgrade", http::HeaderValue::from_static("websocket"));
        assert_eq!(extra_action(&resource("GET", exec), &headers), Some("create"));
        assert_eq!(extra_action(&resource("POST", exec), &headers), None);
        let proxy = "/api/v1/namespaces/a/pods/p/proxy/x";
        assert_eq!(extra_action(&resource("GET", proxy), &headers), None);
    }
}
