//! Processes that are served over a connection, as clients see them: SPDY of every version, and WebSockets.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use barque_streams::outcome::Outcome;
use barque_streams::process::{ProcessError, Streams, TerminalSize, Wanted, channels, spdy};
use barque_streams::spdy::session::{Reader, Role, Session, Writer};
use barque_streams::upgrade::Version;
use barque_streams::websocket::{Protocol, over};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::io::DuplexStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as End;

const SILENCE: Duration = Duration::from_secs(3600);
const ALL: Wanted = Wanted { stdin: true, stdout: true, stderr: true, tty: false };

/// Gives back what it is given, warns, and ends with code 3.
async fn cat(streams: Streams) {
    let Streams { stdin, stdout, stderr, end, .. } = streams;
    let (mut stdin, stdout, stderr) = (stdin.unwrap(), stdout.unwrap(), stderr.unwrap());
    stderr.write(Bytes::from_static(b"warning")).await.unwrap();
    while let Some(bytes) = stdin.read().await {
        stdout.write(bytes).await.unwrap();
    }
    stdout.finish().await;
    stderr.finish().await;
    end.tell(&Outcome::Exit(3)).await;
}

/// A client's session, with what a test does over it.
async fn client<F: Future>(connection: DuplexStream, act: impl FnOnce(Session) -> F) -> F::Output {
    let (session, _none, driving) = Session::start(connection, Role::Client);
    let mut driving = std::pin::pin!(driving);
    let acting = act(session);
    let mut acting = std::pin::pin!(acting);
    tokio::select! {
        output = &mut acting => output,
        _ = &mut driving => acting.await,
    }
}

async fn open(session: &Session, kind: &str) -> (Reader, Writer) {
    session.open(vec![("streamtype".to_owned(), kind.to_owned())]).await.unwrap()
}

async fn all(mut reader: Reader) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(bytes) = reader.read().await {
        all.extend_from_slice(&bytes);
    }
    all
}

#[tokio::test]
async fn input_comes_back_and_the_exit_code_is_told_over_spdy() {
    for version in [Version::V1, Version::V4] {
        let (near, far) = tokio::io::duplex(4 << 10);
        let sent = vec![b'x'; 300_000];
        let asking = client(near, async |session| {
            let (error, _) = open(&session, "error").await;
            let (_, stdin) = open(&session, "stdin").await;
            let (stdout, _) = open(&session, "stdout").await;
            let (stderr, _) = open(&session, "stderr").await;
            let feeding = async {
                stdin.write(sent.clone().into()).await.unwrap();
                stdin.finish().await.unwrap();
            };
            let (out, err, end, ()) = tokio::join!(all(stdout), all(stderr), all(error), feeding);
            assert_eq!((out.len(), err.as_slice()), (sent.len(), b"warning".as_slice()));
            String::from_utf8(end).unwrap()
        });
        let (served, told) = tokio::join!(spdy(far, version, ALL, SILENCE, cat), asking);
        assert_eq!(served, Ok(()));
        if version == Version::V4 {
            let status: Value = serde_json::from_str(&told).unwrap();
            assert_eq!(status["details"]["causes"][0]["message"], "3");
        } else {
            assert_eq!(told, "command terminated with non-zero exit code: exit status 3");
        }
    }
}

#[tokio::test]
async fn a_terminal_tells_each_of_its_sizes_however_they_come() {
    let wanted = Wanted { stdout: true, tty: true, ..Wanted::default() };
    let (near, far) = tokio::io::duplex(4 << 10);
    let asking = client(near, async |session| {
        let (_error, _) = open(&session, "error").await;
        let (_stdout, _) = open(&session, "stdout").await;
        let (_, resize) = open(&session, "resize").await;
        for piece in ["{\"Width\":80,\"Hei", "ght\":24}\n{\"Width\":100,\"Height\":50}", "no size"] {
            resize.write(piece.into()).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let (told, sizes) = tokio::sync::oneshot::channel();
    let serving = spdy(far, Version::V4, wanted, SILENCE, async |streams| {
        let mut sizes = streams.sizes.unwrap();
        let mut seen = Vec::new();
        while let Some(size) = sizes.next().await {
            seen.push(size);
        }
        told.send(seen).unwrap();
    });
    let sizes = tokio::select! {
        sizes = sizes => sizes.unwrap(),
        () = async { tokio::join!(asking, serving).0 } => panic!("the client does not end"),
    };
    let size = |width, height| TerminalSize { width, height };
    assert_eq!(sizes, [size(80, 24), size(100, 50)]);
}

#[tokio::test]
async fn a_stream_that_was_not_asked_for_or_does_not_come_ends_the_connection() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let wanted = Wanted { stdout: true, ..Wanted::default() };
    let asking = client(near, async |session| {
        let (error, _) = open(&session, "stdin").await;
        all(error).await;
    });
    let serving = spdy(far, Version::V4, wanted, SILENCE, async |_| panic!("nothing is served"));
    let served = tokio::select! {
        served = serving => served,
        () = async { asking.await; std::future::pending().await } => unreachable!(),
    };
    assert_eq!(served, Err(ProcessError::Unwanted("stdin".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_nothing_is_not_waited_for() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let served = spdy(far, Version::V4, ALL, SILENCE, async |_| panic!("nothing is served")).await;
    assert_eq!(served, Err(ProcessError::Slow));
    drop(near);
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_let_go() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let _socket = WebSocketStream::from_raw_socket(near, End::Client, None).await;
    let wanted = Wanted { stdin: true, ..Wanted::default() };
    let serving = channels(over(far).await, Protocol::V5, wanted, SILENCE, async |streams| {
        let _held = streams;
        std::future::pending::<()>().await;
    });
    assert_eq!(serving.await, Err(ProcessError::Gone));
}

async fn socket(near: DuplexStream) -> WebSocketStream<DuplexStream> {
    WebSocketStream::from_raw_socket(near, End::Client, None).await
}

#[tokio::test]
async fn channels_of_a_websocket_are_the_same_and_stdin_can_be_closed() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let asking = async {
        let mut client = socket(near).await;
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(vec![1]));
        client.send(Message::binary(b"\0hello".to_vec())).await.unwrap();
        client.send(Message::binary(vec![255, 0])).await.unwrap();
        let mut said = [const { Vec::new() }; 4];
        while let Some(Ok(message)) = client.next().await {
            if let Message::Binary(bytes) = message {
                said[usize::from(bytes[0])].extend_from_slice(&bytes[1..]);
            }
        }
        let [_, out, err, end] = said;
        let status: Value = serde_json::from_slice(&end).unwrap();
        (out, err, status["reason"].clone())
    };
    let serving = channels(over(far).await, Protocol::V5, ALL, SILENCE, cat);
    let (served, told) = tokio::join!(serving, asking);
    assert_eq!(served, Ok(()));
    assert_eq!(told, (b"hello".to_vec(), b"warning".to_vec(), "NonZeroExitCode".into()));
}

#[tokio::test]
async fn a_client_that_leaves_ends_what_is_served() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let serving = channels(over(far).await, Protocol::V4, ALL, SILENCE, cat);
    let (served, ()) = tokio::join!(serving, async { socket(near).await.close(None).await.unwrap() });
    assert_eq!(served, Err(ProcessError::Gone));
}
