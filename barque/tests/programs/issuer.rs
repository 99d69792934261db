//! Users by tokens of an OpenID Connect issuer that the test serves: the real server is told of it by its flags.

use std::convert::Infallible;
use std::process::Command;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::cluster::Cluster;
use crate::cluster::kubectls::kubectls;

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key that signs tokens.
struct Signer(EcdsaKeyPair);

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap())
    }

    fn jwk(&self) -> Value {
        // A point that is not compressed: 4, x, y.
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "kid": "one", "use": "sig", "alg": "ES256", "x": encoded(x), "y": encoded(y)})
    }

    fn token(&self, claims: &Value) -> String {
        let header = json!({"alg": "ES256", "kid": "one"});
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", encoded(signature))
    }
}

/// Serves the issuer's two documents for as long as it is polled.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, issuer: String, keys: Value) {
    let discovery = json!({"issuer": issuer, "jwks_uri": format!("{issuer}/keys")});
    let documents =
        Arc::new([("/.well-known/openid-configuration", discovery), ("/keys", json!({"keys": [keys]}))]);
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, documents) = (acceptor.clone(), Arc::clone(&documents));
        connections.spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let answers = service_fn(move |request: Request<Incoming>| {
                let found = documents.iter().find(|(path, _)| *path == request.uri().path());
                let body = found.map(|(_, document)| document.to_string()).unwrap_or_default();
                let code = if body.is_empty() { 404 } else { 200 };
                let answer = Response::builder().status(code).body(Full::new(Bytes::from(body))).unwrap();
                async move { Ok::<_, Infallible>(answer) }
            });
            // It ends when the other side does.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answers).await;
        });
    }
}

/// What kubectl says as somebody who has this token and nothing else.
async fn kubectl(cluster: &Cluster, token: &str, words: &[&str]) -> String {
    let mut command = Command::new(&kubectls()[0].program);
    command
        .env_clear()
        .env("HOME", cluster.directory.path())
        .arg("--kubeconfig=/dev/null")
        .arg(format!("--server=https://{}", cluster.servers[0]))
        .arg(format!("--certificate-authority={}", cluster.certificates.ca.display()))
        .arg(format!("--token={token}"))
        .args(words);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_an_issuer_are_known_by_the_flags_of_the_server() {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(signing_key.serialize_der());
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("https://{}", listener.local_addr().unwrap());
    let cluster = Cluster::with(1, |directory| {
        let authority = directory.join("issuer.crt");
        std::fs::write(&authority, cert.pem()).unwrap();
        vec![
            format!("--oidc-issuer-url={issuer}"),
            "--oidc-client-id=cluster".to_owned(),
            format!("--oidc-ca-file={}", authority.display()),
            "--oidc-signing-algs=ES256,RS256".to_owned(),
            "--oidc-username-claim=email".to_owned(),
            "--oidc-username-prefix=-".to_owned(),
            "--oidc-groups-claim=teams".to_owned(),
            "--oidc-groups-prefix=oidc:".to_owned(),
            "--oidc-required-claim=hd=example.com".to_owned(),
        ]
    });
    // Nobody answers for the issuer yet, and the server does all else.
    cluster.ready(&kubectls()[0].program);
    let signer = Signer::new();
    let serving = tokio::spawn(serve(listener, acceptor, issuer.clone(), signer.jwk()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({
        "iss": issuer, "aud": ["cluster"], "sub": "7", "email": "eva@example.com", "email_verified": true,
        "teams": ["devs"], "hd": "example.com", "exp": now + 600,
    });
    let with = |field: &str, value: Value| {
        let mut claims = claims.clone();
        claims[field] = value;
        signer.token(&claims)
    };
    let pods = ["get", "pods"];
    let admin = kubectls().remove(0).program;
    let made = Command::new(admin)
        .arg("--kubeconfig")
        .arg(cluster.kubeconfig(0))
        .args(["create", "clusterrolebinding", "devs", "--clusterrole=view", "--group=oidc:devs"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let told = kubectl(&cluster, &signer.token(&claims), &["get", "secrets"]).await;
    assert!(told.contains(r#"User "eva@example.com" cannot list resource "secrets""#), "{told}");
    let told = kubectl(&cluster, &signer.token(&claims), &pods).await;
    assert!(told.contains("No resources found"), "{told}");
    for (field, value) in [
        ("exp", json!(now - 1)),
        ("aud", json!("other")),
        ("hd", json!("example.org")),
        ("email_verified", json!(false)),
    ] {
        let told = kubectl(&cluster, &with(field, value), &pods).await;
        assert!(told.contains("Unauthorized") || told.contains("must be logged in"), "{field}: {told}");
    }
    let stranger = Signer::new().token(&claims);
    let told = kubectl(&cluster, &stranger, &pods).await;
    assert!(told.contains("Unauthorized") || told.contains("must be logged in"), "{told}");
    serving.abort();
}
