//! Volumes that hold files of several sources.

use std::collections::BTreeSet;

use barque_api::names;

use super::volumes::{check_key_to_path, check_pod_file};
use crate::validation::findings::Findings;
use crate::validation::part::Part;
use crate::validation::paths::check_not_reserved;

const SHORTEST_TOKEN_SECONDS: i64 = 10 * 60;
const LONGEST_TOKEN_SECONDS: i64 = 1 << 32;
const KEY_TYPES: [&str; 6] = ["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
const KINDS: [&str; 6] =
    ["secret", "configMap", "downwardAPI", "serviceAccountToken", "clusterTrustBundle", "podCertificate"];

/// The sources, which may not write one file twice.
pub(super) fn check_projected<'a>(volume: &Part<'a>, findings: &mut Findings) {
    let mut taken = BTreeSet::new();
    let mut take = |path: &'a str, value: &str, findings: &mut Findings| {
        if !path.is_empty() && !taken.insert(path) {
            findings.invalid(&volume.path, value, "conflicting duplicate paths");
        }
    };
    for source in volume.items("sources") {
        for kind in ["secret", "configMap"] {
            let Some(keys) = source.given(kind) else { continue };
            findings.needs(&keys, "name");
            for item in keys.items("items") {
                check_key_to_path(&item, findings);
                take(item.text("path"), keys.text("name"), findings);
            }
        }
        if let Some(fields) = source.given("downwardAPI") {
            for file in fields.items("items") {
                check_pod_file(&file, &fields.path, findings);
                take(file.text("path"), file.text("path"), findings);
            }
        }
        if let Some(token) = source.given("serviceAccountToken") {
            check_token(volume, &token, findings);
        }
        if let Some(bundle) = source.given("clusterTrustBundle") {
            check_trust_bundle(&bundle, findings);
            take(bundle.text("path"), bundle.text("path"), findings);
        }
        if let Some(certificate) = source.given("podCertificate") {
            findings.needs(&certificate, "signerName");
            findings.word(&certificate, "keyType", &KEY_TYPES);
            for field in ["credentialBundlePath", "keyPath", "certificateChainPath"] {
                let path = certificate.text(field);
                check_not_reserved(path, &certificate.at(field), findings);
                take(path, path, findings);
            }
        }
        if KINDS.iter().filter(|kind| source.has(kind)).count() > 1 {
            findings.forbidden(&source.path, "may not specify more than 1 volume type per source");
        }
    }
}

fn check_token(volume: &Part<'_>, token: &Part<'_>, findings: &mut Findings) {
    let (seconds, at) = (token.count("expirationSeconds"), token.at("expirationSeconds"));
    if seconds < SHORTEST_TOKEN_SECONDS {
        findings.invalid(&at, seconds, "may not specify a duration less than 10 minutes");
    }
    if seconds > LONGEST_TOKEN_SECONDS {
        findings.invalid(&at, seconds, "may not specify a duration larger than 2^32 seconds");
    }
    // Told at the place of the volume, as Kubernetes does.
    if token.text("path").is_empty() {
        findings.required(&volume.at("path"), "");
    } else {
        check_not_reserved(token.text("path"), &volume.at("path"), findings);
    }
}

fn check_trust_bundle(bundle: &Part<'_>, findings: &mut Findings) {
    let (name, signer) = (bundle.text("name"), bundle.text("signerName"));
    match (bundle.has("name"), bundle.has("signerName")) {
        (true, true) => {
            let detail = "only one of name and signerName may be used";
            findings.invalid(&bundle.path, bundle.value.clone(), detail);
        }
        (true, false) => {
            if name.is_empty() {
                findings.required(&bundle.at("name"), "must be a valid object name");
            }
            let plain = name.rsplit(':').next().unwrap_or_default();
            for wrong in names::dns_subdomain(plain) {
                let detail = format!("not a valid clustertrustbundlename: {wrong}");
                findings.invalid(&bundle.at("name"), name, detail);
            }
            if let Some(selector) = bundle.given("labelSelector") {
                let detail = "labelSelector must be unset if name is specified";
                findings.invalid(&selector.path, selector.value.clone(), detail);
            }
        }
        (false, true) => {
            if signer.is_empty() {
                findings.required(&bundle.at("signerName"), "must be a valid signer name");
            }
            findings.selector(bundle, "labelSelector");
        }
        (false, false) => findings.required(&bundle.path, "either name or signerName must be specified"),
    }
    findings.needs(bundle, "path");
    check_not_reserved(bundle.text("path"), &bundle.at("path"), findings);
}

#[cfg(test)]
mod tests {
    use barque_api::field::FieldPath;
    use serde_json::{Value, json};

    use super::*;
    use crate::validation::tests::told;

    #[test]
    fn sources_and_what_is_wrong_with_them() {
        let table: &[(Value, &[&str])] = &[
            (
                json!([
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [
                        {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
                ]),
                &[],
            ),
            (
                json!([{"serviceAccountToken": {"expirationSeconds": 60}}]),
                &[
                    "p.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration \
                     less than 10 minutes",
                    "p.path: Required value",
                ],
            ),
            (
                json!([
                    {"secret": {"name": "a", "items": [{"key": "k", "path": "x"}]}},
                    {"configMap": {"name": "b", "items": [{"key": "k", "path": "x"}]}},
                ]),
                &["p: Invalid value: \"b\": conflicting duplicate paths"],
            ),
            (
                json!([{"secret": {"name": "a"}, "configMap": {"name": "b"}}]),
                &["p.sources[0]: Forbidden: may not specify more than 1 volume type per source"],
            ),
            (
                json!([{"clusterTrustBundle": {"path": "x"}}]),
                &[
                    "p.sources[0].clusterTrustBundle: Required value: either name or signerName must be specified",
                ],
            ),
        ];
        for (sources, expected) in table {
            let volume = json!({"sources": sources});
            let part = Part::new(&volume, FieldPath::of("p"));
            assert_eq!(told(|findings| check_projected(&part, findings)), *expected, "{sources}");
        }
    }
}
