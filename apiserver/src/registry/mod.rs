//! What happens to objects: the one way in which objects of all kinds are created, changed and deleted. Decisions are pure
//! functions from what is stored and what is asked for to what is to be stored; must never know how a request came in.

pub mod allocation;
pub mod collections;
pub mod conversion;
pub mod decode;
pub mod deletion;
pub mod follow;
pub mod own_client;
pub mod owner_versions;
pub mod pipeline;
pub mod selectable;
pub mod selection;
pub mod served;
pub mod strategy;
pub mod uid;
