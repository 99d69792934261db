//! Ways into the cluster by HTTP: `Ingress`, `IngressClass`. Must never look for the services named.

use barque_api::field::{FieldError, FieldPath};
use barque_api::metadata::Metadata;
use barque_api::names;

use super::addresses::{check_port, is_ip};
use super::service::check_way_in;
use super::{Change, Findings, Part};

const CLASS: &str = "kubernetes.io/ingress.class";
const WRONG_PARTS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const WRONG_ENDS: [&str; 2] = ["/..", "/."];

/// What an object that is as old lets pass.
#[derive(Clone, Copy, Default)]
struct Leave {
    secret_names: bool,
    wildcard_rules: bool,
}

/// What is wrong with an `Ingress`.
pub(super) fn check_ingress(change: &Change<'_>, findings: &mut Findings) {
    if change.subresource == "status" {
        let old = change.old.as_ref().map(|old| old.child("status").child("loadBalancer"));
        for ingress in change.new.child("status").child("loadBalancer").items("ingress") {
            check_way_in(&ingress, old.as_ref(), findings);
        }
        return;
    }
    let spec = change.new.child("spec");
    let leave = change.old.as_ref().map_or_else(Leave::default, |old| leave_of(&old.child("spec")));
    check_spec(&spec, leave, findings);
    if change.old.is_none()
        && let Some(class) = Metadata::of(change.new.value).annotation(CLASS)
        && spec.has("ingressClassName")
        && class != spec.text("ingressClassName")
    {
        let detail = "must match `ingressClassName` when both are specified";
        findings.invalid(&FieldPath::of("annotations").child(CLASS), class, detail);
    }
}

fn leave_of(old: &Part<'_>) -> Leave {
    let wrong = |name: &str| !name.is_empty() && !names::dns_subdomain(name).is_empty();
    Leave {
        secret_names: old.items("tls").any(|tls| wrong(tls.text("secretName"))),
        wildcard_rules: old.items("rules").filter(|rule| rule.text("host").contains('*')).any(|rule| {
            let mut findings = Findings::default();
            check_paths(&rule, &mut findings);
            findings.len() > 0
        }),
    }
}

fn check_spec(spec: &Part<'_>, leave: Leave, findings: &mut Findings) {
    if spec.list("rules").is_empty() && !spec.has("defaultBackend") {
        let detail = "either `defaultBackend` or `rules` must be specified";
        findings.invalid(&spec.path, spec.get("rules").clone(), detail);
    }
    if let Some(backend) = spec.given("defaultBackend") {
        check_backend(&backend, findings);
    }
    for rule in spec.items("rules") {
        let (host, at) = (rule.text("host"), rule.at("host"));
        let wildcard = host.contains('*');
        if !host.is_empty() {
            if is_ip(host) {
                findings.invalid(&at, host, "must be a DNS name, not an IP address");
            }
            check_host(host, &at, findings);
        }
        if !wildcard || !leave.wildcard_rules {
            check_paths(&rule, findings);
        }
    }
    for tls in spec.items("tls") {
        for (index, host) in tls.texts("hosts").enumerate() {
            check_host(host, &tls.at("hosts").index(index), findings);
        }
        let secret = tls.text("secretName");
        if !leave.secret_names && !secret.is_empty() {
            findings.dns_subdomain(&tls.at("secretName"), secret);
        }
    }
    if spec.has("ingressClassName") {
        findings.dns_subdomain(&spec.at("ingressClassName"), spec.text("ingressClassName"));
    }
}

fn check_host(host: &str, at: &FieldPath, findings: &mut Findings) {
    if host.contains('*') {
        findings.each(at, host, names::wildcard_dns_subdomain(host));
    } else {
        findings.dns_subdomain(at, host);
    }
}

fn check_paths(rule: &Part<'_>, findings: &mut Findings) {
    let Some(http) = rule.given("http") else { return };
    if http.list("paths").is_empty() {
        findings.required(&http.at("paths"), "");
    }
    for path in http.items("paths") {
        check_path(&path, findings);
    }
}

