//! Ranges of addresses, and pools that are cut into ranges of one size. Data structures.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses as CIDR writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Range {
    /// Whether it is of IPv6.
    v6: bool,
    /// Its first address, as a number of its family's length.
    first: u128,
    /// How many bits of an address are the range's.
    mask: u8,
}

impl Range {
    /// The range of this size that an address is in; nothing when the size is not of its family.
    pub(crate) fn of(address: IpAddr, mask: u8) -> Option<Self> {
        let (v6, number) = match address {
            IpAddr::V4(address) => (false, u128::from(u32::from(address))),
            IpAddr::V6(address) => (true, u128::from(address)),
        };
        let made = Self { v6, first: number, mask };
        (mask <= made.bits()).then(|| Self { first: number & !made.inside(), ..made })
    }

    fn bits(self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    /// The bits of an address that are not the range's.
    fn inside(self) -> u128 {
        match self.bits() - self.mask {
            128 => u128::MAX,
            bits => (1 << bits) - 1,
        }
    }

    /// Whether it is of IPv6.
    pub(crate) fn is_v6(self) -> bool {
        self.v6
    }

    /// How many bits of an address are the range's.
    pub(crate) fn mask(self) -> u8 {
        self.mask
    }

    /// Whether an address is in both.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        let outer = if self.mask < other.mask { self } else { other };
        self.v6 == other.v6 && (self.first ^ other.first) & !outer.inside() == 0
    }
}

impl FromStr for Range {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, mask) = text.split_once('/').ok_or(())?;
        let range = Self::of(address.parse().map_err(|_| ())?, mask.parse().map_err(|_| ())?);
        range.ok_or(())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = if self.v6 {
            IpAddr::V6(Ipv6Addr::from(self.first))
        } else {
            IpAddr::V4(Ipv4Addr::from(u32::try_from(self.first).unwrap_or_default()))
        };
        write!(f, "{address}/{}", self.mask)
    }
}

/// A range that is cut into ranges of one size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pool {
    whole: Range,
    mask: u8,
}

impl Pool {
    /// The mask is the size of its parts; as long as the pool's own at least.
    pub(super) fn new(whole: Range, mask: u8) -> Self {
        Self { whole, mask: mask.max(whole.mask) }
    }

    /// How many parts it has.
    fn len(self) -> u64 {
        1_u64.checked_shl(u32::from(self.mask - self.whole.mask)).unwrap_or(u64::MAX)
    }

    fn part_bits(self) -> u32 {
        u32::from(self.whole.bits() - self.mask)
    }

    /// The part of this number.
    pub(super) fn range(self, number: u64) -> Range {
        let offset = u128::from(number).checked_shl(self.part_bits()).unwrap_or_default();
        Range { first: self.whole.first | offset, mask: self.mask, ..self.whole }
    }

    /// The numbers of the parts that overlap a range, first and last; nothing when none does.
    fn parts(self, range: Range) -> Option<(u64, u64)> {
        if !self.whole.overlaps(range) {
            return None;
        }
        if range.mask <= self.whole.mask {
            return Some((0, self.len() - 1));
        }
        let inside = self.whole.inside();
        let number = |address: u128| {
            let part = (address & inside).checked_shr(self.part_bits()).unwrap_or_default();
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        Some((number(range.first), number(range.first | range.inside())))
    }

    /// The first part from this number on, and round again, that overlaps none of these.
    pub(super) fn free(self, taken: &[Range], from: u64) -> Option<u64> {
        let mut taken: Vec<_> = taken.iter().filter_map(|range| self.parts(*range)).collect();
        taken.sort_unstable();
        let from = from % self.len();
        let find = |from: u64, until: u64| {
            let mut candidate = from;
            for (first, last) in &taken {
                if *first > candidate {
                    break;
                }
                if *last >= candidate {
                    candidate = last.checked_add(1)?;
                }
            }
            (candidate < until).then_some(candidate)
        };
        find(from, self.len()).or_else(|| find(0, from))
    }
}
