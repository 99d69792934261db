//! The operating system's randomness, replaced by a seed's in a simulation: what libraries draw by themselves (the order in
//! which tokio polls, hash tables, openraft's election timeouts) is then the same in each run of the seed.
//!
//! Linked into this one program. The C library's function is replaced by name, which nothing safe can do. Must never change
//! what a program gets that simulates nothing: without a seed, the kernel answers.

#![allow(unsafe_code, reason = "see the proof at the function")]

use std::sync::{Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};
use rustix::rand::GetRandomFlags;

static CHANCE: Mutex<Option<StdRng>> = Mutex::new(None);

/// From now on everything that asks for randomness gets the seed's.
pub(crate) fn seed(seed: u64) {
    *CHANCE.lock().unwrap_or_else(PoisonError::into_inner) = Some(StdRng::seed_from_u64(seed));
}

/// `getrandom(2)` as the C library declares it.
///
/// # Safety
/// `buffer` is valid for writes of `length` bytes, as for the function that this replaces.
// Proof. The name and the signature are those of the C library's function (`ssize_t getrandom(void *, size_t, unsigned)`), so
// every caller passes what is read here. The only memory touched is `buffer[..length]`, which the caller vouches for; the
// slice does not outlive the call. Nothing in it unwinds: a poisoned lock is taken over, `StdRng` fills without asking
// anybody, and `rustix` makes the system call by itself, so this function is not entered again.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, flags: u32) -> isize {
    if buffer.is_null() || length == 0 {
        return 0;
    }
    // SAFETY: valid for writes by the contract above, and bytes have no invalid values.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer, length) };
    if let Some(chance) = CHANCE.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
        chance.fill_bytes(bytes);
        return isize::try_from(length).unwrap_or(isize::MAX);
    }
    match rustix::rand::getrandom(bytes, GetRandomFlags::from_bits_retain(flags)) {
        Ok(filled) => isize::try_from(filled).unwrap_or(isize::MAX),
        // Callers fall back to another source, or try again.
        Err(_) => -1,
    }
}
