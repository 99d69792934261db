//! The name in a client's certificate: the common name of its subject.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The common name of a certificate that was verified; empty when it has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientName(Arc<str>);

impl ClientName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// From a certificate that was verified; `None` when it cannot be read.
    #[must_use]
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        // The last one counts, as in etcd's library.
        let name = match parsed.subject().iter_common_name().last() {
            Some(name) => name.as_str().ok()?.into(),
            None => Arc::from(""),
        };
        Some(Self(name))
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, DnValue, KeyPair};

    use super::*;

    fn certificate(names: &[DnValue]) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            params.distinguished_name.push(DnType::CommonName, name.clone());
        }
        params.distinguished_name.push(DnType::OrganizationName, "not the name");
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn the_name_is_found() {
        let named = |name: &str| DnValue::Utf8String(name.to_owned());
        assert_eq!(ClientName::of(&certificate(&[named("alice")])).unwrap().as_str(), "alice");
        assert_eq!(ClientName::of(&certificate(&[named("Jürgen")])).unwrap().as_str(), "Jürgen");
        assert_eq!(ClientName::of(&certificate(&[])).unwrap().as_str(), "");
        assert_eq!(ClientName::of(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
