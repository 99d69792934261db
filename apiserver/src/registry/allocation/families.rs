//! Which IP families a service has, and how many: what was left out follows from what was given, from what the service was
//! and from what the cluster has. Follows `initIPFamilyFields` of Kubernetes' pkg/registry/core/service/storage. Pure; must
//! never add or take a family that nobody asked for.

use barque_api::field::{FieldError, FieldPath};
use barque_api::ip::{parse_ip, validate_old_ip};
use serde_json::Value;

use super::ip_range::Family;
use super::service::{Addressing, HEADLESS, has_selector, needs_ips, text};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in policy and families of a service, and takes the second address and family from one that is to have one only.
/// `old` is what the service was, `cluster` what the cluster has, the default first.
///
/// # Errors
/// What does not fit together, or is not there in this cluster.
pub(super) fn settle(
    service: &Value,
    old: Option<&Value>,
    cluster: &[Family],
) -> Result<Addressing, Vec<FieldError>> {
    let mut new = Addressing::of(service);
    if !needs_ips(service) {
        return Ok(new);
    }
    let before = old.map(Addressing::of);
    if let (Some(old), Some(before)) = (old, &before)
        && stays_as_preferred(text(service, "type") == text(old, "type"), &new, before)
    {
        return Ok(new);
    }
    // Without pods of its own it may be of any family.
    let is_free = new.ip == HEADLESS && !has_selector(service);
    if new.policy.is_empty() {
        let kept = before.as_ref().map(|before| before.policy.clone()).filter(|policy| !policy.is_empty());
        new.policy = kept.unwrap_or_else(|| if is_free { REQUIRE } else { SINGLE }.to_owned());
    }
    refuse(check_form(&new))?;

    let mut errors = before.map_or_else(Vec::new, |before| reduce(&mut new, &before));
    let single = new.policy == SINGLE;
    for (list, what) in [(&new.ips, "cluster IPs"), (&new.families, "IP families")] {
        if single && list.len() == 2 {
            let detail =
                format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
            errors.push(FieldError::invalid(&spec("ipFamilyPolicy"), new.policy.clone(), detail));
        }
    }
    for (index, ip) in new.ips.iter().enumerate().skip(new.families.len()) {
        let Some(family) = parse_ip(ip).map(Family::of) else { break };
        if cluster.contains(&family) {
            new.families.push(family.name().to_owned());
        } else {
            let detail = format!("{} is not configured on this cluster", family.name());
            errors.push(FieldError::invalid(&spec("clusterIPs").index(index), new.ips.clone(), detail));
        }
    }
    refuse(errors)?;

    let default = cluster.first().copied().unwrap_or(Family::V4);
    if is_free {
        complete(&mut new, default, !single);
        return Ok(new);
    }
    let mut errors = Vec::new();
    if new.policy == REQUIRE && cluster.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(&spec("ipFamilyPolicy"), new.policy.clone(), detail));
    }
    for (index, family) in new.families.iter().enumerate() {
        if !Family::parse(family).is_some_and(|family| cluster.contains(&family)) {
            let path = spec("ipFamilies").index(index);
            errors.push(FieldError::invalid(&path, family.clone(), "not configured on this cluster"));
        }
    }
    refuse(errors)?;
    complete(&mut new, default, !single && cluster.len() == 2);
    Ok(new)
}

