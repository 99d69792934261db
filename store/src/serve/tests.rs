//! Connections that linger, break, speak nonsense or come in numbers.

use std::fs;
use std::net::SocketAddr;

use barque_proto::health::health_check_response::ServingStatus;
use barque_proto::health::health_client::HealthClient;
use barque_proto::health::{HealthCheckRequest, HealthCheckResponse};
use barque_proto::server::health::health_server::{Health, HealthServer};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use super::*;
use crate::command::AlarmKind;
use crate::config::{MemberConfig, TlsFiles};
use crate::http::{Endpoints, HealthSource, Versions};
use crate::listen::Listeners;
use crate::metrics::Metrics;
use crate::tls::test_certificates::Authority;
use crate::tls::{ClientTls, PeerConnector, PeerStream};

struct Well;

impl HealthSource for Well {
    async fn serializable_read(&self) -> Result<(), String> {
        Ok(())
    }
    async fn linearizable_read(&self) -> Result<(), String> {
        Ok(())
    }
    fn alarms(&self) -> Vec<AlarmKind> {
        Vec::new()
    }
    fn has_leader(&self) -> bool {
        true
    }
    fn is_learner(&self) -> bool {
        false
    }
}

/// Answers at once, except for two services: `wait` answers when told, `stuck` never.
#[derive(Clone, Default)]
struct Service {
    begun: Arc<Notify>,
    go_on: Arc<Notify>,
}

