//! Clients of one API server: a request is sent once and to no other, and what came of it is told as exactly as it is known. Must
//! never try again.

use std::path::Path;
use std::time::Duration;

use futures::{Stream, StreamExt as _};
use kube::api::{DynamicObject, WatchEvent};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::entry::{Object, Outcome, Request, Told};

/// Who gets no answer for so long knows nothing.
pub(crate) const CALL_PATIENCE: Duration = Duration::from_secs(8);
/// Where the objects are.
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// What the names of objects of clients begin with.
pub(crate) const PREFIX: &str = "o-";
/// Where clients write.
const FIELD: &str = "value";

/// What a server answered.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It was done.
    Done(Value),
    /// It was not.
    Refused { code: u16, reason: String, message: String },
    /// Nobody knows.
    Unknown(String),
}

impl Answer {
    /// What was answered, or why not.
    pub(crate) fn done(self) -> Result<Value, String> {
        match self {
            Self::Done(value) => Ok(value),
            Self::Refused { code, reason, message } => Err(format!("{code} {reason}: {message}")),
            Self::Unknown(error) => Err(error),
        }
    }
}

/// A master's API server.
#[derive(Clone)]
pub struct Server {
    /// The master.
    pub name: String,
    client: Client,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Server {
    /// Of the master of this name, as the administrator of this file.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub async fn of(name: &str, kubeconfig: &Path) -> anyhow::Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { name: name.to_owned(), client: Client::try_from(config)? })
    }

    /// The client.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request, and waits for the answer as long as clients do.
    pub(crate) async fn ask(&self, method: &str, uri: &str, body: Option<Value>) -> Answer {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request =
            http::Request::builder().method(method).uri(uri).header(http::header::CONTENT_TYPE, kind);
        let request = request.body(body.map_or_else(Vec::new, |body| body.to_string().into_bytes()));
        let request = match request {
            Ok(request) => request,
            Err(error) => return Answer::Unknown(error.to_string()),
        };
        match timeout(CALL_PATIENCE, self.client.request_text(request)).await {
            // Texts that are not JSON come from paths such as /readyz.
            Ok(Ok(text)) => Answer::Done(serde_json::from_str(&text).unwrap_or(Value::String(text))),
            Ok(Err(kube::Error::Api(status))) if (400..500).contains(&status.code) => {
                let (reason, message) = (status.reason.clone(), status.message.clone());
                Answer::Refused { code: status.code, reason, message }
            }
            Ok(Err(error)) => Answer::Unknown(words(&error)),
            Err(_) => Answer::Unknown(format!("no answer within {CALL_PATIENCE:?}")),
        }
    }

    /// Sends a request about an object.
    pub(crate) async fn call(&self, request: &Request) -> Outcome {
        let stale = |stale: bool| if stale { "?resourceVersion=0" } else { "" };
        let one = |name: &str| format!("{MAPS}/{name}");
        let answer = match request {
            Request::Create { name, value } => {
                let map = json!({"metadata": {"name": name}, "data": {FIELD: value}});
                self.ask("POST", MAPS, Some(map)).await
            }
            Request::Update { name, version, value } => {
                let metadata = json!({"name": name, "resourceVersion": version.to_string()});
                self.ask("PUT", &one(name), Some(json!({"metadata": metadata, "data": {FIELD: value}}))).await
            }
            Request::Delete { name, uid, version } => {
                let mut preconditions = json!({"uid": uid});
                if let Some(version) = version {
                    preconditions["resourceVersion"] = version.to_string().into();
                }
                let options =
                    json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions});
                self.ask("DELETE", &one(name), Some(options)).await
            }
            Request::Get { name, stale: is_stale } => {
                self.ask("GET", &format!("{}{}", one(name), stale(*is_stale)), None).await
            }
            Request::List { stale: is_stale } => {
                self.ask("GET", &format!("{MAPS}{}", stale(*is_stale)), None).await
            }
            Request::Other { what } => Answer::Unknown(format!("{what} has a body of its own")),
        };
        outcome(request, answer)
    }

    /// Whether it is ready.
    pub(crate) async fn is_ready(&self) -> Result<(), String> {
        self.ask("GET", "/readyz", None).await.done().map(drop)
    }

    /// Everything that changes in a collection behind a version, until the server or the connection ends it.
    pub(crate) async fn watch(
        &self,
        collection: &str,
        version: i64,
        for_s: u32,
    ) -> Result<impl Stream<Item = Result<WatchEvent<DynamicObject>, String>> + use<>, String> {
        let uri = format!(
            "{collection}?watch=true&allowWatchBookmarks=true&resourceVersion={version}&timeoutSeconds={for_s}"
        );
        let request = http::Request::get(uri).body(Vec::new()).map_err(|error| error.to_string())?;
        let events = timeout(CALL_PATIENCE, self.client.request_events::<DynamicObject>(request)).await;
        let events = events.map_err(|_| format!("no answer within {CALL_PATIENCE:?}"))?;
        Ok(events.map_err(|error| words(&error))?.map(|event| event.map_err(|error| words(&error))))
    }
}

