//! Blocks of headers in SPDY/3: names and values, compressed with a dictionary over the life of a connection. Pure; must
//! never unpack more than a limit.

use std::sync::LazyLock;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};

/// The most bytes of an unpacked block.
const MOST_BYTES: usize = 64 << 10;
const CHUNK: usize = 4 << 10;

/// Names and values in their order; a name may come several times.
pub type Headers = Vec<(String, String)>;

/// The first value of a name, which is in lower case.
#[must_use]
pub fn value<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
}

/// A block that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// Not zlib's format, or with another dictionary.
    #[error("a block of headers cannot be unpacked")]
    Packed,
    /// Ends too early, or is not UTF-8.
    #[error("a block of headers is malformed")]
    Malformed,
    /// Too much.
    #[error("a block of headers has more than {MOST_BYTES} bytes")]
    TooLarge,
}

/// What SPDY/3 compresses with: words with their lengths, then text (draft-mbelshe-httpbis-spdy-00, 2.6.10.1).
static DICTIONARY: LazyLock<Vec<u8>> = LazyLock::new(|| {
    const WORDS: &str = "options|head|post|put|delete|trace|accept|accept-charset|accept-encoding|accept-language|\
        accept-ranges|age|allow|authorization|cache-control|connection|content-base|content-encoding|content-language|\
        content-length|content-location|content-md5|content-range|content-type|date|etag|expect|expires|from|host|\
        if-match|if-modified-since|if-none-match|if-range|if-unmodified-since|last-modified|location|max-forwards|\
        pragma|proxy-authenticate|proxy-authorization|range|referer|retry-after|server|te|trailer|transfer-encoding|\
        upgrade|user-agent|vary|via|warning|www-authenticate|method|get|status|200 OK|version|HTTP/1.1|url|public|\
        set-cookie|keep-alive|origin";
    const TEXT: &str = "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505\
        203 Non-Authoritative Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden\
        404 Not Found500 Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug \
        Sept Oct Nov Dec 00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,\
        application/xml,application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdch\
        charset=utf-8charset=iso-8859-1,utf-,*,enq=0.";
    let mut dictionary = Vec::new();
    for word in WORDS.split('|') {
        put(&mut dictionary, word);
    }
    dictionary.extend_from_slice(TEXT.as_bytes());
    dictionary
});

fn put(to: &mut Vec<u8>, text: &str) {
    let length = u32::try_from(text.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text.as_bytes());
}

/// Packs the blocks of one direction of a connection.
#[derive(Debug)]
pub struct Packer(Compress);

impl Default for Packer {
    fn default() -> Self {
        let mut compress = Compress::new(Compression::best(), true);
        compress.set_dictionary(&DICTIONARY).expect("a new compressor takes a dictionary");
        Self(compress)
    }
}

