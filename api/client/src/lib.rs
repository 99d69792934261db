//! How controllers, scheduler and node agents speak to the API servers: over all of them, as one leader of several, and with
//! events for people. Must never know a kind by what it means, or the store.

pub mod events;
pub mod leader_election;
pub mod servers;
