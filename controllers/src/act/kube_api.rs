//! Actions as requests of kube's client. Must never change what it was not shown: each write names the uid or the version that
//! was seen.

use kube::api::{
    Api as Collection, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
    PropagationPolicy,
};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};

use super::Api;
use super::verdict::failure;
use crate::kind::{Key, Kind};
use crate::plan::{Action, Done, Failure, ObjectId, Propagation, Verdict};
use crate::question::{Answer, Question};

/// Who writes, as `managedFields` tells.
pub(crate) const MANAGER: &str = "kube-controller-manager";

/// How often a scale that changes all the time is tried to be written.
const SCALE_TRIES: usize = 5;

/// The API, over a client.
#[derive(Clone)]
pub(crate) struct KubeApi {
    client: Client,
}

impl KubeApi {
    /// Over this client.
    #[must_use]
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// The client, for what is no action.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    fn collection(&self, kind: &Kind, namespace: &str) -> Collection<DynamicObject> {
        let resource = kind.api_resource();
        if namespace.is_empty() {
            Collection::all_with(self.client.clone(), &resource)
        } else {
            Collection::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    async fn create(&self, kind: &Kind, object: &Value) -> Result<Done, Failure> {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let mut object = object.clone();
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.into();
        let object = serde_json::from_value(object)
            .map_err(|error| Failure { verdict: Verdict::Refused, message: error.to_string() })?;
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let made = self.collection(kind, namespace).create(&params, &object).await;
        made.map(done).map_err(|error| failure(&error))
    }

    async fn update(
        &self,
        object: &ObjectId,
        subresource: Option<&str>,
        patch: &Value,
    ) -> Result<Done, Failure> {
        let mut patch = patch.clone();
        // Both are compared, so that neither another object nor another version is changed.
        patch["metadata"]["uid"] = object.uid.as_str().into();
        patch["metadata"]["resourceVersion"] = object.version.as_str().into();
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        let (collection, name) = (self.collection(&object.kind, &object.key.namespace), &object.key.name);
        let patch = Patch::Merge(patch);
        let changed = match subresource {
            Some(part) => collection.patch_subresource(part, name, &params, &patch).await,
            None => collection.patch(name, &params, &patch).await,
        };
        changed.map(done).map_err(|error| failure(&error))
    }

    async fn delete(&self, object: &ObjectId, params: &DeleteParams) -> Result<Done, Failure> {
        let collection = self.collection(&object.kind, &object.key.namespace);
        let gone = collection.delete(&object.key.name, params).await.map_err(|error| failure(&error))?;
        let version = gone.left().and_then(|object| object.resource_version()).unwrap_or_default();
        Ok(Done { key: object.key.clone(), uid: object.uid.clone(), version })
    }

    /// Writes a scale; where the object has changed meanwhile, as long as it is still the same object.
    async fn scale(&self, path: &str, object: &ObjectId, replicas: i32) -> Result<Done, Failure> {
        let refused = |error: http::Error| Failure { verdict: Verdict::Refused, message: error.to_string() };
        let mut version = object.version.clone();
        let mut tries = 1;
        loop {
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}});
            let request = http::Request::patch(format!("{path}?fieldManager={MANAGER}"))
                .header(http::header::CONTENT_TYPE, "application/merge-patch+json")
                .body(patch.to_string().into_bytes())
                .map_err(refused)?;
            let written = self.client.request::<Value>(request).await.map_err(|error| failure(&error));
            match written {
                Err(Failure { verdict: Verdict::Outdated, .. }) if tries < SCALE_TRIES => {
                    let request = http::Request::get(path).body(Vec::new()).map_err(refused)?;
                    let found = self.client.request::<Value>(request).await;
                    let found = found.map_err(|error| failure(&error))?;
                    if found["metadata"]["uid"] != object.uid.as_str() {
                        let message = "it is another one of the same name".to_owned();
                        return Err(Failure { verdict: Verdict::Outdated, message });
                    }
                    version = found["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                    tries += 1;
                }
                written => {
                    let version =
                        written?["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
                    return Ok(Done { key: object.key.clone(), uid: object.uid.clone(), version });
                }
            }
        }
    }

