//! The authorities of a cluster exchanged for others while it runs: all three, and not the key of service accounts' tokens, which is
//! no authority. Must never let a phase begin that a member is not ready for, unless somebody said that it is left behind.
//!
//! ```text
//! trust      the new authorities are there, everybody trusts them beside the old ones; the old ones sign
//! sign       masters sign with the new ones and show leaves of theirs, with the new certificate signed by the old authority behind:
//!            who trusts the old one alone goes on
//! renew      nodes get certificates of the new one
//! finished   only the new ones are trusted
//! ```
//!
//! The phase, with the new authorities sealed for masters, is one secret, `kube-system/barque-rotation`. An administrator's command
//! changes it (`drive`), by what members say of themselves: masters in `kube-system/barque-trust-masters`, nodes in an annotation.
//! Each master follows it (`follow`), and each node what is said for nodes in `kube-system/barque-trust` (`node_trust`).
//!
//! | file | what it is for |
//! |---|---|
//! | `phase` | which phase comes when: a decision |
//! | `material` | old and new authorities, and which of them count in a phase |
//! | `report` | what a member trusts and shows |
//! | `objects` | what stands in the API of it |
//! | `drive` | an administrator's command: looks, decides by `phase`, writes |
//! | `follow` | a master does what the phase says |

pub mod drive;
pub mod follow;
pub mod material;
pub mod objects;
pub mod phase;
pub mod report;
