//! Free TCP ports on loopback.
//!
//! They are taken below the range from which the kernel serves outgoing connections: a member that is down
//! for a while must find its port free again.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(rand::random_range(0..COUNT)));

/// A port that nobody listens on now and that this process has not handed out lately.
pub(super) fn free() -> std::io::Result<u16> {
    let mut refused = None;
    for _ in 0..COUNT {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("the range ends below 65536");
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(why) => refused = Some(why),
        }
    }
    Err(refused.unwrap_or_else(|| std::io::Error::other("no port was tried")))
}
