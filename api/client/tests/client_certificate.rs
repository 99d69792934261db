//! A client certificate that is renewed while the client runs: the next connection shows the new one.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use barque_client::servers::{Servers, Source, connect};
use http::Request;
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn sign(
    authority: &Authority,
    names: &[&str],
    usage: ExtendedKeyUsagePurpose,
) -> (rcgen::Certificate, KeyPair) {
    let mut params =
        CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
    params.extended_key_usages = vec![usage];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap(), key)
}

/// Writes a new client certificate and its key; answers the certificate.
fn renew(authority: &Authority, directory: &Path) -> Vec<u8> {
    let (certificate, key) = sign(authority, &[], ExtendedKeyUsagePurpose::ClientAuth);
    std::fs::write(directory.join("client.key"), key.serialize_pem()).unwrap();
    std::fs::write(directory.join("client.crt"), certificate.pem()).unwrap();
    certificate.der().to_vec()
}

#[tokio::test]
async fn a_certificate_that_was_renewed_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let authority = authority();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let (certificate, key) = sign(&authority, &["127.0.0.1"], ExtendedKeyUsagePurpose::ServerAuth);
    let config = rustls::ServerConfig::builder()
        .with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();

    // Whom the server knows; it keeps connections, so that an old one would be used again.
    let known = Arc::new(Mutex::new(renew(&authority, directory.path())));
    let knows = known.clone();
    let server = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let mut stream = acceptor.accept(stream).await.unwrap();
            let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
            let knows = knows.clone();
            connections.spawn(async move {
                let mut read = Vec::new();
                let mut byte = [0];
                while stream.read(&mut byte).await.is_ok_and(|count| count > 0) {
                    read.push(byte[0]);
                    if read.ends_with(b"\r\n\r\n") {
                        read.clear();
                        let code = if *knows.lock() == shown { 200 } else { 401 };
                        let answer = format!("HTTP/1.1 {code} Said\r\ncontent-length: 2\r\n\r\n{{}}");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                }
            });
        }
    });
    let _server = AbortOnDropHandle::new(server);

    std::fs::write(directory.path().join("ca.crt"), authority.pem()).unwrap();
    let path = directory.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\n\
                clusters: [{name: c, cluster: {server: 'https://h', certificate-authority: ca.crt}}]\n\
                users: [{name: u, user: {client-certificate: client.crt, client-key: client.key}}]\n\
                contexts: [{name: c, context: {cluster: c, user: u}}]\n";
    std::fs::write(&path, text).unwrap();
    let urls = vec![format!("https://{address}").parse().unwrap()];
    let client = connect(Servers { source: Source::Kubeconfig(path), urls }).await.unwrap();
    let ask = async || {
        let request = Request::get("/version").body(kube::client::Body::empty()).unwrap();
        client.send(request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask().await, 200);
    *known.lock() = renew(&authority, directory.path());
    // The old one is shown a last time; that it is not known any more is the reason to look, and to ask again.
    assert_eq!(ask().await, 200);

    // A key that does not fit is not taken.
    let other = renew(&authority, directory.path());
    let key = std::fs::read(directory.path().join("client.key")).unwrap();
    std::fs::write(directory.path().join("client.key"), "half").unwrap();
    *known.lock() = other;
    assert_eq!((ask().await, ask().await), (401, 401));
    std::fs::write(directory.path().join("client.key"), key).unwrap();
    assert_eq!(ask().await, 200);
}
