//! Whose certificates an issuer may show. Must never say of whom they are asked.

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// Authorities that are believed.
pub type Roots = RootCertStore;

/// Those that this machine believes.
#[must_use]
pub fn of_machine() -> Roots {
    let mut roots = Roots::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Those of a text in PEM.
///
/// # Errors
/// What is wrong with the text, as the end of a sentence.
pub fn of_pem(pem: &str) -> Result<Roots, String> {
    let mut roots = Roots::empty();
    for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
        let certificate = certificate.map_err(|error| format!("{error:?}"))?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it has no certificates in PEM".to_owned());
    }
    Ok(roots)
}
