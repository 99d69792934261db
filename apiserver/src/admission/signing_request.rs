//! Who a certificate is asked for: the subject in the PEM text of a CertificateSigningRequest (PKCS #10). Must never trust what
//! it reads: the signature is not checked here.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::pod::text;

/// A subject.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subject {
    /// The user; empty for none.
    pub(super) common_name: String,
    /// The groups.
    pub(super) organizations: Vec<String>,
}

/// The request in an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum SubjectError {
    /// It is no PEM, or PEM of something else.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// What is in the PEM is no request.
    #[error("{0}")]
    Der(String),
}

/// The subject of a CertificateSigningRequest.
///
/// # Errors
/// When its request cannot be read.
pub(super) fn subject(object: &Value) -> Result<Subject, SubjectError> {
    let pem = STANDARD.decode(text(object, "/spec/request")).map_err(|_| SubjectError::Pem)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| SubjectError::Pem)?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(SubjectError::Pem);
    }
    let (_, request) = X509CertificationRequest::from_der(&pem.contents)
        .map_err(|error| SubjectError::Der(error.to_string()))?;
    let subject = &request.certification_request_info.subject;
    let texts = |attributes: Vec<&x509_parser::x509::AttributeTypeAndValue<'_>>| -> Vec<String> {
        attributes.into_iter().filter_map(|one| one.as_str().ok().map(str::to_owned)).collect()
    };
    Ok(Subject {
        // Of several the last counts.
        common_name: texts(subject.iter_common_name().collect()).pop().unwrap_or_default(),
        organizations: texts(subject.iter_organization().collect()),
    })
}

/// For tests: an object with a request of this user with this group.
#[cfg(test)]
pub(super) fn sample(signer: &str, user: &str, group: &str) -> Value {
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, user);
    params.distinguished_name.push(rcgen::DnType::OrganizationName, group);
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    serde_json::json!({"spec": {"signerName": signer, "request": STANDARD.encode(pem)}})
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_names_a_user_and_groups() {
        let read = subject(&sample("s", "eva", "team")).unwrap();
        assert_eq!(read, Subject { common_name: "eva".into(), organizations: vec!["team".into()] });
        let pem =
            |label: &str| STANDARD.encode(format!("-----BEGIN {label}-----\nMAA=\n-----END {label}-----\n"));
        for request in ["?".to_owned(), STANDARD.encode("text"), pem("CERTIFICATE")] {
            assert_eq!(subject(&json!({"spec": {"request": request}})), Err(SubjectError::Pem));
        }
        let wrong = subject(&json!({"spec": {"request": pem("CERTIFICATE REQUEST")}}));
        assert!(matches!(wrong, Err(SubjectError::Der(_))));
    }
}
