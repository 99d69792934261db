//! A certificate authority for tests, and files signed by it.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// A certificate and its key, as PEM files.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Signs certificates and keeps its own beside them.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    /// The authority's certificate.
    pub certificate: PathBuf,
}

impl Authority {
    /// A new authority called `name`, with its files in `dir`.
    #[must_use]
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names are proper names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("the machine gives random numbers");
        let signed = params.self_signed(&key).expect("the parameters are complete");
        let certificate = dir.join(format!("{name}.pem"));
        write(&certificate, &signed.pem());
        Self { issuer: Issuer::new(params, key), dir: dir.to_owned(), certificate }
    }

    /// Signs a certificate for 127.0.0.1 that may serve and be a client, into files called `name`. Signing the
    /// same name again replaces the files.
    #[must_use]
    pub fn sign(&self, name: &str) -> CertificateFiles {
        self.sign_for(name, &["127.0.0.1".to_owned(), "localhost".to_owned()])
    }

    /// As [`Self::sign`], for other addresses and host names.
    #[must_use]
    pub fn sign_for(&self, name: &str, names: &[String]) -> CertificateFiles {
        let names = names.to_vec();
        let mut params = CertificateParams::new(names).expect("an address and a host name");
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("the machine gives random numbers");
        let signed = params.signed_by(&key, &self.issuer).expect("the parameters are complete");
        let files = CertificateFiles {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
        };
        write(&files.key, &key.serialize_pem());
        write(&files.certificate, &signed.pem());
        files
    }
}

/// Replaces a file in one step, so that a server never reads half of it.
fn write(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).expect("the test's directory can be written");
    std::fs::rename(&next, path).expect("the test's directory can be written");
}
