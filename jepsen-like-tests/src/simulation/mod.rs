//! Whole clusters of real store code in one process, on simulated time, networks and disks, every choice drawn from one
//! seed.
//!
//! What is real: the member as production puts it together (`member::start`) with its proposer, read barrier, leases,
//! snapshots, watches; openraft; the calls between members, down to the bytes of HTTP/2; the log and its format. What is
//! simulated, each behind a seam that production fills with the real thing: the byte streams between machines
//! ([`network`]), the disk under the log ([`disk`]), threads, and the passing of time ([`host`]). Files beside the log are
//! real ones that lose what was not synced ([`files`]). Clients ask members below the gRPC services ([`operation`]); an
//! administrator changes the membership and replaces what is damaged ([`admin`]).
//!
//! A run is [`run::run`]: faults as [`plan`] and [`faults`] have it, then none; [`invariants`] are judged all the time by
//! what is seen from outside. Bugs are [`planted`] to show that they would be found.

//!
//! A seed is the same run each time, in a process of its own (`src/simulate.rs`), which replaces the operating system's
//! randomness by the seed's; without that, tokio, hash tables and openraft draw their own. Not in the run, and never looked
//! at: the thread that writes records behind (here into memory), and the hour in the headers of HTTP.
//!
//! | found by | what it was | mended in |
//! |---|---|---|
//! | seed 1 | the thread that writes records joined itself when it was the last to let go of the writer | `records::writer` |
//! | seed 11 | a leader whose Raft had ended (a failed sync) went round and round until its process ended | `member::lease_clock`, `raft::leadership` |
//! | seeds 16, 97 | a member that was away while another was replaced at its address was refused by the new one | `raft::peer_service` |
//! | seed 162 | a damaged identity that is no text was not called damaged | `storage::data_dir` |
//! | seed 127 | a replication whose stream broke was given later entries in the place of purged ones | `raft::log_storage` |

pub mod admin;
pub mod clients;
pub mod cluster;
pub mod disk;
pub mod durable;
pub mod faults;
pub mod files;
pub mod host;
pub mod invariants;
pub mod look;
pub mod machine;
pub mod network;
pub mod operation;
pub mod plan;
pub mod planted;
pub mod run;
pub mod tally;
pub mod trace;
pub mod violation;
pub mod watcher;