impl Packer {
    /// A block. Values of one name become one, as the format wants it.
    #[must_use]
    pub fn pack(&mut self, headers: &Headers) -> Vec<u8> {
        let mut names: Vec<String> = Vec::new();
        for (name, _) in headers {
            let name = name.to_ascii_lowercase();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let mut plain = u32::try_from(names.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        for name in names {
            let values: Vec<&str> = headers
                .iter()
                .filter(|(one, _)| one.eq_ignore_ascii_case(&name))
                .map(|(_, value)| value.as_str())
                .collect();
            put(&mut plain, &name);
            put(&mut plain, &values.join("\0"));
        }
        let (mut packed, mut left) = (Vec::new(), plain.as_slice());
        loop {
            let mut chunk = [0; CHUNK];
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            self.0.compress(left, &mut chunk, FlushCompress::Sync).expect("a compressor in use goes on");
            let written = progress(before_out, self.0.total_out());
            left = &left[progress(before_in, self.0.total_in())..];
            packed.extend_from_slice(&chunk[..written]);
            if left.is_empty() && written < CHUNK {
                return packed;
            }
        }
    }
}

/// Unpacks the blocks of one direction of a connection.
#[derive(Debug)]
pub struct Unpacker(Decompress);

impl Default for Unpacker {
    fn default() -> Self {
        Self(Decompress::new(true))
    }
}

impl Unpacker {
    /// The headers of a block.
    ///
    /// # Errors
    /// When it cannot be read; nor can any later one then.
    pub fn unpack(&mut self, packed: &[u8]) -> Result<Headers, BlockError> {
        let (mut plain, mut left) = (Vec::new(), packed);
        loop {
            let mut chunk = [0; CHUNK];
            let (before_in, before_out) = (self.0.total_in(), self.0.total_out());
            let done = self.0.decompress(left, &mut chunk, FlushDecompress::Sync);
            let (read, written) =
                (progress(before_in, self.0.total_in()), progress(before_out, self.0.total_out()));
            left = &left[read..];
            plain.extend_from_slice(&chunk[..written]);
            if plain.len() > MOST_BYTES {
                return Err(BlockError::TooLarge);
            }
            match done {
                Err(error) if error.needs_dictionary().is_some() => {
                    self.0.set_dictionary(&DICTIONARY).map_err(|_| BlockError::Packed)?;
                }
                Err(_) => return Err(BlockError::Packed),
                Ok(_) if left.is_empty() && written < CHUNK => break,
                Ok(_) if read == 0 && written == 0 => return Err(BlockError::Packed),
                Ok(_) => {}
            }
        }
        parse(&plain).ok_or(BlockError::Malformed)
    }
}

fn progress(before: u64, after: u64) -> usize {
    usize::try_from(after - before).expect("no more than the length of a slice")
}

fn parse(plain: &[u8]) -> Option<Headers> {
    let mut rest = plain;
    let count = number(&mut rest)?;
    let mut headers = Headers::new();
    for _ in 0..count {
        let name = text(&mut rest)?;
        for value in text(&mut rest)?.split('\0') {
            headers.push((name.clone(), value.to_owned()));
        }
    }
    Some(headers)
}

fn number(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn text(rest: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(number(rest)?).ok()?;
    let (text, after) = rest.split_at_checked(length)?;
    *rest = after;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn blocks_of_one_connection_are_packed_with_each_other() {
        let (mut packer, mut unpacker) = (Packer::default(), Unpacker::default());
        let first = headers(&[("streamtype", "error"), ("port", "80"), ("requestid", "0")]);
        let packed = packer.pack(&first);
        // zlib's header, then the Adler-32 of SPDY/3's dictionary.
        assert_eq!(packed[1] & 0x20, 0x20);
        assert_eq!(packed[2..6], [0xe3, 0xc6, 0xa7, 0xc2]);
        assert_eq!(unpacker.unpack(&packed), Ok(first.clone()));
        let again = packer.pack(&first);
        assert!(again.len() < packed.len());
        assert_eq!(unpacker.unpack(&again), Ok(first));
        let several = headers(&[("a", "1"), ("b", ""), ("a", "2")]);
        let sorted = headers(&[("a", "1"), ("a", "2"), ("b", "")]);
        assert_eq!(unpacker.unpack(&packer.pack(&several)), Ok(sorted));
        let long = headers(&[("a", &"xyz".repeat(9000))]);
        assert_eq!(unpacker.unpack(&packer.pack(&long)), Ok(long));
        assert_eq!(unpacker.unpack(&packer.pack(&headers(&[]))), Ok(headers(&[])));
    }

    #[test]
    fn what_is_no_block_is_refused() {
        assert_eq!(Unpacker::default().unpack(b"not packed"), Err(BlockError::Packed));
        let bomb = headers(&[("a", &"x".repeat(1 << 20))]);
        assert_eq!(Unpacker::default().unpack(&Packer::default().pack(&bomb)), Err(BlockError::TooLarge));
        assert_eq!(parse(&[0, 0, 0, 1, 0, 0, 0, 9, b'a']), None);
    }
}
