//! What requests for objects do: each verb on each kind of path, from the request to the answer. Must never judge who may.

use std::sync::Arc;
use std::time::Duration;

use barque_api::kind::GroupVersionKind;
use barque_api::managed_fields::manager_name;
use barque_api::metadata::Metadata;
use barque_api::protobuf;
use barque_api::resources::Verb;
use barque_api::status::{Reason, Status};
use barque_api::time::Time;
use barque_streams::upgrade::is_websocket;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Response, StatusCode};
use hyper::upgrade::OnUpgrade;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::{self, Body};
use super::negotiation::{self, Encoding, Form, Offer, View};
use super::parameters::Parameters;
use super::request_info::ResourceRequest;
use super::views::Teller;
use super::watches::{self, Frames};
use super::{body, component_statuses, subresources, websocket_watch};
use crate::admission::Told;
use crate::authorization::User;
use crate::registry::collections::{Collection, Endpoint, parse};
use crate::registry::decode;
use crate::registry::pipeline::{DeleteAnswer, Patch, PatchKind, Pipeline, Request, check_manager};
use crate::registry::selection::{Wanted, selection};
use crate::registry::served::Served;
use crate::storage::Storage;
use crate::watch_cache::object::Object;
use crate::watch_cache::query::{At, resource_version};

/// A watch that does not say for how long is ended after this and up to as much more, so that not all end at once.
const WATCH_LEAST: Duration = Duration::from_secs(1800);

/// A request for objects, with everything that came with it.
pub struct Call<'a, S: Storage> {
    /// What it is about.
    pub info: &'a ResourceRequest,
    /// The version of the collection.
    pub endpoint: &'a Endpoint<S>,
    /// Who asks.
    pub user: &'a User,
    /// Its options.
    pub parameters: &'a Parameters,
    /// Its headers.
    pub headers: &'a HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// Now.
    pub now: Time,
    /// Watches end at this.
    pub stop: &'a CancellationToken,
    /// How the connection becomes a WebSocket's, where it can.
    pub upgrade: Option<OnUpgrade>,
    /// Who owns what goes on after the answer.
    pub tasks: &'a TaskTracker,
}

impl<S: Storage> Call<'_, S> {
    fn served(&self) -> &Arc<Served> {
        &self.endpoint.served
    }

    fn collection(&self) -> Result<&Arc<Collection<S>>, Status> {
        self.endpoint.collection.as_ref().ok_or_else(Status::no_such_path)
    }

    /// The form of the answer.
    ///
    /// # Errors
    /// 406 when the client reads none that there is.
    pub(super) fn form(&self, kind: &GroupVersionKind) -> Result<Form, Status> {
        let has_protobuf =
            !self.served().is_custom() && protobuf::Messages::builtin().of_kind(kind).is_some();
        let offer = Offer { protobuf: has_protobuf, views: true };
        let accept = self.headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        negotiation::accepted(accept, offer).ok_or_else(|| {
            let mut known = vec![Encoding::Json.media_type(), Encoding::Yaml.media_type()];
            if has_protobuf {
                known.push(Encoding::Protobuf.media_type());
            }
            Status::new(
                Reason::NotAcceptable,
                format!("only the following media types are accepted: {}", known.join(", ")),
            )
        })
    }

    /// How objects are told to the client.
    ///
    /// # Errors
    /// 406 as [`Call::form`], 400 for an option that is none.
    pub(crate) fn teller(&self) -> Result<Teller, Status> {
        let served = Arc::clone(self.served());
        let form = self.form(&served.kind)?;
        let include = self.parameters.include_object()?;
        Ok(Teller { served, form, include, now: self.now })
    }

    /// The object that the request names, as new as it wants it.
    async fn cached_object(&self) -> Result<Arc<Object>, Status> {
        let collection = self.collection()?;
        let wanted = resource_version(self.parameters.text("resourceVersion"))
            .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
        let at = match wanted {
            None if self.parameters.text("resourceVersion").is_empty() => At::Newest,
            None => At::Any,
            Some(version) => At::NotOlderThan(version),
        };
        let key = collection.keys.object(&self.info.namespace, &self.info.name);
        let object = collection.cache.get(&key, at).await?;
        object.ok_or_else(|| Status::not_found(&self.served().group_resource(), &self.info.name))
    }

    /// The same in the version of the request.
    pub(super) async fn stored_object(&self) -> Result<Value, Status> {
        let object = parse(&*self.cached_object().await?)?;
        self.served().of_stored(object).await
    }

    fn wanted(&self) -> Wanted<'_> {
        Wanted {
            namespace: &self.info.namespace,
            name: if self.info.verb == "get" { &self.info.name } else { "" },
            labels: self.parameters.text("labelSelector"),
            fields: self.parameters.text("fieldSelector"),
        }
    }

    /// Whom fields will belong to.
    pub(super) fn manager(&self) -> String {
        let agent = self.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        manager_name::of_request(self.parameters.text("fieldManager"), agent)
    }

    /// What is the same for all writes. `options` is the kind of their options.
    pub(super) fn write<'a>(
        &'a self,
        options: &'a Value,
        manager: &'a str,
        dry_run: bool,
    ) -> Result<Request<'a>, Status> {
        let kind = options["kind"].as_str().unwrap_or_default();
        Ok(Request {
            user: self.user,
            served: self.served(),
            namespace: &self.info.namespace,
            name: &self.info.name,
            subresource: &self.info.subresource,
            dry_run,
            manager,
            validation: self.parameters.field_validation(kind)?,
            options,
            now: self.now,
        })
    }
}

