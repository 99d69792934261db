//! The keys of service-account tokens: read from PEM, named as Kubernetes names them, published as a JSON Web Key Set. Must never
//! put a private key into an error, a log or a document.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, SubjectPublicKeyInfoDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::SubjectPublicKeyInfo;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA with SHA-256.
    Rs256,
    /// P-256 with SHA-256.
    Es256,
    /// P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    /// As a token names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
        }
    }
}

/// A key that tells whether a signature is right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// What tells it from other keys: a hash of the key itself.
    pub id: String,
    /// How it signs.
    pub algorithm: Algorithm,
    /// An RSAPublicKey, or a point of the curve.
    bytes: Vec<u8>,
}

impl PublicKey {
    fn of_info(der: &[u8]) -> Result<Self, String> {
        let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|_| "it is no public key".to_owned())?;
        let bytes = info.subject_public_key.data.to_vec();
        let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        let algorithm = match info.algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.1" => Algorithm::Rs256,
            "1.2.840.10045.2.1" => match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some("1.2.840.10045.3.1.7") => Algorithm::Es256,
                Some("1.3.132.0.34") => Algorithm::Es384,
                _ => return Err("its curve is neither P-256 nor P-384".to_owned()),
            },
            _ => return Err("it is neither an RSA nor an EC key".to_owned()),
        };
        Ok(Self { id: URL_SAFE_NO_PAD.encode(Sha256::digest(der)), algorithm, bytes })
    }

    /// Whether the signature is this key's.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(self.algorithm.verification(), &self.bytes).verify(message, signature).is_ok()
    }

    /// As it stands in a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn to_jwk(&self) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let mut key = json!({"use": "sig", "kid": self.id, "alg": self.algorithm.name()});
        match self.algorithm {
            Algorithm::Rs256 => {
                let (modulus, exponent) = rsa_parts(&self.bytes).unwrap_or_default();
                key["kty"] = "RSA".into();
                key["n"] = text(&modulus).into();
                key["e"] = text(&exponent).into();
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                // A point that is not compressed: 4, x, y.
                let point = self.bytes.get(1..).unwrap_or_default();
                let (x, y) = point.split_at(point.len() / 2);
                key["kty"] = "EC".into();
                key["crv"] = if self.algorithm == Algorithm::Es256 { "P-256" } else { "P-384" }.into();
                key["x"] = text(x).into();
                key["y"] = text(y).into();
            }
        }
        key
    }
}

/// Modulus and exponent of an RSAPublicKey.
fn rsa_parts(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (content, _) = element(der, 0x30)?;
    let (modulus, rest) = element(content, 0x02)?;
    let (exponent, _) = element(rest, 0x02)?;
    let bare = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
    Some((bare(modulus), bare(exponent)))
}

/// The content of the first element, if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        let count = usize::from(length & 0x7f);
        let bytes = rest.get(..count).filter(|_| (1..=4).contains(&count))?;
        (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest.get(count..)?)
    };
    (*first == tag && rest.len() >= length).then(|| rest.split_at(length))
}

fn wrapped(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut der = vec![tag];
    if length < 0x80 {
        der.push(length.to_le_bytes()[0]);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
        der.push(0x80 | bytes.len().to_le_bytes()[0]);
        der.extend(bytes);
    }
    der.extend_from_slice(content);
    der
}

/// A SubjectPublicKeyInfo of its two parts: what the algorithm is, and the key.
fn info(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    let key = [&[0], key].concat();
    wrapped(0x30, &[wrapped(0x30, algorithm), wrapped(0x03, &key)].concat())
}

const RSA: &[u8] = &[0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
const EC: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];

enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

/// A key that signs. Cloning copies a pointer.
#[derive(Clone)]
pub struct SigningKey {
    pair: Arc<Pair>,
    /// What its signatures are told by.
    pub public: PublicKey,
}

