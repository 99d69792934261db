//! The frames of SPDY/3.1 and their bytes. Pure; must never keep more than one control frame, nor wait for a whole data frame.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::headers::{BlockError, Headers, Packer, Unpacker};

/// The most bytes of a control frame.
const MOST_BYTES: usize = 64 << 10;
const HEAD: usize = 8;
const VERSION: u16 = 3;
const FIN: u8 = 1;
const UNIDIRECTIONAL: u8 = 2;

/// A stream was refused (`REFUSED_STREAM`).
pub const REFUSED: u32 = 3;
/// A stream is not wanted any more (`CANCEL`).
pub const CANCEL: u32 = 5;

/// A frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A stream begins.
    SynStream {
        /// Its number: odd ones are the client's.
        stream: u32,
        /// Its sender sends no data on it.
        fin: bool,
        /// Its receiver sends nothing on it.
        unidirectional: bool,
        /// What it is.
        headers: Headers,
    },
    /// A stream is accepted.
    SynReply {
        /// Its number.
        stream: u32,
        /// The sender of this sends no data on it.
        fin: bool,
        /// More of it.
        headers: Headers,
    },
    /// A stream ends at once.
    Reset {
        /// Its number.
        stream: u32,
        /// Why.
        status: u32,
    },
    /// To be sent back as it is, if it came from the other side.
    Ping(u32),
    /// No more streams.
    GoAway {
        /// The last one that was looked at.
        last: u32,
        /// Why; 0 is well.
        status: u32,
    },
    /// More headers.
    Headers {
        /// The stream's number.
        stream: u32,
        /// The sender of this sends no data after it.
        fin: bool,
        /// More of them.
        headers: Headers,
    },
    /// The sender of this can take more.
    WindowUpdate {
        /// The stream's number; 0 is the connection.
        stream: u32,
        /// So many bytes.
        delta: u32,
    },
    /// Identifiers and values, with flags before the identifiers.
    Settings(Vec<(u32, u32)>),
    /// Bytes; a large frame is read as several.
    Data {
        /// The stream's number.
        stream: u32,
        /// The sender of this sends no more.
        fin: bool,
        /// Them.
        data: Bytes,
    },
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Another version.
    #[error("a frame of SPDY/{0}, not SPDY/3")]
    Version(u16),
    /// Too large.
    #[error("a control frame with {0} bytes")]
    TooLarge(usize),
    /// Too short for what it is.
    #[error("a control frame of type {0} is too short")]
    TooShort(u16),
    /// Its headers.
    #[error(transparent)]
    Block(#[from] BlockError),
}

/// Makes bytes of frames, for one direction of a connection.
#[derive(Debug, Default)]
pub struct Encoder(Packer);

impl Encoder {
    /// Appends a frame.
    pub fn encode(&mut self, frame: &Frame, to: &mut BytesMut) {
        let mut body = BytesMut::new();
        let (kind, flags) = match frame {
            Frame::Data { stream, fin, data } => {
                to.put_u32(stream & 0x7fff_ffff);
                put_flags_and_length(to, if *fin { FIN } else { 0 }, data.len());
                to.put_slice(data);
                return;
            }
            Frame::SynStream { stream, fin, unidirectional, headers } => {
                body.put_u32(*stream);
                body.put_u32(0);
                body.put_u16(0);
                body.put_slice(&self.0.pack(headers));
                (1, (u8::from(*fin) * FIN) | (u8::from(*unidirectional) * UNIDIRECTIONAL))
            }
            Frame::SynReply { stream, fin, headers } | Frame::Headers { stream, fin, headers } => {
                body.put_u32(*stream);
                body.put_slice(&self.0.pack(headers));
                (if matches!(frame, Frame::SynReply { .. }) { 2 } else { 8 }, u8::from(*fin) * FIN)
            }
            Frame::Reset { stream: one, status: two } => {
                body.put_u32(*one);
                body.put_u32(*two);
                (3, 0)
            }
            Frame::Settings(settings) => {
                body.put_u32(u32::try_from(settings.len()).unwrap_or(u32::MAX));
                for (id, value) in settings {
                    body.put_u32(*id);
                    body.put_u32(*value);
                }
                (4, 0)
            }
            Frame::Ping(id) => {
                body.put_u32(*id);
                (6, 0)
            }
            Frame::GoAway { last: one, status: two } => {
                body.put_u32(*one);
                body.put_u32(*two);
                (7, 0)
            }
            Frame::WindowUpdate { stream, delta } => {
                body.put_u32(*stream);
                body.put_u32(*delta);
                (9, 0)
            }
        };
        to.put_u16(0x8000 | VERSION);
        to.put_u16(kind);
        put_flags_and_length(to, flags, body.len());
        to.put_slice(&body);
    }
}

fn put_flags_and_length(to: &mut BytesMut, flags: u8, length: usize) {
    to.put_u8(flags);
    to.put_uint(length as u64, 3);
}

/// Makes frames of bytes, for one direction of a connection.
#[derive(Debug, Default)]
pub struct Decoder {
    bytes: BytesMut,
    unpacker: Unpacker,
    /// A data frame that has not come whole: its stream, whether it is the last, how much is to come.
    open: Option<(u32, bool, usize)>,
}

