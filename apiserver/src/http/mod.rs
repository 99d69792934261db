//! The REST front: what requests mean and in which form they are answered. Must never know how objects are stored.

pub mod negotiation;
pub mod request_info;
