//! Frames of HTTP/2 and the prefix of gRPC messages: numbers and layout (RFC 9113, gRPC over HTTP/2).

use std::ops::Range;

use super::session::SessionError;

pub(super) const MESSAGE_HEADER_BYTES: usize = 5;
pub(super) const FRAME_HEADER_BYTES: usize = 9;
pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const END_STREAM: u8 = 1;
pub(super) const ACK: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;
pub(super) const PRIORITY: u8 = 0x20;

pub(super) const HEADER_TABLE_SIZE: u16 = 1;
pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
pub(super) const MAX_FRAME_SIZE: u16 = 5;

pub(super) const CANCEL: u32 = 8;

pub(super) fn prefix(message_bytes: usize) -> [u8; MESSAGE_HEADER_BYTES] {
    let length = (message_bytes as u32).to_be_bytes();
    [0, length[0], length[1], length[2], length[3]]
}

pub(super) fn message_bytes(header: &[u8; MESSAGE_HEADER_BYTES]) -> usize {
    u32::from_be_bytes([header[1], header[2], header[3], header[4]]) as usize
}

pub(super) fn put_frame_header(output: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    let (length, stream) = ((length as u32).to_be_bytes(), stream.to_be_bytes());
    output.extend_from_slice(&[
        length[1], length[2], length[3], kind, flags, stream[0], stream[1], stream[2], stream[3],
    ]);
}

pub(super) fn put_window_update(output: &mut Vec<u8>, stream: u32, bytes: u32) {
    put_frame_header(output, 4, WINDOW_UPDATE, 0, stream);
    output.extend_from_slice(&bytes.to_be_bytes());
}

pub(super) fn number(bytes: &[u8]) -> Result<u32, SessionError> {
    bytes
        .first_chunk()
        .map(|four| u32::from_be_bytes(*four))
        .ok_or(SessionError::Protocol("a frame is too short"))
}

pub(super) fn unpadded(
    padded: bool,
    range: Range<usize>,
    buffer: &[u8],
) -> Result<Range<usize>, SessionError> {
    if !padded {
        return Ok(range);
    }
    let bad = SessionError::Protocol("bad padding");
    let padding = usize::from(*buffer.get(range.start).ok_or(SessionError::Protocol("bad padding"))?);
    let inner = range.start + 1..range.end.saturating_sub(padding);
    if inner.start <= inner.end { Ok(inner) } else { Err(bad) }
}

/// gRPC's error texts come percent-encoded.
pub(super) fn percent_decoded(text: &[u8]) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let value = escaped
            .and_then(|two| std::str::from_utf8(two).ok())
            .and_then(|two| u8::from_str_radix(two, 16).ok());
        match value {
            Some(value) => {
                plain.push(value);
                rest = &after[2..];
            }
            None => {
                plain.push(byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}
