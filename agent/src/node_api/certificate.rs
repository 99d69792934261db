//! A certificate that signs itself, for a node that was given none: made once and kept, as the kubelet keeps `kubelet.crt` and
//! `kubelet.key`. Must never replace one that can still be used.

use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How long a certificate is good.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
/// Clocks of others may be behind.
const BEFORE: Duration = Duration::from_secs(24 * 3600);
/// One that ends sooner than this is made anew.
const LEAST: Duration = Duration::from_secs(30 * 24 * 3600);

/// The certificate that a node makes for itself.
#[derive(Clone, Debug)]
pub(crate) struct OwnCertificate {
    /// Where it is kept.
    pub(crate) directory: PathBuf,
    /// The node's name.
    pub(crate) node: String,
    /// The node's addresses.
    pub(crate) addresses: Vec<IpAddr>,
}

impl OwnCertificate {
    /// Its file and that of its key.
    pub(crate) fn files(&self) -> (PathBuf, PathBuf) {
        (self.directory.join("kubelet.crt"), self.directory.join("kubelet.key"))
    }

    /// Makes it if there is none, or none that lasts for much longer.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn renew(&self, now: SystemTime) -> io::Result<()> {
        let (cert, key) = self.files();
        if key.exists() && lasts(&cert, now + LEAST) {
            return Ok(());
        }
        fs::create_dir_all(&self.directory)?;
        let pair = KeyPair::generate().map_err(io::Error::other)?;
        let params = params(&self.node, &self.addresses, now)?;
        let certificate = params.self_signed(&pair).map_err(io::Error::other)?;
        replace(&key, 0o600, &pair.serialize_pem())?;
        replace(&cert, 0o644, &certificate.pem())
    }
}

/// Whether there is a certificate that is good until then.
fn lasts(cert: &Path, until: SystemTime) -> bool {
    let Ok(der) = CertificateDer::from_pem_file(cert) else { return false };
    let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    X509Certificate::from_der(&der).is_ok_and(|(_, parsed)| {
        u64::try_from(parsed.validity().not_after.timestamp()).is_ok_and(|end| end > until)
    })
}

fn params(node: &str, addresses: &[IpAddr], now: SystemTime) -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(vec![node.to_owned()]).map_err(io::Error::other)?;
    for address in addresses.iter().filter(|address| !address.is_unspecified()) {
        params.subject_alt_names.push(SanType::IpAddress(*address));
    }
    params.distinguished_name.push(DnType::CommonName, format!("{node}@barque-agent"));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = (now - BEFORE).into();
    params.not_after = (now + LIFE).into();
    Ok(params)
}

/// Writes a file as a whole or not at all.
fn replace(path: &Path, mode: u32, text: &str) -> io::Result<()> {
    let beside = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(beside, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_again_before_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        let own = OwnCertificate {
            directory: directory.path().join("pki"),
            node: "n1".to_owned(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
        };
        let (cert, key) = own.files();
        let make = |now| own.renew(now).unwrap();
        make(now);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let first = fs::read(&cert).unwrap();
        make(now + LIFE / 2);
        assert_eq!(fs::read(&cert).unwrap(), first);
        make(now + LIFE - LEAST / 2);
        assert_ne!(fs::read(&cert).unwrap(), first);
        fs::write(&cert, "damaged").unwrap();
        make(now);
        assert!(lasts(&cert, now));
        let nowhere = OwnCertificate { directory: "/dev/null/x".into(), ..own };
        assert!(nowhere.renew(now).is_err());
    }
}
