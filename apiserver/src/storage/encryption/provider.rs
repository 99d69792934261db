//! The ciphers, in the forms in which Kubernetes writes them. Pure; chance is handed in.

use std::fmt;

use aes::{Aes192, Aes256};
use aes_gcm::aead::consts::U12;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use bytes::Bytes;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockDecryptMut as _, BlockEncryptMut as _, KeyIvInit as _};
use crypto_secretbox::XSalsa20Poly1305;

type Aes192Gcm = AesGcm<Aes192, U12>;

/// What all encrypted values begin with.
const ENCRYPTED: &[u8] = b"k8s:enc:";
const CBC_IV_BYTES: usize = 16;
const GCM_NONCE_BYTES: usize = 12;
const SECRETBOX_NONCE_BYTES: usize = 24;

/// A kind of cipher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    AesCbc,
    AesGcm,
    Secretbox,
}

impl Kind {
    /// As the configuration and stored values name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AesCbc => "aescbc",
            Self::AesGcm => "aesgcm",
            Self::Secretbox => "secretbox",
        }
    }

    /// How long its keys are.
    pub(super) const fn key_bytes(self) -> &'static [usize] {
        match self {
            Self::AesGcm => &[16, 24, 32],
            Self::AesCbc | Self::Secretbox => &[32],
        }
    }
}

/// A key and what it is used with.
enum Cipher {
    Cbc([u8; 32]),
    Gcm128(Box<Aes128Gcm>),
    Gcm192(Box<Aes192Gcm>),
    Gcm256(Box<Aes256Gcm>),
    Secretbox(Box<XSalsa20Poly1305>),
}

/// A named key.
pub(super) struct Key {
    name: String,
    cipher: Cipher,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Key {
    /// `None` when the secret has the wrong length.
    pub(super) fn new(kind: Kind, name: &str, secret: &[u8]) -> Option<Self> {
        let cipher = match (kind, secret.len()) {
            (Kind::AesCbc, _) => Cipher::Cbc(secret.try_into().ok()?),
            (Kind::AesGcm, 16) => Cipher::Gcm128(Box::new(Aes128Gcm::new_from_slice(secret).ok()?)),
            (Kind::AesGcm, 24) => Cipher::Gcm192(Box::new(Aes192Gcm::new_from_slice(secret).ok()?)),
            (Kind::AesGcm, _) => Cipher::Gcm256(Box::new(Aes256Gcm::new_from_slice(secret).ok()?)),
            (Kind::Secretbox, _) => {
                Cipher::Secretbox(Box::new(XSalsa20Poly1305::new_from_slice(secret).ok()?))
            }
        };
        Some(Self { name: name.to_owned(), cipher })
    }

    /// Nonce and ciphertext. The storage key is additional data where the cipher has that.
    fn seal(&self, aad: &[u8], plain: &[u8], chance: &mut dyn FnMut(&mut [u8])) -> Option<Vec<u8>> {
        let mut nonce = [0; SECRETBOX_NONCE_BYTES];
        let nonce = match self.cipher {
            Cipher::Cbc(_) => &mut nonce[..CBC_IV_BYTES],
            Cipher::Secretbox(_) => &mut nonce[..],
            _ => &mut nonce[..GCM_NONCE_BYTES],
        };
        chance(nonce);
        let payload = Payload { msg: plain, aad };
        let sealed = match &self.cipher {
            Cipher::Cbc(key) => {
                let cipher = cbc::Encryptor::<Aes256>::new_from_slices(key, nonce).ok()?;
                cipher.encrypt_padded_vec_mut::<Pkcs7>(plain)
            }
            Cipher::Gcm128(cipher) => cipher.encrypt((&*nonce).into(), payload).ok()?,
            Cipher::Gcm192(cipher) => cipher.encrypt((&*nonce).into(), payload).ok()?,
            Cipher::Gcm256(cipher) => cipher.encrypt((&*nonce).into(), payload).ok()?,
            Cipher::Secretbox(cipher) => cipher.encrypt((&*nonce).into(), plain).ok()?,
        };
        Some([&*nonce, &sealed[..]].concat())
    }

    fn open(&self, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let nonce_bytes = match self.cipher {
            Cipher::Cbc(_) => CBC_IV_BYTES,
            Cipher::Secretbox(_) => SECRETBOX_NONCE_BYTES,
            _ => GCM_NONCE_BYTES,
        };
        let (nonce, sealed) = sealed.split_at_checked(nonce_bytes)?;
        let payload = Payload { msg: sealed, aad };
        match &self.cipher {
            Cipher::Cbc(key) => {
                let cipher = cbc::Decryptor::<Aes256>::new_from_slices(key, nonce).ok()?;
                cipher.decrypt_padded_vec_mut::<Pkcs7>(sealed).ok()
            }
            Cipher::Gcm128(cipher) => cipher.decrypt(nonce.into(), payload).ok(),
            Cipher::Gcm192(cipher) => cipher.decrypt(nonce.into(), payload).ok(),
            Cipher::Gcm256(cipher) => cipher.decrypt(nonce.into(), payload).ok(),
            Cipher::Secretbox(cipher) => cipher.decrypt(nonce.into(), sealed).ok(),
        }
    }
}

/// One way to write and read values.
#[derive(Debug)]
pub(super) enum Provider {
    /// As they are.
    Identity,
    /// With the first of these keys; read with whichever is named.
    Keys(Kind, Vec<Key>),
}

impl Provider {
    fn prefix(kind: Kind) -> String {
        format!("k8s:enc:{}:v1:", kind.name())
    }

