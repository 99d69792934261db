//! The controller that brings volumes and claims together. Its keys are of both: those of volumes have no namespace.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::jiff::Timestamp;

use super::{
    BIND_COMPLETED, PODS_BY_CLAIM, claim, claim_class, claim_key, claim_reference, claim_values, is_default,
    says_class, volume, volume_class, volume_name,
};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::Plan;
use crate::pods;
use crate::question::{Answer, Answers, Question};

/// Claims by the volume that they have or ask for.
const CLAIMS_BY_VOLUME: &str = "volume";
/// Claims that have no volume, by their class.
const OPEN_CLAIMS: &str = "open by class";
/// Volumes by class.
const VOLUMES_BY_CLASS: &str = "class";
/// Volumes by the claim that they are for.
const VOLUMES_BY_CLAIM: &str = "claim";

/// The controller.
pub(crate) struct Binder;

/// A claim, or a volume.
pub(crate) enum View {
    /// A claim.
    Claim(claim::View),
    /// A volume.
    Volume(volume::View),
}

fn is_open(claim: &PersistentVolumeClaim) -> bool {
    volume_name(claim).is_empty() && claim.annotation(BIND_COMPLETED).is_none()
}

fn open_claims(caches: &Caches, class: &str) -> Vec<Key> {
    caches.of::<PersistentVolumeClaim>().with(OPEN_CLAIMS, class).iter().map(|claim| claim.key()).collect()
}

impl Controller for Binder {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<PersistentVolumeClaim>();
        watches.objects::<PersistentVolume>();
        watches.index::<PersistentVolumeClaim>(CLAIMS_BY_VOLUME, |claim| vec![volume_name(claim).to_owned()]);
        watches.index::<PersistentVolumeClaim>(OPEN_CLAIMS, |claim| {
            if is_open(claim) { vec![claim_class(claim).to_owned()] } else { Vec::new() }
        });
        watches.index::<PersistentVolume>(VOLUMES_BY_CLASS, |volume| vec![volume_class(volume).to_owned()]);
        watches.index::<PersistentVolume>(VOLUMES_BY_CLAIM, |volume| {
            claim_key(volume).iter().map(Key::to_string).collect()
        });
        watches.index::<Pod>(PODS_BY_CLAIM, claim_values);
        // A claim came, changed or went: its volume, and those that are for it.
        watches.mapped::<PersistentVolumeClaim>(|change, caches| {
            let named = change.both().map(|claim| Key::new("", volume_name(claim)));
            let of =
                caches.of::<PersistentVolume>().with(VOLUMES_BY_CLAIM, &change.latest().key().to_string());
            named.filter(|key| !key.name.is_empty()).chain(of.iter().map(|volume| volume.key())).collect()
        });
        // A volume did: claims that name it or that it is for; a free one is for all that wait.
        watches.mapped::<PersistentVolume>(|change, caches| {
            let mut keys: Vec<_> = change.both().filter_map(|volume| claim_key(volume)).collect();
            let named =
                caches.of::<PersistentVolumeClaim>().with(CLAIMS_BY_VOLUME, &change.latest().key().name);
            keys.extend(named.iter().map(|claim| claim.key()));
            if let Some(free) = change.new.as_ref().filter(|volume| claim_reference(volume).is_none()) {
                keys.extend(open_claims(caches, volume_class(free)));
            }
            keys
        });
        watches.mapped::<StorageClass>(|change, caches| {
            let mut keys = open_claims(caches, &change.latest().key().name);
            if change.new.as_ref().is_some_and(|class| is_default(class)) {
                keys.extend(open_claims(caches, ""));
            }
            keys
        });
        // Who waits for a pod is told for which.
        watches.mapped::<Pod>(|change, caches| {
            let Some(pod) = change.new.as_ref().filter(|pod| pods::node(pod).is_empty()) else {
                return Vec::new();
            };
            let namespace = pod.key().namespace;
            let keys =
                super::claims_of(pod).into_iter().map(|(name, _)| Key { namespace: namespace.clone(), name });
            let claims = caches.of::<PersistentVolumeClaim>();
            keys.filter(|key| claims.get(key).is_some_and(|claim| is_open(&claim))).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        if key.namespace.is_empty() {
            let volume = caches.of::<PersistentVolume>().get(key)?;
            let claim = claim_key(&volume).and_then(|key| caches.of::<PersistentVolumeClaim>().get(&key));
            return Some(View::Volume(volume::View { volume, claim, answers: Answers::default() }));
        }
        let claim = caches.of::<PersistentVolumeClaim>().get(key)?;
        let volumes = caches.of::<PersistentVolume>();
        let mut candidates = Vec::new();
        if is_open(&claim) {
            candidates = volumes.with(VOLUMES_BY_CLAIM, &key.to_string());
            candidates.extend(volumes.with(VOLUMES_BY_CLASS, claim_class(&claim)));
        }
        let pods = caches.of::<Pod>().with(PODS_BY_CLAIM, &key.to_string());
        let waiting = pods.iter().filter(|pod| pods::node(pod).is_empty() && pods::is_active(pod));
        Some(View::Claim(claim::View {
            volumes: candidates,
            volume: volumes.get(&Key::new("", volume_name(&claim))),
            class: caches.of::<StorageClass>().get(&Key::new("", claim_class(&claim))),
            default_class: if says_class(&claim) { None } else { default_class(caches) },
            waiting_pods: waiting.map(|pod| pod.key().name).collect(),
            claim,
        }))
    }

    fn questions(&self, view: &View) -> Vec<Question> {
        match view {
            View::Claim(_) => Vec::new(),
            View::Volume(view) => volume::questions(view),
        }
    }

    fn learn(&self, view: &mut View, question: Question, answer: Answer) {
        if let View::Volume(view) = view {
            volume::learn(view, question, answer);
        }
    }

    fn plan(&self, view: &View, _now: Timestamp) -> Plan {
        match view {
            View::Claim(view) => claim::plan(view),
            View::Volume(view) => volume::plan(view),
        }
    }
}

/// The newest class that says it is the default one.
fn default_class(caches: &Caches) -> Option<std::sync::Arc<StorageClass>> {
    let all = caches.of::<StorageClass>().all();
    let made = |class: &StorageClass| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
    all.into_iter()
        .filter(|class| is_default(class))
        .min_by(|one, other| made(other).cmp(&made(one)).then_with(|| one.key().cmp(&other.key())))
}
