//! Questions that clients ask as objects, and are answered without being stored: who they are, and who may what. Must never
//! store anything.

use barque_api::status::Status;
use http::{Response, StatusCode};
use serde_json::Value;

use super::answer::{self, Body};
use super::body;
use super::verbs::Call;
use crate::authorization::chain::Authorizer;
use crate::authorization::review;
use crate::registry::decode;
use crate::storage::Storage;

/// Answers a question of `authorization.k8s.io`; nothing for a request that is none.
///
/// # Errors
/// When the question is none.
pub fn answer<S: Storage>(
    call: &Call<'_, S>,
    authorizer: &dyn Authorizer,
) -> Result<Option<Response<Body>>, Status> {
    let resource = &call.info.resource;
    if &*resource.group != "authorization.k8s.io" || call.info.verb != "create" {
        return Ok(None);
    }
    let question = question(call)?;
    let answered = match &*resource.resource {
        "subjectaccessreviews" => review::subject_access_review(&question, authorizer),
        "localsubjectaccessreviews" => {
            review::local_subject_access_review(&question, &call.info.namespace, authorizer)
        }
        "selfsubjectaccessreviews" => review::self_subject_access_review(&question, call.user, authorizer),
        "selfsubjectrulesreviews" => review::self_subject_rules_review(&question, call.user, authorizer),
        _ => return Ok(None),
    }?;
    told(call, answered).map(Some)
}

/// The object in the body.
///
/// # Errors
/// When it is no object of the collection's kind.
pub(super) fn question<S: Storage>(call: &Call<'_, S>) -> Result<Value, Status> {
    let kind = &call.endpoint.served.kind;
    let mut object = decode::plain(&call.body, body::encoding(call.headers)?, kind)?
        .ok_or_else(|| Status::bad_request(format!("the body is empty; expected a {}", kind.kind)))?;
    let misfits = call.endpoint.served.misfits(&object);
    if !misfits.is_empty() {
        let told: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        return Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {}",
            kind.kind,
            kind.version,
            kind.kind,
            told.join(", ")
        )));
    }
    call.endpoint.served.prune(&mut object);
    Ok(object)
}

/// The question with its answer.
///
/// # Errors
/// When the client reads no form that there is.
pub(super) fn told<S: Storage>(call: &Call<'_, S>, object: Value) -> Result<Response<Body>, Status> {
    let form = call.form(&call.endpoint.served.kind)?;
    answer::object(StatusCode::CREATED, &object, form.encoding)
}
