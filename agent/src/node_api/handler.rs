//! Answers one request: who asks, whether they may, and then what they asked for. Errors are the kubelet's: plain text. Must never
//! give anything of a pod before the first two are known.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use barque_streams::process::{self, ProcessError};
use barque_streams::upgrade::{Purpose, Spoken, negotiate};
use barque_streams::websocket::{self, Protocol};
use barque_streams::{ports, tunnel};
use bytes::Bytes;
use futures::StreamExt as _;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::authentication::Authentication;
use super::authorization::{Authorization, asked, needed};
use super::containers::{ExecRequest, KnownPods, PodStreams};
use super::logs::follow::{self, Reading};
use super::logs::status::why_none;
use super::reviews::User;
use super::routes::{Place, Route, Unserved, route, unserved};
use super::run::{self, Ends};
use super::stats::machine::{MachineStats, machine};
use super::stats::rates::Rates;
use super::stats::{PodStats, containers, resource, summary, volumes};
use super::volumes::{Held, RememberedVolumes};
use crate::metrics::Metrics;

/// Streams on which nothing moves for so long are closed, as the kubelet does.
const SILENCE: Duration = Duration::from_secs(4 * 3600);
/// The most bytes that a command may say which is run without streams.
const MOST_SAID: usize = 16 << 20;
/// Pods whose statistics are gathered at once.
const GATHERED: usize = 16;
/// Bytes of a tunnel that wait for the other side.
const TUNNEL: usize = 64 << 10;

