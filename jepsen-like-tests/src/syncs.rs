//! The C library's `fsync` and `fdatasync`, as the standard library calls them, for files of simulated machines: these are
//! told to the simulation instead of to the kernel, which makes simulated losses of power possible, and is quicker.
//!
//! Linked into this one program, like [`crate::randomness`]. Must never change what happens to any other file.

#![allow(unsafe_code, reason = "see the proofs at the functions")]

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use jepsen_like_tests::simulation::files;
use rustix::io::Errno;

unsafe extern "C" {
    fn __errno_location() -> *mut c_int;
}

/// Answers as the C library does: 0, or -1 with the reason in `errno`.
fn answer(result: Result<(), Errno>) -> c_int {
    let Err(error) = result else { return 0 };
    // SAFETY: the function takes nothing, and answers a pointer to this thread's `errno`, which lives as long as the thread.
    unsafe { *__errno_location() = error.raw_os_error() };
    -1
}

/// A sync of `fd`; `kernel` does it for files of no simulated machine.
///
/// # Safety
/// `fd` is open during the call, or negative.
unsafe fn sync(fd: c_int, kernel: impl FnOnce(BorrowedFd<'_>) -> Result<(), Errno>) -> c_int {
    if fd < 0 {
        return answer(Err(Errno::BADF));
    }
    // SAFETY: by the contract above.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match files::sync(fd) {
        None => answer(kernel(fd)),
        Some(result) => answer(result.map_err(|_| Errno::IO)),
    }
}

/// `fsync(2)` as the C library declares it.
///
/// # Safety
/// `fd` is open, as for the function that this replaces.
// Proof. Name and signature are those of the C library's function (`int fsync(int)`). Callers in this program are the standard
// library and crates that hold the file open while they sync it. Nothing in it unwinds: poisoned locks are taken over, and
// what can fail is answered; `rustix` makes the system call by itself, so this function is not entered again.
#[unsafe(no_mangle)]
unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    // SAFETY: by the contract above.
    unsafe { sync(fd, |fd| rustix::fs::fsync(fd)) }
}

/// `fdatasync(2)` as the C library declares it.
///
/// # Safety
/// `fd` is open, as for the function that this replaces.
// Proof. As for `fsync`, which has the same signature.
#[unsafe(no_mangle)]
unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SAFETY: by the contract above.
    unsafe { sync(fd, |fd| rustix::fs::fdatasync(fd)) }
}
