//! An authority: a certificate that signs others, and its key. Must never tell its key but to who writes it down.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use barque_api::certificate_bundle::{certificates, joined};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};

/// How long an authority is good.
const AUTHORITY_LIFE: Duration = Duration::from_secs(3650 * 86_400);
/// How long what it signs is good.
pub const LEAF_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// Clocks differ: what is made now is good since then.
const BACKDATED: Duration = Duration::from_secs(3600);

/// What is wrong with an authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Certificate or key cannot be used.
    #[error("an authority's certificate or key cannot be used: {0}")]
    Unusable(String),
    /// A name that no certificate can have.
    #[error("{name:?} cannot stand in a certificate: {why}")]
    Name {
        /// The name.
        name: String,
        /// Why.
        why: String,
    },
    /// It cannot sign.
    #[error("a certificate cannot be signed: {0}")]
    Signing(String),
}

/// A certificate and its key, PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// What a certificate says of whom it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its common name.
    pub common_name: String,
    /// Its organizations.
    pub organizations: Vec<String>,
    /// Names under which it serves.
    pub names: Vec<String>,
    /// Addresses under which it serves.
    pub addresses: Vec<IpAddr>,
    /// Whether it serves.
    pub serves: bool,
    /// Whether it asks.
    pub asks: bool,
}

/// An authority that can sign.
pub struct Authority {
    pair: Pair,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create(common_name: &str, now: SystemTime) -> Result<Self, AuthorityError> {
        let unusable = |error: rcgen::Error| AuthorityError::Unusable(error.to_string());
        let key = KeyPair::generate().map_err(unusable)?;
        let certificate = authority_params(common_name, now).self_signed(&key).map_err(unusable)?.pem();
        Self::load(Pair { certificate, key: key.serialize_pem() })
    }