/// Carries a request out.
///
/// # Errors
/// Whatever it fails with, as the client is told.
pub async fn carry_out<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    check_path(call)?;
    told.warnings.extend(call.served().deprecation().map(str::to_owned));
    if let Some(response) = subresources::carry_out(call, pipeline, told).await? {
        return Ok(response);
    }
    let storage = pipeline.collections.storage();
    if let Some(response) = component_statuses::answer(call, storage, told).await? {
        return Ok(response);
    }
    match call.info.verb {
        "get" => get(call).await,
        "list" => list(call).await,
        "watch" => watch(call).await,
        "create" => create(call, pipeline, told).await,
        "update" => update(call, pipeline, told).await,
        "patch" => patch(call, pipeline, told).await,
        "delete" => delete(call, pipeline, told).await,
        "deletecollection" => delete_collection(call, pipeline, told).await,
        other => Err(Status::method_not_supported(&call.served().group_resource(), other)),
    }
}

/// Holds a request to the shape of paths that its collection has.
///
/// # Errors
/// 404 for paths that it does not have, 405 for verbs that it does not know.
pub(crate) fn check_path<S: Storage>(call: &Call<'_, S>) -> Result<(), Status> {
    let (info, resource) = (call.info, &call.served().resource);
    let verbs = if info.subresource.is_empty() {
        &resource.verbs
    } else {
        &resource.subresource(&info.subresource).ok_or_else(Status::no_such_path)?.verbs
    };
    let supported = Verb::of_name(info.verb).is_some_and(|verb| verbs.contains(&verb));
    if !supported {
        return Err(Status::new(
            Reason::MethodNotAllowed,
            "the server does not allow this method on the requested resource",
        ));
    }
    let is_namespace = &*resource.name.resource == "namespaces" && resource.name.group.is_empty();
    if !resource.namespaced && !info.namespace.is_empty() && !is_namespace {
        return Err(Status::no_such_path());
    }
    // Objects of all namespaces can be read at once, and only read.
    let across = ["list", "watch"].contains(&info.verb);
    if resource.namespaced && info.namespace.is_empty() && !across {
        return Err(if info.name.is_empty() {
            Status::new(
                Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            )
        } else {
            Status::no_such_path()
        });
    }
    Ok(())
}

async fn get<S: Storage>(call: &Call<'_, S>) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    teller.answer_cached(&*call.cached_object().await?).await
}

