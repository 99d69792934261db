//! How controllers, scheduler and node agents speak to the API servers: over all of them, as one leader of several, and with
//! events for people; which collections those serve; and what such a process is. Must never know a kind by what it means, or the store.

pub mod component;
pub mod discovery;
pub mod error_story;
pub mod events;
pub mod leader_election;
pub mod servers;
