//! Waiting until a descriptor of one's own can be read. Must never give the descriptor out of its owner's hands.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::unix::AsyncFd;

/// The descriptor, known to the runtime. It must not block.
#[allow(unsafe_code, reason = "there is no safe way to wait for a descriptor of one's own")]
pub(crate) fn registered(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: The descriptor is open, as it is owned, and it is given away with its owner: nobody here takes it out again,
    // closes or replaces it while it is registered.
    Ok(unsafe { AsyncFd::register(descriptor) }?)
}
