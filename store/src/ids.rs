//! The numbers that name things, each with a type of its own so that they cannot be mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A main revision of the keyspace: one per write transaction, counting from 1 (an empty store).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Revision(pub i64);

impl Revision {
    /// The revision of a store in which nothing was ever written.
    pub const EMPTY: Self = Self(1);

    /// The revision that follows.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A revision of users, roles and whether they are asked for: grows by one with each change, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AuthRevision(pub u64);

impl AuthRevision {
    /// Of a store in which no user or role was ever changed.
    pub const FIRST: Self = Self(1);
}

impl fmt::Display for AuthRevision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A change inside a revision: the changes of one transaction share `main` and count up in `sub`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubRevision {
    /// The transaction.
    pub main: Revision,
    /// The change's place in the transaction, from 0.
    pub sub: u32,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A member of the store, for ever: an id never comes back after its member was removed.
    MemberId(u64)
}
id! {
    /// A cluster: members of another one are never talked to.
    ClusterId(u64)
}
id! {
    /// A lease. 0 on the wire means "none" and is `None` inside.
    LeaseId(i64)
}
id! {
    /// A random number written once into a data directory; tells a member from its own wiped disk.
    Incarnation(u64)
}
