//! The addresses of a service and their families, and how they may change. Must never hand one out.

use std::collections::BTreeSet;

use barque_api::ip::parse_ip;

use super::addresses::check_ip;
use super::service::is_headless;
use super::{Findings, Part};

const SET_ONCE: &str = "may not change once set";

/// What is wrong with the addresses and families of a service that are to be.
pub(super) fn check_addresses(spec: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    if spec.text("type") == "ExternalName" {
        return;
    }
    let at = spec.at("clusterIPs");
    let all = || spec.get("clusterIPs").clone();
    let ips: Vec<&str> = spec.texts("clusterIPs").collect();
    let first = spec.text("clusterIP");
    match ips.first() {
        None if !first.is_empty() => findings.required(&at, ""),
        Some(_) if first.is_empty() => {
            findings.invalid(&at, all(), "must be empty when `clusterIP` is not specified");
        }
        Some(ip) if *ip != first => findings.invalid(&at, all(), "first value must match `clusterIP`"),
        _ => {}
    }
    let families: Vec<&str> = spec.texts("ipFamilies").collect();
    check_families(spec, &families, findings);
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    findings.word_if_given(spec, "ipFamilyPolicy", &policies);

    let found = findings.len();
    for (index, ip) in ips.iter().enumerate() {
        if index == 0 && *ip == "None" {
            if ips.len() > 1 {
                findings.invalid(&at, all(), "'None' must be the first and only value");
            }
            continue;
        }
        check_ip(ip, old.iter().flat_map(|old| old.texts("clusterIPs")), &at.index(index), findings);
    }
    let wrong = findings.len() > found;
    if ips.len() > 2 {
        findings.invalid(&at, all(), "may only hold up to 2 values");
    }
    if wrong {
        return;
    }
    let is_v6 = |ip: &str| parse_ip(ip).is_some_and(|ip| ip.is_ipv6());
    let sixes = ips.iter().filter(|ip| is_v6(ip)).count();
    if ips.len() > 1 && (sixes == 0 || sixes == ips.len()) {
        findings.invalid(&at, all(), "may specify no more than one IP for each IP family");
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in ips.iter().zip(&families).enumerate() {
        if *family == "IPv4" && is_v6(ip) || *family == "IPv6" && !is_v6(ip) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            findings.invalid(&at.index(index), *ip, detail);
        }
    }
}

fn check_families(spec: &Part<'_>, families: &[&str], findings: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (index, family) in families.iter().enumerate() {
        let at = spec.at("ipFamilies").index(index);
        if !["IPv4", "IPv6"].contains(family) {
            findings.not_supported(&at, *family, &["IPv4", "IPv6"]);
        }
        if !seen.insert(family) {
            findings.duplicate(&at, *family);
        }
    }
}

/// What is wrong with a change of addresses and families: the first of each stays, but to, from and on names of elsewhere.
pub(super) fn check_changed_addresses(spec: &Part<'_>, old: &Part<'_>, findings: &mut Findings) {
    if [spec, old].iter().any(|spec| spec.text("type") == "ExternalName") {
        return;
    }
    let (was_headless, is_headless) = (is_headless(old), is_headless(spec));
    if !(was_headless && is_headless) {
        check_changed(spec, old, &Words::of_addresses(), findings);
    }
    if !was_headless && !is_headless {
        check_changed(spec, old, &Words::of_families(), findings);
    }
}

struct Words {
    field: &'static str,
    unset: &'static str,
    released: &'static str,
}

impl Words {
    const fn of_addresses() -> Self {
        Self {
            field: "clusterIPs",
            unset: "primary clusterIP can not be unset",
            released: "must be set to 'SingleStack' when releasing the secondary clusterIP",
        }
    }

    const fn of_families() -> Self {
        Self {
            field: "ipFamilies",
            unset: "primary ipFamily can not be unset",
            released: "must be set to 'SingleStack' when releasing the secondary ipFamily",
        }
    }
}

fn check_changed(spec: &Part<'_>, old: &Part<'_>, words: &Words, findings: &mut Findings) {
    let (before, after) = (old.list(words.field), spec.list(words.field));
    let at = spec.at(words.field);
    let value = || spec.get(words.field).clone();
    if before.len() == after.len() {
        for (index, _) in before.iter().zip(after).enumerate().filter(|(_, (old, new))| old != new) {
            findings.invalid(&at.index(index), value(), SET_ONCE);
        }
        return;
    }
    if before.len() > after.len() && after.is_empty() {
        findings.invalid(&at.index(0), value(), words.unset);
    }
    if let (Some(old), Some(new)) = (before.first(), after.first())
        && old != new
    {
        findings.invalid(&at.index(0), value(), SET_ONCE);
    }
    if before.len() > after.len() && after.len() == 1 && spec.text("ipFamilyPolicy") != "SingleStack" {
        let policy = spec.get("ipFamilyPolicy").clone();
        findings.invalid(&spec.at("ipFamilyPolicy"), policy, words.released);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn details(check: impl Fn(&mut Findings)) -> Vec<String> {
        let mut findings = Findings::default();
        check(&mut findings);
        findings.into_errors().into_iter().map(|error| error.detail).collect()
    }

    #[test]
    fn addresses_fit_each_other_and_their_families() {
        let table: Vec<(Value, &[&str])> = vec![
            (json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"]}), &[]),
            (json!({"clusterIP": "10.0.0.1"}), &[""]),
            (json!({"clusterIPs": ["10.0.0.1"]}), &["must be empty when `clusterIP` is not specified"]),
            (
                json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]}),
                &["first value must match `clusterIP`"],
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "10.0.0.2"]}),
                &["may specify no more than one IP for each IP family"],
            ),
            (
                json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv6"]}),
                &["expected an IPv6 value as indicated by `ipFamilies[0]`"],
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None", "10.0.0.1"]}),
                &["'None' must be the first and only value"],
            ),
        ];
        for (spec, expected) in table {
            let part = Part::root(&spec);
            assert_eq!(details(|findings| check_addresses(&part, None, findings)), expected, "{spec}");
        }
    }

    #[test]
    fn a_second_address_goes_only_when_one_is_wanted() {
        let old = json!({"clusterIPs": ["10.0.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"]});
        let mut new =
            json!({"clusterIPs": ["10.0.0.1"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "PreferDualStack"});
        let told = |new: &Value| {
            details(|findings| check_changed_addresses(&Part::root(new), &Part::root(&old), findings))
        };
        assert_eq!(
            told(&new),
            [
                "must be set to 'SingleStack' when releasing the secondary clusterIP",
                "must be set to 'SingleStack' when releasing the secondary ipFamily",
            ]
        );
        new["ipFamilyPolicy"] = json!("SingleStack");
        assert!(told(&new).is_empty());
        new["type"] = json!("ExternalName");
        new["clusterIPs"] = json!([]);
        assert!(told(&new).is_empty());
    }
}
