//! Whether a certificate is that of a node: signed by the authorities of agents, for servers, and for the user that the node is, by
//! whatever address it was reached. So no node stands in for another, also when it has come to have its address. A decision; must
//! never take a certificate for less.

use std::fmt;
use std::sync::Arc;

use barque_api::node_certificate::{node_of, user};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// The group of nodes.
const NODES: &str = "system:nodes";

/// Judges by the node's own name, which is asked for as that of the server: what was once verified is remembered for that node
/// alone, and not for its address.
#[derive(Debug)]
pub(super) struct NodeVerifier {
    roots: RootCertStore,
    algorithms: WebPkiSupportedAlgorithms,
}

/// Somebody else's certificate.
#[derive(Debug)]
struct OtherNode {
    is: String,
    expected: String,
}

impl fmt::Display for OtherNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "certificate is for {:?}, not for {:?}", self.is, self.expected)
    }
}

impl std::error::Error for OtherNode {}

impl NodeVerifier {
    /// With the authorities of agents.
    pub(super) fn new(roots: RootCertStore) -> Self {
        Self { roots, algorithms: ring::default_provider().signature_verification_algorithms }
    }
}

/// Whether the subject is the node's.
fn is_for(certificate: &CertificateDer<'_>, node: &str) -> Result<(), Error> {
    let bad = |_| Error::InvalidCertificate(CertificateError::BadEncoding);
    let (_, read) = X509Certificate::from_der(certificate).map_err(bad)?;
    let (is, expected) = (subject(read.subject()), user(node));
    if is.0 == [expected.clone()] && is.1.iter().any(|group| group == NODES) {
        return Ok(());
    }
    let other = OtherNode { is: is.0.join(", "), expected };
    Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(other)))))
}

/// Its names and groups.
fn subject(of: &X509Name<'_>) -> (Vec<String>, Vec<String>) {
    let text = |it: &AttributeTypeAndValue<'_>| it.as_str().unwrap_or_default().to_owned();
    (of.iter_common_name().map(text).collect(), of.iter_organization().map(text).collect())
}

impl ServerCertVerifier for NodeVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let server = server.to_str();
        let Some(node) = node_of(&server) else { return Err(CertificateError::NotValidForName.into()) };
        let parsed = ParsedCertificate::try_from(certificate)?;
        let algorithms = self.algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        is_for(certificate, node)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    };

    use barque_api::node_certificate::own_name;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn params(name: &str, group: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
        let mut params = CertificateParams::new(vec!["10.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.extended_key_usages = vec![usage];
        params
    }

    #[test]
    fn nodes_may_have_any_name_that_nodes_have() {
        for node in ["n1", "n1.example.com", "10.0.0.1", "123"] {
            assert!(ServerName::try_from(own_name(node)).is_ok(), "{node}");
        }
    }

    #[test]
    fn only_the_node_itself_is_taken_for_it() {
        let (cluster, stranger) = (authority(), authority());
        let mut roots = RootCertStore::empty();
        roots.add(cluster.der().clone()).unwrap();
        let verifier = NodeVerifier::new(roots);
        let judged = |params: CertificateParams, by: Option<&Authority>, node: &str| {
            let key = KeyPair::generate().unwrap();
            let made = match by {
                Some(by) => params.signed_by(&key, by),
                None => params.self_signed(&key),
            };
            let node = ServerName::try_from(own_name(node)).unwrap();
            let judged = verifier.verify_server_cert(made.unwrap().der(), &[], &node, &[], UnixTime::now());
            judged.map(drop).map_err(|error| match error {
                Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.to_string(),
                error => error.to_string(),
            })
        };
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let of = |name: &str| params(name, NODES, server.clone());
        assert_eq!(judged(of("system:node:n1"), Some(&cluster), "n1"), Ok(()));
        assert_eq!(judged(of("system:node:n1.example.com"), Some(&cluster), "n1.example.com"), Ok(()));
        let other = params("system:node:n1", "system:masters", server.clone());
        let client = params("system:node:n1", NODES, ExtendedKeyUsagePurpose::ClientAuth);
        let refused = [
            (
                of("system:node:n2"),
                Some(&cluster),
                "certificate is for \"system:node:n2\", not for \"system:node:n1\"",
            ),
            (of("n1"), Some(&cluster), "not for \"system:node:n1\""),
            (other, Some(&cluster), "not for \"system:node:n1\""),
            (client, Some(&cluster), "does not allow extended key usage for server authentication"),
            (of("system:node:n1"), Some(&stranger), "invalid peer certificate"),
            (of("system:node:n1"), None, "UnknownIssuer"),
        ];
        for (params, by, expected) in refused {
            let told = judged(params, by, "n1").unwrap_err();
            assert!(told.contains(expected), "{told} is not {expected}");
        }
    }
}
