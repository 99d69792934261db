//! A fake API server of tests: it has objects by their paths, as `secrets/s`, lists and watches single ones, and gives out tokens.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

type Answer = UnsyncBoxBody<Bytes, std::io::Error>;

#[derive(Default)]
struct State {
    objects: HashMap<String, Value>,
    watches: HashMap<String, Vec<mpsc::UnboundedSender<Bytes>>>,
    asked: Vec<String>,
    version: u64,
    refuses: bool,
}

/// A server; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

fn answer(code: u16, value: &Value) -> Response<Answer> {
    let body = Full::from(value.to_string()).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn failure(code: u16, reason: &str, message: &str) -> Response<Answer> {
    answer(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
            "reason": reason, "message": message}),
    )
}

fn line(kind: &str, object: &Value) -> Bytes {
    format!("{}\n", json!({"type": kind, "object": object})).into()
}

impl State {
    fn tell(&self, path: &str, kind: &str, object: &Value) {
        for watch in self.watches.get(path).into_iter().flatten() {
            watch.send(line(kind, object)).ok();
        }
    }

    fn watch(&mut self, path: String, since: u64) -> Response<Answer> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // What has changed since the list is told at once.
        let there = self.objects.get(&path);
        let version =
            |object: &Value| object["metadata"]["resourceVersion"].as_str().unwrap().parse::<u64>().unwrap();
        if let Some(object) = there.filter(|object| version(object) > since) {
            sender.send(line("MODIFIED", object)).unwrap();
        }
        self.watches.entry(path).or_default().push(sender);
        let stream = futures::stream::unfold(receiver, async |mut receiver| {
            let bytes: Bytes = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(Frame::data(bytes)), receiver))
        });
        Response::new(StreamBody::new(stream).boxed_unsync())
    }

    fn answer(&mut self, request: &Request<Body>) -> Response<Answer> {
        let path = request.uri().path();
        let query = request.uri().query().unwrap_or_default();
        let parameter =
            |name: &str| query.split('&').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let mut parts = path.rsplit('/');
        let last = parts.next().unwrap_or_default();
        if last == "token" {
            return answer(
                201,
                &json!({"metadata": {}, "spec": {"audiences": []},
                    "status": {"token": "tok", "expirationTimestamp": "2100-01-01T00:00:00Z"}}),
            );
        }
        let selected = parameter("fieldSelector").and_then(|fields| fields.strip_prefix("metadata.name%3D"));
        let Some(name) = selected else {
            let kind = parts.next().unwrap_or_default();
            return match self.objects.get(&format!("{kind}/{last}")) {
                Some(object) => answer(200, object),
                None => failure(404, "NotFound", &format!("{kind} {last:?} not found")),
            };
        };
        let path = format!("{last}/{name}");
        if self.refuses {
            return failure(403, "Forbidden", "no relationship found between node and this object");
        }
        if parameter("watch") == Some("true") {
            self.asked.push(format!("watch {path}"));
            let since = parameter("resourceVersion").unwrap_or("0").parse().unwrap();
            return self.watch(path, since);
        }
        self.asked.push(format!("list {path}"));
        let items: Vec<_> = self.objects.get(&path).into_iter().cloned().collect();
        answer(200, &json!({"metadata": {"resourceVersion": self.version.to_string()}, "items": items}))
    }
}

impl Server {
    pub(crate) fn client(&self) -> Client {
        self.client_behind(watch::channel(true).1)
    }

    /// Of a server that answers nobody until it is told to.
    pub(crate) fn client_behind(&self, open: watch::Receiver<bool>) -> Client {
        let state = self.0.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (state, mut open) = (state.clone(), open.clone());
            Box::pin(async move {
                open.wait_for(|open| *open).await.unwrap();
                let response = state.lock().answer(&request);
                Ok::<_, kube::Error>(response)
            })
        });
        Client::new(service, "default")
    }

    /// The object is this from now on, in the namespace `ns`.
    pub(crate) fn put(&self, path: &str, object: Value) {
        let mut state = self.0.lock();
        state.version += 1;
        let mut object = object;
        object["metadata"]["name"] = json!(path.rsplit('/').next());
        object["metadata"]["namespace"] = json!("ns");
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell(path, "MODIFIED", &object);
        state.objects.insert(path.to_owned(), object);
    }

    /// The object is not there any more.
    pub(crate) fn remove(&self, path: &str) {
        let mut state = self.0.lock();
        state.version += 1;
        let mut object = state.objects.remove(path).unwrap();
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.tell(path, "DELETED", &object);
    }

    /// Lists and watches are forbidden.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.0.lock().refuses = refuses;
    }

    /// How often this was asked, as `list secrets/s`.
    pub(crate) fn asked(&self, what: &str) -> usize {
        self.0.lock().asked.iter().filter(|it| *it == what).count()
    }

    /// Waits until nobody watches the object any more.
    pub(crate) async fn unwatched(&self, path: &str) {
        let watches = self.0.lock().watches.get(path).cloned().unwrap_or_default();
        for watch in watches {
            watch.closed().await;
        }
    }
}
