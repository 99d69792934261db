//! A cluster on one machine: the front with servers that fail, the machines in namespaces, and the processes in them. What needs
//! root is skipped without it, and says so.

mod front;
mod machines;
mod processes;
mod story;
pub(crate) mod world;
