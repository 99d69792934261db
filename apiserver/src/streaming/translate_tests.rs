//! WebSockets through a whole server to an agent that speaks SPDY only.

use std::sync::atomic::Ordering;

use barque_streams::spdy::headers::value;
use barque_streams::spdy::session::{Accepted, Role, Session};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as End;

use super::dial::Stream;
use super::tests::{Cluster, PODS, Upgraded, code};

type Client = WebSocketStream<Box<dyn Stream>>;

async fn client(cluster: &Cluster, path: &str, protocol: &str) -> Client {
    cluster.agent.websockets.store(false, Ordering::Relaxed);
    let headers = format!(
        "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         sec-websocket-protocol: {protocol}\r\n"
    );
    let (stream, head) = cluster.upgrade("GET", &format!("{PODS}/p/{path}"), &headers).await;
    assert_eq!(code(&head), 101, "{head}");
    assert!(head.contains(&format!("sec-websocket-protocol: {protocol}\r\n")), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    WebSocketStream::from_raw_socket(stream, End::Client, None).await
}

async fn next(client: &mut Client) -> Message {
    client.next().await.unwrap().unwrap()
}

/// Runs what an agent does with the streams that a client wants, in their order.
async fn agent<F: Future<Output = ()>>(
    stream: Upgraded,
    kinds: &[&str],
    act: impl FnOnce(Vec<Accepted>) -> F,
) {
    let (session, mut accepted, driving) = Session::start(stream, Role::Server);
    let acting = async {
        let mut streams = Vec::new();
        for kind in kinds {
            let stream = accepted.recv().await.unwrap();
            assert_eq!(value(&stream.headers, "streamtype"), Some(*kind));
            streams.push(stream);
        }
        act(streams).await;
        // Until the other side closes.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = acting => {}
        _ = driving => {}
    }
    drop(session);
}

const ENDED: &str = r#"{"metadata":{},"status":"Success"}"#;

#[tokio::test]
async fn channels_become_streams_and_the_end_is_told_last() {
    let mut cluster = Cluster::start().await;
    let mut client =
        client(&cluster, "exec?command=cat&stdin=true&stdout=true&stderr=true", "v5.channel.k8s.io").await;
    let asked = cluster.asked();
    assert!(asked.starts_with("POST /exec/default/p/c?command=cat&error=1&input=1&output=1 "), "{asked}");
    assert!(asked.contains("\"x-stream-protocol-version\": \"v4.channel.k8s.io\""), "{asked}");
    let stream = cluster.taken.recv().await.unwrap();
    let large = vec![b'x'; 300_000];
    let acting = agent(stream, &["error", "stdin", "stdout", "stderr"], async |streams| {
        let [error, mut stdin, stdout, stderr] = <[Accepted; 4]>::try_from(streams).unwrap();
        error.writer.write(Bytes::from_static(ENDED.as_bytes())).await.unwrap();
        error.writer.finish().await.unwrap();
        stderr.writer.write(Bytes::from_static(b"warning")).await.unwrap();
        stderr.writer.finish().await.unwrap();
        while let Some(bytes) = stdin.reader.read().await {
            stdout.writer.write(bytes).await.unwrap();
        }
        stdout.writer.finish().await.unwrap();
    });
    let talking = async {
        let mut sent = vec![0];
        sent.extend_from_slice(&large);
        client.send(Message::binary(sent)).await.unwrap();
        client.send(Message::binary(vec![255, 0])).await.unwrap();
        let (mut out, mut err, mut end) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            match next(&mut client).await {
                Message::Binary(bytes) => {
                    assert!(end.is_empty(), "nothing comes after the end");
                    let channel = [&mut out, &mut err, &mut end];
                    channel[usize::from(bytes[0]) - 1].extend_from_slice(&bytes[1..]);
                }
                Message::Close(frame) => {
                    assert_eq!(u16::from(frame.unwrap().code), 1000);
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(
            (out.len(), err.as_slice(), end.as_slice()),
            (large.len(), b"warning".as_slice(), ENDED.as_bytes())
        );
        while let Some(Ok(_)) = client.next().await {}
    };
    tokio::join!(acting, talking);
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_terminal_has_a_size_and_text_clients_their_protocol() {
    let mut cluster = Cluster::start().await;
    let mut client =
        client(&cluster, "attach?stdin=true&stdout=true&tty=true", "v4.base64.channel.k8s.io").await;
    let stream = cluster.taken.recv().await.unwrap();
    let acting = agent(stream, &["error", "stdin", "stdout", "resize"], async |streams| {
        let [_error, mut stdin, stdout, mut resize] = <[Accepted; 4]>::try_from(streams).unwrap();
        let typed = stdin.reader.read().await.unwrap();
        let size = resize.reader.read().await.unwrap();
        stdout.writer.write([typed, size].concat().into()).await.unwrap();
    });
    let talking = async {
        assert_eq!(next(&mut client).await, Message::text("1"));
        client.send(Message::text("0aGk=")).await.unwrap();
        client.send(Message::text("4e30=")).await.unwrap();
        assert_eq!(next(&mut client).await, Message::text("1aGl7fQ=="));
        // The client leaves; so the process is left too.
        client.close(None).await.unwrap();
    };
    tokio::join!(acting, talking);
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_tunnel_carries_the_bytes_of_spdy() {
    let mut cluster = Cluster::start().await;
    let mut client = client(&cluster, "portforward?ports=80", "SPDY/3.1+portforward.k8s.io").await;
    let asked = cluster.asked();
    assert!(asked.starts_with("POST /portForward/default/p?port=80 "), "{asked}");
    assert!(asked.contains("\"x-stream-protocol-version\": \"portforward.k8s.io\""), "{asked}");
    let mut agent = cluster.taken.recv().await.unwrap();
    client.send(Message::binary(b"to the agent".to_vec())).await.unwrap();
    let mut bytes = [0; 12];
    agent.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"to the agent");
    agent.write_all(b"to the client").await.unwrap();
    agent.flush().await.unwrap();
    assert_eq!(next(&mut client).await, Message::binary(b"to the client".to_vec()));
    client.close(None).await.unwrap();
    assert_eq!(agent.read(&mut [0]).await.unwrap(), 0);
    cluster.server.stop().await;
}

#[tokio::test]
async fn a_websocket_that_nobody_can_speak_is_refused() {
    let cluster = Cluster::start().await;
    cluster.agent.websockets.store(false, Ordering::Relaxed);
    let headers = |protocol: &str| {
        format!(
            "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             sec-websocket-protocol: {protocol}\r\n"
        )
    };
    let path = format!("{PODS}/p/exec?command=ls&stdout=true");
    let (_, head) = cluster.upgrade("GET", &path, &headers("v9.channel.k8s.io")).await;
    assert_eq!(code(&head), 403, "{head}");
    let path = format!("{PODS}/p/exec?command=ls");
    let (_, head) = cluster.upgrade("GET", &path, &headers("v5.channel.k8s.io")).await;
    assert_eq!(code(&head), 400, "{head}");
    cluster.server.stop().await;
}
