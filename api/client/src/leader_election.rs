//! One leader of several candidates, by a Lease object, as client-go does it. Must never let two lead: who leads has stopped
//! before the lease can pass to another.
//!
//! What is decided is in [`plan`]; [`run`] only asks, writes and waits. Candidates need clocks that run equally fast, not
//! ones that agree: times in the lease are for people, and how long a holder was silent is measured by who waits.

mod act;
mod leases;
mod office;
pub mod plan;

pub use act::{Elector, Ended, run};
pub use leases::{ApiLeases, LeaseError, Leases};
pub use office::Office;
pub use plan::{Record, Settings};