    /// `None` when the value is not of this provider.
    fn open(&self, key: &[u8], value: &Bytes) -> Option<Result<Bytes, String>> {
        match self {
            Self::Identity if value.starts_with(ENCRYPTED) => None,
            Self::Identity => Some(Ok(value.clone())),
            Self::Keys(kind, keys) => {
                let rest = value.strip_prefix(Self::prefix(*kind).as_bytes())?;
                let named = keys.iter().find_map(|candidate| {
                    let sealed = rest.strip_prefix(candidate.name.as_bytes())?.strip_prefix(b":")?;
                    Some((candidate, sealed))
                });
                Some(match named {
                    Some((named, sealed)) => named.open(key, sealed).map(Bytes::from).ok_or_else(|| {
                        format!("its value does not fit the key {:?} of {}", named.name, kind.name())
                    }),
                    None => Err(format!(
                        "its value was encrypted with a key of {} that is not there",
                        kind.name()
                    )),
                })
            }
        }
    }
}

/// All ways to read the values of a collection; the first one writes.
#[derive(Debug)]
pub(super) struct Providers(pub(super) Vec<Provider>);

impl Providers {
    /// As it is to be stored under `key`.
    pub(super) fn seal(
        &self,
        key: &[u8],
        value: &Bytes,
        chance: &mut dyn FnMut(&mut [u8]),
    ) -> Result<Bytes, String> {
        match self.0.first() {
            None | Some(Provider::Identity) => Ok(value.clone()),
            Some(Provider::Keys(kind, keys)) => {
                let first = keys.first().ok_or("there is no key to encrypt with")?;
                let sealed = first.seal(key, value, chance).ok_or("its value cannot be encrypted")?;
                let prefix = format!("{}{}:", Provider::prefix(*kind), first.name);
                Ok([prefix.as_bytes(), &sealed].concat().into())
            }
        }
    }

