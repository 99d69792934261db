//! Paths below objects that are no part of them: scales, bindings, evictions. Must never know how they are carried out.

use barque_api::kind::GroupVersionKind;
use barque_api::metadata::Metadata;
use barque_api::status::Status;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::answer::{self, Body};
use super::body;
use super::negotiation::{Form, View};
use super::verbs::{Call, patch_of};
use crate::admission::Told;
use crate::registry::decode;
use crate::registry::pipeline::scale::{self, scale_of};
use crate::registry::pipeline::{Patch, Pipeline, Request, ScaleChange, check_manager};
use crate::storage::Storage;

/// Carries a request for one of these out; nothing for any other path.
///
/// # Errors
/// Whatever it fails with, as the client is told.
pub async fn carry_out<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Option<Response<Body>>, Status> {
    let resource = (&*call.info.resource.group, &*call.info.resource.resource);
    Ok(Some(match (resource, &*call.info.subresource, call.info.verb) {
        (_, "scale", "get") => get_scale(call).await?,
        (_, "scale", "update" | "patch") => change_scale(call, pipeline, told).await?,
        (("", "pods"), "binding", "create") | (("", "bindings"), "", "create") => {
            bind(call, pipeline, told).await?
        }
        (("", "pods"), "eviction", "create") => evict(call, pipeline, told).await?,
        _ => return Ok(None),
    }))
}

/// A scale as the client reads it.
fn shown<S: Storage>(call: &Call<'_, S>, scale: Value) -> Result<Response<Body>, Status> {
    let form = call.form(&scale::kind())?;
    let scale = match form.view {
        View::Object | View::Table => scale,
        View::Metadata => super::views::metadata_of(&scale),
    };
    answer::object(StatusCode::OK, &scale, form.encoding)
}

async fn get_scale<S: Storage>(call: &Call<'_, S>) -> Result<Response<Body>, Status> {
    let object = call.stored_object().await?;
    shown(call, scale_of(&call.endpoint.served, &object)?)
}

async fn change_scale<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let (patch, replacement): (Patch, Value);
    let kind = if call.info.verb == "patch" { "PatchOptions" } else { "UpdateOptions" };
    let change = if call.info.verb == "patch" {
        patch = patch_of(call)?;
        ScaleChange::Patch(&patch)
    } else {
        replacement = body_of(call, &scale::kind())?;
        ScaleChange::Replace(&replacement)
    };
    check_manager(call.parameters.text("fieldManager"), false)?;
    let (options, manager) = (call.parameters.options(kind), call.manager());
    let request = call.write(&options, &manager, call.parameters.dry_run(kind)?)?;
    let scale = pipeline.scale(&request, change, told).await?;
    shown(call, scale)
}

async fn bind<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let binding = body_of(call, &GroupVersionKind::new("", "v1", "Binding"))?;
    let named = Metadata::of(&binding).name().to_owned();
    if !call.info.name.is_empty() && !named.is_empty() && named != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Binding object"));
    }
    let name = if call.info.name.is_empty() { &named } else { &call.info.name };
    let (options, manager) = (call.parameters.options("CreateOptions"), call.manager());
    let pods = pipeline.collections.catalog();
    let pods = pods.named(&barque_api::kind::GroupVersionResource::new("", "v1", "pods"));
    let served = &pods.ok_or_else(Status::no_such_path)?.served;
    let request = Request {
        served,
        name,
        ..call.write(&options, &manager, call.parameters.dry_run("CreateOptions")?)?
    };
    pipeline.bind(&request, &call.info.resource, binding, told).await?;
    done(call)
}

async fn evict<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    // Old clients send the beta, which has the same fields; it is taken although its group version is gone.
    let [stable, beta] =
        ["v1", "v1beta1"].map(|version| GroupVersionKind::new("policy", version, "Eviction"));
    let mut eviction = body_of(call, &stable).or_else(|error| body_of(call, &beta).map_err(|_| error))?;
    eviction["apiVersion"] = stable.group_version().to_string().into();
    let named = Metadata::of(&eviction).name();
    if !named.is_empty() && named != call.info.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object"));
    }
    let deletion = |eviction: &Value| {
        let given = eviction.get("deleteOptions").filter(|options| options.is_object());
        call.parameters.deletion(given)
    };
    let (_, dry_run) = deletion(&eviction)?;
    let options = call.parameters.options("CreateOptions");
    let manager = call.manager();
    let request = call.write(&options, &manager, dry_run)?;
    let read = |eviction: &Value| deletion(eviction).map(|(options, _)| options);
    pipeline.evict(&request, eviction, read, told).await?;
    done(call)
}

/// The object in a body that is none of the collection's.
fn body_of<S: Storage>(call: &Call<'_, S>, kind: &GroupVersionKind) -> Result<Value, Status> {
    let object = decode::plain(&call.body, body::encoding(call.headers)?, kind)?;
    object.ok_or_else(|| Status::bad_request(format!("the body is empty; expected a {}", kind.kind)))
}

fn done<S: Storage>(call: &Call<'_, S>) -> Result<Response<Body>, Status> {
    let form = call.form(&GroupVersionKind::new("", "v1", "Status")).unwrap_or(Form::JSON);
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    answer::object(StatusCode::CREATED, &status, form.encoding)
}
