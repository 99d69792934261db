//! Clients that say a URL as their authority, or not, over connections that cut anywhere.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::hpack_encoder::{Encoder, Layout, preface};
use super::*;

/// What h2, with its own HPACK table, understands of these bytes: authority and timeout of `count` requests.
async fn understood(bytes: Vec<u8>, pieces: usize, count: usize) -> Result<Vec<(String, String)>, h2::Error> {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let server = async move {
        let mut requests = Vec::new();
        let mut connection =
            h2::server::Builder::new().handshake::<_, bytes::Bytes>(Lenient::new(server)).await?;
        while requests.len() < count {
            let Some(request) = connection.accept().await else { break };
            let (request, mut respond) = request?;
            respond.send_response(http::Response::new(()), true)?;
            let authority = request.uri().authority().expect("there is one").to_string();
            requests.push((authority, request.headers()["grpc-timeout"].to_str().unwrap().to_owned()));
        }
        Ok(requests)
    };
    let client = async move {
        for piece in bytes.chunks(pieces) {
            client.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        // Stays open: h2 gives no requests away once the other side has closed.
        client
    };
    tokio::join!(server, client).0
}

fn requests(authority: &str, timeouts: &[String], layout: Layout) -> (Vec<u8>, Encoder) {
    let (mut bytes, mut encoder) = (preface(), Encoder::new(layout));
    for (stream, timeout) in (1..).step_by(2).zip(timeouts) {
        let fields = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/etcdserverpb.Maintenance/Status"),
            (":authority", authority),
            ("grpc-timeout", timeout),
        ];
        bytes.extend(encoder.headers(stream, &fields));
    }
    (bytes, encoder)
}

#[tokio::test]
async fn both_tables_stay_in_step_when_entries_are_dropped() {
    for huffman in [false, true] {
        let layout = Layout { huffman, kind: 0, padding: None, priority: false };
        let timeouts: Vec<String> = (0..500).map(|count| format!("49{count}u")).collect();
        let (bytes, encoder) = requests("http://127.0.0.1:2379", &timeouts, layout);
        assert!(encoder.authorities > 2, "said again");
        let meant: Vec<_> =
            timeouts.into_iter().map(|timeout| ("127.0.0.1:2379".to_owned(), timeout)).collect();
        assert_eq!(understood(bytes, 1000, 500).await.unwrap(), meant);
    }
}

#[tokio::test]
async fn h2_alone_would_not_take_a_url() {
    // One that is left alone, before a request in order: only this one arrives.
    let layout = Layout { huffman: true, kind: 0, padding: None, priority: false };
    let (mut bytes, mut encoder) = requests("http://", &["1S".to_owned()], layout);
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "a"),
        ("grpc-timeout", "2S"),
    ];
    bytes.extend(encoder.headers(3, &fields));
    assert_eq!(understood(bytes, 1000, 1).await.unwrap(), [("a".to_owned(), "2S".to_owned())]);
}

#[tokio::test]
async fn what_is_held_is_let_go_at_the_end() {
    let mut bytes = preface();
    bytes.extend([0, 0, 9, 1, 4, 0]);
    let mut read = Vec::new();
    Lenient::new(bytes.as_slice()).read_to_end(&mut read).await.unwrap();
    assert_eq!(read, bytes);
}

#[tokio::test]
async fn vectored_writes_are_passed_on() {
    let (stream, _other) = tokio::io::duplex(1);
    assert_eq!(stream.is_write_vectored(), Lenient::new(stream).is_write_vectored());
}

proptest! {
    #[test]
    fn an_independent_decoder_understands_what_is_meant(
        host in "[a-z0-9][a-zA-Z0-9.-]{0,40}",
        url in prop_oneof![Just(("", "")), Just(("http://", "")), Just(("https://", "/")), Just(("", "/x"))],
        timeouts in proptest::collection::vec("[1-9]{1,3}[mSu]", 1..5),
        huffman: bool,
        kind in 0..3u8,
        padding in proptest::option::of(any::<u8>()),
        priority: bool,
        pieces in 1..200usize,
    ) {
        let layout = Layout { huffman, kind, padding, priority };
        let (bytes, _) = requests(&format!("{}{host}:2379{}", url.0, url.1), &timeouts, layout);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let meant: Vec<_> = timeouts.into_iter().map(|timeout| (format!("{host}:2379"), timeout)).collect();
        prop_assert_eq!(runtime.block_on(understood(bytes, pieces, meant.len())).unwrap(), meant);
    }

    #[test]
    fn readers_of_any_size_read_all(bytes in proptest::collection::vec(any::<u8>(), 0..9000), http_2: bool, size in 1..5000usize) {
        let mut sent = if http_2 { preface() } else { Vec::new() };
        sent.extend(bytes);
        let mut expected = Vec::new();
        let mut authorities = Authorities::new();
        authorities.pass(&sent, &mut expected);
        authorities.end(&mut expected);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read: Vec<u8> = runtime.block_on(async {
            let (mut io, mut read, mut buffer) = (Lenient::new(sent.as_slice()), Vec::new(), vec![0; size]);
            loop {
                match io.read(&mut buffer).await.unwrap() {
                    0 => break read,
                    count => read.extend(&buffer[..count]),
                }
            }
        });
        prop_assert_eq!(read, expected);
    }
}