fn check_path(part: &Part<'_>, findings: &mut Findings) {
    if !part.has("pathType") {
        findings.required(&part.at("pathType"), "pathType must be specified");
        return;
    }
    let (path, at) = (part.text("path"), part.at("path"));
    let absolute = path.starts_with('/');
    match part.text("pathType") {
        "Exact" | "Prefix" => {
            if !absolute {
                findings.invalid(&at, path, "must be an absolute path");
            }
            for wrong in WRONG_PARTS.iter().filter(|wrong| path.contains(**wrong)) {
                findings.invalid(&at, path, format!("must not contain '{wrong}'"));
            }
            for wrong in WRONG_ENDS.iter().filter(|wrong| path.ends_with(**wrong)) {
                findings.invalid(&at, path, format!("cannot end with '{wrong}'"));
            }
        }
        "ImplementationSpecific" => {
            if !path.is_empty() && !absolute {
                findings.invalid(&at, path, "must be an absolute path");
            }
        }
        other => {
            let known = ["Exact", "ImplementationSpecific", "Prefix"];
            findings.not_supported(&part.at("pathType"), other, &known);
        }
    }
    check_backend(&part.child("backend"), findings);
}

fn check_backend(backend: &Part<'_>, findings: &mut Findings) {
    match (backend.given("resource"), backend.given("service")) {
        (Some(_), Some(_)) => {
            findings.invalid(&backend.path, "", "cannot set both resource and service backends");
        }
        (Some(resource), None) => check_reference(&resource, findings),
        (None, Some(service)) => check_service(&service, &backend.path, findings),
        (None, None) => findings.invalid(&backend.path, "", "resource or service backend is required"),
    }
}

fn check_service(service: &Part<'_>, backend: &FieldPath, findings: &mut Findings) {
    let name = service.text("name");
    if name.is_empty() {
        findings.required(&service.at("name"), "");
    } else {
        findings.dns_label(&service.at("name"), name);
    }
    let port = service.child("port");
    match (port.text("name"), port.count("number")) {
        ("", 0) => findings.required(backend, "port name or number is required"),
        ("", _) => check_port(&port, "number", findings),
        (name, 0) => findings.each(&port.at("name"), name, names::port_name(name)),
        _ => findings.invalid(backend, "", "cannot set both port name & port number"),
    }
}

/// A reference to an object by group, kind and name.
fn check_reference(reference: &Part<'_>, findings: &mut Findings) {
    if reference.has("apiGroup") {
        findings.dns_subdomain(&reference.at("apiGroup"), reference.text("apiGroup"));
    }
    for field in ["kind", "name"] {
        findings.needs(reference, field);
        let value = reference.text(field);
        findings.each(&reference.at(field), value, names::path_segment_name(value));
    }
}