fn refuse(errors: Vec<FieldError>) -> Result<(), Vec<FieldError>> {
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn spec(field: &str) -> FieldPath {
    FieldPath::of("spec").child(field)
}

/// The default family where there is none, and the second one where it is wanted.
fn complete(new: &mut Addressing, default: Family, dual: bool) {
    if new.families.is_empty() {
        new.families.push(default.name().to_owned());
    }
    if let [first] = &new.families[..]
        && dual
        && let Some(first) = Family::parse(first)
    {
        new.families.push(first.other().name().to_owned());
    }
}

/// A service that prefers two families keeps those that it has, whatever the cluster has got meanwhile.
fn stays_as_preferred(same_type: bool, new: &Addressing, before: &Addressing) -> bool {
    same_type
        && new.policy == PREFER
        && (before.policy.is_empty() || before.policy == PREFER)
        && new.ips == before.ips
        && new.families == before.families
}

/// A single-stack service gives its second address and family back; any other one cannot.
fn reduce(new: &mut Addressing, before: &Addressing) -> Vec<FieldError> {
    if new.policy == SINGLE {
        if new.ips == before.ips {
            new.ips.truncate(1);
        }
        if new.families == before.families {
            new.families.truncate(1);
        }
        return Vec::new();
    }
    let lists = [
        (&new.ips, &before.ips, "must be 'SingleStack' to release the secondary cluster IP"),
        (&new.families, &before.families, "must be 'SingleStack' to release the secondary IP family"),
    ];
    let reduced = lists.into_iter().filter(|(new, old, _)| !new.is_empty() && new.len() < old.len());
    reduced
        .map(|(_, _, detail)| FieldError::invalid(&spec("ipFamilyPolicy"), new.policy.clone(), detail))
        .collect()
}

/// What is wrong with the fields by themselves (`ValidateServiceClusterIPsRelatedFields`).
fn check_form(new: &Addressing) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let ips = spec("clusterIPs");
    match new.ips.first() {
        None if !new.ip.is_empty() => errors.push(FieldError::required(&ips, "")),
        Some(_) if new.ip.is_empty() => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(&ips, new.ips.clone(), detail));
        }
        Some(first) if *first != new.ip => {
            errors.push(FieldError::invalid(&ips, new.ips.clone(), "first value must match `clusterIP`"));
        }
        _ => {}
    }
    for (index, family) in new.families.iter().enumerate() {
        let path = spec("ipFamilies").index(index);
        if Family::parse(family).is_none() {
            errors.push(FieldError::not_supported(&path, family.clone(), &["IPv4", "IPv6"]));
        }
        if new.families[..index].contains(family) {
            errors.push(FieldError::duplicate(&path, family.clone()));
        }
    }
    if ![SINGLE, PREFER, REQUIRE].contains(&new.policy.as_str()) {
        let supported = [PREFER, REQUIRE, SINGLE];
        errors.push(FieldError::not_supported(&spec("ipFamilyPolicy"), new.policy.clone(), &supported));
    }
    let mut has_wrong_ips = false;
    for (index, ip) in new.ips.iter().enumerate() {
        if index == 0 && ip == HEADLESS {
            if new.ips.len() > 1 {
                has_wrong_ips = true;
                let detail = "'None' must be the first and only value";
                errors.push(FieldError::invalid(&ips, new.ips.clone(), detail));
            }
            continue;
        }
        let wrong = validate_old_ip(ip, &ips.index(index));
        has_wrong_ips |= !wrong.is_empty();
        errors.extend(wrong);
    }
    if new.ips.len() > 2 {
        errors.push(FieldError::invalid(&ips, new.ips.clone(), "may only hold up to 2 values"));
    }
    if has_wrong_ips {
        return errors;
    }
    let families: Vec<_> = new.ips.iter().map(|ip| parse_ip(ip).map(Family::of)).collect();
    if families.len() > 1 && !(families.contains(&Some(Family::V4)) && families.contains(&Some(Family::V6))) {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(&ips, new.ips.clone(), detail));
    }
    for (index, (family, named)) in families.into_iter().zip(&new.families).enumerate() {
        let named = Family::parse(named);
        if let (Some(family), Some(named)) = (family, named)
            && family != named
        {
            let detail = format!("expected an {} value as indicated by `ipFamilies[{index}]`", named.name());
            errors.push(FieldError::invalid(&ips.index(index), new.ips[index].clone(), detail));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const V4: &[Family] = &[Family::V4];
    const DUAL: &[Family] = &[Family::V4, Family::V6];

    fn settled(spec: Value, old: Option<Value>, cluster: &[Family]) -> Result<Value, String> {
        let mut service = json!({"spec": spec});
        let old = old.map(|spec| json!({"spec": spec}));
        match settle(&service, old.as_ref(), cluster) {
            Ok(new) => {
                new.write(&mut service);
                Ok(service["spec"].take())
            }
            Err(errors) => Err(errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")),
        }
    }

    #[test]
    fn what_is_left_out_follows_from_the_cluster() {
        let table = [
            (json!({}), V4, json!({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4"]})),
            (json!({}), DUAL, json!({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4"]})),
            (
                json!({"ipFamilies": ["IPv6"]}),
                DUAL,
                json!({"ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv6"]}),
            ),
            (
                json!({"ipFamilyPolicy": PREFER}),
                V4,
                json!({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv4"]}),
            ),
            (
                json!({"ipFamilyPolicy": PREFER}),
                DUAL,
                json!({"ipFamilyPolicy": PREFER, "ipFamilies": ["IPv4", "IPv6"]}),
            ),
            (
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6"]}),
                DUAL,
                json!({"ipFamilyPolicy": REQUIRE, "ipFamilies": ["IPv6", "IPv4"]}),
            ),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                DUAL,
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"], "ipFamilyPolicy": SINGLE,
                    "ipFamilies": ["IPv6"]}),
            ),
            // Headless, and of whatever families its endpoints are.
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"]}),
                V4,
                json!({"clusterIP": "None", "clusterIPs": ["None"], "ipFamilyPolicy": REQUIRE,
                    "ipFamilies": ["IPv4", "IPv6"]}),
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"}}),
                V4,
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {"a": "b"},
                    "ipFamilyPolicy": SINGLE, "ipFamilies": ["IPv4"]}),
            ),
            (json!({"type": "ExternalName"}), DUAL, json!({"type": "ExternalName"})),
        ];
        for (spec, cluster, expected) in table {
            assert_eq!(settled(spec.clone(), None, cluster), Ok(expected), "{spec}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_in_the_words_of_kubernetes() {
        let table = [
            (
                json!({"ipFamilyPolicy": REQUIRE}),
                V4,
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for \
                 dual-stack services",
            ),
            (
                json!({"ipFamilies": ["IPv6"]}),
                V4,
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
            ),
            (
                json!({"ipFamilies": ["IPv5"]}),
                V4,
                "spec.ipFamilies[0]: Unsupported value: \"IPv5\": supported values: \"IPv4\", \"IPv6\"",
            ),
            (
                json!({"clusterIP": "fd00::1", "clusterIPs": ["fd00::1"]}),
                V4,
                "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}),
                DUAL,
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or \
                 'PreferDualStack' when multiple cluster IPs are specified",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.2"]}),
                V4,
                "spec.clusterIPs: Invalid value: [\"10.0.0.2\"]: first value must match `clusterIP`",
            ),
            (
                json!({"clusterIP": "10.0.0.300", "clusterIPs": ["10.0.0.300"]}),
                V4,
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.300\": must be a valid IP address, (e.g. 10.9.8.7 \
                 or 2001:db8::ffff)",
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
                DUAL,
                "spec.clusterIPs[0]: Invalid value: \"10.0.0.1\": expected an IPv6 value as indicated by \
                 `ipFamilies[0]`",
            ),
        ];
        for (spec, cluster, told) in table {
            assert_eq!(settled(spec.clone(), None, cluster).unwrap_err(), told, "{spec}");
        }
    }

    fn stacked(policy: &str, ips: &[&str], families: &[&str]) -> Value {
        json!({"clusterIP": ips[0], "clusterIPs": ips, "ipFamilyPolicy": policy, "ipFamilies": families})
    }

    #[test]
    fn a_service_gets_a_second_family_and_gives_it_back() {
        let (one, two) = (["10.0.0.1"], ["10.0.0.1", "fd00::1"]);
        let (v4, both) = (["IPv4"], ["IPv4", "IPv6"]);
        let single = stacked(SINGLE, &one, &v4);
        let dual = stacked(REQUIRE, &two, &both);
        let upgraded = settled(stacked(REQUIRE, &one, &v4), Some(single.clone()), DUAL).unwrap();
        assert_eq!(upgraded["ipFamilies"], json!(both));
        let downgraded = settled(stacked(SINGLE, &two, &both), Some(dual.clone()), DUAL);
        assert_eq!(downgraded, Ok(single));
        let held = settled(stacked(REQUIRE, &one, &both), Some(dual), DUAL).unwrap_err();
        assert_eq!(
            held,
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the \
             secondary cluster IP"
        );
    }

    #[test]
    fn what_is_preferred_does_not_change_with_the_cluster() {
        let one = stacked(PREFER, &["10.0.0.1"], &["IPv4"]);
        assert_eq!(settled(one.clone(), Some(one.clone()), DUAL), Ok(one));
        let two = stacked(PREFER, &["10.0.0.1", "fd00::1"], &["IPv4", "IPv6"]);
        assert_eq!(settled(two.clone(), Some(two.clone()), V4), Ok(two));
    }
}
