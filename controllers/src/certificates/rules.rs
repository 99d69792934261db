//! What the signers of kubernetes.io sign. Decisions; the words are upstream's.

use std::collections::BTreeSet;

use super::request::Request;
use super::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY_UNKNOWN};

const CLIENT_USAGES: [&str; 3] = ["client auth", "digital signature", "key encipherment"];
const SERVER_USAGES: [&str; 3] = ["digital signature", "key encipherment", "server auth"];

/// Why a signer does not sign a request; nothing when it does.
pub(super) fn check(signer: &str, request: &Request, usages: &[String]) -> Result<(), String> {
    match signer {
        KUBELET_CLIENT => kubelet_client(request, usages),
        KUBELET_SERVING => kubelet_serving(request, usages),
        API_CLIENT => api_client(usages),
        LEGACY_UNKNOWN => Ok(()),
        other => Err(format!("unrecognized signerName: {other:?}")),
    }
}

fn nodes(request: &Request) -> Result<(), String> {
    if request.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes".to_owned());
    }
    Ok(())
}

/// The usages must be these, where keys need not be enciphered.
fn exactly(usages: &[String], wanted: &[&str]) -> Result<(), String> {
    let said: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let all: BTreeSet<&str> = wanted.iter().copied().collect();
    let without: BTreeSet<&str> = all.iter().copied().filter(|usage| *usage != "key encipherment").collect();
    if said != all && said != without {
        return Err(format!("usages did not match [{}]", wanted.join(" ")));
    }
    Ok(())
}

fn node_name(request: &Request) -> Result<(), String> {
    if !request.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:".to_owned());
    }
    Ok(())
}

fn none<T>(names: &[T], sentence: &str) -> Result<(), String> {
    if names.is_empty() { Ok(()) } else { Err(sentence.to_owned()) }
}

/// Whether it asks for what a kubelet needs as a client.
pub(super) fn kubelet_client(request: &Request, usages: &[String]) -> Result<(), String> {
    nodes(request)?;
    none(&request.dns, "DNS subjectAltNames are not allowed")?;
    none(&request.emails, "Email subjectAltNames are not allowed")?;
    none(&request.addresses, "IP subjectAltNames are not allowed")?;
    none(&request.uris, "URI subjectAltNames are not allowed")?;
    node_name(request)?;
    exactly(usages, &CLIENT_USAGES)
}

fn kubelet_serving(request: &Request, usages: &[String]) -> Result<(), String> {
    nodes(request)?;
    if request.dns.is_empty() && request.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".to_owned());
    }
    none(&request.emails, "Email subjectAltNames are not allowed")?;
    none(&request.uris, "URI subjectAltNames are not allowed")?;
    exactly(usages, &SERVER_USAGES)?;
    node_name(request)
}

fn api_client(usages: &[String]) -> Result<(), String> {
    let optional = ["digital signature", "key encipherment", "client auth"];
    if let Some(other) = usages.iter().find(|usage| !optional.contains(&usage.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|usage| usage == "client auth") {
        return Err("missing required usage for client certificate: client auth".to_owned());
    }
    Ok(())
}
