//! The entries of a tar archive, read as a stream: ustar with the extensions of GNU (long names, large numbers) and of POSIX (pax).
//! Strangers make these archives: whatever is held in memory is bounded, and what is not understood is an error, never a guess.

use std::io::{self, Read};

use tar::{EntryType, Header};

const BLOCK: usize = 512;
/// Names are at most 4096 bytes to the kernel.
const LONGEST_NAME: u64 = 64 << 10;
/// The kernel takes 64 KiB of an attribute's value; some programs write them in base64 besides.
const LARGEST_PAX: u64 = 4 << 20;

/// One file, directory, link or device.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) kind: EntryType,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) modified: Modified,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// When content changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modified {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// An archive that is being read.
pub(crate) struct TarStream<R> {
    source: R,
    /// What of the current entry's content was not read.
    content: u64,
    padding: u64,
    ended: bool,
}

#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    modified: Option<Modified>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarStream<R> {
    pub(crate) fn new(source: R) -> Self {
        Self { source, content: 0, padding: 0, ended: false }
    }

    /// The next entry; its content is read from the stream itself, and skipped if it is not.
    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        let mut extended = false;
        loop {
            self.skip()?;
            let Some(header) = self.header()? else {
                return if extended { Err(broken("it ends after an extended header")) } else { Ok(None) };
            };
            let size = number_of(&header.as_old().size, || header.entry_size())?;
            match header.entry_type() {
                EntryType::GNULongName => extensions.path = Some(text(self.extension(size, LONGEST_NAME)?)),
                EntryType::GNULongLink => extensions.link = Some(text(self.extension(size, LONGEST_NAME)?)),
                EntryType::XHeader => extensions.read_pax(&self.extension(size, LARGEST_PAX)?)?,
                EntryType::XGlobalHeader => {
                    self.extension(size, LARGEST_PAX)?;
                    continue;
                }
                _ => return self.entry(&header, size, extensions).map(Some),
            }
            extended = true;
        }
    }

    /// Reads the rest of the stream, so that whoever counts or hashes it below sees all.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        io::copy(&mut self.source, &mut io::sink()).map(drop)
    }

    fn entry(&mut self, header: &Header, size: u64, extensions: Extensions) -> io::Result<Entry> {
        let (kind, old) = (header.entry_type(), header.as_old());
        let holds_content = match kind {
            EntryType::Regular | EntryType::Continuous => true,
            EntryType::GNUSparse => return Err(broken("sparse files are not supported in images")),
            _ => false,
        };
        let size = if holds_content { extensions.size.unwrap_or(size) } else { 0 };
        self.expect(size)?;
        let id = |said: Option<u32>, header: io::Result<u64>| match said {
            Some(id) => Ok(id),
            None => u32::try_from(header?).map_err(|_| broken("an owner is larger than 32 bits")),
        };
        let modified = match extensions.modified {
            Some(modified) => modified,
            // Large numbers are signed in GNU's form.
            None => {
                Modified { seconds: number_of(&old.mtime, || header.mtime())?.cast_signed(), nanoseconds: 0 }
            }
        };
        let devices = matches!(kind, EntryType::Char | EntryType::Block);
        let number = |number: io::Result<Option<u32>>| {
            if devices { number.map(Option::unwrap_or_default) } else { Ok(0) }
        };
        Ok(Entry {
            kind,
            path: extensions.path.unwrap_or_else(|| header.path_bytes().into_owned()),
            link: extensions
                .link
                .or_else(|| header.link_name_bytes().map(std::borrow::Cow::into_owned))
                .unwrap_or_default(),
            mode: number_of(&old.mode, || header.mode())? & 0o7777,
            uid: id(extensions.uid, number_of(&old.uid, || header.uid()))?,
            gid: id(extensions.gid, number_of(&old.gid, || header.gid()))?,
            modified,
            device: (number(header.device_major())?, number(header.device_minor())?),
            xattrs: extensions.xattrs,
        })
    }

    fn header(&mut self) -> io::Result<Option<Header>> {
        if self.ended {
            return Ok(None);
        }
        let mut header = Header::new_old();
        let mut empty = 0;
        loop {
            let block = header.as_mut_bytes();
            let filled = fill(&mut self.source, block)?;
            if filled == 0 {
                // Some programs leave the two empty blocks out.
                self.ended = true;
                return Ok(None);
            }
            if filled < BLOCK {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if block.iter().any(|byte| *byte != 0) {
                break;
            }
            empty += 1;
            if empty == 2 {
                self.ended = true;
                return Ok(None);
            }
        }
        let bytes = header.as_bytes();
        let sum = bytes[..148].iter().chain(&bytes[156..]).map(|byte| u32::from(*byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(broken("it is not a tar archive, or damaged: the checksum of a header is wrong"));
        }
        Ok(Some(header))
    }

    fn expect(&mut self, size: u64) -> io::Result<()> {
        let padded =
            size.checked_next_multiple_of(BLOCK as u64).ok_or_else(|| broken("a size is too large"))?;
        self.content = size;
        self.padding = padded - size;
        Ok(())
    }

    fn extension(&mut self, size: u64, limit: u64) -> io::Result<Vec<u8>> {
        if size > limit {
            return Err(broken("an extended header is too large"));
        }
        self.expect(size)?;
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn skip(&mut self) -> io::Result<()> {
        let rest = self.content + self.padding;
        let skipped = io::copy(&mut self.source.by_ref().take(rest), &mut io::sink())?;
        (self.content, self.padding) = (0, 0);
        if skipped < rest { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}

/// The content of the current entry.
impl<R: Read> Read for TarStream<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.content).unwrap_or(usize::MAX).min(buf.len());
        if most == 0 {
            return Ok(0);
        }
        let read = self.source.read(&mut buf[..most])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.content -= read as u64;
        Ok(read)
    }
}

impl Extensions {
    /// Records are `LENGTH KEY=VALUE\n`, where a value may hold any byte.
    fn read_pax(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let wrong = || broken("a pax header is malformed");
        while !bytes.is_empty() {
            let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(wrong)?;
            let length: usize = number(&bytes[..space]).ok_or_else(wrong)?;
            let record = bytes.get(space + 1..length).ok_or_else(wrong)?;
            let record = record.strip_suffix(b"\n").ok_or_else(wrong)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(wrong)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = Some(number(value).ok_or_else(wrong)?),
                b"uid" => self.uid = Some(number(value).ok_or_else(wrong)?),
                b"gid" => self.gid = Some(number(value).ok_or_else(wrong)?),
                b"mtime" => self.modified = Some(Modified::parse(value).ok_or_else(wrong)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(broken("sparse files are not supported in images"));
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        self.xattrs.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
            bytes = &bytes[length..];
        }
        Ok(())
    }
}

impl Modified {
    /// Seconds with a fraction, as `-1.5` (POSIX pax, mtime).
    fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let seconds: i64 = whole.parse().ok()?;
        if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let nine: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
        let nanoseconds: u32 = nine.parse().ok()?;
        Some(match (whole.starts_with('-'), nanoseconds) {
            (true, 1..) => {
                Self { seconds: seconds.checked_sub(1)?, nanoseconds: 1_000_000_000 - nanoseconds }
            }
            _ => Self { seconds, nanoseconds },
        })
    }
}

/// A number of a header; programs leave out those that are zero.
fn number_of<T: Default>(field: &[u8], read: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(T::default());
    }
    read().map_err(|_| broken("a number in a header is none"))
}

