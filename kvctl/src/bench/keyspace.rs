//! The keys and values that a load uses.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::message;

/// Bytes at the start of each value that hold when it was written, in nanoseconds of the load's clock.
pub(super) const STAMP_BYTES: usize = 8;

/// Numbered keys below a prefix, and one random value.
pub(super) struct Keyspace {
    prefix: String,
    digits: usize,
    count: u64,
    value: Vec<u8>,
    random: SmallRng,
    key: Vec<u8>,
}

/// The keys do not fit their size.
#[derive(Debug, thiserror::Error)]
#[error(
    "--key-size {size} is too small for the prefix {prefix:?} and {digits} digits: give at least {least}"
)]
pub(super) struct KeyTooSmall {
    size: usize,
    prefix: String,
    digits: usize,
    least: usize,
}

impl Keyspace {
    /// `count` keys of `key_size` bytes, values of `value_size` bytes.
    pub(super) fn new(
        prefix: &str,
        key_size: usize,
        count: u64,
        value_size: usize,
    ) -> Result<Self, KeyTooSmall> {
        let digits = count.saturating_sub(1).max(1).ilog10() as usize + 1;
        let least = prefix.len() + digits;
        if key_size < least {
            return Err(KeyTooSmall { size: key_size, prefix: prefix.to_owned(), digits, least });
        }
        let mut random = SmallRng::seed_from_u64(0x6b76_6374_6c20_6265);
        let mut value = vec![0; value_size];
        random.fill_bytes(&mut value);
        Ok(Self {
            prefix: prefix.to_owned(),
            digits: key_size - prefix.len(),
            count,
            value,
            random,
            key: Vec::with_capacity(key_size),
        })
    }

    /// How many keys.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Size of each value in bytes.
    pub(super) fn value_size(&self) -> usize {
        self.value.len()
    }

    /// The first byte string behind all keys of the prefix, and the prefix itself.
    pub(super) fn range(prefix: &str) -> (Vec<u8>, Vec<u8>) {
        let mut end = prefix.as_bytes().to_vec();
        while let Some(last) = end.pop() {
            if last < 0xff {
                end.push(last + 1);
                return (prefix.as_bytes().to_vec(), end);
            }
        }
        (vec![0], vec![0])
    }

    /// The range of all keys of this keyspace.
    pub(super) fn whole(&self) -> (Vec<u8>, Vec<u8>) {
        Self::range(&self.prefix)
    }

    /// The `n`th key.
    pub(super) fn key(&mut self, n: u64) -> &[u8] {
        self.key.clear();
        self.key.extend_from_slice(self.prefix.as_bytes());
        let start = self.key.len();
        self.key.resize(start + self.digits, b'0');
        let mut rest = n;
        for digit in self.key[start..].iter_mut().rev() {
            if rest == 0 {
                break;
            }
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        &self.key
    }

    /// Any number below `limit`.
    pub(super) fn random(&mut self, limit: u64) -> u64 {
        self.random.random_range(0..limit.max(1))
    }

    /// Writes a PutRequest of the `n`th key, stamped with `now_ns`.
    pub(super) fn put(&mut self, n: u64, now_ns: u64, request: &mut Vec<u8>) {
        self.key(n);
        message::put_bytes(request, 1, &self.key);
        message::put_length(request, 2, self.value.len());
        let start = request.len();
        request.extend_from_slice(&self.value);
        if self.value.len() >= STAMP_BYTES {
            request[start..start + STAMP_BYTES].copy_from_slice(&now_ns.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_their_size_and_order() {
        let mut keys = Keyspace::new("p/", 10, 1000, 16).unwrap();
        assert_eq!(keys.key(0), b"p/00000000");
        assert_eq!(keys.key(999), b"p/00000999");
        assert_eq!(keys.whole(), (b"p/".to_vec(), b"p0".to_vec()));
        let refused = Keyspace::new("p/", 4, 1001, 16).err().unwrap();
        assert!(refused.to_string().ends_with("give at least 6"), "{refused}");
        assert!(Keyspace::new("p/", 5, 1000, 16).is_ok());
    }
}
