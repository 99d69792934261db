//! A cluster on one machine: the front with servers that fail, the machines in namespaces, and the processes in them. What needs
//! root is skipped without it, and says so.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

mod certificates;
#[allow(unused_imports, reason = "a part is used")]
mod cluster;
#[path = "up/front.rs"]
mod front;
#[path = "containers/ground.rs"]
#[allow(dead_code, reason = "a part is used")]
mod ground;
#[path = "containers/images.rs"]
#[allow(dead_code, reason = "a part is used")]
mod images;
#[path = "up/machines.rs"]
mod machines;
#[path = "up/processes.rs"]
mod processes;
#[path = "up/story.rs"]
mod story;
