//! Protobuf by hand for the few messages that the load is made of: written straight into a reused buffer, read
//! without building anything. Field numbers are those of the contracts in `proto`.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The fields of a message, in order; ends early at bytes that are no protobuf.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = (u32, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let key = varint(&mut self.0)?;
        let field = u32::try_from(key >> 3).ok()?;
        match key & 7 {
            0 => Some((field, Value::Number(varint(&mut self.0)?))),
            2 => {
                let length = usize::try_from(varint(&mut self.0)?).ok()?;
                let (bytes, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                Some((field, Value::Bytes(bytes)))
            }
            _ => None,
        }
    }
}

impl<'a> Fields<'a> {
    /// The first number in `field`; absent is 0, as protobuf says.
    pub(super) fn number(mut self, field: u32) -> u64 {
        self.find_map(|found| match found {
            (at, Value::Number(number)) if at == field => Some(number),
            _ => None,
        })
        .unwrap_or(0)
    }

    /// The first message or bytes in `field`; absent is empty.
    pub(super) fn bytes(mut self, field: u32) -> &'a [u8] {
        self.find_map(|found| match found {
            (at, Value::Bytes(bytes)) if at == field => Some(bytes),
            _ => None,
        })
        .unwrap_or_default()
    }
}

/// The revision in an answer's header.
pub(super) fn header_revision(answer: &[u8]) -> u64 {
    Fields(Fields(answer).bytes(1)).number(3)
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

/// Appends a number.
pub(super) fn put_number(message: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(message, u64::from(field) << 3);
    put_varint(message, value);
}

/// Appends bytes, or a message that is encoded already.
pub(super) fn put_bytes(message: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_length(message, field, bytes.len());
    message.extend_from_slice(bytes);
}

/// Appends the start of bytes that the caller appends itself.
pub(super) fn put_length(message: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(message, u64::from(field) << 3 | 2);
    put_varint(message, length as u64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut message = Vec::new();
        put_number(&mut message, 3, 300);
        put_bytes(&mut message, 11, b"abc");
        put_number(&mut message, 100, u64::MAX);
        let all: Vec<_> = Fields(&message).collect();
        assert_eq!(
            all,
            [(3, Value::Number(300)), (11, Value::Bytes(b"abc")), (100, Value::Number(u64::MAX))]
        );
        assert_eq!(Fields(&message).bytes(11), b"abc");
        assert_eq!(Fields(&message).number(4), 0);
        assert_eq!(Fields(&message[..message.len() - 3]).count(), 2);
    }
}
