//! The bytes that messages are made of: numbers, lengths and tags. Reading never goes behind its input; writing goes from
//! the end to the beginning, so that the length of a part is known when it is written.

/// What follows a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    /// A number of one to ten bytes.
    Varint,
    /// Eight bytes.
    Fixed64,
    /// A length and so many bytes.
    Bytes,
    /// The beginning of a group.
    GroupStart,
    /// The end of a group.
    GroupEnd,
    /// Four bytes.
    Fixed32,
}

/// Groups in groups that are skipped.
const MAX_GROUPS: usize = 32;

const CUT_OFF: &str = "unexpected end of data";

/// Reads a message from its beginning.
pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn varint(&mut self) -> Result<u64, &'static str> {
        let mut value = 0;
        for (at, byte) in self.0.iter().enumerate() {
            if at == 10 {
                return Err("integer overflow");
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if *byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() >= 10 { "integer overflow" } else { CUT_OFF })
    }

    /// The number of a field, and what follows.
    pub(super) fn tag(&mut self) -> Result<(u32, Wire), &'static str> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|number| (1..1 << 29).contains(number));
        let number = number.ok_or("illegal tag")?;
        let wire = match tag & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return Err("illegal wireType"),
        };
        Ok((number, wire))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(CUT_OFF)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], &'static str> {
        let length = usize::try_from(self.varint()?).map_err(|_| CUT_OFF)?;
        self.take(length)
    }

    pub(super) fn double(&mut self) -> Result<f64, &'static str> {
        let bytes = self.take(8)?.try_into().map_err(|_| CUT_OFF)?;
        Ok(f64::from_le_bytes(bytes))
    }

    /// Goes behind what follows a tag.
    pub(super) fn skip(&mut self, wire: Wire) -> Result<(), &'static str> {
        self.skip_nested(wire, 0)
    }

    fn skip_nested(&mut self, wire: Wire, depth: usize) -> Result<(), &'static str> {
        match wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.take(8).map(drop),
            Wire::Fixed32 => self.take(4).map(drop),
            Wire::Bytes => self.bytes().map(drop),
            Wire::GroupEnd => Err("wiretype end group for non-group"),
            Wire::GroupStart if depth == MAX_GROUPS => Err("groups are nested too deep"),
            Wire::GroupStart => loop {
                match self.tag()?.1 {
                    Wire::GroupEnd => return Ok(()),
                    inner => self.skip_nested(inner, depth + 1)?,
                }
            },
        }
    }
}

/// Writes a message from its end.
pub(super) struct Writer {
    buffer: Vec<u8>,
    /// What is written begins here.
    start: usize,
}

impl Writer {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        Self { buffer: vec![0; bytes], start: bytes }
    }

    /// How many bytes are written.
    pub(super) const fn len(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// What is written.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start);
        self.buffer
    }

    /// Makes room for so many bytes before what is written.
    fn reserve(&mut self, bytes: usize) {
        if self.start >= bytes {
            return;
        }
        let written = self.len();
        let mut larger = vec![0; (written + bytes) * 2];
        let start = larger.len() - written;
        larger[start..].copy_from_slice(&self.buffer[self.start..]);
        (self.buffer, self.start) = (larger, start);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        let end = self.start;
        self.start -= bytes.len();
        self.buffer[self.start..end].copy_from_slice(bytes);
    }

    pub(super) fn varint(&mut self, mut value: u64) {
        let (mut bytes, mut count) = ([0; 10], 0);
        while value >= 0x80 {
            bytes[count] = (value as u8) | 0x80;
            (value, count) = (value >> 7, count + 1);
        }
        bytes[count] = value as u8;
        self.raw(&bytes[..=count]);
    }

    pub(super) fn tag(&mut self, number: u32, wire: Wire) {
        let wire = match wire {
            Wire::Varint => 0,
            Wire::Fixed64 => 1,
            Wire::Bytes => 2,
            Wire::GroupStart => 3,
            Wire::GroupEnd => 4,
            Wire::Fixed32 => 5,
        };
        self.varint(u64::from(number) << 3 | wire);
    }

    /// A field that is a number.
    pub(super) fn number(&mut self, field: u32, value: u64) {
        self.varint(value);
        self.tag(field, Wire::Varint);
    }

    /// A field that is text or bytes.
    pub(super) fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.raw(bytes);
        self.close(field, self.len() - bytes.len());
    }

    /// Makes a field of what was written after the first `before` bytes.
    pub(super) fn close(&mut self, field: u32, before: usize) {
        self.varint((self.len() - before) as u64);
        self.tag(field, Wire::Bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers: Vec<(u64, Vec<u8>)>) {
            let mut writer = Writer::with_capacity(4);
            for (number, bytes) in numbers.iter().rev() {
                writer.bytes(7, bytes);
                writer.number(300, *number);
            }
            let written = writer.finish();
            let mut reader = Reader::new(&written);
            for (number, bytes) in &numbers {
                prop_assert_eq!(reader.tag(), Ok((300, Wire::Varint)));
                prop_assert_eq!(reader.varint(), Ok(*number));
                prop_assert_eq!(reader.tag(), Ok((7, Wire::Bytes)));
                prop_assert_eq!(reader.bytes(), Ok(bytes.as_slice()));
            }
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn any_bytes_are_skipped_or_refused(bytes: Vec<u8>) {
            let mut reader = Reader::new(&bytes);
            while let Ok((_, wire)) = reader.tag() {
                if reader.skip(wire).is_err() {
                    break;
                }
            }
        }
    }

    #[test]
    fn damage_is_told() {
        let table: [(&[u8], &str); 5] = [
            (&[0x80; 11], "integer overflow"),
            (&[0x80], CUT_OFF),
            (&[0x00], "illegal tag"),
            (&[0x0e], "illegal wireType"),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "illegal tag"),
        ];
        for (bytes, why) in table {
            assert_eq!(Reader::new(bytes).tag(), Err(why));
        }
        assert_eq!(Reader::new(&[5, 1]).bytes(), Err(CUT_OFF));
        assert_eq!(Reader::new(&[0x0b; 40]).skip(Wire::GroupStart), Err("groups are nested too deep"));
        assert_eq!(Reader::new(&[0x0c]).skip(Wire::GroupStart), Ok(()));
    }
}
