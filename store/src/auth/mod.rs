//! Users, roles and rights, as etcd has them: who there is, who may do what, and whose a token is.
//!
//! Pure: the same commands give the same users on every member; time and random numbers are handed in. Never
//! holds a password longer than hashing it takes, and never prints a hash, a key or a token.

pub mod check;
pub mod password;
pub mod ranges;
pub mod state;
pub mod token;

pub use self::check::{Check, Rights};
pub use self::state::AuthState;

/// The user that must exist, and the role that may do everything.
pub const ROOT: &str = "root";
