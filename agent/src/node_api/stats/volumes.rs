//! `kubelet_volume_stats_*`: what claims hold, in the kubelet's names. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::text::{Kind, Text, float};
use super::{FsStats, VolumeStats};

type Of = (&'static str, &'static str, fn(&FsStats) -> u64);

const FAMILIES: [Of; 6] = [
    ("available_bytes", "[ALPHA] Number of available bytes in the volume", |fs| fs.available),
    ("capacity_bytes", "[ALPHA] Capacity in bytes of the volume", |fs| fs.capacity),
    ("inodes", "[ALPHA] Maximum number of inodes in the volume", |fs| fs.inodes),
    ("inodes_free", "[ALPHA] Number of free inodes in the volume", |fs| fs.inodes_free),
    ("inodes_used", "[ALPHA] Number of used inodes in the volume", |fs| fs.inodes_used),
    ("used_bytes", "[ALPHA] Number of used bytes in the volume", |fs| fs.used),
];

/// The metrics of claims: one that several pods use is told once.
pub(crate) fn text(pods: &[(&Pod, &[VolumeStats])]) -> String {
    let mut claims: BTreeMap<(&str, &str), &FsStats> = BTreeMap::new();
    for (pod, volumes) in pods {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        for volume in *volumes {
            if let Some(claim) = &volume.claim {
                claims.insert((namespace, claim), &volume.fs);
            }
        }
    }
    let mut text = Text::default();
    for (name, help, of) in FAMILIES {
        let name = format!("kubelet_volume_stats_{name}");
        text.family(&name, Kind::Gauge, help);
        for ((namespace, claim), fs) in &claims {
            let labels = [("namespace", *namespace), ("persistentvolumeclaim", *claim)];
            text.sample(&name, &labels, float(of(fs)), None);
        }
    }
    text.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_is_told_once_and_what_is_no_claim_is_not() {
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "a"}})).unwrap();
        let of = |claim: Option<&str>, used| VolumeStats {
            name: "v".to_owned(),
            claim: claim.map(str::to_owned),
            fs: FsStats { used, inodes: 5, ..FsStats::default() },
        };
        let (one, other) = ([of(Some("data"), 7), of(None, 9)], [of(Some("data"), 7)]);
        let told = text(&[(&pod, &one), (&pod, &other)]);
        let labels = "{namespace=\"a\",persistentvolumeclaim=\"data\"}";
        assert_eq!(
            told.matches(&format!("kubelet_volume_stats_used_bytes{labels} 7\n")).count(),
            1,
            "{told}"
        );
        assert_eq!(told.matches(&format!("kubelet_volume_stats_inodes{labels} 5\n")).count(), 1, "{told}");
        assert!(!told.contains(" 9\n"), "{told}");
    }
}
