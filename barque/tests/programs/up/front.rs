//! The front: connections go to servers that are ready, and those of others are cut.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_util::task::AbortOnDropHandle;

use crate::certificates::Certificates;
use crate::cluster::{Program, said, start};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that says its name to every request, after having said whether it is ready.
struct Server {
    address: SocketAddr,
    goes_on: watch::Sender<bool>,
    _serving: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(name: &'static str, address: &str, certificates: &Certificates) -> Self {
        let (certificate, key) = certificates.serving(name, "127.0.0.1");
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from_pem_file(certificate).unwrap()],
                PrivateKeyDer::from_pem_file(key).unwrap(),
            )
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (goes_on, going) = watch::channel(true);
        let serving = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let mut before = going.clone();
                // A paused process takes nothing; the kernel does it for it.
                before.wait_for(|goes_on| *goes_on).await.unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(name, acceptor.clone(), stream, going.clone()));
            }
        });
        Self { address, goes_on, _serving: AbortOnDropHandle::new(serving) }
    }
}

async fn serve(
    name: &'static str,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    mut going: watch::Receiver<bool>,
) -> std::io::Result<()> {
    going.wait_for(|goes_on| *goes_on).await.unwrap();
    let mut stream = acceptor.accept(stream).await?;
    let mut request = [0; 1 << 10];
    while stream.read(&mut request).await? > 0 {
        going.wait_for(|goes_on| *goes_on).await.unwrap();
        let length = name.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
        stream.write_all(answer.as_bytes()).await?;
    }
    Ok(())
}

/// A client of the front.
struct Client {
    front: SocketAddr,
    connector: TlsConnector,
}

/// A connection that goes on.
struct Connection(TlsStream<TcpStream>);

impl Client {
    fn of(front: SocketAddr, certificates: &Certificates) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&certificates.ca).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { front, connector: TlsConnector::from(Arc::new(config)) }
    }

    /// Connects, and says who answers; an error when nobody does.
    async fn connect(&self) -> std::io::Result<(String, Connection)> {
        let stream = TcpStream::connect(self.front).await?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut connection = Connection(self.connector.connect(name, stream).await?);
        Ok((connection.ask().await?, connection))
    }

    /// Connects until this server answers.
    async fn until(&self, wanted: &str) -> Connection {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.connect().await {
                Ok((name, connection)) if name == wanted => return connection,
                other => assert!(Instant::now() < deadline, "{wanted}: {:?}", other.map(|(name, _)| name)),
            }
        }
    }
}

impl Connection {
    async fn ask(&mut self) -> std::io::Result<String> {
        self.0.write_all(b"GET /name HTTP/1.1\r\nHost: front\r\n\r\n").await?;
        let mut answer = [0; 1 << 10];
        match self.0.read(&mut answer).await? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => Ok(String::from_utf8_lossy(&answer[..read]).lines().last().unwrap().to_owned()),
        }
    }

    /// Waits until the front ends it.
    async fn cut(&mut self) {
        let mut nothing = [0; 1];
        let read = tokio::time::timeout(PATIENCE, self.0.read(&mut nothing)).await.unwrap();
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

fn front(servers: &[SocketAddr], authority: &Path) -> (Program, SocketAddr) {
    let mut words = vec![
        "front".to_owned(),
        "--listen=127.0.0.1:0".to_owned(),
        "--drain=0s".to_owned(),
        format!("--certificate-authority={}", authority.display()),
    ];
    words.extend(servers.iter().map(|server| format!("--server=https://{server}")));
    let (program, line) = start(&words, "the front is ready");
    let address = said(&line, "address").parse().unwrap();
    (program, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_pause_die_and_come_back_and_clients_reach_one() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(directory.path());
    let first = Server::start("first", "127.0.0.1:0", &certificates).await;
    let second = Server::start("second", "127.0.0.1:0", &certificates).await;
    let (front, address) = front(&[first.address, second.address], &certificates.ca);
    let client = Client::of(address, &certificates);

    let (name, mut to_first) = client.connect().await.unwrap();
    let (other, mut to_second) = client.connect().await.unwrap();
    assert_eq!([name.as_str(), other.as_str()], ["first", "second"], "each has one");

    first.goes_on.send(false).unwrap();
    to_first.cut().await;
    for _ in 0..3 {
        assert_eq!(client.connect().await.unwrap().0, "second");
    }
    assert_eq!(to_second.ask().await.unwrap(), "second", "what goes to others goes on");

    first.goes_on.send(true).unwrap();
    let mut to_first = client.until("first").await;

    let address_of_second = second.address.to_string();
    drop(second);
    to_second.cut().await;
    for _ in 0..3 {
        assert_eq!(client.connect().await.unwrap().0, "first", "who is refused gets another one");
    }

    drop(first);
    to_first.cut().await;
    assert!(client.connect().await.is_err(), "nobody is there, and that is told at once");

    let _second = Server::start("second", &address_of_second, &certificates).await;
    let mut to_second = client.until("second").await;
    assert_eq!(tokio::task::spawn_blocking(|| front.stop()).await.unwrap(), Some(0));
    to_second.cut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_a_certificate_of_somebody_else_gets_no_connection() {
    let (directory, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (certificates, others) = (Certificates::write(directory.path()), Certificates::write(other.path()));
    let right = Server::start("right", "127.0.0.1:0", &certificates).await;
    let wrong = Server::start("wrong", "127.0.0.1:0", &others).await;
    let (_front, address) = front(&[wrong.address, right.address], &certificates.ca);
    let client = Client::of(address, &certificates);
    let mut held = Vec::new();
    for _ in 0..3 {
        let (name, connection) = client.connect().await.unwrap();
        assert_eq!(name, "right");
        held.push(connection);
    }
}
