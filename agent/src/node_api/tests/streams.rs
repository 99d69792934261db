//! Exec, attach and port-forward.

use barque_streams::spdy::session::{Reader, Role, Session, Writer};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as End;

use super::{ADMIN, Client, Node, code, headers};

async fn upgrade(node: &Node, method: &str, path: &str, more: &str) -> (Client, String) {
    let headers = format!("authorization: Bearer {ADMIN}\r\nconnection: Upgrade\r\n{more}");
    node.begin(method, path, &headers).await
}

async fn spdy(node: &Node, path: &str, protocol: &str) -> Client {
    let more = format!("upgrade: SPDY/3.1\r\nx-stream-protocol-version: {protocol}\r\n");
    let (client, head) = upgrade(node, "POST", path, &more).await;
    assert_eq!(code(&head), 101, "{head}");
    assert_eq!(headers(&head)["x-stream-protocol-version"], protocol);
    client
}

async fn websocket(node: &Node, path: &str, protocol: &str) -> WebSocketStream<Client> {
    let more = format!(
        "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {protocol}\r\n"
    );
    let (client, head) = upgrade(node, "GET", path, &more).await;
    assert_eq!(code(&head), 101, "{head}");
    assert_eq!(headers(&head)["sec-websocket-protocol"], protocol);
    WebSocketStream::from_raw_socket(client, End::Client, None).await
}

async fn session<F: Future>(connection: Client, act: impl FnOnce(Session) -> F) -> F::Output {
    let (session, _none, driving) = Session::start(connection, Role::Client);
    let (mut driving, mut acting) = (std::pin::pin!(driving), std::pin::pin!(act(session)));
    tokio::select! {
        output = &mut acting => output,
        _ = &mut driving => acting.await,
    }
}

async fn open(session: &Session, headers: &[(&str, &str)]) -> (Reader, Writer) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    session.open(headers).await.unwrap()
}

async fn all(mut reader: Reader) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = reader.read().await {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8(all).unwrap()
}

/// Everything that the channels of a WebSocket say until it ends.
async fn channels(client: &mut WebSocketStream<Client>) -> [String; 4] {
    let mut said = [const { Vec::new() }; 4];
    while let Some(Ok(message)) = client.next().await {
        if let Message::Binary(bytes) = message {
            said[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
        }
    }
    said.map(|bytes| String::from_utf8(bytes).unwrap())
}

const SCRIPT: &str = "/exec/default/p/c?command=sh&command=-c&command=cat;echo+warning+%3E%262;exit+3\
                      &input=1&output=1&error=1";

#[tokio::test]
async fn a_command_reads_writes_and_ends_with_its_code_over_spdy() {
    let node = Node::start().await;
    let client = spdy(&node, SCRIPT, "v4.channel.k8s.io").await;
    let (out, err, end) = session(client, async |session| {
        let (error, _) = open(&session, &[("streamtype", "error")]).await;
        let (_, stdin) = open(&session, &[("streamtype", "stdin")]).await;
        let (stdout, _) = open(&session, &[("streamtype", "stdout")]).await;
        let (stderr, _) = open(&session, &[("streamtype", "stderr")]).await;
        let feeding = async {
            stdin.write("line\n".repeat(50_000).into()).await.unwrap();
            stdin.finish().await.unwrap();
        };
        let (out, err, end, ()) = tokio::join!(all(stdout), all(stderr), all(error), feeding);
        (out, err, end)
    })
    .await;
    assert_eq!((out.len(), err.as_str()), (250_000, "warning\n"));
    let status: Value = serde_json::from_str(&end).unwrap();
    assert_eq!(status["details"]["causes"][0]["message"], "3");
    node.stop().await;
}

#[tokio::test]
async fn a_command_reads_writes_and_ends_with_its_code_over_a_websocket() {
    let node = Node::start().await;
    let mut client = websocket(&node, SCRIPT, "v5.channel.k8s.io").await;
    client.send(Message::binary(b"\0line\n".to_vec())).await.unwrap();
    client.send(Message::binary(vec![255, 0])).await.unwrap();
    let [_, out, err, end] = channels(&mut client).await;
    assert_eq!((out.as_str(), err.as_str()), ("line\n", "warning\n"));
    let status: Value = serde_json::from_str(&end).unwrap();
    assert_eq!((&status["reason"], &status["status"]), (&"NonZeroExitCode".into(), &"Failure".into()));
    node.stop().await;
}

#[tokio::test]
async fn a_terminal_hears_of_its_size() {
    let node = Node::start().await;
    let path = "/exec/default/p/c?command=sh&input=1&output=1&error=1&tty=1";
    let mut client = websocket(&node, path, "v4.channel.k8s.io").await;
    client.send(Message::binary(b"\x04{\"Width\":80,\"Height\":24}".to_vec())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![1]));
    assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"\x0180x24\n".to_vec()));
    client.close(None).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_run_is_told_on_the_stream_of_errors() {
    let node = Node::start().await;
    for (path, told) in [
        ("/exec/default/p/c?command=/no/such/program&output=1", "/no/such/program"),
        (
            "/exec/default/p/late?command=ls&output=1",
            "error executing command in container: container is not running",
        ),
    ] {
        let mut client = websocket(&node, path, "v4.channel.k8s.io").await;
        let [_, _, _, end] = channels(&mut client).await;
        let status: Value = serde_json::from_str(&end).unwrap();
        assert_eq!(status["code"], 500);
        assert!(status["message"].as_str().unwrap().contains(told), "{status}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_command_along() {
    let node = Node::start().await;
    let pid = node.path().join("pid");
    let script = format!("echo+$$+%3E+{0}.new;mv+{0}.new+{0};echo+ready;exec+cat", pid.display());
    let path = format!("/exec/default/p/c?command=sh&command=-c&command={script}&input=1&output=1");
    let mut client = websocket(&node, &path, "v5.channel.k8s.io").await;
    while client.next().await.unwrap().unwrap() != Message::binary(b"\x01ready\n".to_vec()) {}
    let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    let process = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    drop(client);
    // The descriptor can be read once the process has ended.
    let ended = tokio::task::spawn_blocking(move || {
        let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 60, tv_nsec: 0 })).unwrap()
    });
    assert_eq!(ended.await.unwrap(), 1);
    node.stop().await;
}

