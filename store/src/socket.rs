//! What every TCP connection of a member is set to, to whichever side it was opened.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;

/// A silent connection is probed after this long, and then as often.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(15);
/// A connection that misses so many probes is dead.
const KEEPALIVE_PROBES: u32 = 4;

/// Has the kernel probe a silent connection, so that a machine that vanished is noticed.
pub(crate) fn set_keepalive(socket: impl AsFd) -> io::Result<()> {
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(&socket, KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(&socket, KEEPALIVE_PROBES)?;
    Ok(())
}
