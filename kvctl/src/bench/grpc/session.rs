//! One HTTP/2 connection carrying gRPC calls, as a state machine over bytes: requests go in and bytes come
//! out, received bytes go in and events come out. Never does I/O and never looks at a clock.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use super::frame::{
    ACK, CANCEL, CONTINUATION, DATA, ENABLE_PUSH, END_HEADERS, END_STREAM, FRAME_HEADER_BYTES, GOAWAY,
    HEADER_TABLE_SIZE, HEADERS, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
    MESSAGE_HEADER_BYTES, PADDED, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE, message_bytes, number,
    percent_decoded, prefix, put_frame_header, put_window_update, unpadded,
};
use super::hpack::{BadHeaders, Decoder, Encoder};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest frame we accept: HTTP/2's default, as grpc-go has it.
const MAX_FRAME_BYTES: usize = 16_384;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 256 << 20;
const DEFAULT_WINDOW_BYTES: i64 = 65_535;
const LAST_STREAM: u32 = 0x7fff_fffd;
const RECYCLED_BODIES: usize = 8;

/// gRPC's status code for a call that the connection lost.
const UNAVAILABLE: u32 = 14;
const UNKNOWN: u32 = 2;

/// Names a call on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamId(u32);

/// Why a connection cannot be used any longer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The other end speaks something else, or broke the rules.
    #[error("the server broke the HTTP/2 protocol: {0}")]
    Protocol(&'static str),
    /// Header state is lost.
    #[error(transparent)]
    Headers(#[from] BadHeaders),
    /// The server is shutting the connection down.
    #[error("the server closed the connection (code {0})")]
    GoAway(u32),
}

/// How a call ended, if not well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status {
    /// gRPC's status code.
    pub(crate) code: u32,
    /// The server's text.
    pub(crate) message: String,
}

/// A received message: in the input still, or put together from several frames.
#[derive(Debug)]
pub(crate) enum Body {
    /// Where it lies in the input.
    Inline(Range<usize>),
    /// The message behind its five bytes of prefix; give it back with [`Session::recycle`].
    Assembled(Vec<u8>),
}

impl Body {
    /// The message's bytes.
    pub(crate) fn bytes<'a>(&'a self, input: &'a Input) -> &'a [u8] {
        match self {
            Body::Inline(range) => &input.buffer[range.clone()],
            Body::Assembled(bytes) => &bytes[MESSAGE_HEADER_BYTES..],
        }
    }
}

/// What happened; `tag` is what the caller gave at [`Session::open`].
#[derive(Debug)]
pub(crate) enum Event {
    /// A message arrived.
    Message {
        /// The call's.
        tag: u32,
        /// The message.
        body: Body,
    },
    /// The call is over.
    End {
        /// The call's.
        tag: u32,
        /// `None` is OK.
        failure: Option<Status>,
    },
}

/// Received bytes that are not consumed yet.
pub(crate) struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// Room for `bytes`, at least a few frames.
    pub(crate) fn new(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes.max(4 * MAX_FRAME_BYTES)], start: 0, end: 0 }
    }

    /// Where to read into; invalidates ranges of earlier events.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.buffer.len() - self.end < 2 * MAX_FRAME_BYTES {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.buffer[self.end..]
    }

    /// Says how many bytes were read.
    pub(crate) fn filled(&mut self, bytes: usize) {
        self.end += bytes;
    }
}

