//! Patches: the four ways to say what is to change, made to what the store has.

use barque_api::managed_fields::{FieldManager, manager_name};
use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::patch::{json, merge, strategic};
use barque_api::status::{Reason, Status};
use serde_json::Value;

use super::update::Changed;
use super::{Answer, Pipeline, Request, create, group_resource};
use crate::registry::decode;
use crate::registry::served::{Shape, reset_fields};
use crate::storage::Storage;

/// How much a JSON patch may add by copying.
const COPIES_BYTES_MAX: usize = 3 << 20;

/// In which way a patch says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// `application/json-patch+json` (RFC 6902).
    Json,
    /// `application/merge-patch+json` (RFC 7386).
    Merge,
    /// `application/strategic-merge-patch+json`; built-in kinds only.
    Strategic,
    /// `application/apply-patch+yaml`: server-side apply.
    Apply {
        /// Fields of others are taken.
        force: bool,
    },
}

/// A patch.
#[derive(Clone, Debug, PartialEq)]
pub struct Patch {
    /// In which way it is said.
    pub kind: PatchKind,
    /// What it says.
    pub body: Value,
    /// Fields that its body gave twice.
    pub duplicates: Vec<String>,
}

impl<S: Storage> Pipeline<S> {
    /// Changes an object, or with apply makes one.
    ///
    /// # Errors
    /// What is wrong with the patch or its result, who refused it, that there is no object, or that others own its fields.
    pub async fn patch(
        &self,
        request: &Request<'_>,
        patch: &Patch,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Status> {
        if patch.kind == PatchKind::Strategic && matches!(request.served.shape, Shape::Custom(_)) {
            let allowed = "application/json-patch+json, application/merge-patch+json, \
                           application/apply-patch+yaml";
            return Err(Status::new(
                Reason::UnsupportedMediaType,
                format!(
                    "the body of the request was in an unknown format - accepted media types include: {allowed}"
                ),
            ));
        }
        if let PatchKind::Apply { force } = patch.kind {
            return self.apply(request, patch, force, warnings).await;
        }
        let guarded = patch.body.pointer("/metadata/resourceVersion").is_some_and(Value::is_string);
        let mut told = Vec::new();
        let change = |current: Option<&Value>| {
            let current = current.ok_or_else(|| Status::not_found(&group_resource(request), request.name))?;
            told.clear();
            changed(request, patch, current, &mut told)
        };
        let answer = self.change(request, guarded, change, warnings).await?;
        warnings.append(&mut told);
        Ok(answer)
    }

    async fn apply(
        &self,
        request: &Request<'_>,
        patch: &Patch,
        force: bool,
        warnings: &mut Vec<String>,
    ) -> Result<Answer, Status> {
        let mut applied = patch.body.clone();
        decode::expect_kind(&mut applied, &request.served.kind)?;
        decode::settle(request.served, &mut applied, &patch.duplicates, request.validation, warnings)?;
        if Metadata::of(&applied).field("managedFields").is_some_and(|owners| !owners.is_null()) {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        let guarded = !Metadata::of(&applied).resource_version().is_empty();
        create::place(request, &mut applied)?;
        let name = Metadata::of(&applied).name().to_owned();
        if name.is_empty() {
            if let Some(mut metadata) = MetadataMut::of(&mut applied) {
                metadata.set_name(request.name);
            }
        } else if name != request.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                request.name
            )));
        }
        let change = |current: Option<&Value>| {
            if current.is_none() && !request.subresource.is_empty() {
                return Err(Status::not_found(&group_resource(request), request.name));
            }
            if current.is_none() && !Metadata::of(&applied).uid().is_empty() {
                return Err(Status::conflict(
                    &group_resource(request),
                    request.name,
                    "uid mismatch: the provided object specified uid, and no existing object was found",
                ));
            }
            let reset = reset_fields(request.served, request.subresource);
            let manager = FieldManager {
                kind: &request.served.kind,
                subresource: request.subresource,
                versions: &**request.served,
                reset: &reset,
                now: request.now,
            };
            let live = current.unwrap_or(&Value::Null);
            let object = manager.apply(live, &applied, request.manager, force)?;
            Ok(Changed { object, owned: true })
        };
        self.change(request, guarded, change, warnings).await
    }
}

/// What a patch makes of an object.
fn changed(
    request: &Request<'_>,
    patch: &Patch,
    current: &Value,
    warnings: &mut Vec<String>,
) -> Result<Changed, Status> {
    let served = request.served;
    let object = current.clone();
    let mut object = match patch.kind {
        PatchKind::Json => {
            json::apply(object, &patch.body, COPIES_BYTES_MAX).map_err(|error| error.status())?
        }
        PatchKind::Merge => merge::apply(object, patch.body.clone()).map_err(|error| error.status())?,
        PatchKind::Strategic => {
            strategic::apply(object, patch.body.clone(), served.view()).map_err(|error| error.status())?
        }
        PatchKind::Apply { .. } => return Err(Status::internal("an apply is no plain patch")),
    };
    decode::expect_kind(&mut object, &served.kind)?;
    decode::settle(served, &mut object, &patch.duplicates, request.validation, warnings)?;
    let name = Metadata::of(&object).name();
    if name != request.name {
        let error = barque_api::field::FieldError::invalid(
            &barque_api::field::FieldPath::of("metadata.name"),
            name,
            "field is immutable",
        );
        return Err(Status::invalid(&served.kind, request.name, &[error]));
    }
    Ok(Changed { object, owned: false })
}

/// What is wrong with the name that an applier gives itself.
///
/// # Errors
/// 422 for an apply without a name, and for one that is none.
pub fn check_manager(name: &str, is_apply: bool) -> Result<(), Status> {
    let path = barque_api::field::FieldPath::of("fieldManager");
    let mut errors = manager_name::check(name, &path);
    if is_apply && name.is_empty() {
        errors.push(barque_api::field::FieldError::required(&path, "is required for apply patch"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = barque_api::kind::GroupVersionKind::new("meta.k8s.io", "v1", "PatchOptions");
    Err(Status::invalid(&kind, "", &errors))
}
