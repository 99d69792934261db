//! How the program is linked. Must never change what it does.

use std::process::Command;

/// The first release of glibc whose loader knows the short form.
const KNOWS_SHORT_RELOCATIONS: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Addresses that the loader puts right are a twentieth of the program when each is written out, and a hundredth of that as a
    // bitmap. A loader that does not know the form would not start the program, so this asks for the one of this machine.
    let is_here = std::env::var("TARGET") == std::env::var("HOST");
    if is_here && glibc().is_some_and(|release| release >= KNOWS_SHORT_RELOCATIONS) {
        println!("cargo::rustc-link-arg-bin=barque=-Wl,-z,pack-relative-relocs");
    }
}

/// The release of this machine's glibc; none where it has another C library.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
