//! A gRPC client that costs as little CPU as can be: it shares its machine with the servers it measures.
//!
//! `session` speaks HTTP/2 over bytes and does no I/O; whoever owns it moves the bytes. Never used for
//! administration, where a full client belongs.

mod frame;
mod hpack;
mod huffman;
mod session;

pub(super) use session::{Event, Input, Session, Status, StreamId};