/// Stream ids are a counter: multiplying spreads them well enough.
#[derive(Default)]
struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }
    fn write_u32(&mut self, id: u32) {
        self.0 = (self.0 ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

struct Stream {
    tag: u32,
    send_window: i64,
    /// Data the windows did not allow yet, and whether it ends our side.
    blocked: Vec<u8>,
    ends: bool,
    /// Start of a message whose end has not arrived.
    partial: Vec<u8>,
    unacknowledged: u32,
}

struct Waiting {
    path: &'static str,
    tag: u32,
    message: Vec<u8>,
    ends: bool,
}

struct Arriving {
    id: StreamId,
    range: Range<usize>,
    ends: bool,
}

/// One connection.
pub(crate) struct Session {
    authority: String,
    encoder: Option<Encoder>,
    decoder: Decoder,
    output: Vec<u8>,
    streams: HashMap<StreamId, Stream, BuildHasherDefault<StreamHasher>>,
    next_stream: u32,
    max_streams: usize,
    max_frame: usize,
    initial_window: i64,
    send_window: i64,
    unacknowledged: u32,
    blocked: VecDeque<StreamId>,
    waiting: VecDeque<Waiting>,
    arriving: Option<Arriving>,
    /// Header block under way over several frames.
    headers: Option<(StreamId, bool, Vec<u8>)>,
    recycled: Vec<Vec<u8>>,
}

impl Session {
    /// A connection to `authority` (host:port); the preface is the first output.
    pub(crate) fn new(authority: String) -> Self {
        let mut output = PREFACE.to_vec();
        let settings = [(ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES)];
        put_frame_header(&mut output, settings.len() * 6, SETTINGS, 0, 0);
        for (name, value) in settings {
            output.extend_from_slice(&name.to_be_bytes());
            output.extend_from_slice(&value.to_be_bytes());
        }
        put_window_update(&mut output, 0, CONNECTION_WINDOW_BYTES);
        Self {
            authority,
            encoder: None,
            decoder: Decoder::new(),
            output,
            streams: HashMap::default(),
            next_stream: 1,
            max_streams: usize::MAX,
            max_frame: MAX_FRAME_BYTES,
            initial_window: DEFAULT_WINDOW_BYTES,
            send_window: DEFAULT_WINDOW_BYTES,
            unacknowledged: 0,
            blocked: VecDeque::new(),
            waiting: VecDeque::new(),
            arriving: None,
            headers: None,
            recycled: Vec::new(),
        }
    }

    /// Bytes to be sent; the owner removes what it has sent.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Whether the server's settings are known: calls are sent at once.
    pub(crate) fn ready(&self) -> bool {
        self.encoder.is_some()
    }

    /// Starts a call with its first message. `ends` closes our side: a call with one request. Calls beyond
    /// the server's limit of streams, or before its settings are known, wait and have no id yet.
    pub(crate) fn open(
        &mut self,
        path: &'static str,
        tag: u32,
        message: &[u8],
        ends: bool,
    ) -> Option<StreamId> {
        if self.encoder.is_none() || self.streams.len() >= self.max_streams {
            self.waiting.push_back(Waiting { path, tag, message: message.to_vec(), ends });
            return None;
        }
        Some(self.start(path, tag, message, ends))
    }

    fn start(&mut self, path: &'static str, tag: u32, message: &[u8], ends: bool) -> StreamId {
        let id = StreamId(self.next_stream);
        self.next_stream += 2;
        let at = self.output.len();
        put_frame_header(&mut self.output, 0, HEADERS, END_HEADERS, id.0);
        if let Some(encoder) = &mut self.encoder {
            encoder.encode(path, &self.authority, &mut self.output);
        }
        let length = (self.output.len() - at - FRAME_HEADER_BYTES) as u32;
        self.output[at..at + 3].copy_from_slice(&length.to_be_bytes()[1..]);
        let stream = Stream {
            tag,
            send_window: self.initial_window,
            blocked: Vec::new(),
            ends,
            partial: Vec::new(),
            unacknowledged: 0,
        };
        self.streams.insert(id, stream);
        self.send_message(id, message);
        id
    }

    /// Sends another message on a call that was opened without `ends`. A call that is over is left alone:
    /// its end was told or will be.
    pub(crate) fn send_message(&mut self, id: StreamId, message: &[u8]) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let total = (MESSAGE_HEADER_BYTES + message.len()) as i64;
        let prefix = prefix(message.len());
        let fits = total <= self.max_frame as i64 && total <= stream.send_window && total <= self.send_window;
        if fits && stream.blocked.is_empty() {
            stream.send_window -= total;
            self.send_window -= total;
            put_frame_header(
                &mut self.output,
                total as usize,
                DATA,
                u8::from(stream.ends) * END_STREAM,
                id.0,
            );
            self.output.extend_from_slice(&prefix);
            self.output.extend_from_slice(message);
            return;
        }
        stream.blocked.extend_from_slice(&prefix);
        stream.blocked.extend_from_slice(message);
        self.blocked.push_back(id);
        self.send_blocked();
    }

    /// Gives up a call; no event will tell of it.
    pub(crate) fn cancel(&mut self, tag: u32) {
        self.waiting.retain(|waiting| waiting.tag != tag);
        let found = self.streams.iter().find(|(_, stream)| stream.tag == tag).map(|(id, _)| *id);
        if let Some(id) = found {
            self.streams.remove(&id);
            put_frame_header(&mut self.output, 4, RST_STREAM, 0, id.0);
            self.output.extend_from_slice(&CANCEL.to_be_bytes());
            self.start_waiting();
        }
    }

    /// Takes an assembled body back, to be filled again.
    pub(crate) fn recycle(&mut self, body: Body) {
        if let Body::Assembled(mut bytes) = body
            && self.recycled.len() < RECYCLED_BODIES
        {
            bytes.clear();
            self.recycled.push(bytes);
        }
    }

    /// The next event in the input, or `None` when more bytes are needed.
    pub(crate) fn next_event(&mut self, input: &mut Input) -> Result<Option<Event>, SessionError> {
        loop {
            if let Some(event) = self.continue_data(input) {
                return Ok(Some(event));
            }
            let held = &input.buffer[input.start..input.end];
            let Some(header) = held.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            if length > MAX_FRAME_BYTES {
                return Err(SessionError::Protocol("a frame is too long"));
            }
            if held.len() < FRAME_HEADER_BYTES + length {
                return Ok(None);
            }
            let (kind, flags) = (header[3], header[4]);
            let id = StreamId(u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]));
            let payload = input.start + FRAME_HEADER_BYTES..input.start + FRAME_HEADER_BYTES + length;
            input.start = payload.end;
            if let Some(event) = self.frame(kind, flags, id, payload, &input.buffer)? {
                return Ok(Some(event));
            }
        }
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: StreamId,
        range: Range<usize>,
        buffer: &[u8],
    ) -> Result<Option<Event>, SessionError> {
        let payload = &buffer[range.clone()];
        match kind {
            DATA => {
                self.acknowledge_data(id, payload.len() as u32);
                let range = unpadded(flags & PADDED != 0, range, buffer)?;
                if self.streams.contains_key(&id) {
                    self.arriving = Some(Arriving { id, range, ends: flags & END_STREAM != 0 });
                }
            }
            HEADERS => {
                let mut range = unpadded(flags & PADDED != 0, range, buffer)?;
                if flags & PRIORITY != 0 {
                    range.start += 5;
                }
                let block = buffer.get(range).ok_or(SessionError::Protocol("bad padding"))?;
                let ends = flags & END_STREAM != 0;
                if flags & END_HEADERS != 0 {
                    return self.header_block(id, ends, block);
                }
                self.headers = Some((id, ends, block.to_vec()));
            }
            CONTINUATION => {
                let Some((id, ends, mut block)) = self.headers.take() else {
                    return Err(SessionError::Protocol("a continuation of nothing"));
                };
                block.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    return self.header_block(id, ends, &block);
                }
                self.headers = Some((id, ends, block));
            }
            RST_STREAM => {
                let code = number(payload)?;
                let message = format!("the server reset the call (HTTP/2 code {code})");
                return Ok(self.end(id, Some(Status { code: UNAVAILABLE, message })));
            }
            SETTINGS if flags & ACK == 0 => self.settings(payload)?,
            PING if flags & ACK == 0 => {
                put_frame_header(&mut self.output, payload.len(), PING, ACK, 0);
                self.output.extend_from_slice(payload);
            }
            GOAWAY => return Err(SessionError::GoAway(number(payload.get(4..).unwrap_or_default())?)),
            WINDOW_UPDATE => {
                let bytes = i64::from(number(payload)? & 0x7fff_ffff);
                if id.0 == 0 {
                    self.send_window += bytes;
                } else if let Some(stream) = self.streams.get_mut(&id) {
                    stream.send_window += bytes;
                }
                self.send_blocked();
            }
            _ => {}
        }
        Ok(None)
    }

    fn settings(&mut self, payload: &[u8]) -> Result<(), SessionError> {
        let mut table_limit = 4096;
        for setting in payload.chunks_exact(6) {
            let value = number(&setting[2..])?;
            match u16::from_be_bytes([setting[0], setting[1]]) {
                HEADER_TABLE_SIZE => table_limit = value,
                MAX_CONCURRENT_STREAMS => self.max_streams = value as usize,
                MAX_FRAME_SIZE => self.max_frame = (value as usize).min(MAX_FRAME_BYTES),
                INITIAL_WINDOW_SIZE => {
                    let change = i64::from(value) - self.initial_window;
                    self.initial_window = i64::from(value);
                    for stream in self.streams.values_mut() {
                        stream.send_window += change;
                    }
                }
                _ => {}
            }
        }
        put_frame_header(&mut self.output, 0, SETTINGS, ACK, 0);
        if self.encoder.is_none() {
            self.encoder = Some(Encoder::new(table_limit));
        }
        self.start_waiting();
        self.send_blocked();
        Ok(())
    }

    fn start_waiting(&mut self) {
        while self.streams.len() < self.max_streams && self.encoder.is_some() {
            let Some(next) = self.waiting.pop_front() else { return };
            self.start(next.path, next.tag, &next.message, next.ends);
        }
    }

    fn send_blocked(&mut self) {
        for _ in 0..self.blocked.len() {
            if self.send_window <= 0 {
                return;
            }
            let Some(id) = self.blocked.pop_front() else { return };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let mut sent = 0;
            while sent < stream.blocked.len() {
                let allowed = stream.send_window.min(self.send_window).max(0) as usize;
                let bytes = allowed.min(stream.blocked.len() - sent).min(self.max_frame);
                if bytes == 0 {
                    break;
                }
                stream.send_window -= bytes as i64;
                self.send_window -= bytes as i64;
                let last = sent + bytes == stream.blocked.len();
                let flags = if last && stream.ends { END_STREAM } else { 0 };
                put_frame_header(&mut self.output, bytes, DATA, flags, id.0);
                self.output.extend_from_slice(&stream.blocked[sent..sent + bytes]);
                sent += bytes;
            }
            stream.blocked.drain(..sent);
            if !stream.blocked.is_empty() {
                self.blocked.push_back(id);
            }
        }
    }

    fn acknowledge_data(&mut self, id: StreamId, bytes: u32) {
        self.unacknowledged += bytes;
        if self.unacknowledged > CONNECTION_WINDOW_BYTES / 2 {
            put_window_update(&mut self.output, 0, self.unacknowledged);
            self.unacknowledged = 0;
        }
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.unacknowledged += bytes;
            if stream.unacknowledged > STREAM_WINDOW_BYTES / 2 {
                put_window_update(&mut self.output, id.0, stream.unacknowledged);
                stream.unacknowledged = 0;
            }
        }
    }

    /// Takes the next message out of the data frame at hand, if there is one.
    fn continue_data(&mut self, input: &Input) -> Option<Event> {
        let arriving = self.arriving.as_mut()?;
        let Some(stream) = self.streams.get_mut(&arriving.id) else {
            self.arriving = None;
            return None;
        };
        let tag = stream.tag;
        let data = &input.buffer[arriving.range.clone()];
        if stream.partial.is_empty() {
            if let Some(header) = data.first_chunk::<MESSAGE_HEADER_BYTES>() {
                let length = message_bytes(header);
                if data.len() >= MESSAGE_HEADER_BYTES + length {
                    let start = arriving.range.start + MESSAGE_HEADER_BYTES;
                    arriving.range.start = start + length;
                    return Some(Event::Message { tag, body: Body::Inline(start..start + length) });
                }
                stream.partial = self.recycled.pop().unwrap_or_default();
                stream.partial.reserve(MESSAGE_HEADER_BYTES + length);
            }
            stream.partial.extend_from_slice(data);
        } else {
            let mut taken = 0;
            if stream.partial.len() < MESSAGE_HEADER_BYTES {
                taken = data.len().min(MESSAGE_HEADER_BYTES - stream.partial.len());
                stream.partial.extend_from_slice(&data[..taken]);
            }
            if let Some(header) = stream.partial.first_chunk::<MESSAGE_HEADER_BYTES>() {
                let missing = MESSAGE_HEADER_BYTES + message_bytes(header) - stream.partial.len();
                let more = missing.min(data.len() - taken);
                stream.partial.extend_from_slice(&data[taken..taken + more]);
                if more == missing {
                    arriving.range.start += taken + more;
                    return Some(Event::Message {
                        tag,
                        body: Body::Assembled(std::mem::take(&mut stream.partial)),
                    });
                }
            }
        }
        let (id, ends) = (arriving.id, arriving.ends);
        self.arriving = None;
        if ends {
            let message = "the answer has no trailers".to_owned();
            return self.end(id, Some(Status { code: UNKNOWN, message }));
        }
        None
    }

    fn header_block(
        &mut self,
        id: StreamId,
        ends: bool,
        block: &[u8],
    ) -> Result<Option<Event>, SessionError> {
        let (mut code, mut message, mut http) = (None, String::new(), 200);
        self.decoder.decode(block, |name, value| match name {
            b"grpc-status" => {
                code = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u32>().ok());
            }
            b"grpc-message" if !value.is_empty() => message = percent_decoded(value),
            b":status" if value != b"200" => http = String::from_utf8_lossy(value).parse().unwrap_or(0),
            _ => {}
        })?;
        if !ends {
            return Ok(None);
        }
        let failure = match code {
            Some(0) => None,
            Some(code) => Some(Status { code, message }),
            None => Some(Status { code: UNKNOWN, message: format!("no gRPC status (HTTP status {http})") }),
        };
        Ok(self.end(id, failure))
    }

    fn end(&mut self, id: StreamId, failure: Option<Status>) -> Option<Event> {
        let stream = self.streams.remove(&id)?;
        if !self.waiting.is_empty() {
            self.start_waiting();
        }
        Some(Event::End { tag: stream.tag, failure })
    }

    /// Whether the stream ids are used up; such a connection is replaced.
    pub(crate) fn exhausted(&self) -> bool {
        self.next_stream >= LAST_STREAM
    }
}

#[cfg(test)]
mod tests;
