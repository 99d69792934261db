//! Authorities that clients send, right and odd, and what is left alone.

use proptest::collection::vec;
use proptest::prelude::*;

use super::super::hpack_encoder::{Encoder, Layout, frame, preface};
use super::*;

/// Everything that comes out when `input` comes in pieces of these sizes, repeated.
fn passed(input: &[u8], sizes: &[usize]) -> Vec<u8> {
    let (mut authorities, mut out) = (Authorities::new(), Vec::new());
    let (mut rest, mut sizes) = (input, sizes.iter().cycle());
    while !rest.is_empty() {
        let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
        authorities.pass(&rest[..size], &mut out);
        assert!(authorities.held.len() < FRAME_HEAD_BYTES + HEADERS_MAX_BYTES, "bounded");
        rest = &rest[size..];
    }
    authorities.end(&mut out);
    out
}

fn headers(value: &str, layout: Layout) -> Vec<u8> {
    let mut bytes = preface();
    bytes.extend(
        Encoder::new(layout).headers(1, &[(":method", "POST"), (":authority", value), ("te", "trailers")]),
    );
    bytes
}

fn layouts() -> impl Strategy<Value = Layout> {
    (any::<bool>(), 0..3u8, proptest::option::of(any::<u8>()), any::<bool>())
        .prop_map(|(huffman, kind, padding, priority)| Layout { huffman, kind, padding, priority })
}

#[test]
fn hosts_of_urls_are_what_stays() {
    let cases = [
        ("http://127.0.0.1:2379", "127.0.0.1:2379"),
        ("https://etcd-0.etcd:2379", "etcd-0.etcd:2379"),
        ("https://[fe80::1]:2379/a/b", "[fe80::1]:2379"),
        ("localhost:2379/", "localhost:2379"),
        ("unix://localhost:1", "localhost:1"),
        ("a:/b", "a:"),
        ("127.0.0.1:2379", "127.0.0.1:2379"),
        // Nothing would be left.
        ("http://", "http://"),
        ("/run/etcd", "/run/etcd"),
        ("", ""),
    ];
    for (said, meant) in cases {
        for huffman in [false, true] {
            for kind in 0..3 {
                let layout = Layout { huffman, kind, padding: None, priority: false };
                assert_eq!(passed(&headers(said, layout), &[]), headers(meant, layout), "{said} {layout:?}");
            }
        }
    }
}

#[test]
fn what_is_too_large_or_in_pieces_passes() {
    let layout = Layout { huffman: false, kind: 0, padding: None, priority: false };
    let large = headers(&format!("http://{}", "a".repeat(HEADERS_MAX_BYTES)), layout);
    assert_eq!(passed(&large, &[]), large);
    let mut pieces = headers("http://a", layout);
    let flags = preface().len() + 4;
    pieces[flags] &= !END_HEADERS;
    assert_eq!(passed(&pieces, &[]), pieces);
}

#[test]
fn nothing_is_held_of_http_1() {
    let (mut authorities, mut out) = (Authorities::new(), Vec::new());
    authorities.pass(b"P", &mut out);
    assert_eq!(out, b"P");
    authorities.pass(b"O", &mut out);
    assert_eq!(out, b"PO");
    assert!(authorities.is_done());
}

#[test]
fn a_connection_in_order_is_not_read_on() {
    let (mut authorities, mut out) = (Authorities::new(), Vec::new());
    let layout = Layout { huffman: true, kind: 0, padding: None, priority: false };
    authorities.pass(&headers("127.0.0.1:2379", layout), &mut out);
    assert!(authorities.is_done());
}

proptest! {
    #[test]
    fn bytes_that_are_not_http_2_pass(bytes in vec(any::<u8>(), 0..2000), sizes in vec(1..50usize, 1..9)) {
        prop_assert_eq!(passed(&bytes, &sizes), bytes);
    }

    #[test]
    fn garbage_in_frames_is_survived(
        frames in vec((0..12u8, any::<u8>(), vec(prop_oneof![any::<u8>(), Just(0x41), Just(b'/'), 0..5u8], 0..80)), 0..6),
        tail in vec(any::<u8>(), 0..30),
        sizes in vec(1..50usize, 1..9),
    ) {
        let mut bytes = preface();
        for (kind, flags, payload) in &frames {
            // Half of them are whole headers.
            let (kind, flags) = if *kind > 5 { (HEADERS, flags | END_HEADERS) } else { (*kind, *flags) };
            bytes.extend(frame(kind, flags, 1, payload));
        }
        bytes.extend(&tail);
        let out = passed(&bytes, &sizes);
        prop_assert_eq!(&out, &passed(&bytes, &[]), "pieces make no difference");
        prop_assert!(out.len() <= bytes.len());
        prop_assert_eq!(&out, &passed(&out, &[]), "what came out is in order");
        if frames.iter().all(|(kind, ..)| *kind <= 5 && *kind != HEADERS) && tail.len() < FRAME_HEAD_BYTES {
            prop_assert_eq!(out, bytes);
        }
    }

    #[test]
    fn authorities_in_order_pass(value in "[a-zA-Z0-9.:@\\[\\]~-]{0,300}", layout in layouts(), sizes in vec(1..50usize, 1..9)) {
        let bytes = headers(&value, layout);
        prop_assert_eq!(passed(&bytes, &sizes), bytes);
    }

    #[test]
    fn only_the_authority_changes(
        scheme in prop_oneof![Just("http"), Just("https")],
        host in "[a-zA-Z0-9.:\\[\\]-]{1,300}",
        path in prop_oneof![Just(""), Just("/"), Just("/a//b")],
        layout in layouts(),
        sizes in vec(1..50usize, 1..9),
    ) {
        let bytes = headers(&format!("{scheme}://{host}{path}"), layout);
        prop_assert_eq!(passed(&bytes, &sizes), headers(&host, layout));
    }
}
