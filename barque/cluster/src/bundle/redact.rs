//! Secrets taken out of texts: those that are known, and what looks like one. Pure; must never miss one to keep a text readable.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

/// What stands where a secret was.
const GONE: &str = "[redacted]";

/// A shape of secrets, and what is left of it.
struct Shape {
    pattern: Regex,
    left: &'static str,
}

fn shape(pattern: &str, left: &'static str) -> Shape {
    Shape { pattern: Regex::new(pattern).expect("the pattern is written right"), left }
}

static SHAPES: LazyLock<[Shape; 7]> = LazyLock::new(|| {
    [
        // Private keys, also when their end was cut off.
        shape(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)", GONE),
        // The same in base64, as kubeconfigs have them: it begins with that of "-----BEGIN".
        shape(r"LS0tLS1CRUdJTi[A-Za-z0-9+/=]*", GONE),
        // Tokens of service accounts and of other issuers (RFC 7519).
        shape(r"eyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]*)?", GONE),
        // Bootstrap tokens, with the pin of a Barque cluster or without.
        shape(r"\b(barque1[0-9a-f]{64}\.)?[a-z0-9]{6}\.[a-z0-9]{16}\b", GONE),
        shape(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", "$1 [redacted]"),
        shape(
            r#"(?i)((?:password|passwd|passphrase|secret|token|api[-_]?key|access[-_]?key|private[-_]?key)"?\s*[:=]\s*"?)[^\s"',;&{}\[\]]+"#,
            "$1[redacted]",
        ),
        // Who logs in by a URL.
        shape(r"://[^/\s:@]+:[^/\s@]+@", "://[redacted]@"),
    ]
});

/// Texts that are secret for certain.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

impl Secrets {
    /// Those that a file holds: each of its lines that is long enough to be one.
    pub fn learn(&mut self, file: &str) {
        let lines = file.lines().map(str::trim).filter(|line| line.len() >= 12 && !line.starts_with("-----"));
        self.0.extend(lines.map(str::to_owned));
        // Of a token, what nobody but its owners knows is its last part.
        let last =
            file.trim().rsplit('.').next().filter(|part| part.len() >= 12 && part.len() < file.trim().len());
        self.0.extend(last.map(str::to_owned));
    }

    /// A text without secrets.
    #[must_use]
    pub fn redacted(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), GONE);
            }
        }
        for shape in SHAPES.iter() {
            if shape.pattern.is_match(&text) {
                text = shape.pattern.replace_all(&text, shape.left).into_owned();
            }
        }
        text
    }

    /// Takes them out of all texts of a value, and of names of fields.
    pub fn redact(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.redacted(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.redact(item)),
            Value::Object(fields) => {
                let before = std::mem::take(fields);
                for (name, mut value) in before {
                    self.redact(&mut value);
                    fields.insert(self.redacted(&name), value);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_gone() {
        let pin = "0".repeat(64);
        let cases = [
            (
                "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----\nafter",
                "abc",
                "[redacted]\nafter",
            ),
            ("-----BEGIN EC PRIVATE KEY-----\ncut", "cut", "[redacted]"),
            (
                "client-key-data: LS0tLS1CRUdJTiBQUklWQVRFIEtFWS0tLS0t",
                "UklWQVRF",
                "client-key-data: [redacted]",
            ),
            ("got eyJhbGciOi.eyJpc3MiOiJ.c2ln then", "c2ln", "got [redacted] then"),
            ("by abcdef.0123456789abcdef", "0123456789abcdef", "by [redacted]"),
            (
                &format!("--join barque1{pin}.abcdef.0123456789abcdef"),
                "0123456789abcdef",
                "--join [redacted]",
            ),
            ("Authorization: Bearer abc.def-ghi", "abc.def", "Authorization: Bearer [redacted]"),
            ("DB_PASSWORD=hunter22 next", "hunter22", "DB_PASSWORD=[redacted] next"),
            (r#"{"password": "hunter22"}"#, "hunter22", r#"{"password": "[redacted]"}"#),
            ("https://jane:hunter22@h/p", "hunter22", "https://[redacted]@h/p"),
        ];
        for (text, secret, left) in cases {
            let redacted = Secrets::default().redacted(text);
            assert!(!redacted.contains(secret), "{redacted}");
            assert_eq!(redacted, left);
        }
        let plain = "2026-01-02 m1.example.com 10.0.0.1:6443 apiserver_request_total{code=\"200\"} 5";
        assert_eq!(Secrets::default().redacted(plain), plain);
    }

    #[test]
    fn what_is_known_is_gone_wherever_it_stands() {
        let mut secrets = Secrets::default();
        secrets.learn("-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n");
        secrets.learn("barque1aa.abcdef.0123456789abcdef\n");
        let mut value = json!({"a": ["x MIGHAgEAMBMGByqGSM49 y"], "0123456789abcdef": 1, "n": 2});
        secrets.redact(&mut value);
        assert_eq!(value, json!({"a": ["x [redacted] y"], "[redacted]": 1, "n": 2}));
        assert_eq!(format!("{secrets:?}"), "3 secrets");
    }
}