#[tokio::test]
async fn who_attaches_speaks_with_what_runs() {
    let node = Node::start().await;
    let client = spdy(&node, "/attach/default/p/u/c?input=1&output=1", "v4.channel.k8s.io").await;
    let told = session(client, async |session| {
        let (error, _) = open(&session, &[("streamtype", "error")]).await;
        let (_, stdin) = open(&session, &[("streamtype", "stdin")]).await;
        let (stdout, _) = open(&session, &[("streamtype", "stdout")]).await;
        stdin.write("hello\n".into()).await.unwrap();
        stdin.finish().await.unwrap();
        tokio::join!(all(stdout), all(error))
    })
    .await;
    assert_eq!(told.0, "heard hello\n");
    assert!(told.1.contains("\"Success\""), "{}", told.1);
    node.stop().await;
}

/// Listens, and answers each connection with all that it said, once it has said all.
async fn echo(connections: usize) -> (u16, impl Future<Output = ()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = async move {
        let serve = async |_| {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).await.unwrap();
            stream.write_all(&all).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        futures::future::join_all((0..connections).map(serve)).await;
    };
    (port, serving)
}

async fn pair(session: &Session, port: u16, id: &str, said: &'static str) -> (String, String) {
    let port = port.to_string();
    let pair = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", id)];
    let (error, error_writer) = open(session, &pair("error")).await;
    let (data, writer) = open(session, &pair("data")).await;
    error_writer.finish().await.unwrap();
    writer.write(said.into()).await.unwrap();
    writer.finish().await.unwrap();
    tokio::join!(all(data), all(error))
}

