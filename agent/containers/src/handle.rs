//! Descriptors of pipes and terminals that are waited for instead of blocking.

use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A descriptor that is waited for.
pub(crate) type Handle = AsyncFd<OwnedFd>;

/// Makes it one, within a runtime.
pub(crate) fn handle(descriptor: OwnedFd, interest: Interest) -> std::io::Result<Handle> {
    rustix::io::ioctl_fionbio(&descriptor, true)?;
    #[allow(unsafe_code, reason = "the registration must not outlive the descriptor")]
    // SAFETY: an `OwnedFd` always gives the same descriptor, and owns it: nobody closes it before the value that is made
    // here, which contains it, ends its registration.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(|error| error.into_parts().1)
}
