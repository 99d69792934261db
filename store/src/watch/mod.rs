//! Watches: every change of a key is told to everybody who asked for it, in order, once, without gaps.
//!
//! [`WatchHub`] takes the events of each applied batch from the applier. It appends them to one ring of
//! recent events that all streams share, and marks (and wakes) the streams that want any of them. It
//! keeps no queue for a stream and so a slow stream costs nothing. [`WatchStream`] is the engine of one
//! client stream: it reads the ring, or history where the ring has moved on, at the pace at which its
//! client takes answers. Must never block the applier, encode an event twice, or send a header revision
//! that promises more than was sent.
//!
//! # Why nothing is lost or sent twice
//!
//! Each watch has `next`: the first revision whose events were not put into an answer. It only grows,
//! and an event goes into an answer only if its revision is `next` or later: nothing is sent twice, and
//! nothing goes backwards.
//!
//! A watch is either *live* or *catching up*. A stream has one `cursor` for all its live watches: every
//! event before the cursor that a live watch wants is in an answer. The hub holds for each stream a mark,
//! the revision at which the first batch begins that the stream wants and has not taken. Both the
//! appending of a batch with the setting of marks (1), and the taking of a mark with the reading of the
//! ring (2) happen under the ring's lock, so they are atomic to each other. Hence after (2)
//! - without a mark: nothing up to the published revision is wanted; the cursor moves behind it;
//! - with a mark: nothing before the mark is wanted; the ring is read from the mark on, and the cursor
//!   moves behind the last batch read (and if batches were left, a new mark is set at the first of them);
//! - with a mark that the ring no longer reaches: the cursor moves behind the published revision, and
//!   every live watch whose `next` (at the mark now, or later) is before it becomes catching up.
//!
//! A watch that catches up reads whole revisions from `next` on (from the ring if it reaches back so
//! far, from history otherwise). It was registered with the hub when it was created, at published
//! revision P: all batches behind P set the mark for it. It becomes live when `next > P` and
//! `next >= cursor`. No gap: a batch with an event at `next` or later set the mark, since it is behind
//! P; and no (2) has consumed that batch, else the cursor were behind it. No duplicate: `next`.
//!
//! So this needs of the applier only: batches are published in order, each after [`History`] shows it.
//!
//! Progress at revision R goes behind all answers that are ready, and only when R is before the cursor
//! and no watch concerned is catching up (or began behind R): it never overtakes events.

pub mod encode;
pub mod history;
pub mod hub;
pub mod matcher;
pub mod range;
pub mod stats;
pub mod stream;
pub mod watchers;

#[cfg(test)]
mod tests;

pub use history::History;
pub use hub::{HubLimits, RangeState, WatchHub};
pub use stats::WatchStats;
pub use stream::{HeaderSource, WatchConfig, WatchStream};
