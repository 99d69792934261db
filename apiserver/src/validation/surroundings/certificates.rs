//! `CertificateSigningRequest`: what is asked for, and who may say what about it where. Must never sign.

use std::collections::BTreeSet;

use barque_api::field::{FieldError, FieldPath};
use barque_api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer as _;

use super::{Change, Findings, Part};
use crate::validation::same::{difference, same};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const LONGEST_SIGNER: usize = 253 + 1 + 253 + 1 + 63;

/// What is wrong with a `CertificateSigningRequest`.
pub(super) fn check_request(change: &Change<'_>, findings: &mut Findings) {
    check_spec(change, findings);
    let old = change.old.as_ref().map(|old| old.child("status"));
    let status = change.new.child("status");
    check_conditions(&status, old.as_ref(), findings);
    let unchanged = old.as_ref().is_some_and(|old| old.get("certificate") == status.get("certificate"));
    if !unchanged && let Err(why) = check_certificate(status.text("certificate")) {
        findings.invalid(&status.at("certificate"), "<certificate data>", why);
    }
    if let Some(old) = &old {
        check_changed(&status, old, change.subresource, findings);
    }
}

fn check_spec(change: &Change<'_>, findings: &mut Findings) {
    let spec = change.new.child("spec");
    let old = change.old.as_ref().map(|old| old.child("spec"));
    if let Err(why) = parse_request(spec.text("request")) {
        findings.invalid(&spec.at("request"), spec.get("request").clone(), why);
    }
    if spec.list("usages").is_empty() {
        findings.required(&spec.at("usages"), "");
    }
    let unknown = |spec: &Part<'_>| spec.texts("usages").any(|usage| !USAGES.contains(&usage));
    let repeats =
        |spec: &Part<'_>| spec.texts("usages").collect::<BTreeSet<_>>().len() < spec.list("usages").len();
    let (any, twice) = old.as_ref().map_or((false, false), |old| (unknown(old), repeats(old)));
    let mut seen = BTreeSet::new();
    for (index, usage) in spec.texts("usages").enumerate() {
        if !any && !USAGES.contains(&usage) {
            findings.not_supported(&spec.at("usages").index(index), usage, &USAGES);
        }
        if !seen.insert(usage) && !twice {
            findings.duplicate(&spec.at("usages").index(index), usage);
        }
    }
    let signer = spec.text("signerName");
    let was_legacy = old.is_some_and(|old| old.text("signerName") == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !was_legacy {
        let detail = "the legacy signerName is not allowed via this API version";
        findings.invalid(&spec.at("signerName"), signer, detail);
    } else {
        check_signer(signer, &spec.at("signerName"), findings);
    }
    if let Some(seconds) = spec.number("expirationSeconds")
        && seconds < 600
    {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        findings.invalid(&spec.at("expirationSeconds"), seconds, detail);
    }
}

fn parse_request(text: &str) -> Result<(), String> {
    let wrong = || "PEM block type must be CERTIFICATE REQUEST".to_owned();
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let pem = Pem::iter_from_buffer(&bytes).next().and_then(Result::ok).ok_or_else(wrong)?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(wrong());
    }
    match X509CertificationRequest::from_der(&pem.contents) {
        Ok(_) => Ok(()),
        Err(_) => Err("asn1: structure error: malformed certificate request".to_owned()),
    }
}

fn check_signer(name: &str, at: &FieldPath, findings: &mut Findings) {
    if name.is_empty() {
        findings.required(at, "");
        return;
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, path] = parts.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        findings.invalid(at, name, detail);
        return;
    };
    if domain.len() > 253 {
        findings.push(FieldError::too_long(at, 253));
    }
    if !domain.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        findings.invalid(at, *domain, detail);
    }
    for label in domain.split('.') {
        for wrong in names::dns_label(label) {
            findings.invalid(at, *domain, format!("validating label {label:?}: {wrong}"));
        }
    }
    let wrong = path.split('.').map(|label| (label, names::dns_subdomain(label)));
    for (label, wrong) in wrong.take(1) {
        for wrong in wrong {
            findings.invalid(at, *path, format!("validating label {label:?}: {wrong}"));
        }
    }
    if name.len() > LONGEST_SIGNER {
        findings.push(FieldError::too_long(at, LONGEST_SIGNER));
    }
}

fn check_conditions(status: &Part<'_>, old: Option<&Part<'_>>, findings: &mut Findings) {
    let kinds = |status: &Part<'_>| -> Vec<String> {
        status.items("conditions").map(|condition| condition.text("type").to_owned()).collect()
    };
    let before = old.map(kinds).unwrap_or_default();
    let both_before = ["Approved", "Denied"].iter().all(|kind| before.iter().any(|old| old == kind));
    let twice_before = before.iter().collect::<BTreeSet<_>>().len() < before.len();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    for condition in status.items("conditions") {
        let kind = condition.text("type");
        if !before.iter().any(String::is_empty) {
            findings.needs(&condition, "type");
        }
        let decided = ["Approved", "Denied", "Failed"].contains(&kind);
        findings.word(&condition, "status", if decided { &["True"] } else { &["False", "True", "Unknown"] });
        let opposite = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !opposite.is_empty() && seen.contains(opposite) && !both_before {
            let detail = "Approved and Denied conditions are mutually exclusive";
            findings.invalid(&condition.at("type"), kind, detail);
        }
        if !seen.insert(kind) && !twice_before {
            findings.duplicate(&condition.at("type"), kind);
        }
    }
}

