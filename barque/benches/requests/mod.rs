//! The client beside what is measured: objects created, many at once, and watched, as JSON that is looked at no further.

#![allow(dead_code, reason = "each benchmark uses a part")]

use std::path::Path;
use std::pin::Pin;

use futures::{AsyncBufReadExt as _, Stream, StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

/// Creations at once.
const AT_ONCE: usize = 64;

/// Who speaks by this file.
pub(crate) async fn client(kubeconfig: &Path) -> Client {
    let read = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Creates one object.
pub(crate) async fn create(client: &Client, path: &str, object: &Value) {
    let request = Request::post(path)
        .header("content-type", "application/json")
        .body(object.to_string().into_bytes())
        .unwrap();
    client.request_text(request).await.unwrap();
}

/// Creates so many in one collection.
pub(crate) async fn create_all(client: &Client, path: &str, count: usize, make: impl Fn(usize) -> Value) {
    create_each(client, count, |number| (path.to_owned(), make(number))).await;
}

/// Creates so many, each in a collection of its own.
pub(crate) async fn create_each(client: &Client, count: usize, make: impl Fn(usize) -> (String, Value)) {
    stream::iter(0..count)
        .for_each_concurrent(AT_ONCE, |number| {
            let (path, object) = make(number);
            async move { create(client, &path, &object).await }
        })
        .await;
}

/// Lines of a watch, one event each.
pub(crate) struct Events(Pin<Box<dyn Stream<Item = std::io::Result<String>> + Send>>);

impl Events {
    /// From what is there now.
    pub(crate) async fn watch(client: &Client, path: &str, query: &str) -> Self {
        let request =
            Request::get(format!("{path}?watch=1&resourceVersion=0{query}")).body(Vec::new()).unwrap();
        let lines = client.request_stream(request).await.unwrap().lines();
        Self(Box::pin(lines))
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> String {
        self.0.try_next().await.unwrap().expect("the watch ended")
    }
}
