//! Volumes in directories of nodes, for classes whose provisioner is `barque.dev/local-path`: made on the node that the scheduler
//! selected, and given up when their claim is gone. Must never touch a directory; the node makes it when it is mounted.
//!
//! Parameters of a class: `path`, the directory under which the volumes' directories are, and `volumeType`, which is `hostPath`
//! unless it is `local`.

use std::sync::Arc;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, LocalVolumeSource, Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
    PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec, VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;

use super::claim_protection::{change, has};
use super::{
    PROVISIONED_BY, PROVISIONER, SELECTED_NODE, claim_class, volume_name, volume_phase, waits_for_consumer,
};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, ObjectId, Plan, Propagation, Told};

/// The provisioner, as classes name it.
pub(crate) const NAME: &str = "barque.dev/local-path";
/// Where directories are, unless the class says it.
const DIRECTORY: &str = "/var/lib/barque/volumes";
/// A volume stays until its provisioner is done with it.
const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// Makes volumes for claims.
pub(crate) struct LocalPathClaims;

/// Gives up volumes whose claims are gone.
pub(crate) struct LocalPathVolumes;

/// A claim that waits for a volume.
pub(crate) struct View {
    pub(super) claim: Arc<PersistentVolumeClaim>,
    pub(super) class: Arc<StorageClass>,
    /// The node that was selected; nothing when it is not there.
    pub(super) node: Option<Arc<Node>>,
    /// Whether the volume is there already.
    pub(super) is_made: bool,
}

fn is_ours(claim: &PersistentVolumeClaim) -> bool {
    PROVISIONER.iter().any(|annotation| claim.annotation(annotation) == Some(NAME))
}

fn made_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.uid())
}

impl Controller for LocalPathClaims {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped::<PersistentVolumeClaim>(|change, _| {
            change.new.iter().filter(|claim| is_ours(claim)).map(|claim| claim.key()).collect()
        });
        watches.read::<PersistentVolume>();
        watches.read::<StorageClass>();
        watches.read::<Node>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let claim = caches.of::<PersistentVolumeClaim>().get(key)?;
        if !is_ours(&claim) || !volume_name(&claim).is_empty() || claim.is_deleting() {
            return None;
        }
        let class = caches.of::<StorageClass>().get(&Key::new("", claim_class(&claim)))?;
        let node =
            claim.annotation(SELECTED_NODE).and_then(|name| caches.of::<Node>().get(&Key::new("", name)));
        let is_made = caches.of::<PersistentVolume>().get(&Key::new("", &made_name(&claim))).is_some();
        Some(View { claim, class, node, is_made })
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        if view.is_made || view.class.provisioner != NAME {
            return plan;
        }
        let about = view.claim.reference();
        match volume(view) {
            Ok(volume) => {
                let name = volume.key().name;
                plan.then(
                    Action::create(&volume)
                        .because("a claim waits for it")
                        .tell(
                            &about,
                            "ProvisioningSucceeded",
                            format!("Successfully provisioned volume {name} using {NAME}"),
                        )
                        .warn(
                            &about,
                            "ProvisioningFailed",
                            format!(
                                "failed to provision volume with StorageClass {:?}: {{error}}",
                                view.class.key().name
                            ),
                        ),
                );
            }
            Err(Wrong { why, reschedule }) => {
                let text = format!(
                    "failed to provision volume with StorageClass {:?}: {why}",
                    view.class.key().name
                );
                plan.notes.push(Told {
                    regarding: about,
                    gravity: Gravity::Warning,
                    reason: "ProvisioningFailed",
                    text,
                });
                if reschedule {
                    // The scheduler has to look for another node.
                    let mut after = (*view.claim).clone();
                    after.metadata.annotations.get_or_insert_default().remove(SELECTED_NODE);
                    if let Some(update) = Action::update(&*view.claim, &after) {
                        plan.then(update.because("the node that was selected cannot have it"));
                    }
                }
            }
        }
        plan
    }
}

/// Why there is no volume, and whether another node may have one.
struct Wrong {
    why: String,
    reschedule: bool,
}

fn wrong<T>(why: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { why: why.into(), reschedule: false })
}

