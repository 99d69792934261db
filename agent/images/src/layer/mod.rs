//! Layers: archives of files, unpacked into the form that overlayfs stacks, and the stack as containers see it, without a mount.
//! Must never follow a name out of the directory it was given.

pub(crate) mod compression;
pub(crate) mod merged;
pub(crate) mod tar_stream;
pub(crate) mod unpack;

#[cfg(test)]
mod stack_tests;

/// The extended attribute by which overlayfs knows a directory that hides those below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";