fn check_certificate(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Ok(());
    }
    let bytes = STANDARD.decode(text).unwrap_or_default();
    let mut found = false;
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|_| "must contain at least one CERTIFICATE PEM block".to_owned())?;
        if pem.label != "CERTIFICATE" {
            return Err(format!("only CERTIFICATE PEM blocks are allowed, found {:?}", pem.label));
        }
        pem.parse_x509().map_err(|error| error.to_string())?;
        found = true;
    }
    if found { Ok(()) } else { Err("must contain at least one CERTIFICATE PEM block".to_owned()) }
}

fn check_changed(status: &Part<'_>, old: &Part<'_>, subresource: &str, findings: &mut Findings) {
    let of = |status: &Part<'_>, kind: &str| -> Vec<Value> {
        let all = status.items("conditions").filter(|condition| condition.text("type") == kind);
        all.map(|condition| condition.value.clone()).collect()
    };
    let at = status.at("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        if of(status, kind).len() < of(old, kind).len() {
            findings.forbidden(&at, format!("updates may not remove a condition of type {kind:?}"));
        }
    }
    if subresource != "approval" {
        for kind in ["Approved", "Denied"] {
            let (before, after) = (of(old, kind), of(status, kind));
            if after.len() > before.len() {
                findings.forbidden(&at, format!("updates may not add a condition of type {kind:?}"));
            } else if after.len() == before.len() && !same(&before.clone().into(), &after.clone().into()) {
                let changes = difference(&before.into(), &after.into(), &at);
                findings.forbidden(
                    &at,
                    format!("updates may not modify a condition of type {kind:?}\n{changes}"),
                );
            }
        }
    }
    if status.text("certificate") != old.text("certificate") {
        let at = status.at("certificate");
        if subresource != "status" {
            findings.forbidden(&at, "updates may not set certificate content");
        } else if !old.text("certificate").is_empty() {
            findings.forbidden(&at, "updates may not modify existing certificate content");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{told, told_below};
    use super::*;

    const GROUP: &str = "certificates.k8s.io";
    const KIND: &str = "CertificateSigningRequest";
    const REQUEST: &str = "-----BEGIN CERTIFICATE REQUEST-----\n\
                           MIHGMG4CAQAwDDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA\n\
                           BL+e58NdKgOLb5XPxZPBWI/+s+p+KE3EFS8XCvcYkMwLb2x8C3IqxY3DGDuvJ33F\n\
                           cUg1CDGN9RSivTKxGzad/imgADAKBggqhkjOPQQDAgNIADBFAiA2zg3+ZSCrQLTX\n\
                           Bq6z8uOAN24JzZNb8R7Rz7ZN51h5zwIhAMKdLbkcZ1ySlbsB5mNV951kivnUQMbA\n\
                           OReB0vEWWnUh\n\
                           -----END CERTIFICATE REQUEST-----\n";

    fn request() -> Value {
        json!({"spec": {"request": STANDARD.encode(REQUEST), "usages": ["client auth"],
                        "signerName": "kubernetes.io/kube-apiserver-client"}})
    }

    #[test]
    fn requests_and_what_is_wrong_with_them() {
        assert!(told(GROUP, KIND, &request(), None).is_empty());
        let mut wrong = request();
        wrong["spec"]["request"] = json!("eA==");
        wrong["spec"]["usages"] = json!(["client auth", "client auth"]);
        wrong["spec"]["signerName"] = json!("kubernetes.io/legacy-unknown");
        wrong["spec"]["expirationSeconds"] = json!(1);
        assert_eq!(
            told(GROUP, KIND, &wrong, None),
            [
                "spec.request: Invalid value: \"eA==\": PEM block type must be CERTIFICATE REQUEST",
                "spec.usages[1]: Duplicate value: \"client auth\"",
                "spec.signerName: Invalid value: \"kubernetes.io/legacy-unknown\": the legacy signerName is not allowed via \
             this API version",
                "spec.expirationSeconds: Invalid value: 1: may not specify a duration less than 600 seconds (10 minutes)",
            ]
        );
    }

    #[test]
    fn only_an_approval_approves_and_nobody_takes_it_back() {
        let old = request();
        let mut new = request();
        new["status"] = json!({"conditions": [{"type": "Approved", "status": "True"}]});
        assert!(told_below(GROUP, KIND, "approval", &new, Some(&old)).is_empty());
        assert_eq!(
            told_below(GROUP, KIND, "status", &new, Some(&old)),
            ["status.conditions: Forbidden: updates may not add a condition of type \"Approved\""]
        );
        assert_eq!(
            told_below(GROUP, KIND, "approval", &old, Some(&new)),
            ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
        );
        new["status"]["conditions"] =
            json!([{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]);
        assert_eq!(
            told_below(GROUP, KIND, "approval", &new, Some(&old)),
            [
                "status.conditions[1].type: Invalid value: \"Denied\": Approved and Denied conditions are mutually exclusive"
            ]
        );
    }
}
