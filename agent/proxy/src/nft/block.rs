//! Blocks of addresses, as `10.0.0.0/8`. Must never hold bits behind its prefix.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Family;
use super::rule::octets;

/// A block of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Block {
    address: IpAddr,
    prefix: u8,
}

/// A text is no block of addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no block of addresses; one looks like 10.42.0.0/16 or fd00:42::/56")]
pub struct BlockError(String);

impl Block {
    /// The block of this address with this many fixed bits; bits behind them are cleared. None if an address has not so many.
    #[must_use]
    pub fn new(address: IpAddr, prefix: u8) -> Option<Self> {
        let block = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
                IpAddr::V4((u32::from(v4) & mask).into())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(u32::from(prefix))?).unwrap_or(0);
                IpAddr::V6((u128::from(v6) & mask).into())
            }
        };
        Some(Self { address: block, prefix })
    }

    /// The first address.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Which addresses it is of.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.address)
    }

    /// Whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Family::of(address) == self.family()
            && Self::new(address, self.prefix).is_some_and(|block| block == *self)
    }

    pub(crate) fn mask(&self) -> Vec<u8> {
        let ones = match self.address {
            IpAddr::V4(_) => IpAddr::from([0xff; 4]),
            IpAddr::V6(_) => IpAddr::from([0xff; 16]),
        };
        Self::new(ones, self.prefix).map_or_else(Vec::new, |block| octets(block.address))
    }

    /// Whether it has every address.
    pub(crate) const fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

impl FromStr for Block {
    type Err = BlockError;

    fn from_str(text: &str) -> Result<Self, BlockError> {
        let error = || BlockError(text.to_owned());
        let (address, prefix) = text.trim().split_once('/').ok_or_else(error)?;
        let (address, prefix) = (address.parse().map_err(|_| error())?, prefix.parse().map_err(|_| error())?);
        Self::new(address, prefix).ok_or_else(error)
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_cleared_and_asked() {
        let table = [
            ("10.1.2.3/8", "10.0.0.0/8", "10.255.0.1", "11.0.0.1"),
            ("10.1.2.3/32", "10.1.2.3/32", "10.1.2.3", "10.1.2.4"),
            ("0.0.0.0/0", "0.0.0.0/0", "8.8.8.8", "::1"),
            ("fd00:1::5/64", "fd00:1::/64", "fd00:1::9", "fd00:2::9"),
        ];
        for (text, cleared, inside, outside) in table {
            let block: Block = text.parse().unwrap();
            assert_eq!(block.to_string(), cleared);
            assert!(block.contains(inside.parse().unwrap()), "{inside} in {text}");
            assert!(!block.contains(outside.parse().unwrap()), "{outside} in {text}");
        }
        for wrong in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", ""] {
            assert!(wrong.parse::<Block>().is_err(), "{wrong}");
        }
    }
}
