//! What workloads are configured with: `ConfigMap`, `Secret`. Must never tell what a secret says.

use barque_api::field::{FieldError, FieldPath};
use barque_api::metadata::Metadata;
use barque_api::names;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Change, Findings, Part};
use crate::validation::same::same;

/// The most bytes of all values together.
const LARGEST: usize = 1024 * 1024;
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";

fn bytes_of(text: &Value) -> Option<Vec<u8>> {
    STANDARD.decode(text.as_str()?).ok()
}

fn check_kept(change: &Change<'_>, fields: &[&str], findings: &mut Findings) {
    let Some(old) = change.old.as_ref().filter(|old| old.flag("immutable")) else { return };
    let why = "field is immutable when `immutable` is set";
    if !change.new.flag("immutable") {
        findings.forbidden(&FieldPath::of("immutable"), why);
    }
    for field in fields.iter().filter(|field| !same(change.new.get(field), old.get(field))) {
        findings.forbidden(&FieldPath::of(field), why);
    }
}

/// What is wrong with a `ConfigMap`.
pub(super) fn check_config_map(change: &Change<'_>, findings: &mut Findings) {
    check_kept(change, &["data", "binaryData"], findings);
    let new = &change.new;
    let mut size = 0;
    for (key, value) in new.entries("data") {
        let at = new.at("data").key(key);
        findings.each(&at, key, names::config_map_key(key));
        if new.map("binaryData").is_some_and(|others| others.contains_key(key)) {
            findings.invalid(&at, key, "duplicate of key present in binaryData");
        }
        size += value.as_str().map_or(0, str::len);
    }
    for (key, value) in new.entries("binaryData") {
        findings.each(&new.at("binaryData").key(key), key, names::config_map_key(key));
        size += bytes_of(value).map_or(0, |bytes| bytes.len());
    }
    if size > LARGEST {
        findings.push(FieldError::too_long(&FieldPath::of(""), LARGEST));
    }
}

/// What is wrong with a Secret.
pub(super) fn check_secret(change: &Change<'_>, findings: &mut Findings) {
    let new = &change.new;
    if let Some(old) = &change.old {
        findings.immutable(new, old, "type");
        check_kept(change, &["data"], findings);
    }
    let mut size = 0;
    for (key, value) in new.entries("data") {
        findings.each(&new.at("data").key(key), key, names::config_map_key(key));
        size += bytes_of(value).map_or(0, |bytes| bytes.len());
    }
    if size > LARGEST {
        findings.push(FieldError::too_long(&new.at("data"), LARGEST));
    }
    match new.text("type") {
        "kubernetes.io/service-account-token" => {
            let name = Metadata::of(new.value).annotation(ACCOUNT_NAME);
            if name.is_none_or(str::is_empty) {
                findings.required(&FieldPath::of("metadata.annotations").key(ACCOUNT_NAME), "");
            }
        }
        "kubernetes.io/dockercfg" => check_json(new, ".dockercfg", findings),
        "kubernetes.io/dockerconfigjson" => check_json(new, ".dockerconfigjson", findings),
        "kubernetes.io/basic-auth" if !has_key(new, "username") && !has_key(new, "password") => {
            require_keys(new, &["username", "password"], findings);
        }
        "kubernetes.io/ssh-auth" => {
            let key = new.map("data").and_then(|data| data.get("ssh-privatekey"));
            if key.and_then(Value::as_str).is_none_or(str::is_empty) {
                require_keys(new, &["ssh-privatekey"], findings);
            }
        }
        "kubernetes.io/tls" => {
            let missing: Vec<&str> =
                ["tls.crt", "tls.key"].into_iter().filter(|key| !has_key(new, key)).collect();
            require_keys(new, &missing, findings);
        }
        _ => {}
    }
}

fn has_key(secret: &Part<'_>, key: &str) -> bool {
    secret.map("data").is_some_and(|data| data.contains_key(key))
}

fn require_keys(secret: &Part<'_>, keys: &[&str], findings: &mut Findings) {
    for key in keys {
        findings.required(&secret.at("data").key(key), "");
    }
}

fn check_json(secret: &Part<'_>, key: &str, findings: &mut Findings) {
    let Some(value) = secret.map("data").and_then(|data| data.get(key)) else {
        require_keys(secret, &[key], findings);
        return;
    };
    let bytes = bytes_of(value).unwrap_or_default();
    if let Err(error) = serde_json::from_slice::<Map<String, Value>>(&bytes) {
        let why =
            if bytes.is_empty() { "unexpected end of JSON input".to_owned() } else { error.to_string() };
        findings.invalid(&secret.at("data").key(key), "<secret contents redacted>", why);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::told;
    use super::*;

    #[test]
    fn config_maps_have_keys_and_a_size() {
        let told = |new: Value| told("", "ConfigMap", &new, None);
        assert!(told(json!({"data": {"a.b": "1"}, "binaryData": {"c": "AA=="}})).is_empty());
        assert_eq!(told(json!({"data": {"a b": ""}})).len(), 1);
        assert_eq!(
            told(json!({"data": {"a": "1"}, "binaryData": {"a": "AA=="}})),
            ["data[a]: Invalid value: \"a\": duplicate of key present in binaryData"]
        );
        let large = told(json!({"data": {"a": "x".repeat(LARGEST + 1)}}));
        assert_eq!(large, [": Too long: may not be more than 1048576 bytes"]);
    }

    #[test]
    fn what_is_immutable_stays() {
        let old = json!({"immutable": true, "data": {"a": "1"}});
        let new = json!({"data": {"a": "2"}});
        let why = "Forbidden: field is immutable when `immutable` is set";
        let expected = [format!("immutable: {why}"), format!("data: {why}")];
        for kind in ["ConfigMap", "Secret"] {
            assert_eq!(told("", kind, &new, Some(&old)), expected);
            assert!(told("", kind, &old, Some(&old)).is_empty());
        }
    }

    #[test]
    fn secrets_have_what_their_type_asks_for() {
        let told = |new: Value| told("", "Secret", &new, None);
        assert!(told(json!({"type": "Opaque"})).is_empty());
        assert_eq!(
            told(json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}})),
            ["data[tls.key]: Required value"]
        );
        assert_eq!(told(json!({"type": "kubernetes.io/basic-auth"})).len(), 2);
        assert_eq!(
            told(json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}})),
            ["data[ssh-privatekey]: Required value"]
        );
        assert_eq!(
            told(json!({"type": "kubernetes.io/service-account-token"})),
            ["metadata.annotations[kubernetes.io/service-account.name]: Required value"]
        );
        let docker = |text: &str| {
            told(json!({"type": "kubernetes.io/dockerconfigjson",
                        "data": {".dockerconfigjson": STANDARD.encode(text)}}))
        };
        assert!(docker("{\"auths\":{}}").is_empty());
        assert!(docker("[]")[0].contains("<secret contents redacted>"));
    }

    #[test]
    fn the_type_of_a_secret_stays() {
        let old = json!({"type": "Opaque"});
        assert_eq!(
            told("", "Secret", &json!({"type": "other"}), Some(&old)),
            ["type: Invalid value: \"other\": field is immutable"]
        );
    }
}