fn number<T: std::str::FromStr>(digits: &[u8]) -> Option<T> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// GNU ends its long names with a zero.
fn text(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(end) = bytes.iter().position(|byte| *byte == 0) {
        bytes.truncate(end);
    }
    bytes
}

/// Reads until the buffer is full or the stream ends.
fn fill(source: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match source.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(kind: EntryType, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(7);
        header
    }

    #[test]
    fn long_names_and_pax_records_are_understood() {
        let long = format!("{}/end", "long".repeat(60));
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 5), &long, &b"hello"[..]).unwrap();
        let records: [(&str, &[u8]); 5] = [
            ("SCHILY.xattr.security.capability", b"a\nb=c\0 \n"),
            ("path", b"renamed"),
            ("mtime", b"-1.25"),
            ("uid", b"4000000"),
            ("comment", b"x"),
        ];
        builder.append_pax_extensions(records).unwrap();
        builder.append_data(&mut header(EntryType::Regular, 600), "short", &[1; 600][..]).unwrap();
        let archive = builder.into_inner().unwrap();

        let mut stream = TarStream::new(&archive[..]);
        let first = stream.next().unwrap().unwrap();
        assert_eq!(first.path, long.into_bytes());
        assert_eq!(first.modified, Modified { seconds: 7, nanoseconds: 0 });
        let second = stream.next().unwrap().unwrap();
        assert_eq!((&second.path[..], second.uid), (&b"renamed"[..], 4_000_000));
        assert_eq!(second.modified, Modified { seconds: -2, nanoseconds: 750_000_000 });
        assert_eq!(second.xattrs, [(b"security.capability".to_vec(), b"a\nb=c\0 \n".to_vec())]);
        let mut content = Vec::new();
        stream.read_to_end(&mut content).unwrap();
        assert_eq!(content, [1; 600]);
        assert!(stream.next().unwrap().is_none());
    }

    #[test]
    fn numbers_that_are_left_out_are_zero() {
        let mut sparse = Header::new_ustar();
        sparse.set_path("a").unwrap();
        sparse.set_cksum();
        let mut stream = TarStream::new(&sparse.as_bytes()[..]);
        let entry = stream.next().unwrap().unwrap();
        assert_eq!((entry.uid, entry.gid, entry.mode, entry.modified.seconds), (0, 0, 0, 0));
    }

    #[test]
    fn what_is_cut_off_or_no_archive_is_an_error() {
        let mut builder = tar::Builder::new(Vec::new());
        builder.append_data(&mut header(EntryType::Regular, 600), "a", &[1; 600][..]).unwrap();
        let archive = builder.into_inner().unwrap();
        let read_all = |bytes: &[u8]| {
            let mut stream = TarStream::new(bytes);
            while stream.next()?.is_some() {}
            stream.finish()
        };
        for end in [100, 512 + 100, 512 + 600, 512 + 1000] {
            assert!(read_all(&archive[..end]).is_err(), "{end}");
        }
        assert!(read_all(&archive[..512 + 1024]).is_ok());
        assert!(read_all(&[b'x'; 2048]).is_err());
    }

    #[test]
    fn large_extended_headers_are_refused_before_they_are_read() {
        for (kind, size) in [(EntryType::GNULongName, 1 << 40), (EntryType::XHeader, 1 << 30)] {
            let mut huge = header(kind, size);
            huge.set_cksum();
            let endless = io::repeat(b'a');
            let mut stream = TarStream::new(huge.as_bytes().chain(endless));
            assert!(stream.next().unwrap_err().to_string().contains("too large"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            let mut extensions = Extensions::default();
            let _ = extensions.read_pax(&bytes);
            let mut header = header(EntryType::XHeader, bytes.len() as u64);
            header.set_cksum();
            let mut stream = TarStream::new(header.as_bytes().chain(&bytes[..]));
            while let Ok(Some(_)) = stream.next() {}
        }
    }
}
