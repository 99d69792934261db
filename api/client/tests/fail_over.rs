//! One client over servers of which some refuse, break or say that they cannot serve: what is asked again and what is not.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use barque_client::servers::{Servers, Source, connect};
use http::{Request, StatusCode, Uri};
use kube::Client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

/// How a server answers.
#[derive(Clone, Copy)]
enum Manner {
    /// With this code.
    Answers(u16),
    /// Reads a request and closes the connection.
    Breaks,
    /// The first so many times it is busy, then it answers.
    Busy(usize),
    /// 200 for whoever has this token, 401 for others.
    Knows(&'static str),
}

/// A server, for as long as it is held.
struct Server {
    url: Uri,
    asked: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let counted = asked.clone();
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let head = head(&mut stream).await;
                let before = counted.fetch_add(1, Ordering::SeqCst);
                let code = match manner {
                    Manner::Answers(code) => code,
                    Manner::Breaks => continue,
                    Manner::Busy(times) if before < times => 429,
                    Manner::Busy(_) => 200,
                    Manner::Knows(token) if head.contains(&format!("Bearer {token}\r\n")) => 200,
                    Manner::Knows(_) => 401,
                };
                let later = if matches!(manner, Manner::Busy(_)) { "retry-after: 0\r\n" } else { "" };
                let answer = format!(
                    "HTTP/1.1 {code} Said\r\n{later}content-length: 2\r\nconnection: close\r\n\r\n{{}}"
                );
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { url, asked, _task: AbortOnDropHandle::new(task) }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Reads a request up to its body, which is empty here.
async fn head(stream: &mut tokio::net::TcpStream) -> String {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") && stream.read(&mut byte).await.unwrap() > 0 {
        read.push(byte[0]);
    }
    String::from_utf8(read).unwrap()
}

/// A server that refuses connections.
async fn refused() -> Uri {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap()).parse().unwrap()
}

fn kubeconfig(directory: &Path) -> Source {
    let path = directory.join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]\n\
                users: [{name: u, user: {tokenFile: token}}]\n\
                contexts: [{name: c, context: {cluster: c, user: u, namespace: mine}}]\n";
    std::fs::write(&path, text).unwrap();
    Source::Kubeconfig(path)
}

async fn client(directory: &Path, urls: Vec<Uri>) -> Client {
    std::fs::write(directory.join("token"), "first").unwrap();
    connect(Servers { source: kubeconfig(directory), urls }).await.unwrap()
}

async fn send(client: &Client, method: &str) -> Option<StatusCode> {
    let request = Request::builder().method(method).uri("/api/v1/nodes");
    let sent = client.send(request.body(kube::client::Body::empty()).unwrap()).await;
    sent.ok().map(|response| response.status())
}

const OK: Option<StatusCode> = Some(StatusCode::OK);

#[tokio::test]
async fn a_server_that_refuses_costs_nobody_a_request() {
    let directory = tempfile::tempdir().unwrap();
    let good = Server::start(Manner::Answers(200)).await;
    let client = client(directory.path(), vec![refused().await, good.url.clone()]).await;
    assert_eq!(client.default_namespace(), "mine");
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
        assert_eq!(send(&client, method).await, OK, "{method}");
    }
    assert_eq!(good.asked(), 5);
}

#[tokio::test]
async fn a_write_whose_fate_is_unknown_is_not_sent_again() {
    let directory = tempfile::tempdir().unwrap();
    for method in ["POST", "PUT", "PATCH", "DELETE"] {
        let bad = Server::start(Manner::Breaks).await;
        let good = Server::start(Manner::Answers(200)).await;
        let client = client(directory.path(), vec![bad.url.clone(), good.url.clone()]).await;
        assert_eq!(send(&client, method).await, None, "{method}");
        assert_eq!((bad.asked(), good.asked()), (1, 0), "{method}");
        // The next one goes to the other server at once.
        assert_eq!(send(&client, method).await, OK, "{method}");
        assert_eq!((bad.asked(), good.asked()), (1, 1), "{method}");
    }
    let bad = Server::start(Manner::Breaks).await;
    let good = Server::start(Manner::Answers(200)).await;
    let client = client(directory.path(), vec![bad.url.clone(), good.url.clone()]).await;
    assert_eq!(send(&client, "GET").await, OK, "a read is");
}

