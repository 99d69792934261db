//! Patches: the four ways to say what is to change, made to what the store has.

use barque_api::field::{FieldError, FieldPath};
use barque_api::go_text;
use barque_api::kind::GroupVersionKind;
use barque_api::managed_fields::{Versions, manager_name};
use barque_api::metadata::{Metadata, MetadataMut};
use barque_api::patch::{json, merge, strategic};
use barque_api::status::{Reason, Status};
use serde_json::Value;

use super::update::Changed;
use super::{Answer, Pipeline, Request, create, field_manager, group_resource};
use crate::admission::Told;
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
        told: &mut Told,
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
            return self.apply(request, patch, force, told).await;
        }
        let guarded = patch.body.pointer("/metadata/resourceVersion").is_some_and(Value::is_string);
        let mut unknown = Vec::new();
        let change = |current: Option<&Value>, _: &dyn Versions| {
            let current = current.ok_or_else(|| Status::not_found(&group_resource(request), request.name))?;
            unknown.clear();
            changed(request, patch, current, &mut unknown)
        };
        let answered = self.change(request, guarded, change, told).await;
        told.warnings.append(&mut unknown);
        answered
    }

    async fn apply(
        &self,
        request: &Request<'_>,
        patch: &Patch,
        force: bool,
        told: &mut Told,
    ) -> Result<Answer, Status> {
        let mut applied = patch.body.clone();
        decode::expect_kind(&mut applied, &request.served.kind)?;
        decode::settle(
            request.served,
            &mut applied,
            &patch.duplicates,
            request.validation,
            &mut told.warnings,
        )?;
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
        let change = |current: Option<&Value>, versions: &dyn Versions| {
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
            let manager = field_manager(request, versions, &reset);
            let live = current.unwrap_or(&Value::Null);
            let object = manager.apply(live, &applied, request.manager, force)?;
            Ok(Changed { object, owned: true })
        };
        self.change(request, guarded, change, told).await
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
    let mut object = patched(request, patch, current)?;
    decode::expect_kind(&mut object, &served.kind)?;
    if let Err(why) = decode::fit(served, &mut object, &patch.duplicates, request.validation, warnings) {
        let shown = match patch.kind {
            PatchKind::Strategic => go_text::printed(&patch.body),
            // What there was before it was pruned.
            _ => patched(request, patch, current)?.to_string(),
        };
        return Err(unfit(&shown, why));
    }
    let name = Metadata::of(&object).name();
    if name != request.name {
        let error = FieldError::invalid(&FieldPath::of("metadata.name"), name, "field is immutable");
        return Err(Status::invalid(&served.kind, request.name, &[error]));
    }
    Ok(Changed { object, owned: false })
}

fn patched(request: &Request<'_>, patch: &Patch, current: &Value) -> Result<Value, Status> {
    let (object, body) = (current.clone(), &patch.body);
    match patch.kind {
        PatchKind::Json => json::apply(object, body, COPIES_BYTES_MAX).map_err(|error| error.status()),
        PatchKind::Merge => merge::apply(object, body.clone()).map_err(|error| error.status()),
        PatchKind::Strategic => {
            strategic::apply(object, body.clone(), request.served.view()).map_err(|error| error.status())
        }
        PatchKind::Apply { .. } => Err(Status::internal("an apply is no plain patch")),
    }
}

/// A result with fields that its kind does not have: the patch is to blame, which is of no kind.
fn unfit(shown: &str, why: String) -> Status {
    let error = FieldError::invalid(&FieldPath::of("patch"), shown, &why);
    Status::invalid(&GroupVersionKind::new("", "", ""), "", &[error])
}

/// What is wrong with the name that an applier gives itself.
///
/// # Errors
/// 422 for an apply without a name, and for one that is none.
pub fn check_manager(name: &str, is_apply: bool) -> Result<(), Status> {
    let path = FieldPath::of("fieldManager");
    let mut errors = manager_name::check(name, &path);
    if is_apply && name.is_empty() {
        errors.push(FieldError::required(&path, "is required for apply patch"));
    }
    if errors.is_empty() {
        return Ok(());
    }
    let kind = GroupVersionKind::new("meta.k8s.io", "v1", "PatchOptions");
    Err(Status::invalid(&kind, "", &errors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_blamed_for_fields_that_its_result_should_not_have() {
        let patch = serde_json::json!({"data": null, "dada": {"a": "1"}});
        let why = "strict decoding error: unknown field \"dada\"".to_owned();
        let status = unfit(&go_text::printed(&patch), why);
        assert_eq!(status.reason.code(), 422);
        assert_eq!(
            status.message,
            " \"\" is invalid: patch: Invalid value: \"map[dada:map[a:1] data:<nil>]\": strict decoding error: unknown \
             field \"dada\""
        );
    }
}