#[tokio::test]
async fn several_ports_are_forwarded_at_once_and_half_closed() {
    let node = Node::start().await;
    let ((first, serving_first), (second, serving_second)) = (echo(2).await, echo(1).await);
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let client = spdy(&node, "/portForward/default/p", "portforward.k8s.io").await;
    let talking = session(client, async |session| {
        let (a, b, c, refused) = tokio::join!(
            pair(&session, first, "0", "one"),
            pair(&session, second, "1", "two"),
            pair(&session, first, "2", "three"),
            pair(&session, gone, "3", "")
        );
        assert_eq!((a.0.as_str(), b.0.as_str(), c.0.as_str()), ("one", "two", "three"));
        assert_eq!((a.1.as_str(), refused.0.as_str()), ("", ""));
        let told = format!("error forwarding port {gone} to pod p: ");
        assert!(refused.1.starts_with(&told), "{}", refused.1);
    });
    tokio::join!(talking, serving_first, serving_second);
    node.stop().await;
}

#[tokio::test]
async fn a_pod_that_ends_a_connection_ends_it_for_the_client() {
    let node = Node::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let client = spdy(&node, "/portForward/default/p", "portforward.k8s.io").await;
    let talking = session(client, async |session| {
        let pair = |kind| [("streamtype", kind), ("port", port.as_str()), ("requestid", "0")];
        let (error, _) = open(&session, &pair("error")).await;
        let (data, writer) = open(&session, &pair("data")).await;
        writer.write("hello".into()).await.unwrap();
        // The client would send more.
        assert_eq!(tokio::join!(all(data), all(error)), ("bye".to_owned(), String::new()));
    });
    let serving = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_exact(&mut [0; 5]).await.unwrap();
        stream.write_all(b"bye").await.unwrap();
    };
    tokio::join!(talking, serving);
    node.stop().await;
}

#[tokio::test]
async fn ports_are_forwarded_over_websockets_as_well() {
    let node = Node::start().await;
    let (port, serving) = echo(1).await;
    let client = websocket(&node, "/portForward/default/p", "SPDY/3.1+portforward.k8s.io").await;
    let (near, far) = tokio::io::duplex(4 << 10);
    let talking = async {
        let (session, _none, driving) = Session::start(near, Role::Client);
        tokio::select! {
            told = pair(&session, port, "0", "tunnel") => assert_eq!(told.0, "tunnel"),
            ended = driving => panic!("{ended:?}"),
        }
    };
    let carrying = barque_streams::tunnel::carry(client, far, std::time::Duration::from_secs(3600));
    tokio::join!(talking, serving, carrying);

    let path = format!("/portForward/default/p?port={port}");
    let mut client = websocket(&node, &path, "v4.channel.k8s.io").await;
    let [low, high] = port.to_le_bytes();
    for channel in [0, 1] {
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![channel, low, high]));
    }
    client.close(None).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_upgraded_is_refused_in_plain_text() {
    let node = Node::start().await;
    let exec = "/exec/default/p/c?command=ls&output=1";
    let table = [
        (exec, "upgrade: h2c\r\n", 400, "missing upgrade headers"),
        (exec, "upgrade: SPDY/3.1\r\nx-stream-protocol-version: v9\r\n", 403, "client supports [v9]"),
        ("/exec/default/gone/c?command=ls&output=1", "upgrade: SPDY/3.1\r\n", 404, "pod does not exist"),
        ("/exec/default/p/other/c?command=ls&output=1", "upgrade: SPDY/3.1\r\n", 404, "pod does not exist"),
        ("/exec/default/p/x?command=ls&output=1", "upgrade: SPDY/3.1\r\n", 404, "container \"x\" not found"),
        ("/exec/default/p/c?command=ls", "upgrade: SPDY/3.1\r\n", 400, "at least 1 of stdin, stdout, stderr"),
        (
            "/portForward/default/p",
            "upgrade: websocket\r\nsec-websocket-key: eA==\r\nsec-websocket-protocol: v4.channel.k8s.io\r\n",
            400,
            "query parameter \"port\" is required",
        ),
    ];
    for (path, more, wanted, told) in table {
        let (client, head) = upgrade(&node, "POST", path, &format!("{more}content-length: 0\r\n")).await;
        assert_eq!(code(&head), wanted, "{path}: {head}");
        let length: usize = headers(&head)["content-length"].parse().unwrap();
        let mut body = vec![0; length];
        let mut client = client;
        client.read_exact(&mut body).await.unwrap();
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(told), "{path}: {body}");
    }
    node.stop().await;
}