    async fn confirm(&self, object: &ObjectId) -> Result<Done, Failure> {
        let gone = |message: &str| Failure { verdict: Verdict::Gone, message: message.to_owned() };
        let collection = self.collection(&object.kind, &object.key.namespace);
        let found = collection.get_metadata_opt(&object.key.name).await.map_err(|error| failure(&error))?;
        match found {
            Some(found) if found.metadata.uid.as_deref() != Some(&object.uid) => {
                Err(gone("it is another one of the same name"))
            }
            Some(found) if found.metadata.deletion_timestamp.is_some() => Err(gone("it is being deleted")),
            Some(found) => Ok(Done {
                key: object.key.clone(),
                uid: object.uid.clone(),
                version: found.resource_version().unwrap_or_default(),
            }),
            None => Err(gone("it is not there any more")),
        }
    }

    async fn unchanged(&self, object: &ObjectId) -> Result<Done, Failure> {
        let done = self.confirm(object).await?;
        if done.version != object.version {
            let message = "it has changed since it was seen".to_owned();
            return Err(Failure { verdict: Verdict::Outdated, message });
        }
        Ok(done)
    }

    async fn absent(&self, kind: &Kind, key: &Key) -> Result<Done, Failure> {
        let collection = self.collection(kind, &key.namespace);
        match collection.get_metadata_opt(&key.name).await.map_err(|error| failure(&error))? {
            Some(_) => Err(Failure { verdict: Verdict::Outdated, message: "it is there".to_owned() }),
            None => Ok(Done { key: key.clone(), uid: String::new(), version: String::new() }),
        }
    }
}

fn done(object: DynamicObject) -> Done {
    Done {
        key: Key::new(object.metadata.namespace.as_deref().unwrap_or_default(), &object.name_any()),
        uid: object.uid().unwrap_or_default(),
        version: object.resource_version().unwrap_or_default(),
    }
}

/// What goes with a deletion on its way.
fn delete_params(
    object: &ObjectId,
    propagation: Propagation,
    grace_seconds: Option<u32>,
    unchanged: bool,
) -> DeleteParams {
    DeleteParams {
        grace_period_seconds: grace_seconds,
        propagation_policy: match propagation {
            Propagation::Default => None,
            Propagation::Background => Some(PropagationPolicy::Background),
            Propagation::Foreground => Some(PropagationPolicy::Foreground),
            Propagation::Orphan => Some(PropagationPolicy::Orphan),
        },
        preconditions: Some(Preconditions {
            uid: Some(object.uid.clone()),
            resource_version: unchanged.then(|| object.version.clone()),
        }),
        ..DeleteParams::default()
    }
}

impl Api for KubeApi {
    async fn perform(&self, action: &Action) -> Result<Done, Failure> {
        let result = match action {
            Action::Create { kind, object } => self.create(kind, object).await,
            Action::Update { object, subresource, patch } => self.update(object, *subresource, patch).await,
            Action::Delete { object, propagation, grace_seconds, unchanged } => {
                let params = delete_params(object, *propagation, *grace_seconds, *unchanged);
                self.delete(object, &params).await
            }
            Action::Scale { path, object, replicas } => self.scale(path, object, *replicas).await,
            Action::Confirm { object } => self.confirm(object).await,
            Action::Unchanged { object } => self.unchanged(object).await,
            Action::Absent { kind, key } => self.absent(kind, key).await,
        };
        // Where a namespace is not there, nothing can be made.
        match (action, result) {
            (Action::Create { .. }, Err(Failure { verdict: Verdict::Gone, message })) => {
                Err(Failure { verdict: Verdict::Refused, message })
            }
            (_, result) => result,
        }
    }

    async fn ask(&self, question: &Question) -> Answer {
        let request = http::Request::builder().uri(&question.path);
        let request = match &question.body {
            None => request.body(Vec::new()),
            Some(body) => request
                .method(http::Method::POST)
                .header(http::header::CONTENT_TYPE, "application/json")
                .body(body.to_string().into_bytes()),
        };
        let refused = |error: http::Error| Failure { verdict: Verdict::Refused, message: error.to_string() };
        self.client.request(request.map_err(refused)?).await.map_err(|error| failure(&error))
    }
}