async fn list<S: Storage>(call: &Call<'_, S>) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let collection = call.collection()?;
    let selection = selection(call.wanted(), call.served(), collection)?;
    let list = collection.cache.list(&call.parameters.list()?, &selection).await?;
    teller.list(list).await
}

async fn watch<S: Storage>(call: &Call<'_, S>) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let collection = call.collection()?;
    let mut wanted = call.wanted();
    // The old form of watching one object: /api/v1/watch/namespaces/a/pods/b.
    if !call.parameters.text("fieldSelector").contains("metadata.name") {
        wanted.name = &call.info.name;
    }
    let selection = selection(wanted, call.served(), collection)?;
    let seconds = call.parameters.number("timeoutSeconds")?.unwrap_or_default();
    let timeout = match u64::try_from(seconds) {
        Ok(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400)),
        _ => WATCH_LEAST + WATCH_LEAST.mul_f64(rand::random::<f64>()),
    };
    let deadline = Instant::now() + timeout;
    let watcher = collection.cache.watch(&call.parameters.watch(), &selection, Some(deadline)).await?;
    let frames = Frames::new(watcher, teller, call.stop.clone());
    match &call.upgrade {
        Some(upgrade) if is_websocket(call.headers) => {
            websocket_watch::answer(frames, upgrade.clone(), call.headers, call.tasks)
        }
        _ => Ok(watches::answer(frames)),
    }
}

/// The object in a body.
fn object_of<S: Storage>(call: &Call<'_, S>) -> Result<decode::Decoded, Status> {
    let encoding = body::encoding(call.headers)?;
    let kind = &call.served().kind;
    let mut decoded = decode::document(&call.body, encoding, Some(kind))?;
    decode::expect_kind(&mut decoded.object, kind)?;
    Ok(decoded)
}

async fn create<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let decoded = object_of(call)?;
    let (options, manager) = (call.parameters.options("CreateOptions"), call.manager());
    check_manager(call.parameters.text("fieldManager"), false)?;
    let request = call.write(&options, &manager, call.parameters.dry_run("CreateOptions")?)?;
    let answer = pipeline.create(&request, decoded.object, &decoded.duplicates, told).await?;
    teller.answer(StatusCode::CREATED, answer.object)
}

async fn update<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let decoded = object_of(call)?;
    let (options, manager) = (call.parameters.options("UpdateOptions"), call.manager());
    check_manager(call.parameters.text("fieldManager"), false)?;
    let request = call.write(&options, &manager, call.parameters.dry_run("UpdateOptions")?)?;
    let answer = pipeline.update(&request, decoded.object, &decoded.duplicates, told).await?;
    let code = if answer.created { StatusCode::CREATED } else { StatusCode::OK };
    teller.answer(code, answer.object)
}

async fn patch<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let patch = patch_of(call)?;
    let is_apply = matches!(patch.kind, PatchKind::Apply { .. });
    check_manager(call.parameters.text("fieldManager"), is_apply)?;
    if call.parameters.has("force") && !is_apply {
        let path = barque_api::field::FieldPath::of("force");
        let error =
            barque_api::field::FieldError::forbidden(&path, "may not be specified for non-apply patch");
        return Err(Status::invalid(
            &GroupVersionKind::new("meta.k8s.io", "v1", "PatchOptions"),
            "",
            &[error],
        ));
    }
    let (options, manager) = (call.parameters.options("PatchOptions"), call.manager());
    let request = call.write(&options, &manager, call.parameters.dry_run("PatchOptions")?)?;
    let answer = pipeline.patch(&request, &patch, told).await?;
    let code = if answer.created { StatusCode::CREATED } else { StatusCode::OK };
    teller.answer(code, answer.object)
}

