//! How machines become a cluster: authorities and certificates, tokens, joining, and what the parts of a master must know of each
//! other. Must never know how a part works.
//!
//! | file | what it is for |
//! |---|---|
//! | `authority` | an authority that signs certificates |
//! | `leaf` | which certificates a master needs, and when one has to be made anew |
//! | `pki` | all of it in a directory |
//! | `renewal` | certificates are made anew before they end |
//! | `rotation` | the authorities are exchanged for others |
//! | `token` | what lets a machine join |
//! | `tokens` | tokens made, listed and revoked |
//! | `status` | how a cluster is, for people and programs |
//! | `bundle` | what is needed for help from afar, in a file |
//! | `doctor` | what ails it, found by measuring |
//! | `sealed` | the authorities, encrypted for who has a token |
//! | `settings` | what is the same on all masters |
//! | `objects` | what a cluster of masters keeps in its API |
//! | `keep` | brings these objects there |
//! | `restored` | what a snapshot of another cluster says of its masters is put right |
//! | `discovery` | the first words with a cluster that is not trusted yet |
//! | `master_join` | a machine becomes a master |
//! | `membership` | the members of the store, as who joins sees them |
//! | `node_join` | a machine becomes a node |
//! | `node_serving` | it gets another one, by which its agent serves |
//! | `node_trust` | a node follows whom its cluster trusts |
//! | `node_leave` | a node leaves |
//! | `drain` | which pods leave it, and when |
//! | `kubeconfig` | files that say whom to speak to, and as who |
//! | `files` | files that are there whole or not at all |

pub mod authority;
pub mod bundle;
pub mod discovery;
pub mod doctor;
pub mod drain;
pub mod files;
pub mod keep;
pub mod kubeconfig;
pub mod leaf;
pub mod master_join;
pub mod membership;
pub mod node_join;
pub mod node_leave;
pub mod node_serving;
pub mod node_trust;
pub mod objects;
pub mod pki;
pub mod renewal;
pub mod restored;
pub mod rotation;
pub mod sealed;
pub mod settings;
pub mod status;
pub mod token;
pub mod tokens;