impl SigningKey {
    /// The first private key of a PEM text.
    ///
    /// # Errors
    /// What is wrong with it, in a sentence without the key.
    pub fn of_pem(pem: &str) -> Result<Self, String> {
        let key = PrivateKeyDer::from_pem_slice(pem.as_bytes());
        let key = key.map_err(|_| "it has no private key in PEM".to_owned())?;
        let random = SystemRandom::new();
        let ec = |algorithm, der: &[u8]| EcdsaKeyPair::from_pkcs8(algorithm, der, &random).ok();
        let found = match &key {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der())
                .ok()
                .map(Pair::Rsa)
                .map(|pair| (pair, RSA.to_vec())),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                RsaKeyPair::from_pkcs8(der)
                    .ok()
                    .map(|pair| (Pair::Rsa(pair), RSA.to_vec()))
                    .or_else(|| {
                        ec(&ECDSA_P256_SHA256_FIXED_SIGNING, der)
                            .map(|pair| (Pair::Ec(pair), [EC, P256].concat()))
                    })
                    .or_else(|| {
                        ec(&ECDSA_P384_SHA384_FIXED_SIGNING, der)
                            .map(|pair| (Pair::Ec(pair), [EC, P384].concat()))
                    })
            }
            PrivateKeyDer::Sec1(der) => {
                [(&ECDSA_P256_SHA256_FIXED_SIGNING, P256), (&ECDSA_P384_SHA384_FIXED_SIGNING, P384)]
                    .into_iter()
                    .find_map(|(algorithm, curve)| {
                        // The same key with its curve said in front.
                        let curve_of = wrapped(0x30, &[EC, curve].concat());
                        let inner = wrapped(0x04, der.secret_sec1_der());
                        let pkcs8 = wrapped(0x30, &[wrapped(0x02, &[0]), curve_of, inner].concat());
                        ec(algorithm, &pkcs8).map(|pair| (Pair::Ec(pair), [EC, curve].concat()))
                    })
            }
            _ => None,
        };
        let (pair, algorithm) = found.ok_or_else(|| {
            "its key is not usable: it must be RSA of at least 2048 bits, or EC on P-256 or P-384".to_owned()
        })?;
        let key = match &pair {
            Pair::Rsa(pair) => pair.public_key().as_ref(),
            Pair::Ec(pair) => pair.public_key().as_ref(),
        };
        let public = PublicKey::of_info(&info(&algorithm, key))?;
        Ok(Self { pair: Arc::new(pair), public })
    }

    /// The signature of a message.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, String> {
        let random = SystemRandom::new();
        let failed = |_| "the signing of a token failed".to_owned();
        match &*self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&signature::RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
            Pair::Ec(pair) => Ok(pair.sign(&random, message).map_err(failed)?.as_ref().to_vec()),
        }
    }
}

/// The public keys of a PEM text: public keys, certificates, or private keys, whose public halves count.
///
/// # Errors
/// When there is none, or one cannot be used, in a sentence without the key.
pub fn public_keys(pem: &str) -> Result<Vec<PublicKey>, String> {
    let mut keys = Vec::new();
    for info in SubjectPublicKeyInfoDer::pem_slice_iter(pem.as_bytes()) {
        keys.push(PublicKey::of_info(&info.map_err(|_| "it is not PEM".to_owned())?)?);
    }
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|_| "it is not PEM".to_owned())?;
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|_| "it has a damaged certificate".to_owned())?;
        keys.push(PublicKey::of_info(parsed.public_key().raw)?);
    }
    if keys.is_empty() {
        keys.push(SigningKey::of_pem(pem).map_err(|_| "it has no key that can be used".to_owned())?.public);
    }
    Ok(keys)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn pair() -> SigningKey {
        SigningKey::of_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    #[test]
    fn what_is_signed_is_verified_by_its_key_alone() {
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384] {
            let generated = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let key = SigningKey::of_pem(&generated.serialize_pem()).unwrap();
            let signature = key.sign(b"message").unwrap();
            assert!(key.public.verifies(b"message", &signature));
            assert!(!key.public.verifies(b"massage", &signature));
            assert!(!pair().public.verifies(b"message", &signature));
            // The public half by itself is the same key, with the same name.
            assert_eq!(public_keys(&generated.public_key_pem()).unwrap(), std::slice::from_ref(&key.public));
            assert_eq!(public_keys(&generated.serialize_pem()).unwrap(), std::slice::from_ref(&key.public));
            let jwk = key.public.to_jwk();
            assert_eq!((&jwk["kty"], &jwk["kid"]), (&json!("EC"), &json!(key.public.id)));
        }
    }

    #[test]
    fn what_is_no_key_is_told_without_it() {
        for pem in ["", "secret", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"] {
            let told = SigningKey::of_pem(pem).err().unwrap();
            assert!(!told.contains("secret") && !told.contains("c2Vj"), "{told}");
            assert!(public_keys(pem).is_err());
        }
    }

    #[test]
    fn parts_of_rsa_keys_are_found() {
        let der = wrapped(0x30, &[wrapped(0x02, &[0, 0xff, 0x01]), wrapped(0x02, &[1, 0, 1])].concat());
        assert_eq!(rsa_parts(&der), Some((vec![0xff, 0x01], vec![1, 0, 1])));
        let long = wrapped(0x04, &[7; 300]);
        assert_eq!(element(&long, 0x04), Some((&[7; 300][..], &[][..])));
        assert_eq!(rsa_parts(&der[..3]), None);
    }
}