/// The volume for a claim.
fn volume(view: &View) -> Result<PersistentVolume, Wrong> {
    let (claim, class) = (&view.claim, &view.class);
    let spec = claim.spec.clone().unwrap_or_default();
    if !waits_for_consumer(class) {
        return wrong(
            "the class must have volumeBindingMode WaitForFirstConsumer: the volume is in a directory of one node",
        );
    }
    if spec.volume_mode.as_deref() == Some("Block") {
        return wrong("a directory is no block device");
    }
    if spec.selector.is_some() {
        return wrong("claim.spec.selector is not supported");
    }
    if spec.data_source.is_some() || spec.data_source_ref.is_some() {
        return wrong("a volume cannot be made from another");
    }
    let allowed = ["ReadWriteOnce", "ReadWriteOncePod"];
    if let Some(other) = spec.access_modes.iter().flatten().find(|mode| !allowed.contains(&mode.as_str())) {
        return wrong(format!("access mode {other} is not supported: the volume is on one node"));
    }
    let Some(node) = &view.node else {
        let name = claim.annotation(SELECTED_NODE).unwrap_or_default();
        return Err(Wrong { why: format!("node {name:?} not found"), reschedule: !name.is_empty() });
    };
    let parameter = |name: &str| class.parameters.as_ref().and_then(|all| all.get(name)).map(String::as_str);
    let root = parameter("path").unwrap_or(DIRECTORY).trim_end_matches('/');
    if !root.starts_with('/') || root.split('/').any(|part| part == "..") {
        return wrong(format!("parameter path {root:?} is not an absolute path"));
    }
    let key = claim.key();
    let path = format!("{root}/{}_{}_{}", made_name(claim), key.namespace, key.name);
    let (host_path, local) = match parameter("volumeType").unwrap_or("hostPath") {
        "hostPath" => {
            (Some(HostPathVolumeSource { path, type_: Some("DirectoryOrCreate".to_owned()) }), None)
        }
        "local" => (None, Some(LocalVolumeSource { path, fs_type: None })),
        other => return wrong(format!("parameter volumeType {other:?} is neither hostPath nor local")),
    };
    let hostname = node.label("kubernetes.io/hostname").map(str::to_owned).unwrap_or_else(|| node.key().name);
    let on_node = NodeSelectorRequirement {
        key: "kubernetes.io/hostname".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![hostname]),
    };
    let term = NodeSelectorTerm { match_expressions: Some(vec![on_node]), match_fields: None };
    let reclaim = class.reclaim_policy.clone().unwrap_or_else(|| "Delete".to_owned());
    Ok(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(made_name(claim)),
            annotations: Some([(PROVISIONED_BY.to_owned(), NAME.to_owned())].into()),
            finalizers: (reclaim == "Delete").then(|| vec![FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(claim.reference()),
            host_path,
            local,
            mount_options: class.mount_options.clone(),
            node_affinity: Some(VolumeNodeAffinity {
                required: Some(NodeSelector { node_selector_terms: vec![term] }),
            }),
            persistent_volume_reclaim_policy: Some(reclaim),
            storage_class_name: Some(claim_class(claim).to_owned()),
            volume_mode: Some("Filesystem".to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    })
}

impl Controller for LocalPathVolumes {
    type View = Arc<PersistentVolume>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped::<PersistentVolume>(|change, _| {
            let ours = change.new.iter().filter(|volume| volume.annotation(PROVISIONED_BY) == Some(NAME));
            ours.map(|volume| volume.key()).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<Self::View> {
        let volume = caches.of::<PersistentVolume>().get(key)?;
        (volume.annotation(PROVISIONED_BY) == Some(NAME)).then_some(volume)
    }

    fn plan(&self, volume: &Self::View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
        let released = matches!(volume_phase(volume), "Released" | "Failed") && policy == Some("Delete");
        if volume.is_deleting() {
            if has(&**volume, FINALIZER) && volume_phase(volume) != "Bound" {
                change(&**volume, FINALIZER, false, "nothing is left to do for it here", &mut plan);
            }
        } else if released {
            let delete = Action::Delete {
                object: ObjectId::of(&**volume),
                propagation: Propagation::Default,
                grace_seconds: None,
                // Somebody may have given it to another claim.
                unchanged: true,
            };
            plan.then(delete.because("its claim is gone"));
        }
        plan
    }
}
