//! Questions that clients ask as objects, and are answered without being stored: who they are, and who may what; and tokens,
//! which are not stored either. Must never store anything.

use barque_api::kind::{GroupResource, GroupVersionKind};
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Body};
use super::body;
use super::negotiation::Form;
use super::verbs::Call;
use crate::admission::{Admission, Attributes, Operation, Told};
use crate::authentication::{Authenticator, reviews, token_request};
use crate::authorization::chain::Authorizer;
use crate::authorization::review;
use crate::registry::decode;
use crate::registry::uid::new_uid;
use crate::storage::Storage;

/// Answers a question, or makes a token; nothing for a request that is neither.
///
/// # Errors
/// When the question is none.
pub async fn answer<S: Storage>(
    call: &Call<'_, S>,
    authorizer: &(dyn Authorizer + Sync),
    authenticator: &Authenticator<S>,
    admission: &Admission<S>,
    told: &mut Told,
) -> Result<Option<Response<Body>>, Status> {
    let resource = &call.info.resource;
    if call.info.verb != "create" {
        return Ok(None);
    }
    let answered = match (&*resource.group, &*resource.resource, &*call.info.subresource) {
        ("authorization.k8s.io", "subjectaccessreviews", "") => {
            review::subject_access_review(&question(call)?, authorizer)?
        }
        ("authorization.k8s.io", "localsubjectaccessreviews", "") => {
            review::local_subject_access_review(&question(call)?, &call.info.namespace, authorizer)?
        }
        ("authorization.k8s.io", "selfsubjectaccessreviews", "") => {
            review::self_subject_access_review(&question(call)?, call.user, authorizer)?
        }
        ("authorization.k8s.io", "selfsubjectrulesreviews", "") => {
            review::self_subject_rules_review(&question(call)?, call.user, authorizer)?
        }
        ("authentication.k8s.io", "selfsubjectreviews", "") => {
            reviews::self_subject_review(&question(call)?, call.user, call.now)
        }
        ("authentication.k8s.io", "tokenreviews", "") => token_review(call, authenticator).await?,
        ("", "serviceaccounts", "token") => new_token(call, authenticator, admission, told).await?,
        _ => return Ok(None),
    };
    shown(call, answered).map(Some)
}

async fn token_review<S: Storage>(
    call: &Call<'_, S>,
    authenticator: &Authenticator<S>,
) -> Result<Value, Status> {
    let review = question(call)?;
    let token = review.pointer("/spec/token").and_then(Value::as_str).unwrap_or_default();
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = review.pointer("/spec/audiences").and_then(Value::as_array);
    let audiences: Vec<String> =
        audiences.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let found = authenticator.user_of_token_for(token, &audiences, call.now).await?;
    Ok(reviews::token_review(&review, found))
}

/// A token of a service account.
async fn new_token<S: Storage>(
    call: &Call<'_, S>,
    authenticator: &Authenticator<S>,
    admission: &Admission<S>,
    told: &mut Told,
) -> Result<Value, Status> {
    let kind = GroupVersionKind::new("authentication.k8s.io", "v1", "TokenRequest");
    let mut request = decode::plain(&call.body, body::encoding(call.headers)?, &kind)?
        .ok_or_else(|| Status::bad_request("the body is empty; expected a TokenRequest"))?;
    let accounts = authenticator.settings().service_accounts.as_ref().ok_or_else(|| {
        Status::internal("tokens cannot be signed: --service-account-signing-key-file is not set")
    })?;
    let (namespace, name) = (&*call.info.namespace, &*call.info.name);
    let named = Metadata::of(&request).name();
    if !named.is_empty() && named != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({named}) does not match the name on the URL ({name})"
        )));
    }
    let asked = Attributes {
        operation: Operation::Create,
        user: call.user,
        kind: &kind,
        resource: &call.info.resource,
        subresource: "token",
        namespace,
        name,
        old: None,
        options: &call.parameters.options("CreateOptions"),
        dry_run: call.parameters.dry_run("CreateOptions")?,
        now: call.now,
    };
    admission.admit(&asked, &mut request, told).await?;
    let read = async |resource: &str, namespace: &str, name: &str| -> Result<Option<Value>, Status> {
        let resource = GroupResource::new("", resource);
        authenticator.collections().newest_object(&resource, namespace, name).await
    };
    let missing = |resource: &str, name: &str| Status::not_found(&GroupResource::new("", resource), name);
    let account = read("serviceaccounts", namespace, name).await?;
    let account = account.ok_or_else(|| missing("serviceaccounts", name))?;
    let bound = token_request::bound_to(&request)?;
    let object = match &bound {
        None => None,
        Some(bound) => {
            let found = read(bound.resource, namespace, &bound.name).await?;
            Some(found.ok_or_else(|| missing(bound.resource, &bound.name))?)
        }
    };
    let node = object.as_ref().and_then(|object| object.pointer("/spec/nodeName")).and_then(Value::as_str);
    let node = match node.filter(|name| !name.is_empty()) {
        Some(name) => read("nodes", "", name).await?,
        None => None,
    };
    let pair = bound.as_ref().zip(object.as_ref());
    let (claims, end) =
        token_request::claims(accounts, &request, &account, pair, node.as_ref(), &new_uid(), call.now)?;
    request["metadata"]["name"] = name.into();
    request["metadata"]["namespace"] = namespace.into();
    request["metadata"]["creationTimestamp"] = call.now.to_string().into();
    request["spec"]["audiences"] = claims["aud"].clone();
    request["spec"]["expirationSeconds"] = (end.unix() - call.now.unix()).into();
    request["status"] = json!({"token": accounts.sign(&claims)?, "expirationTimestamp": end.to_string()});
    Ok(request)
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
/// When it cannot be encoded.
pub(super) fn shown<S: Storage>(call: &Call<'_, S>, object: Value) -> Result<Response<Body>, Status> {
    let form = call.form(&GroupVersionKind::new("", "v1", "Status")).unwrap_or(Form::JSON);
    answer::object(StatusCode::CREATED, &object, form.encoding)
}