const PLAIN: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// See the module's description.
pub(super) struct Handler<P> {
    pub(super) authentication: Authentication,
    pub(super) authorization: Authorization,
    pub(super) node: String,
    pub(super) root: PathBuf,
    pub(super) pods: Arc<dyn KnownPods>,
    pub(super) streams: Arc<P>,
    pub(super) metrics: Metrics,
    pub(super) rates: Arc<Mutex<Rates>>,
    pub(super) volumes: RememberedVolumes,
    /// For streams that have left HTTP.
    pub(super) seats: Arc<Semaphore>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl<P: PodStreams> Handler<P> {
    pub(super) async fn answer(
        self: Arc<Self>,
        certified: Option<&User>,
        mut request: Request<Incoming>,
    ) -> Response<Body> {
        if let Err(refused) = self.let_in(certified, &request).await {
            return refused.answer();
        }
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let route = match route(request.method(), path, query, now()) {
            Ok(route) => route,
            Err(unserved) => return unserved.answer(),
        };
        match route {
            Route::Health => plain(StatusCode::OK, "ok"),
            Route::Pods => self.pods_list(),
            Route::Metrics => self.metrics().await,
            Route::ProbeMetrics => text(StatusCode::OK, Metrics::CONTENT_TYPE, self.metrics.probes().text()),
            Route::Summary => self.summary().await,
            Route::ResourceMetrics => {
                let (machine, pods) = tokio::join!(self.machine(), self.stats());
                text(StatusCode::OK, Metrics::CONTENT_TYPE, resource::text(&machine, &borrowed(&pods)))
            }
            Route::ContainerMetrics => {
                let pods = self.stats().await;
                text(StatusCode::OK, Metrics::CONTENT_TYPE, containers::text(&borrowed(&pods)))
            }
            Route::Log { place, previous, reading } => self.log(&place, previous, reading).await,
            Route::Run { place, command } => self.run(&place, command).await,
            Route::Exec { place, request: exec } => self.exec(&place, exec, &mut request),
            Route::Attach { place, wanted } => self.attach(&place, wanted, &mut request),
            Route::Ports { place, ports } => self.ports(&place, ports, &mut request),
        }
    }

    /// Whether the client is known and may.
    async fn let_in(&self, certified: Option<&User>, request: &Request<Incoming>) -> Result<(), Unserved> {
        let unknown = || unserved(StatusCode::UNAUTHORIZED, "Unauthorized");
        let user = match self.authentication.user(certified, request.headers()).await {
            Ok(user) => user.ok_or_else(unknown)?,
            Err(error) => {
                tracing::warn!(%error, "nobody says who asks the node API");
                return Err(unknown());
            }
        };
        let needed = needed(request.method(), request.uri().path(), request.headers());
        match self.authorization.missing(&user, &needed).await {
            Ok(None) => Ok(()),
            Ok(Some(missing)) => {
                let told = format!("Forbidden ({})", asked(&user, missing));
                Err(unserved(StatusCode::FORBIDDEN, told))
            }
            Err(error) => {
                tracing::warn!(%error, "nobody says what somebody may do who asks the node API");
                let told = format!("Authorization error ({})", asked(&user, &needed[0]));
                Err(unserved(StatusCode::INTERNAL_SERVER_ERROR, told))
            }
        }
    }

    fn pods_list(&self) -> Response<Body> {
        let pods = self.pods.all();
        let items: Vec<&Pod> = pods.iter().map(|pod| &**pod).collect();
        let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": items});
        text(StatusCode::OK, JSON, list.to_string())
    }

    async fn summary(&self) -> Response<Body> {
        let (machine, pods, volumes) = tokio::join!(self.machine(), self.stats(), self.volumes());
        let of = |pod: &Pod| {
            let uid = &pod.metadata.uid;
            volumes.iter().find(|(other, _)| other.metadata.uid == *uid).map_or(&[][..], |(_, held)| held)
        };
        let pods: Vec<_> = pods.iter().map(|(pod, stats)| (&**pod, stats.clone(), of(pod))).collect();
        let told = summary::summary(&self.node, &machine, &pods, &mut self.rates.lock());
        text(StatusCode::OK, JSON, told.to_string())
    }

    async fn metrics(&self) -> Response<Body> {
        let volumes = self.volumes().await;
        let volumes: Vec<_> = volumes.iter().map(|(pod, held)| (&**pod, &held[..])).collect();
        let mut all = self.metrics.text();
        all.extend(volumes::text(&volumes).into_bytes());
        text(StatusCode::OK, Metrics::CONTENT_TYPE, all)
    }

    async fn volumes(&self) -> Arc<Held> {
        self.volumes.get(&*self.pods, &*self.streams).await
    }

    async fn machine(&self) -> MachineStats {
        let root = self.root.clone();
        // It cannot fail; what ends it is the end of the process.
        spawn_blocking(move || machine(&root, now())).await.unwrap_or_default()
    }

    async fn stats(&self) -> Vec<(Arc<Pod>, PodStats)> {
        let each = futures::stream::iter(self.pods.all()).map(async |pod| {
            let stats = self.streams.stats(&pod).await?;
            Some((pod, stats))
        });
        each.buffer_unordered(GATHERED).filter_map(std::future::ready).collect().await
    }

    /// The pod that is meant, with the container that is.
    fn pod(&self, place: &Place) -> Result<Arc<Pod>, Unserved> {
        let found = self.pods.pod(&place.namespace, &place.pod);
        let found = found.filter(|pod| place.uid.is_none() || pod.metadata.uid == place.uid);
        let Some(pod) = found else { return Err(unserved(StatusCode::NOT_FOUND, "pod does not exist")) };
        if !place.container.is_empty() && !has_container(&pod, &place.container) {
            let sentence = format!("container {:?} not found in pod {:?}", place.container, place.pod);
            return Err(unserved(StatusCode::NOT_FOUND, sentence));
        }
        Ok(pod)
    }

    async fn log(&self, place: &Place, previous: bool, reading: Reading) -> Response<Body> {
        let pod = match self.pod(place) {
            Ok(pod) => pod,
            Err(refused) => return refused.answer(),
        };
        let Some(log) = self.streams.log(&pod, &place.container, previous).await else {
            return plain(StatusCode::BAD_REQUEST, why_none(&pod, &place.container, previous));
        };
        match follow::open(log.path, reading, log.ended).await {
            Ok(bytes) => {
                let frames = bytes.take_until(self.stop.clone().cancelled_owned()).map(|read| {
                    read.map(Frame::data)
                        .inspect_err(|error| tracing::warn!(%error, "a log cannot be read on"))
                });
                let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PLAIN));
                response
            }
            Err(error) => {
                let sentence = format!("the log of container {:?} cannot be read: {error}", place.container);
                plain(StatusCode::INTERNAL_SERVER_ERROR, sentence)
            }
        }
    }

    async fn run(&self, place: &Place, command: Vec<String>) -> Response<Body> {
        let pod = match self.pod(place) {
            Ok(pod) => pod,
            Err(refused) => return refused.answer(),
        };
        let wanted = process::Wanted { stdout: true, stderr: true, ..process::Wanted::default() };
        let request = ExecRequest { command, wanted };
        let said = match self.streams.exec(&pod, &place.container, request).await {
            Ok(process) => run::collect(process, MOST_SAID).await,
            Err(error) => Err(error),
        };
        match said {
            Ok((said, 0)) => text(StatusCode::OK, PLAIN, said),
            Ok((said, code)) => {
                let sentence = format!("command exited with {code}: {}", String::from_utf8_lossy(&said));
                plain(StatusCode::INTERNAL_SERVER_ERROR, sentence)
            }
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        }
    }

    fn exec(
        self: Arc<Self>,
        place: &Place,
        exec: ExecRequest,
        request: &mut Request<Incoming>,
    ) -> Response<Body> {
        let (handler, container) = (self.clone(), place.container.clone());
        self.upgraded(place, Purpose::Process, request, async move |pod, spoken, upgraded| {
            let wanted = exec.wanted;
            let serve = |streams| {
                let started = handler.streams.exec(&pod, &container, exec);
                run::join(streams, started, Ends::WithCode, "executing command in container")
            };
            told(of_process(upgraded, spoken, wanted, serve).await);
        })
    }

    fn attach(
        self: Arc<Self>,
        place: &Place,
        wanted: process::Wanted,
        request: &mut Request<Incoming>,
    ) -> Response<Body> {
        let (handler, container) = (self.clone(), place.container.clone());
        self.upgraded(place, Purpose::Process, request, async move |pod, spoken, upgraded| {
            let serve = |streams| {
                let started = handler.streams.attach(&pod, &container, wanted);
                run::join(streams, started, Ends::WithStreams, "attaching to container")
            };
            told(of_process(upgraded, spoken, wanted, serve).await);
        })
    }

    fn ports(
        self: Arc<Self>,
        place: &Place,
        named: Vec<u16>,
        request: &mut Request<Incoming>,
    ) -> Response<Body> {
        let spoken = negotiate(request.headers(), Purpose::Ports).map(|(spoken, _)| spoken);
        let channels = matches!(spoken, Ok(Spoken::WebSocket(protocol)) if protocol != Protocol::Tunnel);
        if channels && named.is_empty() {
            return plain(StatusCode::BAD_REQUEST, "query parameter \"port\" is required");
        }
        let (handler, name) = (self.clone(), place.pod.clone());
        self.upgraded(place, Purpose::Ports, request, async move |pod, spoken, upgraded| {
            let serve = |forward: ports::Forward| {
                let connected = handler.streams.connect(&pod, forward.port);
                run::forward(forward, connected, &name)
            };
            of_ports(upgraded, spoken, &named, serve).await;
        })
    }

    /// Leaves HTTP, and then serves what is spoken in a task of its own.
    fn upgraded<F>(
        &self,
        place: &Place,
        purpose: Purpose,
        request: &mut Request<Incoming>,
        serve: impl FnOnce(Arc<Pod>, Spoken, Upgraded) -> F + Send + 'static,
    ) -> Response<Body>
    where
        F: Future<Output = ()> + Send,
    {
        let pod = match self.pod(place) {
            Ok(pod) => pod,
            Err(refused) => return refused.answer(),
        };
        let (spoken, answer) = match negotiate(request.headers(), purpose) {
            Ok(negotiated) => negotiated,
            Err(refusal) => return refusal.answer().map(|sentence| whole(sentence.into())),
        };
        let Ok(seat) = self.seats.clone().try_acquire_owned() else {
            return plain(StatusCode::SERVICE_UNAVAILABLE, "too many streams are open");
        };
        let (upgrade, stop) = (hyper::upgrade::on(request), self.stop.clone());
        let serving = async move {
            let _seat = seat;
            match upgrade.await {
                Ok(upgraded) => serve(pod, spoken, upgraded).await,
                Err(error) => tracing::debug!(%error, "an upgrade broke off"),
            }
        };
        self.tasks.spawn(Box::pin(stop.run_until_cancelled_owned(serving)));
        answer.map(|()| whole(Bytes::new()))
    }
}

