//! The requests of a record, one after another, to two fresh stores, which must answer alike.
//!
//! The order is the one in which the recorded store did them, so that conditions hold where they held. What clients did at
//! once is one after the other here, and no lease ends by its time: it is revoked where the record shows its end. Must
//! never judge the record itself: that is for the checkers.

mod answer;
mod compare;
pub mod known;
mod live;
mod plan;

pub use answer::{Answer, ask, without_ids};
pub use compare::{Difference, Replayed, Store, Told, compare};
pub use live::{Heard, Live, LiveError};
pub use plan::{NotReplayable, Plan, Step, plan};
