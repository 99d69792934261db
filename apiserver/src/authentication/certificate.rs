//! Users by their certificates: the common name is the user, each organization a group (Kubernetes' x509 authenticator). Must
//! never take one that its authority did not sign for clients, or whose time is not now.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use barque_api::time::Time;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{DistinguishedName, RootCertStore};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::CREDENTIAL_ID;
use super::verified::{ChainId, Verified, validity};
use crate::authorization::User;

/// Who signs certificates. Cloning copies a pointer.
#[derive(Clone)]
pub struct Authorities(Arc<Inner>);

struct Inner {
    verifier: Arc<dyn ClientCertVerifier>,
    verified: Verified,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authorities")
    }
}

impl Authorities {
    /// Of certificates in PEM.
    ///
    /// # Errors
    /// When there is none, or one cannot be used, with a sentence that says why.
    pub fn of_pem(pem: &str) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("it is not PEM: {error}"))?;
            roots.add(certificate).map_err(|error| format!("a certificate cannot be used: {error}"))?;
        }
        if roots.is_empty() {
            return Err("it has no certificate".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let inner = |verifier| Inner { verifier, verified: Verified::default() };
        verifier.map(|verifier| Self(Arc::new(inner(verifier)))).map_err(|error| error.to_string())
    }

    /// The names of the authorities, for clients that have several certificates.
    #[must_use]
    pub fn names(&self) -> Vec<DistinguishedName> {
        self.0.verifier.root_hint_subjects().to_vec()
    }

    /// Whose certificate the first of these is.
    ///
    /// # Errors
    /// Why it is not accepted, for the log.
    pub fn user(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<User, String> {
        let id = ChainId::of(chain);
        if let Some(user) = self.0.verified.user(id, now.unix()) {
            return Ok(user);
        }
        let user = self.user_anew(chain, now)?;
        if let Some(valid) = validity(chain) {
            self.0.verified.enter(id, &user, valid);
        }
        Ok(user)
    }

    fn user_anew(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<User, String> {
        let (subject, parsed) = self.verified(chain, now)?;
        let names = parsed.subject();
        let text = |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            attribute.as_str().map(str::to_owned).unwrap_or_default()
        };
        let name = names.iter_common_name().next().map(text).unwrap_or_default();
        if name.is_empty() {
            return Err("it has no common name".to_owned());
        }
        let groups = names.iter_organization().map(text).filter(|group| !group.is_empty()).collect();
        let digest = Sha256::digest(subject);
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let extra = [(CREDENTIAL_ID.to_owned(), vec![format!("X509SHA256={hex}")])];
        Ok(User { name, groups, extra: extra.into(), ..User::default() })
    }

    /// The common name of a certificate that one of these signed.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub(super) fn common_name(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<String, String> {
        let (_, parsed) = self.verified(chain, now)?;
        let name = parsed.subject().iter_common_name().next().and_then(|one| one.as_str().ok());
        Ok(name.unwrap_or_default().to_owned())
    }

    fn verified<'a>(
        &self,
        chain: &'a [CertificateDer<'_>],
        now: Time,
    ) -> Result<(&'a [u8], X509Certificate<'a>), String> {
        let [own, others @ ..] = chain else { return Err("there is none".to_owned()) };
        let seconds = u64::try_from(now.unix()).unwrap_or_default();
        let time = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        self.0.verifier.verify_client_cert(own, others, time).map_err(|error| error.to_string())?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|error| error.to_string())?;
        Ok((own, parsed))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };

    use super::*;

    pub(crate) type Issuer = CertifiedIssuer<'static, KeyPair>;

    pub(crate) fn authority() -> (Issuer, Authorities) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let authorities = Authorities::of_pem(&issuer.pem()).unwrap();
        (issuer, authorities)
    }

    pub(crate) fn client(
        issuer: &Issuer,
        name: &str,
        groups: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().clone()
    }

    const NOW: Time = Time::of_unix(1_800_000_000);

    #[test]
    fn a_signed_certificate_tells_user_and_group() {
        let (issuer, authorities) = authority();
        let chain = [client(&issuer, "eva", &["devs"], |_| {})];
        let user = authorities.user(&chain, NOW).unwrap();
        assert_eq!((user.name.as_str(), user.groups.as_slice()), ("eva", &["devs".to_owned()][..]));
        assert!(user.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
    }

    #[test]
    fn what_was_verified_is_not_believed_when_its_time_is_over() {
        let (issuer, authorities) = authority();
        let short = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2028, 1, 1);
        let chain = [client(&issuer, "eva", &["devs"], short)];
        let first = authorities.user(&chain, NOW).unwrap();
        assert_eq!(authorities.user(&chain, NOW).unwrap(), first);
        let later = Time::of_unix(1_900_000_000);
        assert!(authorities.user(&chain, later).is_err());
        assert_eq!(authorities.user(&chain, NOW).unwrap(), first);
    }

    #[test]
    fn certificates_that_are_wrong_are_not_accepted() {
        let (issuer, authorities) = authority();
        let (stranger, _) = authority();
        let server_only = |params: &mut CertificateParams| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        };
        let old = |params: &mut CertificateParams| params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        let table = [
            client(&stranger, "eva", &[], |_| {}),
            client(&issuer, "eva", &[], server_only),
            client(&issuer, "eva", &[], old),
            client(&issuer, "", &[], |_| {}),
        ];
        for certificate in table {
            assert!(authorities.user(&[certificate], NOW).is_err());
        }
        assert!(authorities.user(&[], NOW).is_err());
        assert!(Authorities::of_pem("").is_err() && Authorities::of_pem("nonsense").is_err());
    }
}
