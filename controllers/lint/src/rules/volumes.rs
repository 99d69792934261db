//! Claims and volumes that are bound name each other, and nobody else.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::finding::{Findings, Rule};
use crate::objects::{place, shown, uid};
use crate::snapshot::Snapshot;

pub(super) fn check(snapshot: &Snapshot, findings: &mut Findings) {
    let volumes: HashMap<&str, &PersistentVolume> =
        snapshot.volumes.iter().map(|volume| (place(volume).1, volume)).collect();
    let claims: BTreeMap<_, &PersistentVolumeClaim> =
        snapshot.claims.iter().map(|claim| (place(claim), claim)).collect();
    let mut first: HashMap<&str, &PersistentVolumeClaim> = HashMap::new();
    // Claims that wait may name whatever volume they want.
    for claim in claims.values().filter(|claim| ["Bound", "Lost"].contains(&claim_phase(claim))) {
        let name = volume_name(claim);
        let wrong = match volumes.get(name) {
            None if name.is_empty() => Some("has been bound, and names no volume any more".to_owned()),
            None => Some(format!("has been bound to volume {name:?}, which is gone")),
            Some(volume) => other_claim(volume, claim)
                .map(|other| format!("has been bound to volume {name:?}, which is {other}")),
        };
        if let Some(words) = wrong {
            findings.add(Rule::ClaimVolumeDisagree, *claim, words);
        }
        let holder = *first.entry(name).or_insert(claim);
        if !std::ptr::eq(holder, *claim) && !name.is_empty() {
            let words = format!("is bound to volume {name:?}, as {} is", shown(place(holder)));
            findings.add(Rule::VolumeClaimedTwice, *claim, words);
        }
    }
    for volume in snapshot.volumes.iter().filter(|volume| volume_phase(volume) == "Bound") {
        if let Some(words) = misbound(volume, &claims) {
            findings.add(Rule::ClaimVolumeDisagree, volume, words);
        }
    }
}

fn claim_phase(claim: &PersistentVolumeClaim) -> &str {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume_phase(volume: &PersistentVolume) -> &str {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

fn volume_name(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default()
}

/// Namespace, name and uid of the claim that a volume is for.
fn reference(volume: &PersistentVolume) -> Option<(&str, &str, &str)> {
    let reference = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some((
        reference.namespace.as_deref().unwrap_or_default(),
        reference.name.as_deref().unwrap_or_default(),
        reference.uid.as_deref().unwrap_or_default(),
    ))
}

/// For whom a volume is, if not for this claim.
fn other_claim(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> Option<String> {
    let Some((namespace, name, its_uid)) = reference(volume) else { return Some("for no claim".to_owned()) };
    if (namespace, name) != place(claim) {
        return Some(format!("for {}", shown((namespace, name))));
    }
    (its_uid != uid(claim)).then(|| "for an earlier claim of that name".to_owned())
}

/// What is wrong with a bound volume.
fn misbound(
    volume: &PersistentVolume,
    claims: &BTreeMap<(&str, &str), &PersistentVolumeClaim>,
) -> Option<String> {
    let Some((namespace, name, its_uid)) = reference(volume) else {
        return Some("is bound, and says to no claim".to_owned());
    };
    let whole = shown((namespace, name));
    let claim = claims.get(&(namespace, name)).filter(|claim| uid(**claim) == its_uid);
    let Some(claim) = claim else { return Some(format!("is bound to the claim {whole}, which is gone")) };
    let own = volume_name(claim);
    (own != place(volume).1).then(|| {
        let other = if own.is_empty() { "none".to_owned() } else { format!("{own:?}") };
        format!("is bound to the claim {whole}, whose volume is {other}")
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::test_snapshot::{check, object, with};

    fn claim(name: &str, phase: &str, volume: &str) -> Value {
        let more = json!({"spec": {"volumeName": volume}, "status": {"phase": phase}});
        object("v1", "PersistentVolumeClaim", "n", name, more)
    }

    fn volume(name: &str, phase: &str, claim: &str) -> Value {
        let uid = format!("persistentvolumeclaim-{claim}");
        let more = json!({
            "spec": {"claimRef": {"namespace": "n", "name": claim, "uid": uid}}, "status": {"phase": phase},
        });
        object("v1", "PersistentVolume", "", name, more)
    }

    #[test]
    fn claims_and_volumes_name_each_other() {
        let of_claim =
            |words: &str| format!("claim-volume-disagree: PersistentVolumeClaim n/c has been bound {words}");
        let of_volume = |words: &str| format!("claim-volume-disagree: PersistentVolume v is bound {words}");
        check(&[claim("c", "Bound", "v"), volume("v", "Bound", "c")], &[]);
        check(&[claim("c", "Bound", "v")], &[&of_claim("to volume \"v\", which is gone")]);
        check(&[claim("c", "Lost", "v")], &[&of_claim("to volume \"v\", which is gone")]);
        check(
            &[claim("c", "Lost", "")],
            &[
                "claim-volume-disagree: PersistentVolumeClaim n/c has been bound, and names no volume any more",
            ],
        );
        check(&[claim("c", "Pending", "v")], &[]);
        check(&[claim("c", "Pending", "v"), volume("v", "Released", "other")], &[]);
        check(
            &[claim("c", "Bound", "v"), volume("v", "Released", "other")],
            &[&of_claim("to volume \"v\", which is for n/other")],
        );
        let free = with(volume("v", "Available", "c"), json!({"spec": {"claimRef": null}}));
        check(
            &[claim("c", "Bound", "v"), free.clone()],
            &[&of_claim("to volume \"v\", which is for no claim")],
        );
        check(
            &[with(free, json!({"status": {"phase": "Bound"}}))],
            &["claim-volume-disagree: PersistentVolume v is bound, and says to no claim"],
        );
        let earlier = with(volume("v", "Bound", "c"), json!({"spec": {"claimRef": {"uid": "before"}}}));
        check(
            &[claim("c", "Bound", "v"), earlier],
            &[
                &of_volume("to the claim n/c, which is gone"),
                &of_claim("to volume \"v\", which is for an earlier claim of that name"),
            ],
        );
        check(&[volume("v", "Bound", "c")], &[&of_volume("to the claim n/c, which is gone")]);
        check(&[volume("v", "Released", "c")], &[]);
        check(
            &[claim("c", "Pending", ""), volume("v", "Bound", "c")],
            &[&of_volume("to the claim n/c, whose volume is none")],
        );
    }

    #[test]
    fn a_volume_is_bound_once() {
        let (one, two) = (claim("one", "Bound", "v"), claim("two", "Bound", "v"));
        check(
            &[one.clone(), two, volume("v", "Bound", "one")],
            &[
                "claim-volume-disagree: PersistentVolumeClaim n/two has been bound to volume \"v\", which is for n/one",
                "volume-claimed-twice: PersistentVolumeClaim n/two is bound to volume \"v\", as n/one is",
            ],
        );
        check(&[one, claim("two", "Pending", "v"), volume("v", "Bound", "one")], &[]);
    }
}
