//! What stands in a request for a certificate. Must never decide whether that is right, but for its signature.

use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::AttributeTypeAndValue;

/// A request, read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Request {
    /// Its subject, in DER.
    pub(super) subject: Vec<u8>,
    /// The subject's name; the last, if there are several.
    pub(super) common_name: String,
    /// The subject's organisations, in order.
    pub(super) organizations: Vec<String>,
    /// Further names.
    pub(super) dns: Vec<String>,
    pub(super) emails: Vec<String>,
    /// Of four or sixteen bytes.
    pub(super) addresses: Vec<Vec<u8>>,
    pub(super) uris: Vec<String>,
    /// The public key with its algorithm, in DER.
    pub(super) public_key: Vec<u8>,
    /// Whether who asks has the key's private half.
    pub(super) is_signed: bool,
}

/// Reads a request in PEM.
pub(super) fn parse(pem: &[u8]) -> Result<Request, String> {
    let der = CertificateSigningRequestDer::from_pem_slice(pem)
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let (_, csr) = X509CertificationRequest::from_der(&der).map_err(|error| error.to_string())?;
    let info = &csr.certification_request_info;
    let text = |it: &AttributeTypeAndValue<'_>| it.as_str().unwrap_or_default().to_owned();
    let mut request = Request {
        subject: info.subject.as_raw().to_vec(),
        common_name: info.subject.iter_common_name().last().map(text).unwrap_or_default(),
        organizations: info.subject.iter_organization().map(text).collect(),
        public_key: info.subject_pki.raw.to_vec(),
        is_signed: is_signed(&csr),
        ..Request::default()
    };
    for extension in csr.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => request.dns.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => request.emails.push((*name).to_owned()),
                GeneralName::URI(name) => request.uris.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) if matches!(bytes.len(), 4 | 16) => {
                    request.addresses.push(bytes.to_vec());
                }
                GeneralName::IPAddress(_) => return Err("x509: cannot parse IP address".to_owned()),
                _ => {}
            }
        }
    }
    Ok(request)
}

fn is_signed(csr: &X509CertificationRequest<'_>) -> bool {
    let info = &csr.certification_request_info;
    let curve = || {
        let parameters = info.subject_pki.algorithm.parameters.as_ref();
        parameters.and_then(|it| it.as_oid().ok()).map(|oid| oid.to_id_string()).unwrap_or_default()
    };
    let algorithm: &dyn VerificationAlgorithm =
        match csr.signature_algorithm.algorithm.to_id_string().as_str() {
            "1.2.840.113549.1.1.11" => &signature::RSA_PKCS1_2048_8192_SHA256,
            "1.2.840.113549.1.1.12" => &signature::RSA_PKCS1_2048_8192_SHA384,
            "1.2.840.113549.1.1.13" => &signature::RSA_PKCS1_2048_8192_SHA512,
            "1.2.840.10045.4.3.2" if curve() == "1.3.132.0.34" => &signature::ECDSA_P384_SHA256_ASN1,
            "1.2.840.10045.4.3.2" => &signature::ECDSA_P256_SHA256_ASN1,
            "1.2.840.10045.4.3.3" if curve() == "1.3.132.0.34" => &signature::ECDSA_P384_SHA384_ASN1,
            "1.2.840.10045.4.3.3" => &signature::ECDSA_P256_SHA384_ASN1,
            "1.3.101.112" => &signature::ED25519,
            _ => return false,
        };
    let key = UnparsedPublicKey::new(algorithm, &info.subject_pki.subject_public_key.data);
    key.verify(info.raw, &csr.signature_value.data).is_ok()
}
