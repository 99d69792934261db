//! Priority and fairness: how many requests are worked on at once, whose come first, and which are sent away before memory
//! or time runs out. Must never know what a request does.
//!
//! [`schema`] and [`level`] are the objects; [`classify`] says where a request belongs, [`width`] what it costs,
//! [`allotment`] what each level may use; [`queues`] is one level's fair queuing and [`scheduler`] all levels together. All
//! of them decide and nothing else. [`limits`] waits, [`follower`] keeps the objects in step, [`bodies`] bounds what is read.

pub mod allotment;
pub mod bodies;
pub mod classify;
pub mod follower;
pub mod level;
pub mod limits;
pub mod queues;
pub mod scheduler;
pub mod schema;
pub mod width;
