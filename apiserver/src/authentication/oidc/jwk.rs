//! Keys of an issuer as it publishes them (RFC 7517), and whether one of them signed a token (RFC 7518). Must never verify by an
//! algorithm that is not the key's own kind.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::Value;

/// What tokens can be signed by, of what Kubernetes knows: P-521 (`ES512`) cannot be verified here.
pub const ALGORITHMS: [&str; 8] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"];

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwk {
    /// Its name; may be empty.
    pub id: String,
    key: Key,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    /// Modulus and exponent, big end first.
    Rsa {
        modulus: Vec<u8>,
        exponent: Vec<u8>,
    },
    /// Points that are not compressed.
    P256(Vec<u8>),
    P384(Vec<u8>),
}

impl Jwk {
    /// Of one entry of a key set; nothing for one that signs no tokens, or not by what can be verified here.
    fn of(entry: &Value) -> Option<Self> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str).unwrap_or_default();
        let bytes = |field: &str| URL_SAFE_NO_PAD.decode(text(field).trim_end_matches('=')).ok();
        if !["", "sig"].contains(&text("use")) {
            return None;
        }
        let point = |size: usize| {
            let (x, y) = (bytes("x")?, bytes("y")?);
            (x.len() == size && y.len() == size).then(|| [&[4], &*x, &*y].concat())
        };
        let key = match (text("kty"), text("crv")) {
            ("RSA", _) => Key::Rsa { modulus: bytes("n")?, exponent: bytes("e")? },
            ("EC", "P-256") => Key::P256(point(32)?),
            ("EC", "P-384") => Key::P384(point(48)?),
            _ => return None,
        };
        Some(Self { id: text("kid").to_owned(), key })
    }

    /// Whether this key signed the message in this way.
    #[must_use]
    pub fn verifies(&self, algorithm: &str, message: &[u8], signed: &[u8]) -> bool {
        let of_curve = |way, point: &[u8]| UnparsedPublicKey::new(way, point).verify(message, signed).is_ok();
        match (&self.key, algorithm) {
            (Key::Rsa { modulus, exponent }, _) => rsa(algorithm).is_some_and(|way| {
                let key = RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(way, message, signed).is_ok()
            }),
            (Key::P256(point), "ES256") => of_curve(&signature::ECDSA_P256_SHA256_FIXED, point),
            (Key::P384(point), "ES384") => of_curve(&signature::ECDSA_P384_SHA384_FIXED, point),
            _ => false,
        }
    }
}

fn rsa(algorithm: &str) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        "RS256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &signature::RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &signature::RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &signature::RSA_PSS_2048_8192_SHA256,
        "PS384" => &signature::RSA_PSS_2048_8192_SHA384,
        "PS512" => &signature::RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

/// The keys of a JSON Web Key Set that tokens can be verified by.
///
/// # Errors
/// When it is no key set.
pub fn key_set(document: &Value) -> Result<Vec<Jwk>, String> {
    let keys = document.get("keys").and_then(Value::as_array).ok_or("it has no list of keys")?;
    Ok(keys.iter().filter_map(Jwk::of).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Made with openssl: a modulus of 2048 bits, and signatures of `message`.
    const VECTORS: &str = include_str!("rsa_vectors.json");

    #[test]
    fn rsa_keys_verify_what_they_signed_in_the_way_that_is_told() {
        let vectors: Value = serde_json::from_str(VECTORS).unwrap();
        let key = Jwk::of(&vectors["key"]).unwrap();
        let signatures = vectors["signatures"].as_object().unwrap();
        assert_eq!(signatures.len(), 6);
        for (algorithm, signed) in signatures {
            let signed = URL_SAFE_NO_PAD.decode(signed.as_str().unwrap()).unwrap();
            for other in ALGORITHMS {
                assert_eq!(
                    key.verifies(other, b"message", &signed),
                    other == algorithm,
                    "{algorithm} {other}"
                );
            }
            assert!(!key.verifies(algorithm, b"massage", &signed), "{algorithm}");
        }
    }

    #[test]
    fn keys_of_other_uses_and_kinds_are_passed_over() {
        let document = json!({"keys": [
            {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "a"},
            {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "b", "use": "enc"},
            {"kty": "EC", "crv": "P-521", "x": "AQ", "y": "AQ", "kid": "c"},
            {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ", "kid": "d"},
            {"kty": "oct", "k": "AQAB", "kid": "e"},
            {"kty": "RSA", "n": "%", "e": "AQAB", "kid": "f"},
            7,
        ]});
        let keys = key_set(&document).unwrap();
        assert_eq!(keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["a"]);
        assert!(!keys[0].verifies("none", b"", b"") && !keys[0].verifies("HS256", b"", b""));
        assert!(key_set(&json!({})).is_err());
    }
}
