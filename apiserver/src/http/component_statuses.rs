//! `componentstatuses`: what old clients ask to see whether the control plane is well. Kubernetes calls them deprecated and still
//! serves them; here the store is the only component that a server knows. Must never be stored.

use barque_api::status::Status;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::Body;
use super::verbs::Call;
use crate::admission::Told;
use crate::storage::Storage;

/// The store, as clients of Kubernetes know it.
const STORE: &str = "etcd-0";

/// Answers a read; nothing for a request that is none.
///
/// # Errors
/// 404 for components that there are not.
pub async fn answer<S: Storage>(
    call: &Call<'_, S>,
    storage: &S,
    told: &mut Told,
) -> Result<Option<Response<Body>>, Status> {
    let resource = &call.info.resource;
    if !resource.group.is_empty() || &*resource.resource != "componentstatuses" {
        return Ok(None);
    }
    told.warn("v1 ComponentStatus is deprecated in v1.19+");
    let read = storage.current_revision().await;
    let status = component(read.err().map(|error| error.to_string()));
    let teller = call.teller()?;
    match call.info.verb {
        "get" if call.info.name == STORE => teller.answer(StatusCode::OK, status).map(Some),
        "get" => Err(Status::not_found(&resource.group_resource(), &call.info.name)),
        "list" => teller.computed(vec![status]).map(Some),
        _ => Ok(None),
    }
}

fn component(failure: Option<String>) -> Value {
    let condition = match failure {
        None => json!({"type": "Healthy", "status": "True", "message": "ok"}),
        Some(why) => json!({"type": "Healthy", "status": "False", "message": "", "error": why}),
    };
    json!({
        "kind": "ComponentStatus", "apiVersion": "v1",
        "metadata": {"name": STORE, "creationTimestamp": null}, "conditions": [condition],
    })
}
