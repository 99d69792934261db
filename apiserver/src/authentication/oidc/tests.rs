//! Users of an issuer that serves its keys over TLS, and moves, loses and changes them.

use std::convert::Infallible;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex as State;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::keys::SigningKey;
use super::super::static_tokens::StaticTokens;
use super::super::{AUTHENTICATED, Authenticator, Credentials, Settings};
use super::*;
use crate::registry::collections::Collections;
use crate::storage::memory::Memory;
use crate::test_parts;

const DISCOVERY: &str = "/realm/.well-known/openid-configuration";
const NOW: i64 = 1_000_000;

/// What the issuer answers at each path, and what it was asked.
#[derive(Default)]
struct Documents {
    at: Vec<(String, Value)>,
    asked: Vec<String>,
}

struct Served {
    url: String,
    certificate: rustls::pki_types::CertificateDer<'static>,
    documents: Arc<State<Documents>>,
}

impl Served {
    async fn start(tasks: &TaskTracker, stop: &CancellationToken) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}/realm", listener.local_addr().unwrap());
        let documents: Arc<State<Documents>> = Arc::default();
        let (answered, more, stop) = (Arc::clone(&documents), tasks.clone(), stop.clone());
        tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (acceptor, stop, documents) = (acceptor.clone(), stop.clone(), Arc::clone(&answered));
                more.spawn(async move {
                    let answer = |request: Request<Incoming>| {
                        let answer = answer(request.uri().path(), &mut documents.lock());
                        async { Ok::<_, Infallible>(answer) }
                    };
                    let served = async {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let http = hyper::server::conn::http1::Builder::new();
                        let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                    };
                    stop.run_until_cancelled(served).await;
                });
            }
        });
        Self { url, certificate, documents }
    }

    /// Publishes these keys, at a path.
    fn publish(&self, path: &str, keys: &[&SigningKey]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public.to_jwk()).collect();
        let discovery =
            json!({"issuer": self.url, "jwks_uri": format!("{}{path}", self.url.trim_end_matches("/realm"))});
        self.documents.lock().at =
            vec![(DISCOVERY.to_owned(), discovery), (path.to_owned(), json!({"keys": keys}))];
    }

    /// Has nothing to say any more.
    fn forget(&self) {
        self.documents.lock().at.clear();
    }

    /// The paths that were asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.documents.lock().asked)
    }

    fn issuer(&self) -> Issuer {
        self.issuer_that_believes(&self.certificate)
    }

    fn issuer_that_believes(&self, certificate: &rustls::pki_types::CertificateDer<'static>) -> Issuer {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let rules = Rules {
            issuer: self.url.clone(),
            client_id: "cluster".into(),
            algorithms: vec!["ES256".into()],
            username_claim: "sub".into(),
            username_prefix: "oidc:".into(),
            groups_claim: "groups".into(),
            groups_prefix: String::new(),
            required_claims: Vec::new(),
        };
        Issuer::new(rules, roots)
    }

    /// What the issuer would sign for a user; `changes` are other claims.
    fn token(&self, key: &SigningKey, name: &str, changes: Value) -> String {
        let mut claims =
            json!({"iss": self.url, "aud": "cluster", "sub": name, "exp": NOW + 60, "groups": ["devs"]});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        signed(key, &claims)
    }
}

fn answer(path: &str, documents: &mut Documents) -> Response<Full<Bytes>> {
    documents.asked.push(path.to_owned());
    let found = documents.at.iter().find(|(at, _)| at == path);
    let (code, body) = found.map_or((503, Bytes::new()), |(_, document)| (200, document.to_string().into()));
    Response::builder().status(code).body(Full::new(body)).unwrap()
}

fn signed(key: &SigningKey, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({"alg": key.public.algorithm.name(), "kid": key.public.id});
    let message = format!("{}.{}", encode(&header), encode(claims));
    let signature = key.sign(message.as_bytes()).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn key() -> SigningKey {
    SigningKey::of_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
}

async fn user(issuer: &Issuer, token: &str) -> Result<Option<User>, String> {
    issuer.user(token, Time::of_unix(NOW)).await
}

async fn name(issuer: &Issuer, token: &str) -> String {
    user(issuer, token).await.unwrap().unwrap().name
}

async fn end(tasks: TaskTracker, stop: CancellationToken) {
    stop.cancel();
    tasks.close();
    tasks.wait().await;
}

#[tokio::test]
async fn keys_are_read_once_and_again_for_a_new_key() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let served = Served::start(&tasks, &stop).await;
    let (first, second, stranger) = (key(), key(), key());
    served.publish("/keys", &[&first]);
    let issuer = served.issuer();
    assert_eq!(served.asked(), [""; 0]);

    let eva = user(&issuer, &served.token(&first, "eva", json!({}))).await.unwrap().unwrap();
    assert_eq!((eva.name.as_str(), eva.groups.as_slice()), ("oidc:eva", ["devs".to_owned()].as_slice()));
    assert_eq!(name(&issuer, &served.token(&first, "bob", json!({}))).await, "oidc:bob");
    assert_eq!(served.asked(), [DISCOVERY, "/keys"]);

    // Nobody is asked for what cannot count, or was not signed by the key that it names.
    let late = user(&issuer, &served.token(&stranger, "eva", json!({"exp": NOW}))).await;
    assert_eq!(late.unwrap_err(), "oidc: verify token: token is expired");
    let other = user(&issuer, &served.token(&stranger, "eva", json!({"iss": "https://other"}))).await;
    assert_eq!(other, Ok(None));
    let forged = served.token(&first, "eva", json!({}));
    let forged = format!("{}.{}", forged.rsplit_once('.').unwrap().0, URL_SAFE_NO_PAD.encode([7; 64]));
    let forged = user(&issuer, &forged).await.unwrap_err();
    assert_eq!(forged, "oidc: verify token: failed to verify id token signature");
    assert_eq!(served.asked(), [""; 0]);

    // A new key is found, at once also for those who ask at the same time; the old one is gone.
    served.publish("/keys", &[&second]);
    let tokens = ["a", "b", "c"].map(|name| served.token(&second, name, json!({})));
    let names = futures::future::join_all(tokens.iter().map(|token| name(&issuer, token))).await;
    assert_eq!(names, ["oidc:a", "oidc:b", "oidc:c"]);
    assert_eq!(served.asked(), ["/keys"]);
    let old = user(&issuer, &served.token(&first, "eva", json!({}))).await;
    assert_eq!(old.unwrap_err(), "oidc: verify token: failed to verify id token signature");

    // Whoever makes up keys does not have the issuer asked without end.
    served.asked();
    for _ in 0..50 {
        user(&issuer, &served.token(&key(), "eva", json!({}))).await.unwrap_err();
    }
    let asked = served.asked().len();
    assert!((1..=pace::BURST as usize).contains(&asked), "{asked}");
    let why = user(&issuer, &served.token(&stranger, "eva", json!({}))).await.unwrap_err();
    assert_eq!(why, "oidc: verify token: its key is not known, and keys were asked for too often");
    assert_eq!(name(&issuer, &served.token(&second, "eva", json!({}))).await, "oidc:eva");
    end(tasks, stop).await;
}

