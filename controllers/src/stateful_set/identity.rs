//! Who a pod of a StatefulSet is: its ordinal, and the name, labels and volumes that follow from it. A decision.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaimVolumeSource, Pod, PodTemplateSpec, Volume};

use super::claims;
use crate::history::REVISION_LABEL;
use crate::kind::Object as _;
use crate::pods;

/// The label with a pod's own name.
const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";
/// The label with a pod's ordinal.
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// The ordinal of a pod, if its name is one of this StatefulSet's.
pub(super) fn ordinal(set: &StatefulSet, pod: &Pod) -> Option<i32> {
    let name = pod.key().name;
    let (parent, number) = name.rsplit_once('-')?;
    let ordinal: i32 = number.parse().ok()?;
    (parent == set.key().name && number == ordinal.to_string()).then_some(ordinal)
}

/// The revision that a pod is of.
pub(super) fn revision(pod: &Pod) -> &str {
    pod.label(REVISION_LABEL).unwrap_or_default()
}

/// A new pod of this ordinal.
pub(super) fn pod(set: &StatefulSet, template: &PodTemplateSpec, revision: &str, ordinal: i32) -> Pod {
    let mut pod = pods::from_template(template, &set.key().namespace, &set.as_controller());
    let name = format!("{}-{ordinal}", set.key().name);
    pod.metadata.generate_name = None;
    pod.metadata.name = Some(name.clone());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), revision.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = Some(name);
    spec.subdomain = set.spec.service_name.clone().filter(|name| !name.is_empty());
    let claims: Vec<_> = set.spec.volume_claim_templates.iter().flatten().collect();
    let mut volumes: Vec<_> = claims
        .iter()
        .map(|template| Volume {
            name: template.key().name,
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claims::name(set, template, ordinal),
                read_only: None,
            }),
            ..Volume::default()
        })
        .collect();
    // A claim takes the place of a volume of its name.
    let others = spec.volumes.take().unwrap_or_default().into_iter();
    volumes.extend(others.filter(|volume| !claims.iter().any(|claim| claim.key().name == volume.name)));
    spec.volumes = (!volumes.is_empty()).then_some(volumes);
    identified(pod, ordinal)
}

/// The pod with the labels that say who it is.
pub(super) fn identified(mut pod: Pod, ordinal: i32) -> Pod {
    let name = pod.key().name;
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(NAME_LABEL.to_owned(), name);
    labels.insert(INDEX_LABEL.to_owned(), ordinal.to_string());
    pod
}
