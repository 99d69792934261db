//! Which node ports are taken: the RangeAllocation that Kubernetes keeps, as a map with a bit for each port. Pure; must never
//! give a port away twice.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::settings::PortRange;

/// A port cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PortError {
    /// Somebody has it.
    #[error("provided port is already allocated")]
    Allocated,
    /// There is no such port.
    #[error("provided port is not in the valid range. The range of valid ports is {0}")]
    NotInRange(PortRange),
    /// All are taken.
    #[error("range is full")]
    Full,
}

/// See the module's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortMap {
    range: PortRange,
    /// The bit of a port is the one of its offset, the lowest first.
    bits: Vec<u8>,
}

impl PortMap {
    /// All ports are free.
    pub(super) fn empty(range: PortRange) -> Self {
        Self { range, bits: vec![0; range.size().div_ceil(8)] }
    }

    /// From a RangeAllocation: its range, and a number of any length, the highest byte first, in which the bit of each taken
    /// port is set.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn of_stored(allocation: &Value) -> Result<Self, String> {
        let text = |field: &str| allocation.get(field).and_then(Value::as_str).unwrap_or_default();
        let range = PortRange::parse(text("range"))
            .ok_or_else(|| format!("its range {:?} is none of ports", text("range")))?;
        let data =
            STANDARD.decode(text("data")).map_err(|error| format!("its data is no base64: {error}"))?;
        let mut map = Self::empty(range);
        for (place, byte) in map.bits.iter_mut().zip(data.iter().rev()) {
            *place = *byte;
        }
        Ok(map)
    }

    /// Writes it into a RangeAllocation.
    pub(super) fn store(&self, allocation: &mut Value) {
        if !allocation.is_object() {
            *allocation = json!({"kind": "RangeAllocation", "apiVersion": "v1", "metadata": {}});
        }
        let number: Vec<_> = self.bits.iter().rev().copied().skip_while(|byte| *byte == 0).collect();
        allocation["range"] = self.range.to_string().into();
        allocation["data"] = STANDARD.encode(number).into();
    }

    /// Of which ports.
    pub(super) const fn range(&self) -> PortRange {
        self.range
    }

    /// Whether a port is taken.
    pub(super) fn has(&self, port: i64) -> bool {
        self.range.offset(port).is_some_and(|offset| self.bit(offset))
    }

    /// Takes a port.
    ///
    /// # Errors
    /// When it is taken, or there is none.
    pub(super) fn take(&mut self, port: i64) -> Result<u16, PortError> {
        let offset = self.range.offset(port).ok_or(PortError::NotInRange(self.range))?;
        if self.bit(offset) {
            return Err(PortError::Allocated);
        }
        Ok(self.set(offset))
    }

    /// Takes a port that is free, of the upper band if one of it is. `seed` is any number.
    ///
    /// # Errors
    /// When none is.
    pub(super) fn take_any(&mut self, seed: u64) -> Result<u16, PortError> {
        let (band, size) = (self.band(), self.range.size());
        let free = rotated(band, size, seed).chain(rotated(0, band, seed)).find(|offset| !self.bit(*offset));
        free.map(|offset| self.set(offset)).ok_or(PortError::Full)
    }

    /// Gives a port back.
    pub(super) fn release(&mut self, port: u16) {
        if let Some(offset) = self.range.offset(i64::from(port)) {
            self.bits[offset / 8] &= !(1 << (offset % 8));
        }
    }

    /// All that are taken.
    pub(super) fn taken(&self) -> impl Iterator<Item = u16> {
        (0..self.range.size()).filter(|offset| self.bit(*offset)).map(|offset| self.port(offset))
    }

    /// How many ports at the lower end are left to people who choose ports themselves (KEP-3668): min(max(16, size/32), 128), none
    /// of a small range.
    fn band(&self) -> usize {
        let size = self.range.size();
        if size <= 16 { 0 } else { (size / 32).clamp(16, 128) }
    }

    fn bit(&self, offset: usize) -> bool {
        self.bits[offset / 8] & (1 << (offset % 8)) != 0
    }

    fn set(&mut self, offset: usize) -> u16 {
        self.bits[offset / 8] |= 1 << (offset % 8);
        self.port(offset)
    }

    fn port(&self, offset: usize) -> u16 {
        self.range.first().saturating_add(u16::try_from(offset).unwrap_or(u16::MAX))
    }
}

fn rotated(from: usize, end: usize, seed: u64) -> impl Iterator<Item = usize> {
    let count = end - from;
    let start = usize::try_from(seed.checked_rem(count as u64).unwrap_or(0)).unwrap_or(0);
    (0..count).map(move |step| from + (start + step) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(range: &str) -> PortMap {
        PortMap::empty(PortRange::parse(range).unwrap())
    }

    #[test]
    fn a_map_is_stored_as_a_big_number_in_base64() {
        let mut ports = map("30000-32767");
        let mut stored = Value::Null;
        ports.store(&mut stored);
        assert_eq!(
            stored,
            json!({"kind": "RangeAllocation", "apiVersion": "v1", "metadata": {}, "range": "30000-32767", "data": ""})
        );
        ports.take(30_000).unwrap();
        ports.take(30_009).unwrap();
        ports.store(&mut stored);
        // 2^9 + 2^0 is 0x0201.
        assert_eq!(stored["data"], STANDARD.encode([2, 1]));
        assert_eq!(PortMap::of_stored(&stored), Ok(ports.clone()));
        assert_eq!(ports.taken().collect::<Vec<_>>(), [30_000, 30_009]);
        ports.release(30_009);
        ports.store(&mut stored);
        assert_eq!(stored["data"], STANDARD.encode([1]));
        for wrong in [json!({"range": "x"}), json!({"range": "30000-32767", "data": "?"})] {
            assert!(PortMap::of_stored(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ports_are_refused_in_the_words_of_kubernetes() {
        let mut ports = map("30000-32767");
        assert_eq!(ports.take(30_080), Ok(30_080));
        assert_eq!(ports.take(30_080).unwrap_err().to_string(), "provided port is already allocated");
        for port in [0, 80, 29_999, 32_768, -1, 100_000] {
            assert_eq!(
                ports.take(port).unwrap_err().to_string(),
                "provided port is not in the valid range. The range of valid ports is 30000-32767"
            );
        }
    }

    #[test]
    fn the_lower_band_comes_last_and_then_nothing() {
        let mut ports = map("30000-30099");
        let given: Vec<_> = (0..100).map(|seed| ports.take_any(seed * 7919).unwrap()).collect();
        assert!(given[..84].iter().all(|port| *port >= 30_016), "{given:?}");
        assert!(given[84..].iter().all(|port| *port < 30_016), "{given:?}");
        assert_eq!(ports.take_any(3).unwrap_err().to_string(), "range is full");
        let bands = [("1-16", 0), ("1-17", 16), ("30000-32767", 86), ("1-65535", 128)];
        for (range, band) in bands {
            assert_eq!(map(range).band(), band, "{range}");
        }
    }
}