#[tokio::test]
async fn an_issuer_that_is_another_or_says_nothing_makes_nobody_known() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let (served, other) = (Served::start(&tasks, &stop).await, Served::start(&tasks, &stop).await);
    let key = key();
    let token = served.token(&key, "eva", json!({}));
    let issuer = served.issuer();
    let why = user(&issuer, &token).await.unwrap_err();
    assert!(why.ends_with("the server responded with the status code 503"), "{why}");
    let mut foreign = json!({"issuer": "https://other", "jwks_uri": format!("{}/keys", served.url)});
    served.documents.lock().at = vec![(DISCOVERY.to_owned(), foreign.clone())];
    let why = user(&issuer, &token).await.unwrap_err();
    assert!(why.contains("issuer did not match the issuer returned by provider"), "{why}");
    foreign["issuer"] = served.url.as_str().into();
    foreign["jwks_uri"] = Value::Null;
    served.documents.lock().at = vec![(DISCOVERY.to_owned(), foreign)];
    let why = user(&issuer, &token).await.unwrap_err();
    assert!(why.ends_with("jwks_uri is missing"), "{why}");

    served.publish("/keys", &[&key]);
    assert_eq!(name(&issuer, &token).await, "oidc:eva");
    // What it signed while it was there counts when it is not.
    served.forget();
    assert_eq!(name(&issuer, &token).await, "oidc:eva");
    let doubting = served.issuer_that_believes(&other.certificate);
    let why = user(&doubting, &token).await.unwrap_err();
    assert!(why.contains("tls: "), "{why}");
    // It has moved its keys.
    let moved = self::key();
    served.publish("/moved", &[&moved]);
    served.asked();
    let issuer = served.issuer();
    assert_eq!(name(&issuer, &served.token(&moved, "eva", json!({}))).await, "oidc:eva");
    assert_eq!(served.asked(), [DISCOVERY, "/moved"]);
    end(tasks, stop).await;
}

#[tokio::test]
async fn its_users_are_known_beside_others_who_do_not_wait_for_it() {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    let served = Served::start(&tasks, &stop).await;
    let signing = key();
    let collections = Collections::start(test_parts::in_memory(Memory::new()), &tasks, &stop);
    let settings = Settings {
        oidc: Some(served.issuer()),
        static_tokens: StaticTokens::of_csv("secret,root,1").unwrap(),
        ..Settings::default()
    };
    let authenticator = Authenticator::new(settings, collections);
    let who = async |token: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let credentials = Credentials { certificates: &[], headers: &headers, path: "/api" };
        let known = authenticator.authenticate(&credentials, Time::of_unix(NOW)).await;
        known.map(|user| (user.name, user.groups)).map_err(|status| status.reason.code())
    };
    let token = served.token(&signing, "eva", json!({}));
    assert_eq!(who(&token).await, Err(401), "it does not answer");
    assert_eq!(who("secret").await.unwrap().0, "root");
    served.publish("/keys", &[&signing]);
    let groups = vec!["devs".to_owned(), AUTHENTICATED.to_owned()];
    assert_eq!(who(&token).await, Ok(("oidc:eva".to_owned(), groups)));
    assert_eq!(who(&served.token(&signing, "eva", json!({"aud": "other"}))).await, Err(401));
    assert_eq!(who(&served.token(&signing, "eva", json!({"iss": "https://other"}))).await, Err(401));
    // For audiences that are none of this server's no token counts that does not name them.
    let audiences = ["vault".to_owned()];
    let found = authenticator.user_of_token_for(&token, &audiences, Time::of_unix(NOW)).await.unwrap();
    assert_eq!(found, None);
    tokio::time::timeout(Duration::from_secs(60), end(tasks, stop)).await.expect("all tasks end");
}
