//! Users by their certificates: the common name is the user, each organization a group (Kubernetes' x509 authenticator). Must
//! never take one that its authority did not sign for clients, or whose time is not now.
//!
//! The file of authorities is looked at whenever somebody shows a certificate (one `stat` beside a request): one that is added
//! counts at once, and one that is taken away does so no more, also on connections that are there. A file that cannot be used
//! never replaces one that could.

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use barque_api::time::Time;
use parking_lot::Mutex;
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
pub struct Authorities(Arc<Followed>);

struct Followed {
    file: Option<PathBuf>,
    state: Mutex<State>,
}

struct State {
    stamp: Option<Stamp>,
    current: Arc<Inner>,
}

struct Inner {
    verifier: Arc<dyn ClientCertVerifier>,
    verified: Verified,
}

/// What tells one content of a file from another.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    bytes: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// Nothing for a file that is not there.
    fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            inode: (metadata.dev(), metadata.ino()),
            bytes: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
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
        let state = State { stamp: None, current: Arc::new(Inner::of_pem(pem)?) };
        Ok(Self(Arc::new(Followed { file: None, state: Mutex::new(state) })))
    }

    /// Of a file with certificates in PEM, which is followed.
    ///
    /// # Errors
    /// When it cannot be read, has none, or one cannot be used, with a sentence that says why.
    pub fn of_file(file: &Path) -> Result<Self, String> {
        // Before reading: a change in between is then seen as one.
        let stamp = Stamp::of(file);
        let state = State { stamp, current: Arc::new(Inner::of_file(file)?) };
        Ok(Self(Arc::new(Followed { file: Some(file.to_owned()), state: Mutex::new(state) })))
    }

    /// The file that is followed.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    fn current(&self) -> Arc<Inner> {
        let mut state = self.0.state.lock();
        if let Some(file) = &self.0.file {
            let stamp = Stamp::of(file);
            if stamp != state.stamp {
                state.stamp = stamp;
                match Inner::of_file(file) {
                    Ok(read) => {
                        state.current = Arc::new(read);
                        tracing::info!(file = %file.display(), "authorities of clients are read again");
                    }
                    Err(why) => {
                        let file = file.display();
                        tracing::error!(%file, why, "changed authorities are not used, the old ones stay");
                    }
                }
            }
        }
        Arc::clone(&state.current)
    }

    /// The names of the authorities, for clients that have several certificates.
    #[must_use]
    pub fn names(&self) -> Vec<DistinguishedName> {
        self.current().verifier.root_hint_subjects().to_vec()
    }

    /// Whose certificate the first of these is.
    ///
    /// # Errors
    /// Why it is not accepted, for the log.
    pub fn user(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<User, String> {
        self.current().user(chain, now)
    }

    /// The common name of a certificate that one of these signed.
    ///
    /// # Errors
    /// Why it is not accepted.
    pub(super) fn common_name(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<String, String> {
        self.current().common_name(chain, now)
    }
}

impl Inner {
    fn of_file(file: &Path) -> Result<Self, String> {
        let pem = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        Self::of_pem(&pem)
    }

    fn of_pem(pem: &str) -> Result<Self, String> {
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
        let made = |verifier| Self { verifier, verified: Verified::default() };
        verifier.map(made).map_err(|error| error.to_string())
    }

    fn user(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<User, String> {
        let id = ChainId::of(chain);
        if let Some(user) = self.verified.user(id, now.unix()) {
            return Ok(user);
        }
        let user = self.user_anew(chain, now)?;
        if let Some(valid) = validity(chain) {
            self.verified.enter(id, &user, valid);
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

    fn common_name(&self, chain: &[CertificateDer<'_>], now: Time) -> Result<String, String> {
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
        self.verifier.verify_client_cert(own, others, time).map_err(|error| error.to_string())?;
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
        named_authority("authority")
    }

    fn named_authority(name: &str) -> (Issuer, Authorities) {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
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
    fn a_file_of_authorities_is_followed_and_what_was_verified_is_forgotten() {
        let ((old, _), (new, _)) = (named_authority("old"), named_authority("new"));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ca.crt");
        let write = |text: String| {
            let next = directory.path().join("next");
            std::fs::write(&next, text).unwrap();
            std::fs::rename(&next, &file).unwrap();
        };
        assert!(Authorities::of_file(&file).is_err());
        write(old.pem());
        let authorities = Authorities::of_file(&file).unwrap();
        let shown = [&old, &new].map(|issuer| [client(issuer, "eva", &[], |_| {})]);
        let accepted = || [0, 1].map(|which: usize| authorities.user(&shown[which], NOW).is_ok());
        assert_eq!(accepted(), [true, false]);
        write(old.pem() + &new.pem());
        assert_eq!(accepted(), [true, true]);
        assert_eq!(authorities.names().len(), 2);
        write("half a file".to_owned());
        assert_eq!(accepted(), [true, true]);
        write(new.pem());
        assert_eq!(accepted(), [false, true]);
        assert_eq!(authorities.common_name(&shown[1], NOW).unwrap(), "eva");
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
