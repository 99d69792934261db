//! Passwords: hashed with Argon2id, compared in constant time. Takes tens of milliseconds of a core and 19 MiB
//! at a time, so whoever calls must do so on a thread that may block, and only so often.
//!
//! Users that came from etcd have a bcrypt hash until their password is changed. It takes as long as the cost in it
//! says, so the time of a refused login tells such a user from one that does not exist.
//!
//! Salts are handed in. Never prints or keeps a password.

use argon2::password_hash::{Output, ParamsString, PasswordHash as Phc, SaltString};
use argon2::{Algorithm, Argon2, Params, PasswordHasher as _, PasswordVerifier as _, Version};

use crate::command::auth::PasswordHash;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 16;

/// What OWASP recommends at least for Argon2id.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
const OUTPUT_BYTES: usize = 32;

/// Hashing failed: the password is longer than 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a password of this length cannot be hashed")]
pub struct TooLong;

fn params() -> Params {
    Params::new(MEMORY_KIB, PASSES, LANES, Some(OUTPUT_BYTES)).expect("within the bounds of Argon2")
}

fn argon2() -> Argon2<'static> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params())
}

/// The hash of a password.
///
/// # Errors
/// When it is too long.
///
/// # Panics
/// Never: every salt of this length can be encoded.
pub fn hash(password: &[u8], salt: [u8; SALT_BYTES]) -> Result<PasswordHash, TooLong> {
    let salt = SaltString::encode_b64(&salt).expect("16 bytes are a salt");
    let hashed = argon2().hash_password(password, &salt).map_err(|_| TooLong)?;
    Ok(PasswordHash::new(hashed.to_string()))
}

/// A hash that etcd made, unless the text is none.
#[must_use]
pub fn of_etcd(text: &str) -> Option<PasswordHash> {
    let is_one = is_bcrypt(text) && text.parse::<bcrypt::HashParts>().is_ok();
    is_one.then(|| PasswordHash::new(text.to_owned()))
}

/// Argon2's hashes begin with its name.
fn is_bcrypt(text: &str) -> bool {
    text.starts_with("$2")
}

/// Whether a hash is of this password. Without a hash it takes as long and is false, so that nobody learns
/// from the time who exists.
#[must_use]
pub fn verify(password: &[u8], hash: Option<&PasswordHash>) -> bool {
    let nobody;
    let phc = match hash {
        // Of a long password bcrypt looks at the first 72 bytes, here as in etcd.
        Some(hash) if is_bcrypt(hash.phc()) => return bcrypt::verify(password, hash.phc()).unwrap_or(false),
        Some(hash) => hash.phc(),
        None => {
            nobody = of_nobody();
            nobody.as_str()
        }
    };
    let Ok(parsed) = Phc::new(phc) else { return false };
    // The parameters are those of the hash; both kinds of callers pay for the comparison.
    let matches = argon2().verify_password(password, &parsed).is_ok();
    matches && hash.is_some()
}

/// A hash with today's parameters that belongs to no user.
fn of_nobody() -> String {
    let salt = SaltString::encode_b64(&[0; SALT_BYTES]).expect("16 bytes are a salt");
    let hash = Phc {
        algorithm: Algorithm::Argon2id.ident(),
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(&params()).expect("they are the parameters of a hash"),
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(&[0; OUTPUT_BYTES]).expect("32 bytes are an output")),
    };
    hash.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_password_matches() {
        let hashed = hash(b"secret", [7; SALT_BYTES]).unwrap();
        assert!(verify(b"secret", Some(&hashed)));
        assert!(!verify(b"Secret", Some(&hashed)) && !verify(b"", Some(&hashed)));
        assert!(hashed.phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        assert_ne!(hash(b"secret", [8; SALT_BYTES]).unwrap(), hashed);
        let empty = hash(b"", [7; SALT_BYTES]).unwrap();
        assert!(verify(b"", Some(&empty)) && !verify(b"x", Some(&empty)));
        let long = vec![b'x'; 100_000];
        assert!(verify(&long, Some(&hash(&long, [1; SALT_BYTES]).unwrap())));
    }

    #[test]
    fn nobody_has_a_password_and_is_compared_with_the_same_parameters() {
        assert!(!verify(b"secret", None));
        let (nobody, somebody) = (of_nobody(), hash(b"secret", [7; SALT_BYTES]).unwrap());
        let cost = |phc: &str| phc.split('$').take(4).collect::<Vec<_>>().join("$");
        assert_eq!(cost(&nobody), cost(somebody.phc()));
        assert_eq!(nobody.len(), somebody.phc().len());
    }

    /// Of `secret`, made by etcd 3.4 with `--bcrypt-cost=4`.
    const HASH_OF_ETCD: &str = "$2a$04$7.VswpcQ72xQ5WBtrtMaQOS0XP/UUVg4j/5H13M.ZnXHfl2zqpUPe";

    #[test]
    fn a_hash_of_etcd_matches_its_password() {
        let hash = of_etcd(HASH_OF_ETCD).unwrap();
        assert!(verify(b"secret", Some(&hash)));
        assert!(!verify(b"Secret", Some(&hash)) && !verify(b"", Some(&hash)));
        for text in ["", "secret", "$2a$10$x", "$argon2id$v=19$m=19456,t=2,p=1$x$y", "$2"] {
            assert!(of_etcd(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_no_hash_matches_nothing() {
        for phc in [
            "",
            "secret",
            "$argon2id$",
            "$2a$10$x",
            "$2a$99$7.VswpcQ72xQ5WBtrtMaQOS0XP/UUVg4j/5H13M.ZnXHfl2zqpUPe",
        ] {
            assert!(!verify(b"secret", Some(&PasswordHash::new(phc.to_owned()))));
        }
    }
}
