//! Revisions of a template, kept as ControllerRevisions: which one is current, and which are too many. A decision.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::hash::{fnv_1a, safe_text};
use crate::kind::{Key, Object};
use crate::plan::{Action, Order, Plan, Planned};

/// The label of pods that says which revision they are of.
pub(crate) const REVISION_LABEL: &str = "controller-revision-hash";
/// The label of revisions with the hash of their data, but for those of DaemonSets.
pub(crate) const HASH_LABEL: &str = "controller.kubernetes.io/hash";

/// The revision of a template.
pub(crate) enum Newest {
    /// It is there.
    Known(Arc<ControllerRevision>),
    /// It is to be made, or to be counted as the newest again; then it is looked for once more.
    Missing(Box<Planned>),
    /// Another one has its name: it needs another collision count.
    NameIsTaken,
}

/// What a revision keeps of a template: a patch that puts it back.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    json!({ "spec": { "template": template } })
}

/// The template that a revision keeps.
pub(crate) fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0["spec"]["template"].clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

/// The name of a revision with this data.
fn name_and_hash<Owner: Object>(owner: &Owner, data: &Value, collisions: Option<i32>) -> (String, String) {
    let mut bytes = data.to_string().into_bytes();
    if let Some(count) = collisions {
        bytes.extend(count.to_le_bytes());
    }
    let hash = safe_text(fnv_1a(&bytes));
    let mut name = owner.key().name;
    // With the hash it must still be a name.
    name.truncate(name.floor_char_boundary(223));
    (format!("{name}-{hash}"), hash)
}

/// Where the revision of a template is, if it is there.
pub(crate) fn key_of<Owner: Object>(
    owner: &Owner,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
) -> Key {
    let (name, _) = name_and_hash(owner, &data(template), collisions);
    Key { namespace: owner.key().namespace, name }
}

/// The revision of an owner's template among its revisions; a new one has its hash in this label.
pub(crate) fn newest<Owner: Object>(
    owner: &Owner,
    template: &PodTemplateSpec,
    collisions: Option<i32>,
    revisions: &[Arc<ControllerRevision>],
    name_is_taken: bool,
    hash_label: &str,
) -> Newest {
    let data = data(template);
    let number = |revision: &ControllerRevision| revision.revision.unwrap_or_default();
    let highest = revisions.iter().map(|revision| number(revision)).max();
    let same = revisions.iter().filter(|revision| revision.data.0 == data);
    match same.max_by_key(|revision| number(revision)) {
        Some(found) if Some(number(found)) == highest => Newest::Known(found.clone()),
        Some(found) => {
            let again = ControllerRevision { revision: highest.map(|it| it + 1), ..(**found).clone() };
            match Action::update(&**found, &again) {
                Some(action) => {
                    Newest::Missing(Box::new(action.because("an old template is the current one again")))
                }
                None => Newest::Known(found.clone()),
            }
        }
        None if name_is_taken => Newest::NameIsTaken,
        None => {
            let (name, hash) = name_and_hash(owner, &data, collisions);
            let meta = template.metadata.as_ref();
            let mut labels = meta.and_then(|meta| meta.labels.clone()).unwrap_or_default();
            labels.insert(hash_label.to_owned(), hash);
            let made = ControllerRevision {
                metadata: ObjectMeta {
                    name: Some(name),
                    namespace: owner.meta().namespace.clone(),
                    labels: Some(labels),
                    annotations: owner.meta().annotations.clone(),
                    owner_references: Some(vec![owner.as_controller()]),
                    ..ObjectMeta::default()
                },
                data: RawExtension(data),
                revision: Some(highest.unwrap_or_default() + 1),
            };
            Newest::Missing(Box::new(Action::create(&made).because("the template is new")))
        }
    }
}

/// The oldest revisions go that nobody uses, but for so many.
pub(crate) fn truncate(
    revisions: &[Arc<ControllerRevision>],
    live: &BTreeSet<String>,
    limit: Option<i32>,
    plan: &mut Plan,
) {
    let Some(limit) = limit.and_then(|limit| usize::try_from(limit).ok()) else { return };
    let mut dead: Vec<_> = revisions
        .iter()
        .filter(|revision| !live.contains(&revision.key().name) && !revision.is_deleting())
        .collect();
    dead.sort_by_key(|revision| revision.revision);
    let surplus = dead.len().saturating_sub(limit);
    let delete = dead.into_iter().take(surplus);
    plan.step(
        Order::Parallel,
        delete.map(|revision| Action::delete(&**revision).because("too many old revisions")),
    );
}
