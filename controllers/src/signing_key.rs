//! Signs tokens of service accounts as JSON web tokens. Must never tell the key.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// There is none.
    #[error("it has no private key in PEM")]
    Missing,
    /// It is of another kind, or too short.
    #[error("its key is not usable: it must be RSA of at least 2048 bits, or EC on P-256 or P-384")]
    Unusable,
    /// There is no randomness to be had.
    #[error("the signing of a token failed")]
    Sign,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair, Curve),
}

#[derive(Clone, Copy)]
enum Curve {
    P256,
    P384,
}

const OID_RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const OID_EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const OID_P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const OID_P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
const NULL: &[u8] = &[0x05, 0x00];
const SEQUENCE: u8 = 0x30;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const INTEGER: u8 = 0x02;

impl Curve {
    const ALL: [Self; 2] = [Self::P256, Self::P384];

    fn oid(self) -> &'static [u8] {
        match self {
            Self::P256 => OID_P256,
            Self::P384 => OID_P384,
        }
    }

    fn read(self, pkcs8: &[u8]) -> Option<Pair> {
        let algorithm = match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8, &SystemRandom::new()).ok()?;
        Some(Pair::Ec(pair, self))
    }
}

/// A DER value.
fn der(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().position(|byte| *byte != 0).unwrap_or(length.len() - 1)..];
    let mut whole = vec![tag];
    match significant {
        [short] if *short < 0x80 => whole.push(*short),
        long => {
            whole.push(0x80 | long.len().to_le_bytes()[0]);
            whole.extend(long);
        }
    }
    whole.extend(content);
    whole
}

/// A key that signs tokens. Cloning copies a pointer.
#[derive(Clone)]
pub(crate) struct SigningKey {
    pair: Arc<Pair>,
    /// Tells verifiers which key it was, as upstream derives it: the digest of the public half.
    id: String,
}

impl SigningKey {
    /// The first private key of a PEM text.
    ///
    /// # Errors
    /// When there is none that can be used.
    pub(crate) fn of_pem(pem: &str) -> Result<Self, KeyError> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::Missing)?;
        let pair = match &key {
            PrivateKeyDer::Pkcs1(key) => RsaKeyPair::from_der(key.secret_pkcs1_der()).ok().map(Pair::Rsa),
            PrivateKeyDer::Pkcs8(key) => {
                let key = key.secret_pkcs8_der();
                let rsa = RsaKeyPair::from_pkcs8(key).ok().map(Pair::Rsa);
                rsa.or_else(|| Curve::ALL.into_iter().find_map(|curve| curve.read(key)))
            }
            // The same key as PKCS#8, with its curve said in front.
            PrivateKeyDer::Sec1(key) => Curve::ALL.into_iter().find_map(|curve| {
                let algorithm = der(SEQUENCE, &[OID_EC, curve.oid()]);
                let inner = der(OCTET_STRING, &[key.secret_sec1_der()]);
                curve.read(&der(SEQUENCE, &[&der(INTEGER, &[&[0]]), &algorithm, &inner]))
            }),
            _ => None,
        };
        let pair = pair.ok_or(KeyError::Unusable)?;
        let (algorithm, public) = match &pair {
            Pair::Rsa(pair) => (der(SEQUENCE, &[OID_RSA, NULL]), pair.public_key().as_ref().to_vec()),
            Pair::Ec(pair, curve) => {
                (der(SEQUENCE, &[OID_EC, curve.oid()]), pair.public_key().as_ref().to_vec())
            }
        };
        let info = der(SEQUENCE, &[&algorithm, &der(BIT_STRING, &[&[0], &public])]);
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, &info));
        Ok(Self { pair: Arc::new(pair), id })
    }

    /// A token with these claims.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub(crate) fn token(&self, claims: &Value) -> Result<String, KeyError> {
        let algorithm = match &*self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ec(_, Curve::P256) => "ES256",
            Pair::Ec(_, Curve::P384) => "ES384",
        };
        let header = json!({"alg": algorithm, "kid": self.id});
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = self.sign(message.as_bytes())?;
        Ok(format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let random = SystemRandom::new();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let signed = pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature);
                signed.map_err(|_| KeyError::Sign)?;
                Ok(signature)
            }
            Pair::Ec(pair, _) => {
                let signature = pair.sign(&random, message).map_err(|_| KeyError::Sign)?;
                Ok(signature.as_ref().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
    use rustls::pki_types::SubjectPublicKeyInfoDer;

    use super::*;

    #[test]
    fn tokens_are_verified_by_the_public_half() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let key = SigningKey::of_pem(&pair.serialize_pem()).unwrap();
        let token = key.token(&json!({"sub": "system:serviceaccount:ns:robot"})).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key_raw());
        public.verify(message.as_bytes(), &signature).unwrap();
        let (header, claims) = message.split_once('.').unwrap();
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
        let info = SubjectPublicKeyInfoDer::from_pem_slice(pair.public_key_pem().as_bytes()).unwrap();
        let id = URL_SAFE_NO_PAD.encode(digest(&SHA256, &info));
        assert_eq!(header, json!({"alg": "ES256", "kid": id}));
        let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
        assert_eq!(claims, json!({"sub": "system:serviceaccount:ns:robot"}));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert_eq!(SigningKey::of_pem("").err(), Some(KeyError::Missing));
        let rubbish = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert_eq!(SigningKey::of_pem(rubbish).err(), Some(KeyError::Unusable));
    }
}
