//! Ports that are forwarded over one connection, as clients see them.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use barque_streams::ports::{Forward, channels, spdy};
use barque_streams::spdy::session::{Reader, Role, Session, Writer};
use barque_streams::tunnel::carry;
use barque_streams::websocket::{Protocol, over};
use bytes::Bytes;
use futures::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role as End;

const SILENCE: Duration = Duration::from_secs(3600);

/// Sends back what comes, once all has come: each side may end by itself. Port 1 takes nobody.
async fn echo(forward: Forward) {
    let Forward { port, mut input, output, error, .. } = forward;
    if port == 1 {
        error.write(Bytes::from_static(b"connection refused")).await.unwrap();
        output.finish().await;
        error.finish().await;
        return;
    }
    let mut all = port.to_string().into_bytes();
    while let Some(bytes) = input.read().await {
        all.extend_from_slice(&bytes);
    }
    output.write(all.into()).await.unwrap();
    output.finish().await;
    error.finish().await;
}

async fn open(session: &Session, kind: &str, port: &str, id: &str) -> (Reader, Writer) {
    let headers = [("streamtype", kind), ("port", port), ("requestid", id)];
    session.open(headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()).await.unwrap()
}

async fn all(mut reader: Reader) -> String {
    let mut all = Vec::new();
    while let Some(bytes) = reader.read().await {
        all.extend_from_slice(&bytes);
    }
    String::from_utf8(all).unwrap()
}

/// Speaks with two ports at once and with one that takes nobody, over any connection.
async fn talk(connection: impl AsyncRead + AsyncWrite) {
    let (session, _none, driving) = Session::start(connection, Role::Client);
    let one = async |port: &str, id: &str, said: &'static str| {
        let (error, error_writer) = open(&session, "error", port, id).await;
        let (data, writer) = open(&session, "data", port, id).await;
        error_writer.finish().await.unwrap();
        writer.write(said.into()).await.unwrap();
        writer.finish().await.unwrap();
        tokio::join!(all(data), all(error))
    };
    let talking = async {
        let (a, b, refused) = tokio::join!(one("80", "1", "a"), one("81", "2", "b"), one("1", "3", ""));
        assert_eq!(a, ("80a".to_owned(), String::new()));
        assert_eq!(b, ("81b".to_owned(), String::new()));
        assert_eq!(refused, (String::new(), "connection refused".to_owned()));
        // The port again, and a stream that is for nothing.
        let (nothing, _) = open(&session, "data", "0", "4").await;
        assert_eq!(all(nothing).await, "");
        assert_eq!(one("80", "5", "again").await.0, "80again");
    };
    tokio::select! {
        () = talking => {}
        ended = driving => panic!("{ended:?}"),
    }
}

#[tokio::test]
async fn several_ports_are_served_at_once_and_half_closed() {
    let (near, far) = tokio::io::duplex(4 << 10);
    tokio::join!(spdy(far, SILENCE, echo), talk(near));
}

#[tokio::test]
async fn spdy_comes_through_a_websocket_too() {
    let (client, server) = tokio::io::duplex(4 << 10);
    let (near, far) = tokio::io::duplex(4 << 10);
    let (asked, asking) = tokio::io::duplex(4 << 10);
    let client = WebSocketStream::from_raw_socket(client, End::Client, None).await;
    tokio::join!(
        carry(over(server).await, near, SILENCE),
        spdy(far, SILENCE, echo),
        carry(client, asked, SILENCE),
        talk(asking)
    );
}

#[tokio::test(start_paused = true)]
async fn half_a_pair_is_reset_after_a_while_and_the_rest_goes_on() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let talking = async {
        let (session, _none, driving) = Session::start(near, Role::Client);
        let talking = async {
            let (half, _writer) = open(&session, "data", "80", "1").await;
            half.reset().cancelled().await;
            let (error, _error_writer) = open(&session, "error", "80", "2").await;
            let (data, writer) = open(&session, "data", "80", "2").await;
            writer.finish().await.unwrap();
            assert_eq!(tokio::join!(all(data), all(error)), ("80".to_owned(), String::new()));
        };
        tokio::select! {
            () = talking => {}
            ended = driving => panic!("{ended:?}"),
        }
    };
    tokio::join!(spdy(far, SILENCE, echo), talking);
}

#[tokio::test]
async fn a_stream_that_the_client_resets_is_told() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let talking = async {
        let (session, _none, driving) = Session::start(near, Role::Client);
        let talking = async {
            let _error = open(&session, "error", "80", "1").await;
            let (data, writer) = open(&session, "data", "80", "1").await;
            writer.cancel().await.unwrap();
            // What was waiting for the reset answers on the other pair.
            let (error, _writer) = open(&session, "error", "81", "2").await;
            let _data = open(&session, "data", "81", "2").await;
            drop(data);
            assert_eq!(all(error).await, "reset");
        };
        tokio::select! {
            () = talking => {}
            ended = driving => panic!("{ended:?}"),
        }
    };
    let (told, reset) = tokio::sync::watch::channel(false);
    let serving = spdy(far, SILENCE, |forward: Forward| {
        let (told, mut reset) = (told.clone(), reset.clone());
        async move {
            if forward.port == 80 {
                forward.reset.cancelled().await;
                told.send_replace(true);
            } else {
                reset.wait_for(|one| *one).await.unwrap();
                forward.error.write(Bytes::from_static(b"reset")).await.unwrap();
                forward.error.finish().await;
            }
        }
    });
    tokio::join!(serving, talking);
}

#[tokio::test]
async fn a_websocket_has_two_channels_for_each_port() {
    let (near, far) = tokio::io::duplex(4 << 10);
    let talking = async {
        let mut client = WebSocketStream::from_raw_socket(near, End::Client, None).await;
        let mut next = async || client.next().await.unwrap().unwrap();
        for (channel, port) in [(0, 80), (1, 80), (2, 1), (3, 1)] {
            assert_eq!(next().await, Message::binary(vec![channel, port, 0]));
        }
        assert_eq!(next().await, Message::binary(b"\x03connection refused".to_vec()));
        client.send(Message::binary(b"\0hi".to_vec())).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"\0hi".to_vec()));
        while let Some(Ok(_)) = client.next().await {}
    };
    let serving = channels(over(far).await, Protocol::V4, &[80, 1], SILENCE, async |forward: Forward| {
        let Forward { port, mut input, output, error, .. } = forward;
        if port == 1 {
            error.write(Bytes::from_static(b"connection refused")).await.unwrap();
            return;
        }
        // This protocol has no end of what the client sends.
        let first = input.read().await.unwrap();
        output.write(first).await.unwrap();
    });
    tokio::join!(serving, talking);
}

#[tokio::test]
async fn bytes_of_a_tunnel_end_with_either_side() {
    let (client, server) = tokio::io::duplex(4 << 10);
    let (near, mut far) = tokio::io::duplex(4 << 10);
    let talking = async {
        let mut client = WebSocketStream::from_raw_socket(client, End::Client, None).await;
        client.send(Message::binary(b"to".to_vec())).await.unwrap();
        let mut two = [0; 2];
        far.read_exact(&mut two).await.unwrap();
        assert_eq!(&two, b"to");
        far.write_all(b"back").await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), Message::binary(b"back".to_vec()));
        far.shutdown().await.unwrap();
        assert!(client.next().await.unwrap().unwrap().is_close());
        while let Some(Ok(_)) = client.next().await {}
    };
    tokio::join!(carry(over(server).await, near, SILENCE), talking);
}
