//! The authorities of a cluster, encrypted: they stand in the store. With a token's secret, so that who has a token for masters can
//! read them; those to come, with what all masters have. AES-256-GCM with a key by HKDF-SHA-256 from the secret, which is random and
//! so needs no stretching. Must never keep them open.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand::RngCore as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::pki::{Authorities, SecretText};
use crate::rotation::material::Material;
use crate::token::Credential;

/// What a key is for.
const PURPOSE: &[u8] = b"barque authorities v1";
const ROTATION: &[u8] = b"barque rotation v1";

/// They cannot be opened.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealedError {
    /// With a token.
    #[error("the cluster's authorities cannot be opened with this token: {0}")]
    Token(&'static str),
    /// With what masters have.
    #[error("the authorities to come cannot be opened with the key of this master: {0}")]
    Master(&'static str),
}

struct Length;

impl KeyType for Length {
    fn len(&self) -> usize {
        AES_256_GCM.key_len()
    }
}

fn key(salt: &[u8], secret: &[u8], purpose: &[u8]) -> LessSafeKey {
    let salt = Salt::new(HKDF_SHA256, salt);
    let mut bytes = [0; 32];
    let derived = salt.extract(secret);
    derived
        .expand(&[purpose], Length)
        .and_then(|it| it.fill(&mut bytes))
        .expect("32 bytes are less than 255 times SHA-256 gives");
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &bytes).expect("the key has AES-256's length"))
}

/// Encrypted, as text.
#[must_use]
pub fn seal(authorities: &Authorities, credential: &Credential) -> String {
    let id = credential.id.as_bytes();
    encrypt(authorities, &key(id, credential.secret().as_bytes(), PURPOSE), id)
}

/// The same for those to come, with the key of tokens of service accounts, which is no authority's and stays.
#[must_use]
pub fn seal_material(material: &Material, token_key: &SecretText) -> String {
    encrypt(material, &key(ROTATION, token_key.0.trim().as_bytes(), ROTATION), ROTATION)
}

fn encrypt(plain: &impl Serialize, key: &LessSafeKey, whose: &[u8]) -> String {
    let mut nonce = [0; NONCE_LEN];
    rand::rng().fill_bytes(&mut nonce);
    let mut sealed = serde_json::to_vec(plain).expect("texts can be written as JSON");
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(whose), &mut sealed)
        .expect("a few kilobytes are not too long for AES-GCM");
    STANDARD.encode([&nonce[..], &sealed].concat())
}

/// Decrypted.
///
/// # Errors
/// When they were sealed with another token, or changed.
pub fn open(text: &str, credential: &Credential) -> Result<Authorities, SealedError> {
    let id = credential.id.as_bytes();
    decrypt(text, &key(id, credential.secret().as_bytes(), PURPOSE), id).map_err(SealedError::Token)
}

/// The same for those to come.
///
/// # Errors
/// When they were sealed by masters of another cluster, or changed.
pub fn open_material(text: &str, token_key: &SecretText) -> Result<Material, SealedError> {
    decrypt(text, &key(ROTATION, token_key.0.trim().as_bytes(), ROTATION), ROTATION)
        .map_err(SealedError::Master)
}

fn decrypt<T: DeserializeOwned>(text: &str, key: &LessSafeKey, whose: &[u8]) -> Result<T, &'static str> {
    let bytes = STANDARD.decode(text.trim()).map_err(|_| "they are no base64")?;
    let (nonce, sealed) = bytes.split_at_checked(NONCE_LEN).ok_or("they are cut off")?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| "they are cut off")?;
    let mut sealed = sealed.to_vec();
    let plain = key
        .open_in_place(nonce, Aad::from(whose), &mut sealed)
        .map_err(|_| "it is another one, or they were changed")?;
    serde_json::from_slice(plain).map_err(|_| "they are of another release")
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

    #[test]
    fn only_masters_of_the_cluster_open_what_is_to_come() {
        let (one, other) = (
            Authorities::create(SystemTime::now()).unwrap(),
            Authorities::create(SystemTime::now()).unwrap(),
        );
        let material = Material::create(&one, SystemTime::now()).unwrap();
        let sealed = seal_material(&material, &one.token_key);
        assert_eq!(open_material(&sealed, &one.token_key).unwrap(), material);
        assert!(open_material(&sealed, &other.token_key).is_err());
        assert!(!sealed.contains("PRIVATE KEY"));
    }
}
