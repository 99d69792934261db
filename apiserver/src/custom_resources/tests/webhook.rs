//! Versions that a webhook converts, over real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// A webhook: `v1` has `spec.size`, `v2` has `spec.width`.
struct Webhook {
    address: SocketAddr,
    bundle: String,
}

fn convert(mut review: Value) -> Value {
    let request = review["request"].take();
    let to = request["desiredAPIVersion"].clone();
    let objects = request["objects"].as_array().unwrap().iter().map(|object| {
        let mut object = object.clone();
        object["apiVersion"] = to.clone();
        let (from, into) = if to == "example.com/v2" { ("size", "width") } else { ("width", "size") };
        let spec = object["spec"].as_object_mut().unwrap();
        if let Some(size) = spec.remove(from) {
            spec.insert(into.to_owned(), size);
        }
        object
    });
    let objects: Vec<Value> = objects.collect();
    review["response"] =
        json!({"uid": request["uid"], "result": {"status": "Success"}, "convertedObjects": objects});
    review
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri(), "/convert?timeout=30s");
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let review = convert(serde_json::from_slice(&body).unwrap());
    Ok(Response::new(Full::new(review.to_string().into())))
}

impl Webhook {
    async fn start(cluster: &Cluster) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (tasks, stop) = (cluster.tasks.clone(), cluster.stop.clone());
        cluster.tasks.spawn(async move {
            while let Some(Ok((stream, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (acceptor, stop) = (acceptor.clone(), stop.clone());
                tasks.spawn(async move {
                    let served = async {
                        let Ok(stream) = acceptor.accept(stream).await else { return };
                        let http = hyper::server::conn::http1::Builder::new();
                        let _ = http.serve_connection(TokioIo::new(stream), service_fn(answer)).await;
                    };
                    stop.run_until_cancelled(served).await;
                });
            }
        });
        Self { address, bundle: STANDARD.encode(made.cert.pem()) }
    }
}

fn converted(webhook: &Webhook) -> Value {
    let mut definition = definition();
    let mut second = definition["spec"]["versions"][0].clone();
    second["name"] = json!("v2");
    second["storage"] = json!(false);
    second["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"] =
        json!({"width": {"type": "integer", "maximum": 9}});
    for version in [&mut second, &mut definition["spec"]["versions"][0]] {
        version["selectableFields"] = json!([]);
        version["subresources"] = Value::Null;
    }
    definition["spec"]["versions"].as_array_mut().unwrap().push(second);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"url": format!("https://{}/convert", webhook.address), "caBundle": webhook.bundle},
    }});
    definition
}

#[tokio::test]
async fn a_webhook_converts_what_is_read_and_written_in_another_version() {
    let cluster = Cluster::new();
    let webhook = Webhook::start(&cluster).await;
    cluster.define(converted(&webhook)).await;
    let mut object = foo("one", json!({"width": 2}));
    object["apiVersion"] = json!("example.com/v2");
    let made = cluster.client.create(&foos("v2"), "a", object.clone()).await.unwrap();
    assert_eq!(made["spec"], json!({"width": 2}));
    let stored = cluster.client.get(&foos("v1"), "a", "one").await.unwrap().unwrap();
    assert_eq!((&stored["apiVersion"], &stored["spec"]), (&json!("example.com/v1"), &json!({"size": 2})));
    cluster.client.create(&foos("v1"), "a", foo("two", json!({"size": 3}))).await.unwrap();

    let listed = cluster.list(&foos("v2"), View::Object).await.unwrap();
    let specs: Vec<_> = listed["items"].as_array().unwrap().iter().map(|one| one["spec"].clone()).collect();
    assert_eq!(specs, [json!({"width": 2}), json!({"width": 3})]);

    let mut changed = made;
    changed["spec"]["width"] = json!(4);
    let changed = cluster.client.update(&foos("v2"), "a", "one", "", changed).await.unwrap();
    assert_eq!((&changed["spec"]["width"], &changed["metadata"]["generation"]), (&json!(4), &json!(2)));
    object["metadata"]["name"] = json!("wide");
    object["spec"]["width"] = json!(10);
    let status = cluster.client.create(&foos("v2"), "a", object).await.unwrap_err();
    assert!(status.message.contains("spec.width in body should be less than or equal to 9"), "{status}");
    cluster.end().await;
}

#[tokio::test]
async fn a_webhook_with_another_certificate_is_not_believed() {
    let cluster = Cluster::new();
    let webhook = Webhook::start(&cluster).await;
    let other = Webhook { bundle: Webhook::start(&cluster).await.bundle, ..webhook };
    cluster.define(converted(&other)).await;
    cluster.client.create(&foos("v1"), "a", foo("one", json!({"size": 3}))).await.unwrap();
    let status = cluster.list(&foos("v2"), View::Object).await.unwrap_err();
    assert_eq!(status.reason.code(), 500);
    assert!(
        status
            .message
            .contains("conversion webhook for example.com/v1, Kind=Foo failed: Post \"https://127.0.0.1:"),
        "{status}"
    );
    assert!(cluster.list(&foos("v1"), View::Object).await.is_ok());
    cluster.end().await;
}