/// What is wrong with an `IngressClass`.
pub(super) fn check_class(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    if let Some(old) = &change.old {
        findings.immutable(&spec, &old.child("spec"), "controller");
    }
    let controller = spec.text("controller");
    let at = spec.at("controller");
    if controller.is_empty() {
        findings.required(&at, "");
    } else {
        if controller.len() > 250 {
            findings.push(FieldError::too_long(&at, 250));
        }
        check_prefixed_path(controller, &at, findings);
    }
    let Some(parameters) = spec.given("parameters") else { return };
    check_reference(&parameters, findings);
    let namespace = parameters.at("namespace");
    match parameters.text("scope") {
        "" => findings.required(&parameters.at("scope"), ""),
        "Namespace" if !parameters.has("namespace") => {
            findings.required(&namespace, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => findings.dns_label(&namespace, parameters.text("namespace")),
        "Cluster" if parameters.has("namespace") => {
            findings.forbidden(&namespace, "`parameters.scope` is set to 'Cluster'");
        }
        "Cluster" => {}
        other => findings.not_supported(&parameters.at("scope"), other, &["Cluster", "Namespace"]),
    }
}

/// A path behind a domain: `example.com/a/b`.
fn check_prefixed_path(value: &str, at: &FieldPath, findings: &mut Findings) {
    let Some((host, path)) = value.split_once('/') else {
        findings.invalid(at, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    };
    if host.is_empty() || path.is_empty() {
        findings.invalid(at, value, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        return;
    }
    findings.each(at, host, names::dns_subdomain(host));
    let right = |byte: u8| byte.is_ascii_alphanumeric() || b"/%:-._~!$&'()*+,;=".contains(&byte);
    if !path.bytes().all(right) {
        let words = names::no_match("Invalid path", "[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+", &[]);
        findings.invalid(at, path, words);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::{told, told_below};

    fn ingress(path: Value) -> Value {
        json!({"spec": {"rules": [{"host": "a.io", "http": {"paths": [path]}}]}})
    }

    #[test]
    fn ingresses_and_what_is_wrong_with_them() {
        let backend = json!({"service": {"name": "a", "port": {"number": 80}}});
        let told = |new: &Value| told("networking.k8s.io", "Ingress", new, None);
        assert!(told(&ingress(json!({"path": "/", "pathType": "Prefix", "backend": backend}))).is_empty());
        assert_eq!(
            told(&json!({"spec": {}})),
            ["spec: Invalid value: null: either `defaultBackend` or `rules` must be specified"]
        );
        let table = [
            (json!({"backend": backend}), "pathType: Required value: pathType must be specified"),
            (
                json!({"path": "a", "pathType": "Exact", "backend": backend}),
                "path: Invalid value: \"a\": must be an absolute path",
            ),
            (
                json!({"path": "/a//b", "pathType": "Exact", "backend": backend}),
                "path: Invalid value: \"/a//b\": must not contain '//'",
            ),
            (
                json!({"path": "/", "pathType": "Odd", "backend": backend}),
                "pathType: Unsupported value: \"Odd\": supported values: \"Exact\", \"ImplementationSpecific\", \
                 \"Prefix\"",
            ),
            (
                json!({"path": "/", "pathType": "Exact", "backend": {}}),
                "backend: Invalid value: \"\": resource or service backend is required",
            ),
            (
                json!({"path": "/", "pathType": "Exact", "backend": {"service": {"name": "a"}}}),
                "backend: Required value: port name or number is required",
            ),
        ];
        for (path, expected) in table {
            assert_eq!(told(&ingress(path)), [format!("spec.rules[0].http.paths[0].{expected}")]);
        }
    }

    #[test]
    fn old_wildcards_and_secrets_stay() {
        let old = json!({"spec": {"rules": [{"host": "*.a.io", "http": {"paths": []}}], "tls": [{"secretName": "A"}]}});
        assert!(told("networking.k8s.io", "Ingress", &old, Some(&old)).is_empty());
        assert_eq!(told("networking.k8s.io", "Ingress", &old, None).len(), 2);
    }

    #[test]
    fn statuses_have_addresses() {
        let object = json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}, {"hostname": "1.2.3.4"}]}}});
        let told = told_below("networking.k8s.io", "Ingress", "status", &object, None);
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn the_controller_of_a_class_stays() {
        let class = |name: &str| json!({"spec": {"controller": name}});
        let told =
            |new: &str, old: &str| told("networking.k8s.io", "IngressClass", &class(new), Some(&class(old)));
        assert!(told("a.io/b", "a.io/b").is_empty());
        assert_eq!(
            told("a.io/c", "a.io/b"),
            ["spec.controller: Invalid value: \"a.io/c\": field is immutable"]
        );
        assert_eq!(
            told("a", "a"),
            [
                "spec.controller: Invalid value: \"a\": must be a domain-prefixed path (such as \"acme.io/foo\")"
            ]
        );
    }
}