impl Decoder {
    /// Takes what came.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next frame, once it is there. Control frames of unknown types are passed over.
    ///
    /// # Errors
    /// When the bytes are no frame; the connection is of no use then.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some((stream, fin, left)) = self.open {
                let now = left.min(self.bytes.len());
                if now == 0 && left > 0 {
                    return Ok(None);
                }
                let rest = left - now;
                self.open = (rest > 0).then_some((stream, fin, rest));
                let data = self.bytes.split_to(now).freeze();
                return Ok(Some(Frame::Data { stream, fin: fin && rest == 0, data }));
            }
            let Some(head) = self.bytes.first_chunk::<HEAD>().copied() else { return Ok(None) };
            let mut head = head.as_slice();
            let (first, flags, length) = (head.get_u32(), head.get_u8(), head.get_uint(3));
            let length = usize::try_from(length).expect("three bytes");
            if first & 0x8000_0000 == 0 {
                self.bytes.advance(HEAD);
                self.open = Some((first, flags & FIN != 0, length));
                continue;
            }
            let [_, _, kind @ ..] = first.to_be_bytes();
            let (version, kind) = ((first >> 16) as u16 & 0x7fff, u16::from_be_bytes(kind));
            if version != VERSION {
                return Err(FrameError::Version(version));
            }
            if length > MOST_BYTES {
                return Err(FrameError::TooLarge(length));
            }
            if self.bytes.len() < HEAD + length {
                return Ok(None);
            }
            self.bytes.advance(HEAD);
            let body = self.bytes.split_to(length).freeze();
            if let Some(frame) = self.control(kind, flags, body)? {
                return Ok(Some(frame));
            }
        }
    }

    fn control(&mut self, kind: u16, flags: u8, mut body: Bytes) -> Result<Option<Frame>, FrameError> {
        let least = match kind {
            1 => 10,
            2 | 4 | 6 | 8 => 4,
            3 | 7 | 9 => 8,
            _ => return Ok(None),
        };
        if body.len() < least {
            return Err(FrameError::TooShort(kind));
        }
        let first = body.get_u32();
        let (stream, fin) = (first & 0x7fff_ffff, flags & FIN != 0);
        Ok(Some(match kind {
            1 => {
                body.advance(6);
                let unidirectional = flags & UNIDIRECTIONAL != 0;
                Frame::SynStream { stream, fin, unidirectional, headers: self.unpacker.unpack(&body)? }
            }
            2 => Frame::SynReply { stream, fin, headers: self.unpacker.unpack(&body)? },
            3 => Frame::Reset { stream, status: body.get_u32() },
            4 => {
                let mut settings = Vec::new();
                while body.len() >= 8 {
                    settings.push((body.get_u32(), body.get_u32()));
                }
                Frame::Settings(settings)
            }
            6 => Frame::Ping(first),
            7 => Frame::GoAway { last: stream, status: body.get_u32() },
            8 => Frame::Headers { stream, fin, headers: self.unpacker.unpack(&body)? },
            _ => Frame::WindowUpdate { stream, delta: body.get_u32() & 0x7fff_ffff },
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Headers {
        vec![("streamtype".to_owned(), "stdin".to_owned())]
    }

    fn all() -> Vec<Frame> {
        vec![
            Frame::Settings(vec![(4, 100)]),
            Frame::SynStream { stream: 1, fin: false, unidirectional: true, headers: headers() },
            Frame::SynReply { stream: 1, fin: true, headers: vec![] },
            Frame::Headers { stream: 1, fin: false, headers: headers() },
            Frame::Data { stream: 1, fin: false, data: Bytes::from_static(b"data") },
            Frame::Data { stream: 1, fin: true, data: Bytes::new() },
            Frame::WindowUpdate { stream: 1, delta: 7 },
            Frame::Ping(9),
            Frame::Reset { stream: 1, status: CANCEL },
            Frame::GoAway { last: 3, status: 0 },
        ]
    }

    fn read(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect()
    }

    #[test]
    fn frames_are_read_as_they_were_written() {
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        all().iter().for_each(|frame| encoder.encode(frame, &mut bytes));
        let mut whole = Decoder::default();
        whole.feed(&bytes);
        assert_eq!(read(&mut whole), all());
        // Byte by byte only data frames come apart.
        let mut pieces = Decoder::default();
        let mut data = Vec::new();
        let mut others = Vec::new();
        for byte in &bytes {
            pieces.feed(&[*byte]);
            for frame in read(&mut pieces) {
                match frame {
                    Frame::Data { data: piece, .. } => data.extend_from_slice(&piece),
                    other => others.push(other),
                }
            }
        }
        assert_eq!(data, b"data");
        let wanted: Vec<Frame> =
            all().into_iter().filter(|frame| !matches!(frame, Frame::Data { .. })).collect();
        assert_eq!(others, wanted);
    }

    #[test]
    fn bytes_are_those_of_the_specification() {
        let (mut encoder, mut bytes) = (Encoder::default(), BytesMut::new());
        encoder.encode(&Frame::Ping(0x0102_0304), &mut bytes);
        assert_eq!(&bytes[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 1, 2, 3, 4]);
        bytes.clear();
        encoder.encode(&Frame::Data { stream: 5, fin: true, data: Bytes::from_static(b"ab") }, &mut bytes);
        assert_eq!(&bytes[..], [0, 0, 0, 5, 1, 0, 0, 2, b'a', b'b']);
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        let table: [(&[u8], FrameError); 3] = [
            (&[0x80, 2, 0, 6, 0, 0, 0, 4], FrameError::Version(2)),
            (&[0x80, 3, 0, 6, 0, 0xff, 0, 0], FrameError::TooLarge(0xff_0000)),
            (&[0x80, 3, 0, 3, 0, 0, 0, 4, 0, 0, 0, 1], FrameError::TooShort(3)),
        ];
        for (bytes, error) in table {
            let mut decoder = Decoder::default();
            decoder.feed(bytes);
            assert_eq!(decoder.next_frame(), Err(error));
        }
        let mut decoder = Decoder::default();
        decoder.feed(&[0x80, 3, 0, 99, 0, 0, 0, 1, 0, 0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 1]);
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Ping(1))));
    }
}
