//! How pods are written to the API server. Must never write to another pod of the same name.

use std::future::Future;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client};
use serde_json::Value;

use crate::static_pods::mirrors::Mirrors;

/// Who writes, in the fields' owners.
const MANAGER: &str = "barque-agent";

/// Why a pod was not written.
#[derive(Debug, thiserror::Error)]
pub enum PodApiError {
    /// It is not there any more; one of its name is another one.
    #[error("the pod is gone")]
    Gone,
    /// Anything else; the write may have happened.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
}

/// Pods, as far as an agent writes them.
pub trait PodApi: Send + Sync + 'static {
    /// Changes the status by a strategic merge patch that names the pod's uid.
    fn patch_status(&self, pod: &Pod, patch: &Value)
    -> impl Future<Output = Result<Pod, PodApiError>> + Send;

    /// Removes a pod of which nothing is left.
    fn delete(&self, pod: &Pod) -> impl Future<Output = Result<(), PodApiError>> + Send;
}

/// Pods of a cluster. What is said of pods of files goes to those that stand for them.
#[derive(Clone)]
pub struct KubePods {
    client: Client,
    mirrors: Mirrors,
}

impl KubePods {
    /// By this client.
    #[must_use]
    pub fn new(client: Client, mirrors: Mirrors) -> Self {
        Self { client, mirrors }
    }

    fn api(&self, pod: &Pod) -> (Api<Pod>, String) {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
        let name = pod.metadata.name.clone().unwrap_or_default();
        (Api::namespaced(self.client.clone(), namespace), name)
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// What an error means. A conflict is another uid, or a server that could not do it just now: no version is ever named. A pod
/// that is taken for gone is ended, so the server is asked which it is.
async fn failure(api: &Api<Pod>, name: &str, pod: &Pod, error: kube::Error) -> PodApiError {
    let failed = |error: kube::Error| PodApiError::Failed(Box::new(error));
    match code(&error) {
        Some(404) => PodApiError::Gone,
        Some(409) => match api.get_metadata_opt(name).await {
            Ok(Some(there)) if there.metadata.uid == pod.metadata.uid => failed(error),
            Ok(_) => PodApiError::Gone,
            Err(error) => failed(error),
        },
        _ => failed(error),
    }
}

impl PodApi for KubePods {
    async fn patch_status(&self, pod: &Pod, patch: &Value) -> Result<Pod, PodApiError> {
        if self.mirrors.is_of_file(pod) {
            return Ok(self.mirrors.patch_status(pod, patch));
        }
        let (api, name) = self.api(pod);
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match api.patch_status(&name, &params, &Patch::Strategic(patch)).await {
            Ok(written) => Ok(lean(written)),
            Err(error) => Err(failure(&api, &name, pod, error).await),
        }
    }

    async fn delete(&self, pod: &Pod) -> Result<(), PodApiError> {
        let (api, name) = self.api(pod);
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
            ..DeleteParams::default()
        };
        match api.delete(&name, &params).await {
            Ok(_) => Ok(()),
            Err(error) => Err(failure(&api, &name, pod, error).await),
        }
    }
}

/// Without what an agent never reads.
#[must_use]
pub fn lean(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod
}

#[cfg(test)]
mod tests {
    use http::{Method, Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A server that has a pod of this uid, if any, and refuses whatever is to be changed.
    fn refusing(uid: Option<&'static str>) -> KubePods {
        let answer = move |request: Request<Body>| async move {
            let (code, body) = match (request.method(), uid) {
                (&Method::GET, None) => {
                    (404, json!({"kind": "Status", "code": 404, "reason": "NotFound", "status": "Failure"}))
                }
                (&Method::GET, Some(uid)) => (200, json!({"metadata": {"name": "p", "uid": uid}})),
                _ => (409, json!({"kind": "Status", "code": 409, "reason": "Conflict", "status": "Failure"})),
            };
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            Ok::<_, kube::Error>(response.expect("it is a response"))
        };
        let client = Client::new(tower::service_fn(move |request| Box::pin(answer(request))), "default");
        KubePods::new(client, Mirrors::default())
    }

    #[tokio::test]
    async fn what_a_pod_says_of_itself_does_not_keep_its_status_from_the_server() {
        let annotations = json!({"kubernetes.io/config.source": "file"});
        let pod = json!({"metadata": {"name": "p", "uid": "u", "annotations": annotations}});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        assert!(refusing(None).patch_status(&pod, &json!({})).await.is_err(), "the server was asked");
    }

    #[tokio::test]
    async fn a_pod_is_gone_only_when_it_is_not_there_or_another_one() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "uid": "u"}})).unwrap();
        for (there, gone) in [(None, true), (Some("other"), true), (Some("u"), false)] {
            let api = refusing(there);
            let written = api.patch_status(&pod, &json!({})).await.map(drop);
            for result in [written, api.delete(&pod).await] {
                let error = result.unwrap_err();
                assert_eq!(matches!(error, PodApiError::Gone), gone, "{there:?}: {error}");
            }
        }
    }
}
