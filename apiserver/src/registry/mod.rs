//! What happens to objects: the one way in which objects of all kinds are created, changed and deleted. Decisions are pure
//! functions from what is stored and what is asked for to what is to be stored; must never know how a request came in.

pub mod deletion;
pub mod strategy;