/// Serves what runs in a container on a connection that has left HTTP.
pub(crate) async fn of_process<F: Future<Output = ()>>(
    upgraded: Upgraded,
    spoken: Spoken,
    wanted: process::Wanted,
    serve: impl FnOnce(process::Streams) -> F,
) -> Result<(), ProcessError> {
    match spoken {
        Spoken::Spdy(version) => process::spdy(TokioIo::new(upgraded), version, wanted, SILENCE, serve).await,
        Spoken::WebSocket(protocol) => {
            let socket = websocket::socket(upgraded).await;
            process::channels(socket, protocol, wanted, SILENCE, serve).await
        }
    }
}

/// Forwards ports on a connection that has left HTTP.
pub(crate) async fn of_ports<F: Future<Output = ()>>(
    upgraded: Upgraded,
    spoken: Spoken,
    named: &[u16],
    serve: impl Fn(ports::Forward) -> F,
) {
    match spoken {
        Spoken::Spdy(_) => ports::spdy(TokioIo::new(upgraded), SILENCE, serve).await,
        Spoken::WebSocket(Protocol::Tunnel) => {
            let socket = websocket::socket(upgraded).await;
            let (near, far) = tokio::io::duplex(TUNNEL);
            tokio::join!(tunnel::carry(socket, near, SILENCE), ports::spdy(far, SILENCE, serve));
        }
        Spoken::WebSocket(protocol) => {
            let socket = websocket::socket(upgraded).await;
            ports::channels(socket, protocol, named, SILENCE, serve).await;
        }
    }
}

fn told(served: Result<(), ProcessError>) {
    if let Err(error) = served {
        tracing::debug!(%error, "a stream was not served to its end");
    }
}

fn has_container(pod: &Pod, name: &str) -> bool {
    let Some(spec) = &pod.spec else { return false };
    let plain = spec.containers.iter().chain(spec.init_containers.iter().flatten()).map(|one| &one.name);
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|one| &one.name);
    plain.chain(ephemeral).any(|one| one == name)
}

fn borrowed(pods: &[(Arc<Pod>, PodStats)]) -> Vec<(&Pod, PodStats)> {
    pods.iter().map(|(pod, stats)| (&**pod, stats.clone())).collect()
}

/// The time, in nanoseconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn text(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

impl Unserved {
    fn answer(self) -> Response<Body> {
        plain(self.status, self.sentence)
    }
}

/// A sentence for people.
fn plain(status: StatusCode, sentence: impl Into<String>) -> Response<Body> {
    text(status, PLAIN, sentence.into())
}
