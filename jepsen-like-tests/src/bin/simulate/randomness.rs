//! The operating system's randomness, replaced by the seed's: what libraries draw by themselves (the order in which tokio
//! polls, hash tables, openraft's election timeouts) is then the same in each run of a seed.
//!
//! Linked into this one program. The system's function is replaced by name, which nothing safe can do.

#![allow(unsafe_code, reason = "see the proof at the function")]

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

static CHANCE: Mutex<Option<StdRng>> = Mutex::new(None);

/// From now on everything that asks for randomness gets the seed's. Before, nobody gets any.
pub(crate) fn seed(seed: u64) {
    *CHANCE.lock().unwrap_or_else(PoisonError::into_inner) = Some(StdRng::seed_from_u64(seed));
}

/// `getrandom(2)` as the C library declares it.
///
/// # Safety
/// `buffer` is valid for writes of `length` bytes, as for the function that this replaces.
// Proof. The name and the signature are those of the C library's function (`ssize_t getrandom(void *, size_t, unsigned)`), so
// every caller passes what is read here. The only memory touched is `buffer[..length]`, which the caller vouches for; the
// slice does not outlive the call. Nothing in it unwinds: a poisoned lock is taken over, and `StdRng` fills without asking
// anybody.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: valid for writes by the contract above, and bytes have no invalid values.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    match CHANCE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        Some(chance) => chance.fill_bytes(bytes),
        // Before the seed is known: the same for every run, so that nothing depends on it.
        None => bytes.fill(0x5a),
    }
    isize::try_from(length).unwrap_or(isize::MAX)
}
