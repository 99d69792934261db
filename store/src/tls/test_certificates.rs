//! Certificates made on the spot, for tests.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;

use crate::config::TlsFiles;

/// An authority and a directory for what it signs.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let ca = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("ca.pem"), ca.pem()).unwrap();
        Self { issuer: Issuer::new(params, key), directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes `{name}.pem` and `{name}.key` for this machine, valid in the years given.
    pub(crate) fn issue(&self, name: &str, years: std::ops::Range<i32>) {
        let mut params = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), cert.pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    /// The files of a certificate, trusting this authority.
    pub(crate) fn files(&self, name: &str) -> TlsFiles {
        TlsFiles {
            cert_file: Some(self.path(&format!("{name}.pem"))),
            key_file: Some(self.path(&format!("{name}.key"))),
            trusted_ca_file: Some(self.path("ca.pem")),
            client_cert_auth: true,
        }
    }

    /// The same without asking callers for certificates.
    pub(crate) fn open_files(&self, name: &str) -> TlsFiles {
        TlsFiles { trusted_ca_file: None, client_cert_auth: false, ..self.files(name) }
    }

    /// Trusting this authority without a certificate of one's own.
    pub(crate) fn trust_only(&self) -> TlsFiles {
        TlsFiles { trusted_ca_file: Some(self.path("ca.pem")), ..TlsFiles::default() }
    }
}