pub(super) fn patch_of<S: Storage>(call: &Call<'_, S>) -> Result<Patch, Status> {
    let content_type =
        call.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let (kind, encoding) = match media_type {
        "application/json-patch+json" => (PatchKind::Json, Encoding::Json),
        "application/merge-patch+json" => (PatchKind::Merge, Encoding::Json),
        "application/strategic-merge-patch+json" => (PatchKind::Strategic, Encoding::Json),
        "application/apply-patch+yaml" => {
            (PatchKind::Apply { force: call.parameters.flag("force") }, Encoding::Yaml)
        }
        _ => {
            let known = "application/json-patch+json, application/merge-patch+json, \
                         application/strategic-merge-patch+json, application/apply-patch+yaml";
            return Err(Status::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {known}"
                ),
            ));
        }
    };
    // JSON is YAML, and clients send it as that: the reader of JSON tells what was given twice.
    let decoded = match decode::document(&call.body, Encoding::Json, None) {
        Err(_) if encoding == Encoding::Yaml => decode::document(&call.body, Encoding::Yaml, None)?,
        read => read?,
    };
    Ok(Patch { kind, body: decoded.object, duplicates: decoded.duplicates })
}

/// The options of a deletion that stand in its body.
fn delete_options<S: Storage>(call: &Call<'_, S>) -> Result<Option<Value>, Status> {
    if call.body.is_empty() {
        return Ok(None);
    }
    let encoding = body::encoding(call.headers)?;
    let kind = GroupVersionKind::new("", "v1", "DeleteOptions");
    let mut object = decode::document(&call.body, encoding, Some(&kind))?.object;
    let named = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    if !named.is_empty() && named != "DeleteOptions" {
        return Err(Status::bad_request(format!(
            "decoded object cannot be converted to DeleteOptions: it is a {named}"
        )));
    }
    if let Some(fields) = object.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    Ok(Some(object))
}

/// Kinds whose deletion is answered with the object, even when it is gone.
const ANSWER_DELETED: [&str; 7] = [
    "pods",
    "services",
    "serviceaccounts",
    "persistentvolumes",
    "persistentvolumeclaims",
    "podtemplates",
    "resourcequotas",
];

async fn delete<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let body = delete_options(call)?;
    let (deletion, dry_run) = call.parameters.deletion(body.as_ref())?;
    let options = body.unwrap_or_else(|| call.parameters.options("DeleteOptions"));
    let request = call.write(&options, "", dry_run)?;
    match pipeline.delete(&request, &deletion, told).await? {
        DeleteAnswer::Going(object) => teller.answer(StatusCode::OK, object),
        DeleteAnswer::Gone(object) => {
            let resource = call.served().group_resource();
            if resource.group.is_empty() && ANSWER_DELETED.contains(&&*resource.resource) {
                return teller.answer(StatusCode::OK, object);
            }
            let mut details = json!({
                "name": call.info.name,
                "kind": &*resource.resource,
                "uid": Metadata::of(&object).uid(),
            });
            if !resource.group.is_empty() {
                details["group"] = (*resource.group).into();
            }
            let status = json!({
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            });
            answer::object(StatusCode::OK, &status, teller.form.encoding)
        }
    }
}

async fn delete_collection<S: Storage>(
    call: &Call<'_, S>,
    pipeline: &Pipeline<S>,
    told: &mut Told,
) -> Result<Response<Body>, Status> {
    let teller = call.teller()?;
    let collection = call.collection()?;
    let body = delete_options(call)?;
    let (deletion, dry_run) = call.parameters.deletion(body.as_ref())?;
    let options = body.unwrap_or_else(|| call.parameters.options("DeleteOptions"));
    let selection = selection(call.wanted(), call.served(), collection)?;
    let list = collection.cache.list(&call.parameters.list()?, &selection).await?;
    let revision = list.revision;
    let objects = teller.values(&list).await?;
    let request = call.write(&options, "", dry_run)?;
    let deleted = pipeline.delete_all(&request, objects, &deletion, told).await?;
    let form = Form { view: View::Object, ..teller.form };
    let whole = json!({
        "kind": call.served().resource.list_kind(),
        "apiVersion": call.served().api_version(),
        "metadata": {"resourceVersion": revision.to_string()},
        "items": deleted,
    });
    answer::object(StatusCode::OK, &whole, form.encoding)
}