#[tonic::async_trait]
impl Health for Service {
    async fn check(
        &self,
        request: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, Status> {
        match request.get_ref().service.as_str() {
            "none" => return Err(Status::not_found("no such service")),
            "wait" => {
                self.begun.notify_one();
                self.go_on.notified().await;
            }
            "stuck" => {
                self.begun.notify_one();
                std::future::pending::<()>().await;
            }
            _ => {}
        }
        Ok(tonic::Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: tonic::Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        Ok(tonic::Response::new(tokio_stream::empty()))
    }
}

struct Fixture {
    server: Server,
    service: Service,
    metrics: Arc<Metrics>,
    address: SocketAddr,
    peer_address: SocketAddr,
}

fn start(tls: Option<TlsFiles>, deadline: Duration, connections: usize) -> Fixture {
    let scheme = if tls.is_some() { "https" } else { "http" };
    let config = MemberConfig {
        listen_client_urls: vec![format!("{scheme}://127.0.0.1:0")],
        advertise_client_urls: Some(vec!["http://localhost:2379".into()]),
        listen_peer_urls: vec!["http://127.0.0.1:0".into()],
        client_tls: tls.unwrap_or_default(),
        ..MemberConfig::default()
    };
    let mut listeners = Listeners::bind(&config.validate().unwrap()).unwrap();
    let (client, peer) = (listeners.client.remove(0), listeners.peer.remove(0));
    let (address, peer_address) = (client.address, peer.address);
    let metrics = Arc::new(Metrics::new());
    let versions = Versions { server: "3.6.5", cluster: "3.6.0", storage: "3.6.0" };
    let endpoints = Endpoints::new(Well, Arc::clone(&metrics), versions, Duration::from_secs(5));
    let service = Service::default();
    let routes = tonic::service::Routes::new(HealthServer::new(service.clone())).prepare();
    let front = Front::new(routes, endpoints.clone(), metrics.grpc.clone(), Arc::default());
    let server = Server::new(deadline);
    server.serve(client, front, ConnectionLimit::new(connections));
    server.serve(peer, HttpOnly(endpoints), ConnectionLimit::new(connections));
    Fixture { server, service, metrics, address, peer_address }
}

fn plain() -> Fixture {
    start(None, HANDSHAKE_DEADLINE, 100)
}

async fn client(address: SocketAddr) -> HealthClient<tonic::transport::Channel> {
    HealthClient::new(Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap())
}

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let request = Request::builder().uri(path).header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let asking = async move {
        let response = send.send_request(request).await.unwrap();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (answer, _) = tokio::join!(asking, connection);
    answer
}

#[tokio::test]
async fn calls_and_pages_share_a_port() {
    let f = plain();
    let mut client = client(f.address).await;
    let answer = client.check(ask("")).await.unwrap();
    assert_eq!(answer.get_ref().status, i32::from(ServingStatus::Serving));
    assert_eq!(client.check(ask("none")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(client.watch(ask("")).await.unwrap().into_inner().message().await.unwrap(), None);
    assert_eq!(get(f.address, "/livez").await, (200, "ok\n".into()));
    assert_eq!(get(f.peer_address, "/health").await.0, 200);
    let (_, text) = get(f.address, "/metrics").await;
    let check = "grpc_method=\"Check\",grpc_service=\"grpc.health.v1.Health\",grpc_type=\"unary\"}";
    for line in [
        format!("grpc_server_started_total{{{check} 2"),
        format!("grpc_server_handled_total{{grpc_code=\"OK\",{check} 1"),
        format!("grpc_server_handled_total{{grpc_code=\"NotFound\",{check} 1"),
        "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Watch\",grpc_service=\"grpc.health.v1.Health\",\
         grpc_type=\"server_stream\"} 1"
            .into(),
        // Three requests: an empty one twice, and one of 6 bytes, with 5 bytes of frame each.
        "etcd_network_client_grpc_received_bytes_total 21".into(),
        "etcd_network_client_grpc_sent_bytes_total 7".into(),
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing in {text}");
    }
}

#[tokio::test]
async fn a_method_that_is_not_there_is_unimplemented_and_adds_no_series() {
    let f = plain();
    let channel = Endpoint::from_shared(format!("http://{}", f.address)).unwrap().connect().await.unwrap();
    let mut lock = barque_proto::v3lockpb::lock_client::LockClient::new(channel);
    let status = lock.unlock(barque_proto::v3lockpb::UnlockRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_as_canceled() {
    let f = plain();
    let mut client = client(f.address).await;
    let call = tokio::spawn(async move { client.check(ask("stuck")).await });
    f.service.begun.notified().await;
    call.abort();
    assert!(call.await.unwrap_err().is_cancelled());
    assert!(f.server.shutdown(Duration::from_secs(5)).await);
    let text = String::from_utf8(f.metrics.text()).unwrap();
    assert!(
        text.lines().any(|line| line.starts_with("grpc_server_handled_total{grpc_code=\"Canceled\"")
            && line.ends_with(" 1"))
    );
}

#[tokio::test]
async fn garbage_is_answered_by_the_end_of_the_connection_and_leaves_nothing_behind() {
    // One connection at a time: each attempt works only if the one before has given back its place.
    let f = start(None, Duration::from_millis(200), 1);
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let garbage: Vec<Vec<u8>> = vec![
        vec![0; 64],
        vec![0xff; 4096],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello on a plain port".to_vec(),
        b"GARBAGE\r\n\r\n".to_vec(),
        [preface.clone(), vec![0xff; 100]].concat(),
        // Data on the stream that carries none.
        [preface, vec![0; 9]].concat(),
    ];
    for bytes in garbage {
        let mut stream = TcpStream::connect(f.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as any.
        let _ = stream.read_to_end(&mut answer).await;
        drop(stream);
        assert_eq!(get(f.address, "/livez").await, (200, "ok\n".into()));
    }
    assert!(f.server.shutdown(Duration::from_secs(5)).await);
}

#[tokio::test]
async fn silent_connections_are_closed_at_the_deadline() {
    let authority = Authority::new();
    authority.issue("a", 2020..2090);
    for tls in [None, Some(authority.open_files("a"))] {
        let f = start(tls, Duration::from_millis(50), 10);
        let mut stream = TcpStream::connect(f.address).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn shutdown_lets_a_running_call_finish_and_takes_no_new_connection() {
    let f = plain();
    let mut client = client(f.address).await;
    let call = tokio::spawn(async move { client.check(ask("wait")).await });
    f.service.begun.notified().await;
    let stopping = tokio::spawn({
        let server = f.server.clone();
        async move { server.shutdown(Duration::from_secs(20)).await }
    });
    f.server.draining().cancelled().await;
    f.service.go_on.notify_one();
    assert!(call.await.unwrap().is_ok());
    assert!(stopping.await.unwrap());
    assert!(TcpStream::connect(f.address).await.is_err());
}

#[tokio::test]
async fn shutdown_cuts_what_does_not_finish() {
    let f = plain();
    let mut client = client(f.address).await;
    let call = tokio::spawn(async move { client.check(ask("stuck")).await });
    f.service.begun.notified().await;
    assert!(!f.server.shutdown(Duration::from_millis(20)).await);
    assert!(call.await.unwrap().is_err());
    f.server.tasks.wait().await;
}

fn connector(files: &TlsFiles) -> PeerConnector {
    PeerConnector::new(Some(Arc::new(ClientTls::load(files).unwrap())), Duration::from_secs(10))
}

/// The certificate that a port shows, after a whole request over it.
async fn shown(connector: &PeerConnector, address: SocketAddr) -> Vec<u8> {
    let stream = connector.clone().connect(format!("https://{address}").parse().unwrap()).await.unwrap();
    let PeerStream::Tls(stream) = stream else { panic!("not TLS") };
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

async fn call_over_tls(connector: PeerConnector, address: SocketAddr) -> Result<(), String> {
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.map_err(|error| format!("{error:?}"))?;
    let answer = HealthClient::new(channel).check(ask("")).await;
    answer.map(|_| ()).map_err(|status| format!("{status:?}"))
}

#[tokio::test]
async fn members_know_each_other_by_certificates() {
    let authority = Authority::new();
    authority.issue("a", 2020..2090);
    authority.issue("b", 2020..2090);
    let f = start(Some(authority.files("a")), HANDSHAKE_DEADLINE, 100);
    assert_eq!(call_over_tls(connector(&authority.files("b")), f.address).await, Ok(()));
    let error = call_over_tls(connector(&authority.trust_only()), f.address).await.unwrap_err();
    assert!(error.contains("CertificateRequired"), "{error}");
    let stranger = Authority::new();
    stranger.issue("s", 2020..2090);
    let files = TlsFiles { trusted_ca_file: Some(authority.path("ca.pem")), ..stranger.files("s") };
    assert!(call_over_tls(connector(&files), f.address).await.is_err());
    let error = call_over_tls(connector(&stranger.trust_only()), f.address).await.unwrap_err();
    assert!(error.contains("InvalidCertificate"), "{error}");
    let without = PeerConnector::new(None, Duration::from_secs(10));
    let error = without.connect(format!("https://{}", f.address).parse().unwrap()).await.unwrap_err();
    assert!(error.to_string().contains("--peer-trusted-ca-file"), "{error}");
}

#[tokio::test]
async fn without_client_authentication_anybody_may_call() {
    let authority = Authority::new();
    authority.issue("a", 2020..2090);
    let f = start(Some(authority.open_files("a")), HANDSHAKE_DEADLINE, 100);
    assert_eq!(call_over_tls(connector(&authority.trust_only()), f.address).await, Ok(()));
}

#[tokio::test]
async fn a_new_certificate_is_shown_on_the_same_port_and_a_broken_one_is_not() {
    let authority = Authority::new();
    authority.issue("a", 2020..2090);
    let f = start(Some(authority.open_files("a")), HANDSHAKE_DEADLINE, 100);
    let connector = connector(&authority.trust_only());
    let first = shown(&connector, f.address).await;
    assert_eq!(shown(&connector, f.address).await, first);
    authority.issue("a", 2020..2089);
    let second = shown(&connector, f.address).await;
    assert_ne!(second, first);
    fs::write(authority.path("a.pem"), "-----BEGIN CERTIFICATE-----\n").unwrap();
    assert_eq!(shown(&connector, f.address).await, second);
}

#[tokio::test]
async fn plain_bytes_on_a_tls_port_end_the_connection() {
    let authority = Authority::new();
    authority.issue("a", 2020..2090);
    let f = start(Some(authority.open_files("a")), HANDSHAKE_DEADLINE, 1);
    let mut stream = TcpStream::connect(f.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    drop(stream);
    assert_eq!(call_over_tls(connector(&authority.trust_only()), f.address).await, Ok(()));
}