    /// One that is there. Of several certificates, the first is the authority's own.
    ///
    /// # Errors
    /// When certificate or key are none, or not of each other.
    pub fn load(pair: Pair) -> Result<Self, AuthorityError> {
        let unusable = |error: rcgen::Error| AuthorityError::Unusable(error.to_string());
        let key = KeyPair::from_pem(&pair.key).map_err(unusable)?;
        let der = der(&pair.certificate)?;
        let (_, read) = x509_parser::parse_x509_certificate(&der)
            .map_err(|error| AuthorityError::Unusable(error.to_string()))?;
        if read.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(AuthorityError::Unusable("the key is not that of the certificate".to_owned()));
        }
        let issuer = Issuer::from_ca_cert_pem(&pair.certificate, key).map_err(unusable)?;
        Ok(Self { pair, issuer })
    }

    /// Another authority's certificate, signed by this one: who trusts this one alone trusts by it what the other one signs.
    ///
    /// # Errors
    /// When the other one cannot be used.
    pub fn cross_sign(&self, other: &Pair, now: SystemTime) -> Result<String, AuthorityError> {
        let unusable = |error: rcgen::Error| AuthorityError::Unusable(error.to_string());
        let key = KeyPair::from_pem(&other.key).map_err(unusable)?;
        let params = authority_params(&crate::leaf::facts(&other.certificate)?.common_name, now);
        Ok(params.signed_by(&key, &self.issuer).map_err(unusable)?.pem())
    }

    /// As it is written down.
    #[must_use]
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// What tells it from all others.
    #[must_use]
    pub fn pin(&self) -> Pin {
        der(&self.pair.certificate).map(|der| Pin::of(&der)).unwrap_or(Pin([0; 32]))
    }

    /// Signs a new certificate with a new key.
    ///
    /// # Errors
    /// When a name cannot stand in it.
    pub fn issue(&self, subject: &Subject, now: SystemTime) -> Result<Pair, AuthorityError> {
        let signing = |error: rcgen::Error| AuthorityError::Signing(error.to_string());
        let key = KeyPair::generate().map_err(signing)?;
        let certificate = params(subject, now)?.signed_by(&key, &self.issuer).map_err(signing)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

/// A certificate that signs itself, and its key: nobody believes it who was not told of it.
///
/// # Errors
/// When a name cannot stand in it.
pub fn self_signed(subject: &Subject, now: SystemTime) -> Result<Pair, AuthorityError> {
    let signing = |error: rcgen::Error| AuthorityError::Signing(error.to_string());
    let key = KeyPair::generate().map_err(signing)?;
    let certificate = params(subject, now)?.self_signed(&key).map_err(signing)?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// A request for a certificate, PEM, and the key that it is for. Which usages it gets is said elsewhere.
///
/// # Errors
/// When a name cannot stand in it.
pub fn request(subject: &Subject) -> Result<(String, String), AuthorityError> {
    let signing = |error: rcgen::Error| AuthorityError::Signing(error.to_string());
    let key = KeyPair::generate().map_err(signing)?;
    let mut params = params(subject, SystemTime::UNIX_EPOCH)?;
    (params.key_usages, params.extended_key_usages) = (Vec::new(), Vec::new());
    let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(signing)?;
    Ok((request, key.serialize_pem()))
}

/// A key for tokens of service accounts, PEM.
///
/// # Errors
/// When none can be made.
pub fn token_key() -> Result<String, AuthorityError> {
    let key = KeyPair::generate().map_err(|error| AuthorityError::Signing(error.to_string()))?;
    Ok(key.serialize_pem())
}

fn authority_params(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    set_life(&mut params, now, AUTHORITY_LIFE);
    params
}

/// The pair with that certificate of its bundle first which its key belongs to: the key says who signs.
///
/// # Errors
/// When it belongs to none.
pub fn signer_first(pair: Pair) -> Result<Pair, AuthorityError> {
    let mut last = AuthorityError::Unusable("it has no certificate".to_owned());
    for certificate in certificates(&pair.certificate) {
        match Authority::load(Pair { certificate: certificate.clone(), key: pair.key.clone() }) {
            Ok(_) => {
                let certificate = joined(&[&certificate, &pair.certificate]);
                return Ok(Pair { certificate, key: pair.key });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn params(subject: &Subject, now: SystemTime) -> Result<CertificateParams, AuthorityError> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, subject.common_name.as_str());
    for organization in &subject.organizations {
        params.distinguished_name.push(DnType::OrganizationName, organization.as_str());
    }
    for name in &subject.names {
        let text = name.as_str().try_into().map_err(|error: rcgen::Error| AuthorityError::Name {
            name: name.clone(),
            why: error.to_string(),
        })?;
        params.subject_alt_names.push(SanType::DnsName(text));
    }
    params.subject_alt_names.extend(subject.addresses.iter().map(|address| SanType::IpAddress(*address)));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    let usages = [
        (subject.serves, ExtendedKeyUsagePurpose::ServerAuth),
        (subject.asks, ExtendedKeyUsagePurpose::ClientAuth),
    ];
    params.extended_key_usages = usages.into_iter().filter(|(is, _)| *is).map(|(_, usage)| usage).collect();
    set_life(&mut params, now, LEAF_LIFE);
    Ok(params)
}

/// Good from a little before now, to the second.
fn set_life(params: &mut CertificateParams, now: SystemTime, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = Duration::from_secs(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs());
    params.not_before = epoch + since.saturating_sub(BACKDATED);
    params.not_after = epoch + since.saturating_add(life);
}

/// The SHA-256 of an authority's certificate: who knows it cannot be shown another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    /// That of a certificate, DER.
    #[must_use]
    pub fn of(der: &[u8]) -> Self {
        let mut pin = [0; 32];
        pin.copy_from_slice(digest(&SHA256, der).as_ref());
        Self(pin)
    }

    /// In hexadecimal.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Those of the certificates of a bundle; one that is none has none.
    #[must_use]
    pub fn all(bundle: &str) -> Vec<Self> {
        certificates(bundle).iter().filter_map(|one| der(one).ok()).map(|der| Self::of(&der)).collect()
    }
}

/// A certificate as bytes.
///
/// # Errors
/// When it is no PEM.
pub fn der(pem: &str) -> Result<CertificateDer<'static>, AuthorityError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| AuthorityError::Unusable(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leaf::facts;

    #[test]
    fn the_key_says_which_certificate_of_a_bundle_signs() {
        let now = SystemTime::now();
        let (old, new) = (Authority::create("old", now).unwrap(), Authority::create("new", now).unwrap());
        let bundle = joined(&[&old.pair().certificate, &new.pair().certificate, &old.pair().certificate]);
        assert_eq!(Pin::all(&bundle), [old.pin(), new.pin()]);
        for authority in [&old, &new] {
            let pair = Pair { certificate: bundle.clone(), key: authority.pair().key.clone() };
            let first = signer_first(pair).unwrap();
            assert_eq!(Authority::load(first.clone()).unwrap().pin(), authority.pin());
            assert_eq!(certificates(&first.certificate).len(), 2);
        }
        let stranger = Authority::create("stranger", now).unwrap();
        let pair = Pair { certificate: bundle, key: stranger.pair().key.clone() };
        assert!(signer_first(pair).is_err());
    }

    #[test]
    fn who_is_signed_by_another_keeps_name_and_key() {
        let now = SystemTime::now();
        let (old, new) = (Authority::create("old", now).unwrap(), Authority::create("new", now).unwrap());
        let cross = old.cross_sign(new.pair(), now).unwrap();
        let (is, own) = (facts(&cross).unwrap(), facts(&new.pair().certificate).unwrap());
        assert_eq!((is.subject, is.issuer), (own.subject, facts(&old.pair().certificate).unwrap().subject));
        // It can stand in the other one's place, as the key is the same.
        Authority::load(Pair { certificate: cross, key: new.pair().key.clone() }).unwrap();
    }
}
