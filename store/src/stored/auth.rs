//! Users and roles as disk keeps them.
//!
//! ```text
//! 1  tag, 1
//! 1  format version, 1
//! .  `StoredAuth` in bincode 2, standard configuration
//! ```

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::command::auth::{Password, Permission, TokenKey};
use crate::ids::AuthRevision;

/// So that another section can follow one day.
const TAG: u8 = 1;
const VERSION: u8 = 1;

/// Users, roles, and whether they are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAuth {
    /// Grows with each change.
    pub revision: AuthRevision,
    /// Signs tokens; there is one as long as rights are asked for.
    pub token_key: Option<TokenKey>,
    /// By name.
    pub users: BTreeMap<String, StoredUser>,
    /// Permissions of each role in the order of their first keys.
    pub roles: BTreeMap<String, Vec<Permission>>,
}

impl Default for StoredAuth {
    fn default() -> Self {
        Self {
            revision: AuthRevision::FIRST,
            token_key: None,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }
}

/// One user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredUser {
    /// How it proves who it is.
    pub password: Password,
    /// The revision that made the user or changed its password last: a number that no other user ever has.
    pub credentials: AuthRevision,
    /// Sorted.
    pub roles: Vec<String>,
}

impl StoredAuth {
    /// As bytes.
    ///
    /// # Panics
    /// Never: all of it is numbers, texts and lists of them.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![TAG, VERSION];
        bincode::serde::encode_into_std_write(self, &mut out, bincode::config::standard())
            .expect("users and roles are numbers, texts and lists, and memory takes every byte");
        out
    }

    /// From bytes.
    ///
    /// # Errors
    /// When they are not what [`StoredAuth::encode`] made; a sentence that says what is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let encoded = match bytes {
            [TAG, VERSION, encoded @ ..] => encoded,
            [TAG, version, ..] => {
                return Err(format!("users and roles have the unknown format version {version}"));
            }
            _ => return Err("something unknown follows the state".to_owned()),
        };
        match bincode::serde::decode_from_slice(encoded, bincode::config::standard()) {
            Ok((auth, used)) if used == encoded.len() => Ok(auth),
            Ok(_) => Err("bytes are left over behind users and roles".to_owned()),
            Err(error) => Err(format!("users and roles cannot be decoded: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::KeyRange;
    use crate::command::auth::{Access, PasswordHash};

    #[test]
    fn users_and_roles_come_back() {
        let user = StoredUser {
            password: Password::Hash(PasswordHash::new("$argon2id$x".to_owned())),
            credentials: AuthRevision(4),
            roles: vec!["r".to_owned()],
        };
        let range = KeyRange { key: "a".into(), range_end: "b".into() };
        let auth = StoredAuth {
            revision: AuthRevision(7),
            token_key: Some(TokenKey([3; 32])),
            users: BTreeMap::from([("u".to_owned(), user)]),
            roles: BTreeMap::from([("r".to_owned(), vec![Permission { access: Access::Read, range }])]),
        };
        let encoded = auth.encode();
        assert_eq!(StoredAuth::decode(&encoded), Ok(auth));
        for end in 0..encoded.len() {
            assert!(StoredAuth::decode(&encoded[..end]).is_err(), "{end}");
        }
        assert!(StoredAuth::decode(&[&encoded[..], &[0]].concat()).is_err());
        assert!(StoredAuth::decode(&[2, 1]).is_err() && StoredAuth::decode(&[1, 2]).is_err());
    }
}
