//! The authorities of a cluster, encrypted with a token's secret: they stand in the store, and who has a token for masters can read
//! them. AES-256-GCM with a key by HKDF-SHA-256 from the secret, which is random and so needs no stretching. Must never keep
//! them open.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};

use crate::pki::Authorities;
use crate::token::Credential;

/// What the key is for.
const PURPOSE: &[u8] = b"barque authorities v1";

/// They cannot be opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster's authorities cannot be opened with this token: {0}")]
pub struct SealedError(&'static str);

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

fn key(credential: &Credential) -> LessSafeKey {
    let salt = Salt::new(HKDF_SHA256, credential.id.as_bytes());
    let mut bytes = [0; 32];
    let derived = salt.extract(credential.secret().as_bytes());
    derived
        .expand(&[PURPOSE], Length)
        .and_then(|it| it.fill(&mut bytes))
        .expect("32 bytes are less than 255 times SHA-256 gives");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("the key has AES-256's length"))
}

/// Encrypted, as text.
#[must_use]
pub fn seal(authorities: &Authorities, credential: &Credential) -> String {
    let mut nonce = [0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let mut sealed = serde_json::to_vec(authorities).expect("texts can be written as JSON");
    key(credential)
        .seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(credential.id.as_bytes()),
            &mut sealed,
        )
        .expect("a few kilobytes are not too long for AES-GCM");
    STANDARD.encode([&nonce[..], &sealed].concat())
}

/// Decrypted.
///
/// # Errors
/// When they were sealed with another token, or changed.
pub fn open(text: &str, credential: &Credential) -> Result<Authorities, SealedError> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| SealedError("they are no base64"))?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or(SealedError("they are cut off"))?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealedError("they are cut off"))?;
    let mut sealed = sealed.to_vec();
    let plain = key(credential)
        .open_in_place(nonce, Aad::from(credential.id.as_bytes()), &mut sealed)
        .map_err(|_| SealedError("it is another one, or they were changed"))?;
    serde_json::from_slice(plain).map_err(|_| SealedError("they are of another release"))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn only_the_token_that_sealed_them_opens_them() {
        let authorities = Authorities::create(SystemTime::now()).unwrap();
        let (own, other) = (Credential::random(), Credential::random());
        let sealed = seal(&authorities, &own);
        assert_eq!(open(&sealed, &own).unwrap(), authorities);
        assert!(open(&sealed, &other).is_err());
        let same_id = Credential::of(&own.id, other.secret()).unwrap();
        assert!(open(&sealed, &same_id).is_err());
        let mut bytes = STANDARD.decode(&sealed).unwrap();
        bytes[40] ^= 1;
        assert!(open(&STANDARD.encode(bytes), &own).is_err());
        assert!(open("AAAA", &own).is_err());
        assert!(!sealed.contains("PRIVATE KEY"));
    }
}
