//! Which pods may speak with which: `NetworkPolicy`. Must never enforce one.

use std::collections::BTreeSet;

use barque_api::field::FieldError;
use barque_api::int_or_string::IntOrString;
use barque_api::ip::parse_cidr;
use barque_api::labels::{SelectorRules, validate_label_selector};
use barque_api::names;

use super::addresses::{check_cidr, check_port, check_port_or_name};
use super::{Change, Findings, Part};

const DIRECTIONS: [(&str, &str); 2] = [("ingress", "from"), ("egress", "to")];

/// What an object that is as old lets pass.
#[derive(Default)]
struct Leave<'a> {
    rules: SelectorRules,
    cidrs: BTreeSet<&'a str>,
}

/// What is wrong with a `NetworkPolicy`.
pub(super) fn check_policy(change: &Change<'_>, findings: &mut Findings) {
    let leave = change.old.as_ref().map_or_else(Leave::default, |old| leave_of(&old.child("spec")));
    let spec = change.new.child("spec");
    check_selector(&spec, "podSelector", &leave, findings);
    for (direction, peers) in DIRECTIONS {
        for rule in spec.items(direction) {
            for port in rule.items("ports") {
                check_rule_port(&port, findings);
            }
            for peer in rule.items(peers) {
                check_peer(&peer, &leave, findings);
            }
        }
    }
    let at = spec.at("policyTypes");
    if spec.list("policyTypes").len() > 2 {
        findings.invalid(&at, spec.get("policyTypes").clone(), "may not specify more than two policyTypes");
        return;
    }
    for (index, kind) in spec.texts("policyTypes").enumerate() {
        if !["Ingress", "Egress"].contains(&kind) {
            findings.not_supported(&at.index(index), kind, &["Ingress", "Egress"]);
        }
    }
}

fn leave_of<'a>(old: &Part<'a>) -> Leave<'a> {
    let strict = SelectorRules::default();
    let wrong = validate_label_selector(Some(old.get("podSelector")), strict, &old.path);
    let mut cidrs = BTreeSet::new();
    for (direction, peers) in DIRECTIONS {
        for rule in old.items(direction) {
            for block in rule.items(peers).filter_map(|peer| peer.given("ipBlock")) {
                cidrs.insert(block.text("cidr"));
                cidrs.extend(block.texts("except"));
            }
        }
    }
    Leave { rules: SelectorRules { any_value: !wrong.is_empty(), ..strict }, cidrs }
}

fn check_selector(part: &Part<'_>, field: &str, leave: &Leave<'_>, findings: &mut Findings) {
    findings.extend(validate_label_selector(Some(part.get(field)), leave.rules, &part.at(field)));
}

fn check_rule_port(port: &Part<'_>, findings: &mut Findings) {
    findings.word_if_given(port, "protocol", &["TCP", "UDP", "SCTP"]);
    let (end, at) = (port.number("endPort"), port.at("endPort"));
    match (IntOrString::of_value(port.get("port")), end) {
        (None, Some(end)) => findings.invalid(&at, end, "may not be specified when `port` is not specified"),
        (Some(IntOrString::Text(_)), Some(end)) => {
            findings.invalid(&at, end, "may not be specified when `port` is non-numeric");
            check_port_or_name(port, "port", findings);
        }
        (Some(IntOrString::Int(first)), Some(end)) => {
            check_port(port, "port", findings);
            if end < i64::from(first) {
                findings.invalid(&at, end, "must be greater than or equal to `port`");
            }
            let wrong = names::port_number(end);
            findings.extend(wrong.into_iter().map(|why| FieldError::invalid(&at, end, why)));
        }
        (Some(_), None) => check_port_or_name(port, "port", findings),
        (None, None) => {}
    }
}

fn check_peer(peer: &Part<'_>, leave: &Leave<'_>, findings: &mut Findings) {
    for field in ["podSelector", "namespaceSelector"] {
        check_selector(peer, field, leave, findings);
    }
    let selects = peer.has("podSelector") || peer.has("namespaceSelector");
    match peer.given("ipBlock") {
        Some(block) => {
            check_block(&block, leave, findings);
            if selects {
                findings.forbidden(&peer.path, "may not specify both ipBlock and another peer");
            }
        }
        None if !selects => findings.required(&peer.path, "must specify a peer"),
        None => {}
    }
}

fn check_block(block: &Part<'_>, leave: &Leave<'_>, findings: &mut Findings) {
    let text = block.text("cidr");
    if text.is_empty() {
        findings.required(&block.at("cidr"), "");
        return;
    }
    check_cidr(text, leave.cidrs.iter().copied(), &block.at("cidr"), findings);
    let Some(whole) = parse_cidr(text) else { return };
    for (index, text) in block.texts("except").enumerate() {
        let at = block.at("except").index(index);
        check_cidr(text, leave.cidrs.iter().copied(), &at, findings);
        let Some(part) = parse_cidr(text) else { continue };
        if !whole.contains(part.network().address) || whole.prefix >= part.prefix {
            findings.invalid(&at, text, "must be a strict subset of `cidr`");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::told;

    #[test]
    fn policies_and_what_is_wrong_with_them() {
        let peer = |peer: Value| json!({"from": [peer]});
        let port = |port: Value| json!({"ports": [port]});
        let table: Vec<(Value, &[&str])> = vec![
            (peer(json!({"podSelector": {}})), &[]),
            (peer(json!({})), &["from[0]: Required value: must specify a peer"]),
            (
                peer(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
                &["from[0]: Forbidden: may not specify both ipBlock and another peer"],
            ),
            (peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}})), &[]),
            (
                peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}})),
                &[
                    "from[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                ],
            ),
            (port(json!({"port": 1, "endPort": 2})), &[]),
            (
                port(json!({"port": 3, "endPort": 2})),
                &["ports[0].endPort: Invalid value: 2: must be greater than or equal to `port`"],
            ),
            (
                port(json!({"port": "web", "endPort": 2})),
                &["ports[0].endPort: Invalid value: 2: may not be specified when `port` is non-numeric"],
            ),
            (
                port(json!({"protocol": "ICMP"})),
                &[
                    "ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                ],
            ),
        ];
        for (rule, expected) in table {
            let expected: Vec<_> = expected.iter().map(|one| format!("spec.ingress[0].{one}")).collect();
            let policy = json!({"spec": {"podSelector": {}, "ingress": [rule]}});
            assert_eq!(told("networking.k8s.io", "NetworkPolicy", &policy, None), expected);
        }
    }

    #[test]
    fn networks_that_were_there_stay() {
        let policy =
            json!({"spec": {"podSelector": {}, "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.1/8"}}]}]}});
        assert_eq!(told("networking.k8s.io", "NetworkPolicy", &policy, None).len(), 1);
        assert!(told("networking.k8s.io", "NetworkPolicy", &policy, Some(&policy)).is_empty());
    }
}
