//! Leases: keys that vanish when their owner stops renewing.

pub mod lessor;
pub mod table;
