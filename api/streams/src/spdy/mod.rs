//! SPDY/3.1, as far as Kubernetes uses it: many streams over one connection, for what runs in containers and for forwarded
//! ports. Pure but for [`session`]; must never know what the streams are for.
//!
//! There is no flow control for single streams: the only other implementation, Go's `spdystream`, has none, and would not
//! answer. What holds back is the connection.

pub mod frame;
pub mod headers;
pub mod session;
