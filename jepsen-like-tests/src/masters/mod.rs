//! The control plane under faults: masters as real processes, clients of all their API servers, and what must hold. Sees what clients
//! and administrators see; must never know the insides of a master.
//!
//! - [`entry`], [`history`], [`recorder`]: the record
//! - [`processes`], [`client`], `audit`, `store_history`: what is started, asked and read
//! - [`workload`], [`nemesis`], [`run`]: what happens
//! - [`checkers`]: whether it was right

mod audit;
pub mod checkers;
pub mod client;
pub mod entry;
pub mod history;
pub mod nemesis;
pub mod processes;
pub mod recorder;
pub mod run;
mod store_history;
pub mod workload;
