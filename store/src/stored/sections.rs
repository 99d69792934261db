//! A list of numbered sections in one piece of bytes, so that what is kept can grow: a section that is
//! missing has its default, one that is unknown was written by a newer program and is refused, never dropped.
//!
//! ```text
//! section    2  number, ascending (u16, little-endian)
//!            4  length L of the content (u32, little-endian)
//!            L  content: bincode 2, standard configuration
//! ```
//!
//! The content of a section is never changed; what needs another shape gets another number.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Sections cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SectionError {
    /// Cut off, or out of order.
    #[error("its list of sections is cut off or out of order")]
    Frame,
    /// The content does not fit the number.
    #[error("its section {number} cannot be decoded: {why}")]
    Content {
        /// Which.
        number: u16,
        /// How.
        why: String,
    },
    /// From the future.
    #[error("its section {0} is unknown: a newer program wrote it")]
    Unknown(u16),
    /// 4 GiB or more.
    #[error("section {0} is too large")]
    TooLarge(u16),
}

/// Collects sections, in ascending order of their numbers.
#[derive(Debug, Default)]
pub struct SectionWriter(Vec<u8>);

impl SectionWriter {
    /// Adds a section.
    ///
    /// # Errors
    /// When it has no encoding, or one of 4 GiB.
    pub fn put<T: Serialize + ?Sized>(&mut self, number: u16, content: &T) -> Result<(), SectionError> {
        let encoded = bincode::serde::encode_to_vec(content, bincode::config::standard())
            .map_err(|e| SectionError::Content { number, why: e.to_string() })?;
        let len = u32::try_from(encoded.len()).map_err(|_| SectionError::TooLarge(number))?;
        self.0.extend_from_slice(&number.to_le_bytes());
        self.0.extend_from_slice(&len.to_le_bytes());
        self.0.extend_from_slice(&encoded);
        Ok(())
    }

    /// All of them.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Sections as they were found.
#[derive(Debug)]
pub struct SectionReader<'a>(BTreeMap<u16, &'a [u8]>);

impl<'a> SectionReader<'a> {
    /// Finds the sections.
    ///
    /// # Errors
    /// When the bytes are no list of sections.
    pub fn new(mut from: &'a [u8]) -> Result<Self, SectionError> {
        let mut sections = BTreeMap::new();
        while !from.is_empty() {
            let (head, rest) = from.split_first_chunk::<6>().ok_or(SectionError::Frame)?;
            let number = u16::from_le_bytes([head[0], head[1]]);
            let len = u32::from_le_bytes([head[2], head[3], head[4], head[5]]);
            let len = usize::try_from(len).map_err(|_| SectionError::Frame)?;
            let (content, rest) = rest.split_at_checked(len).ok_or(SectionError::Frame)?;
            if sections.last_key_value().is_some_and(|(last, _)| *last >= number) {
                return Err(SectionError::Frame);
            }
            sections.insert(number, content);
            from = rest;
        }
        Ok(Self(sections))
    }

    /// Takes a section; its default when it is missing.
    ///
    /// # Errors
    /// When its content is not of this type.
    pub fn take<T: DeserializeOwned + Default>(&mut self, number: u16) -> Result<T, SectionError> {
        let Some(content) = self.0.remove(&number) else { return Ok(T::default()) };
        match bincode::serde::decode_from_slice(content, bincode::config::standard()) {
            Ok((value, used)) if used == content.len() => Ok(value),
            Ok(_) => Err(SectionError::Content { number, why: "bytes are left over".to_owned() }),
            Err(e) => Err(SectionError::Content { number, why: e.to_string() }),
        }
    }

    /// Nothing may be left.
    ///
    /// # Errors
    /// When there is a section that nobody took.
    pub fn finish(self) -> Result<(), SectionError> {
        self.0.keys().next().map_or(Ok(()), |number| Err(SectionError::Unknown(*number)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_missing_has_its_default_and_what_is_unknown_is_refused() {
        let mut writer = SectionWriter::default();
        writer.put(1, &7u64).unwrap();
        writer.put(4, "x").unwrap();
        let bytes = writer.finish();
        let mut reader = SectionReader::new(&bytes).unwrap();
        assert_eq!(reader.take::<u64>(1), Ok(7));
        assert_eq!(reader.take::<Vec<u8>>(3), Ok(vec![]));
        assert_eq!(reader.finish(), Err(SectionError::Unknown(4)));
        for cut in 1..bytes.len() {
            let read = SectionReader::new(&bytes[..cut]);
            assert!(read.is_err() || cut == 7, "cut at {cut}");
        }
        let twice = [&bytes[..7], &bytes[..7]].concat();
        assert_eq!(SectionReader::new(&twice).unwrap_err(), SectionError::Frame);
    }

    proptest! {
        #[test]
        fn foreign_bytes_never_panic(bytes: Vec<u8>) {
            if let Ok(mut reader) = SectionReader::new(&bytes) {
                let _ = reader.take::<Vec<String>>(1);
                let _ = reader.finish();
            }
        }
    }
}
