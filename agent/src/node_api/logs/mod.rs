//! Logs of containers, read from the files that runtimes write in the format of CRI. Must never read a whole file into memory,
//! nor ask the files again and again whether they have grown.
//!
//! [`line`] is the format, [`print`] what of a line is shown, [`files`] the order of rotated files, [`tail`] where the last lines
//! begin, [`read`] goes through the files, [`follow`] waits for more.

pub(crate) mod files;
pub(crate) mod follow;
pub(crate) mod line;
pub(crate) mod print;
pub(crate) mod read;
pub(crate) mod status;
pub(crate) mod tail;

#[cfg(test)]
mod follow_tests;
