//! How archives are compressed, told by their first bytes, and their plain content. Media types are not believed: registries carry
//! plain archives that call themselves gzip.

use std::io::{self, BufRead, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::FrameDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

/// Windows of `zstd --ultra --long` up to its default limit for decoders.
const LARGEST_WINDOW: u64 = 128 << 20;
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Frames that carry no content have any of sixteen numbers (RFC 8878, 3.1.2); their first byte varies.
const ZSTD_SKIPPABLE: [u8; 3] = [0x2a, 0x4d, 0x18];
const BUFFER: usize = 128 << 10;

/// How something is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn of(start: &[u8]) -> Self {
        if start.starts_with(&GZIP) {
            Self::Gzip
        } else if start.starts_with(&ZSTD)
            || start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == ZSTD_SKIPPABLE
        {
            Self::Zstd
        } else {
            Self::None
        }
    }

    /// What the OCI image specification appends to the media type of a layer.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => "+gzip",
            Self::Zstd => "+zstd",
        }
    }
}

/// The plain content of a stream, however it is compressed.
pub(crate) fn plain<'a, R: Read + Send + 'a>(
    reader: R,
) -> io::Result<(Compression, Box<dyn Read + Send + 'a>)> {
    let mut reader = Restored::new(reader)?;
    let compression = Compression::of(reader.fill_buf()?);
    let plain: Box<dyn Read + Send + 'a> = match compression {
        Compression::None => Box::new(reader),
        Compression::Gzip => Box::new(MultiGzDecoder::new(reader)),
        Compression::Zstd => Box::new(Zstd { source: reader, frame: None }),
    };
    Ok((compression, plain))
}

/// A buffered reader whose first fill is not short, so that magic numbers can be looked at.
struct Restored<R> {
    inner: io::BufReader<io::Chain<io::Cursor<Vec<u8>>, R>>,
}

impl<R: Read> Restored<R> {
    fn new(mut reader: R) -> io::Result<Self> {
        let mut start = Vec::with_capacity(4);
        reader.by_ref().take(4).read_to_end(&mut start)?;
        let mut inner = io::BufReader::with_capacity(BUFFER, io::Cursor::new(start).chain(reader));
        inner.fill_buf()?;
        Ok(Self { inner })
    }
}

impl<R: Read> Read for Restored<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

impl<R: Read> BufRead for Restored<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.inner.consume(amount);
    }
}

/// All frames of a zstd stream, one after the other.
struct Zstd<R> {
    source: R,
    frame: Option<FrameDecoder>,
}

impl<R: BufRead> Zstd<R> {
    /// Begins the next frame; nothing at the end of the stream.
    fn begin(&mut self) -> io::Result<Option<FrameDecoder>> {
        while !self.source.fill_buf()?.is_empty() {
            let mut frame = FrameDecoder::new();
            frame.set_max_window_size(LARGEST_WINDOW);
            match frame.init(&mut self.source) {
                Ok(()) => return Ok(Some(frame)),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let skipped = io::copy(&mut self.source.by_ref().take(length.into()), &mut io::sink())?;
                    if skipped < length.into() {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(broken(error)),
            }
        }
        Ok(None)
    }
}

impl<R: BufRead> Read for Zstd<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        use ruzstd::decoding::BlockDecodingStrategy::UptoBytes;
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(frame) = &mut self.frame else {
                self.frame = self.begin()?;
                if self.frame.is_none() {
                    return Ok(0);
                }
                continue;
            };
            while frame.can_collect() == 0 && !frame.is_finished() {
                frame.decode_blocks(&mut self.source, UptoBytes(BUFFER)).map_err(broken)?;
            }
            let read = frame.read(buf)?;
            if read > 0 {
                return Ok(read);
            }
            if let (Some(said), Some(found)) =
                (frame.get_checksum_from_data(), frame.get_calculated_checksum())
                && said != found
            {
                return Err(broken("the checksum of a frame is wrong"));
            }
            self.frame = None;
        }
    }
}

fn broken(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
        let (compression, mut reader) = plain(bytes)?;
        let mut content = Vec::new();
        reader.read_to_end(&mut content)?;
        Ok((compression, content))
    }

    #[test]
    fn streams_of_several_members_or_frames_are_one_content() {
        let text: Vec<u8> = (0..300_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        assert_eq!(read(&text).unwrap(), (Compression::None, text.clone()));
        let (a, b) = text.split_at(1000);
        assert_eq!(read(&[gzip(a), gzip(b)].concat()).unwrap(), (Compression::Gzip, text.clone()));
        let zstd = |bytes| compress_to_vec(bytes, CompressionLevel::Fastest);
        let skipped = [0x5e, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];
        let frames = [&skipped[..], &zstd(a), &skipped, &zstd(b), &skipped].concat();
        assert_eq!(read(&frames).unwrap(), (Compression::Zstd, text));
        assert_eq!(read(b"").unwrap(), (Compression::None, Vec::new()));
    }

    #[test]
    fn what_ends_too_early_or_is_damaged_is_an_error() {
        let text = b"some content".repeat(1000);
        for whole in [gzip(&text), compress_to_vec(&text[..], CompressionLevel::Fastest)] {
            assert!(read(&whole[..whole.len() - 9]).is_err());
            let mut damaged = whole.clone();
            let end = damaged.len() - 1;
            damaged[end] ^= 0x55;
            assert!(read(&damaged).is_err());
        }
    }
}