#[tokio::test]
async fn a_server_that_cannot_serve_is_passed_by_for_reads_and_told_for_writes() {
    let directory = tempfile::tempdir().unwrap();
    let bad = Server::start(Manner::Answers(503)).await;
    let good = Server::start(Manner::Answers(200)).await;
    let urls = vec![bad.url.clone(), good.url.clone()];
    assert_eq!(send(&client(directory.path(), urls.clone()).await, "GET").await, OK);
    let writer = client(directory.path(), urls).await;
    assert_eq!(send(&writer, "POST").await, Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(send(&writer, "POST").await, OK);
}

#[tokio::test]
async fn what_the_last_server_says_is_the_answer() {
    let directory = tempfile::tempdir().unwrap();
    let first = Server::start(Manner::Answers(503)).await;
    let second = Server::start(Manner::Answers(503)).await;
    let client = client(directory.path(), vec![first.url.clone(), second.url.clone()]).await;
    assert_eq!(send(&client, "GET").await, Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!((first.asked(), second.asked()), (1, 1));
    // Nobody is left out for being bad: there is no other.
    assert_eq!(send(&client, "GET").await, Some(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!((first.asked(), second.asked()), (2, 2));
}

#[tokio::test]
async fn busy_servers_are_asked_again_when_they_say() {
    let directory = tempfile::tempdir().unwrap();
    let first = Server::start(Manner::Busy(3)).await;
    let second = Server::start(Manner::Busy(5)).await;
    let urls = vec![first.url.clone(), second.url.clone()];
    assert_eq!(send(&client(directory.path(), urls).await, "POST").await, OK);
    assert_eq!((first.asked(), second.asked()), (4, 3));
    let busy = Server::start(Manner::Busy(100)).await;
    let patient = client(directory.path(), vec![busy.url.clone()]).await;
    assert_eq!(send(&patient, "GET").await, Some(StatusCode::TOO_MANY_REQUESTS));
    assert_eq!(busy.asked(), 11);
}

#[tokio::test]
async fn errors_of_the_caller_are_no_reason_to_ask_another() {
    let directory = tempfile::tempdir().unwrap();
    for code in [400, 403, 404, 409, 422, 429, 500] {
        let first = Server::start(Manner::Answers(code)).await;
        let second = Server::start(Manner::Answers(200)).await;
        let client = client(directory.path(), vec![first.url.clone(), second.url.clone()]).await;
        assert_eq!(send(&client, "GET").await.map(|code| code.as_u16()), Some(code));
        assert_eq!((first.asked(), second.asked()), (1, 0));
    }
}

#[tokio::test]
async fn a_token_that_was_renewed_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(Manner::Knows("second")).await;
    let client = client(directory.path(), vec![server.url.clone()]).await;
    assert_eq!(send(&client, "GET").await, Some(StatusCode::UNAUTHORIZED));
    let mut file = std::fs::File::create(directory.path().join("token")).unwrap();
    file.write_all(b"second").unwrap();
    assert_eq!(send(&client, "GET").await, OK);
}

#[tokio::test]
async fn files_that_cannot_be_used_do_not_replace_what_works() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(Manner::Knows("second")).await;
    let client = client(directory.path(), vec![server.url.clone()]).await;
    assert_eq!(send(&client, "GET").await, Some(StatusCode::UNAUTHORIZED));
    std::fs::write(directory.path().join("kubeconfig"), "clusters: [").unwrap();
    assert_eq!(send(&client, "GET").await, Some(StatusCode::UNAUTHORIZED), "it goes on as it was");
    let gone = Servers { source: Source::Kubeconfig(directory.path().join("gone")), urls: Vec::new() };
    let error = connect(gone).await.err().unwrap().to_string();
    assert!(error.contains("gone: "), "{error}");
    let path = directory.path().join("proxied");
    let text = "clusters: [{name: c, cluster: {server: 'http://h', proxy-url: 'http://p'}}]\n\
                current-context: c\nusers: [{name: u, user: {}}]\n\
                contexts: [{name: c, context: {cluster: c, user: u}}]\n";
    std::fs::write(&path, text).unwrap();
    let proxied = Servers { source: Source::Kubeconfig(path), urls: Vec::new() };
    assert_eq!(connect(proxied).await.err().unwrap().to_string(), "proxy-url is not supported");
}
