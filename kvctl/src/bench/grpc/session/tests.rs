//! The connection against hand-made frames.

use super::super::frame::*;
use super::*;

/// A tag with a message, or with the end.
type Received = (u32, Result<Vec<u8>, Option<Status>>);

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame_header(&mut bytes, payload.len(), kind, flags, stream);
    bytes.extend_from_slice(payload);
    bytes
}

fn setting(name: u16, value: u32) -> Vec<u8> {
    [&name.to_be_bytes()[..], &value.to_be_bytes()[..]].concat()
}

fn receive(session: &mut Session, input: &mut Input, bytes: &[u8]) -> Vec<Received> {
    input.space()[..bytes.len()].copy_from_slice(bytes);
    input.filled(bytes.len());
    let mut events = Vec::new();
    while let Some(event) = session.next_event(input).unwrap() {
        events.push(match event {
            Event::Message { tag, body } => (tag, Ok(body.bytes(input).to_vec())),
            Event::End { tag, failure } => (tag, Err(failure)),
        });
    }
    events
}

/// Trailers with `grpc-status` as a plain literal.
fn trailers(status: &str, message: &str) -> Vec<u8> {
    let mut block = Vec::new();
    for text in [("grpc-status", status), ("grpc-message", message)] {
        block.push(0);
        for part in [text.0, text.1] {
            block.push(part.len() as u8);
            block.extend_from_slice(part.as_bytes());
        }
    }
    block
}

#[test]
fn messages_survive_any_cut_of_frames_and_reads() {
    let messages: [&[u8]; 3] = [b"one", &[7; 5000], b""];
    let mut data = Vec::new();
    for message in messages {
        data.extend_from_slice(&prefix(message.len()));
        data.extend_from_slice(message);
    }
    for (frame_bytes, read_bytes) in [(1, 1), (3, 100), (4000, 7), (16_000, 16_000), (4998, 33)] {
        let mut wire = frame(SETTINGS, 0, 0, &[]);
        for part in data.chunks(frame_bytes) {
            wire.extend(frame(DATA, 0, 1, part));
        }
        wire.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers("0", "")));
        let (mut session, mut input) = (Session::new("a:1".into()), Input::new(0));
        session.open("/a/b", 42, b"ask", true);
        let mut got = Vec::new();
        for part in wire.chunks(read_bytes) {
            got.extend(receive(&mut session, &mut input, part));
        }
        let expected: Vec<_> =
            messages.iter().map(|message| (42, Ok(message.to_vec()))).chain([(42, Err(None))]).collect();
        assert_eq!(got, expected);
    }
}

#[test]
fn windows_hold_data_back_and_let_it_go() {
    let (mut session, mut input) = (Session::new("a:1".into()), Input::new(0));
    receive(&mut session, &mut input, &frame(SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 10)));
    session.output().clear();
    session.open("/a/b", 1, &[9; 20], true);
    let data_bytes = |output: &[u8]| {
        let (mut rest, mut bytes, mut ended) = (output, 0, false);
        while !rest.is_empty() {
            let length = u32::from_be_bytes([0, rest[0], rest[1], rest[2]]) as usize;
            if rest[3] == DATA {
                bytes += length;
                ended |= rest[4] & END_STREAM != 0;
            }
            rest = &rest[9 + length..];
        }
        (bytes, ended)
    };
    assert_eq!(data_bytes(session.output()), (10, false));
    receive(&mut session, &mut input, &frame(WINDOW_UPDATE, 0, 1, &14u32.to_be_bytes()));
    assert_eq!(data_bytes(session.output()), (24, false));
    receive(&mut session, &mut input, &frame(WINDOW_UPDATE, 0, 1, &100u32.to_be_bytes()));
    assert_eq!(data_bytes(session.output()), (25, true));
}

#[test]
fn calls_beyond_the_limit_wait_and_errors_carry_the_text() {
    let (mut session, mut input) = (Session::new("a:1".into()), Input::new(0));
    receive(&mut session, &mut input, &frame(SETTINGS, 0, 0, &setting(MAX_CONCURRENT_STREAMS, 1)));
    assert_eq!(session.open("/a/b", 1, b"", true), Some(StreamId(1)));
    assert_eq!(session.open("/a/b", 2, b"", true), None);
    let wire = frame(HEADERS, END_HEADERS | END_STREAM, 1, &trailers("11", "too%20far"));
    let events = receive(&mut session, &mut input, &wire);
    assert_eq!(events, [(1, Err(Some(Status { code: 11, message: "too far".into() })))]);
    let wire = frame(HEADERS, END_HEADERS | END_STREAM, 3, &trailers("0", ""));
    assert_eq!(receive(&mut session, &mut input, &wire), [(2, Err(None))]);
}