    /// What was stored under `key`.
    pub(super) fn open(&self, key: &[u8], value: &Bytes) -> Result<Bytes, String> {
        // A provider may stand here several times, with other keys each time.
        let mut first_error = None;
        for opened in self.0.iter().filter_map(|provider| provider.open(key, value)) {
            match opened {
                Ok(plain) => return Ok(plain),
                Err(why) => {
                    first_error.get_or_insert(why);
                }
            }
        }
        Err(first_error
            .unwrap_or_else(|| "its value is encrypted in a way that no provider can read".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(kind: Kind, secret: &[u8]) -> Providers {
        Providers(vec![Provider::Keys(kind, vec![Key::new(kind, "k", secret).unwrap()])])
    }

    fn hex(text: &str) -> Vec<u8> {
        text.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn values_have_the_form_that_kubernetes_gives_them() {
        // The test vectors of NIST for AES-CBC (SP 800-38A, F.2.5) and AES-GCM (case 14), and that of NaCl for boxes.
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let iv = hex("000102030405060708090a0b0c0d0e0f");
        let plain = Bytes::from(hex("6bc1bee22e409f96e93d7e117393172a"));
        let sealed =
            one(Kind::AesCbc, &key).seal(b"/k", &plain, &mut |nonce| nonce.copy_from_slice(&iv)).unwrap();
        let rest = sealed.strip_prefix(b"k8s:enc:aescbc:v1:k:").unwrap();
        assert_eq!(rest[..32], [iv, hex("f58c4c04d6e5f1ba779eabfb5f7bfbd6")].concat());
        assert_eq!(rest.len(), 48, "a full block is padded by another one");

        let plain = Bytes::from(vec![0; 16]);
        let sealed = one(Kind::AesGcm, &[0; 32]).seal(b"", &plain, &mut |nonce| nonce.fill(0)).unwrap();
        let expected = hex("cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919");
        assert_eq!(sealed.strip_prefix(b"k8s:enc:aesgcm:v1:k:").unwrap()[12..], expected);

        let key = hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let plain = hex(concat!(
            "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296cdc3c01",
            "233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd",
            "4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
        ));
        let copy = nonce.clone();
        let sealed =
            one(Kind::Secretbox, &key).seal(b"/k", &plain.into(), &mut |n| n.copy_from_slice(&copy)).unwrap();
        let rest = sealed.strip_prefix(b"k8s:enc:secretbox:v1:k:").unwrap();
        assert_eq!(rest[..24], nonce);
        assert_eq!(rest[24..44], hex("f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f"), "the tag comes first");
    }

    #[test]
    fn aesgcm_values_belong_to_their_storage_key() {
        let value = Bytes::from_static(b"secret");
        for (kind, bound) in [(Kind::AesGcm, true), (Kind::AesCbc, false), (Kind::Secretbox, false)] {
            let providers = one(kind, &[7; 32]);
            let sealed = providers.seal(b"/a", &value, &mut |nonce| nonce.fill(1)).unwrap();
            assert_eq!(providers.open(b"/a", &sealed), Ok(value.clone()));
            assert_eq!(providers.open(b"/b", &sealed).is_err(), bound);
        }
    }

    #[test]
    fn keys_of_any_allowed_length_work_and_no_others() {
        let value = Bytes::from_static(b"x");
        for kind in [Kind::AesCbc, Kind::AesGcm, Kind::Secretbox] {
            for len in 0..64 {
                let allowed = kind.key_bytes().contains(&len);
                assert_eq!(Key::new(kind, "k", &vec![1; len]).is_some(), allowed, "{kind:?} {len}");
                if allowed {
                    let providers = one(kind, &vec![1; len]);
                    let sealed = providers.seal(b"/a", &value, &mut |nonce| nonce.fill(1)).unwrap();
                    assert_eq!(providers.open(b"/a", &sealed), Ok(value.clone()));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn damage_is_seen_where_the_cipher_can_see_it(plain: Vec<u8>, at: proptest::sample::Index, bit in 0..8_u8) {
            for kind in [Kind::AesGcm, Kind::Secretbox] {
                let providers = one(kind, &[3; 32]);
                let sealed = providers.seal(b"/a", &plain.clone().into(), &mut |nonce| nonce.fill(9)).unwrap();
                let mut damaged = sealed.to_vec();
                let at = at.index(damaged.len());
                damaged[at] ^= 1 << bit;
                prop_assert!(providers.open(b"/a", &damaged.into()).is_err());
                let cut = sealed.slice(..sealed.len() - 1);
                prop_assert!(providers.open(b"/a", &cut).is_err());
            }
        }

        #[test]
        fn foreign_bytes_are_refused_or_taken_as_they_are(bytes: Vec<u8>) {
            let value = Bytes::from([b"k8s:enc:aescbc:v1:k:", &bytes[..]].concat());
            let _ = one(Kind::AesCbc, &[3; 32]).open(b"/a", &value);
            let identity = Providers(vec![Provider::Identity]);
            prop_assert!(identity.open(b"/a", &value).is_err());
        }
    }
}