/// An error with what it comes from.
fn words(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    sources.fold(error.to_string(), |words, source| format!("{words}: {source}"))
}

/// What became of a request, by the answer to it.
pub(crate) fn outcome(request: &Request, answer: Answer) -> Outcome {
    let unreadable = |value: &Value| Outcome::Unknown { error: format!("not an answer: {value}") };
    match answer {
        Answer::Refused { code, reason, .. } => Outcome::Refused { code, reason },
        Answer::Unknown(error) => Outcome::Unknown { error },
        Answer::Done(value) => match request {
            Request::Delete { .. } | Request::Other { .. } => Outcome::Done { object: None },
            Request::Create { .. } | Request::Update { .. } => match object(&value) {
                Some(object) => Outcome::Done { object: Some(object) },
                None => unreadable(&value),
            },
            Request::Get { .. } => match object(&value) {
                Some(object) => Outcome::Found { object },
                None => unreadable(&value),
            },
            Request::List { .. } => match list(&value) {
                Some((version, objects)) => Outcome::Listed { version, objects },
                None => unreadable(&value),
            },
        },
    }
}

fn version(metadata: &Value) -> Option<i64> {
    metadata["resourceVersion"].as_str()?.parse().ok()
}

/// An object of clients.
pub(crate) fn object(value: &Value) -> Option<Object> {
    let metadata = &value["metadata"];
    Some(Object {
        name: metadata["name"].as_str()?.to_owned(),
        uid: metadata["uid"].as_str()?.to_owned(),
        version: version(metadata)?,
        value: value["data"][FIELD].as_str()?.to_owned(),
    })
}

/// The version of a list, and the objects of clients in it.
pub(crate) fn list(value: &Value) -> Option<(i64, Vec<Object>)> {
    let ours = |item: &&Value| item["metadata"]["name"].as_str().is_some_and(|name| name.starts_with(PREFIX));
    let objects: Option<Vec<Object>> = value["items"].as_array()?.iter().filter(ours).map(object).collect();
    Some((version(&value["metadata"])?, objects?))
}

/// What an event tells of objects of clients; nothing if it is about others.
///
/// # Errors
/// What the server says is wrong, with the code of HTTP.
pub(crate) fn told(event: WatchEvent<DynamicObject>) -> Result<Option<Told>, (u16, String)> {
    let of = |found: &DynamicObject| -> Result<Option<Object>, (u16, String)> {
        let value = serde_json::to_value(found).map_err(|error| (0, error.to_string()))?;
        let is_ours = found.metadata.name.as_deref().is_some_and(|name| name.starts_with(PREFIX));
        match object(&value) {
            Some(object) if is_ours => Ok(Some(object)),
            None if is_ours => Err((0, format!("not an object: {value}"))),
            _ => Ok(None),
        }
    };
    Ok(match event {
        WatchEvent::Added(found) => of(&found)?.map(|object| Told::Added { object }),
        WatchEvent::Modified(found) => of(&found)?.map(|object| Told::Modified { object }),
        WatchEvent::Deleted(found) => of(&found)?.map(|object| Told::Deleted { object }),
        WatchEvent::Bookmark(mark) => {
            let version = mark.metadata.resource_version;
            let version = version.parse().map_err(|_| (0, format!("not a version: {version}")))?;
            Some(Told::Bookmark { version })
        }
        WatchEvent::Error(status) => return Err((status.code, status.message)),
    })
}
