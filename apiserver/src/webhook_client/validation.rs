//! What is wrong with the `clientConfig` of a webhook, in the words of Kubernetes. Pure. Must never call it.

use barque_api::field::{FieldError, FieldPath};
use barque_api::names::{dns_subdomain, port_number};
use http::Uri;
use serde_json::Value;

use super::target;

const FORM: &str = "; desired format: https://host[/path]";

/// What is wrong with a URL.
#[must_use]
pub fn validate_url(url: &str, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let invalid = |value: &str, why: String| FieldError::invalid(at, value, why);
    let (rest, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (scheme, behind) = rest.split_once("://").unwrap_or(("", rest));
    let (host, tail) = match behind.find(['/', '?']) {
        Some(end) if !scheme.is_empty() => behind.split_at(end),
        None if !scheme.is_empty() => (behind, ""),
        _ => ("", behind),
    };
    if let Err(error) = rest.parse::<Uri>()
        && !scheme.is_empty()
        && !host.is_empty()
    {
        return vec![FieldError::required(at, format!("url must be a valid URL: {error}{FORM}"))];
    }
    if scheme != "https" {
        errors.push(invalid(scheme, format!("'https' is the only allowed URL scheme{FORM}")));
    }
    let (user, host) = host.rsplit_once('@').map_or((None, host), |(user, host)| (Some(user), host));
    if host.is_empty() {
        errors.push(invalid(host, format!("host must be specified{FORM}")));
    }
    if let Some(user) = user {
        errors.push(invalid(user, "user information is not permitted in the URL".to_owned()));
    }
    if !fragment.is_empty() {
        errors.push(invalid(fragment, "fragments are not permitted in the URL".to_owned()));
    }
    if let Some((_, query)) = tail.split_once('?').filter(|(_, query)| !query.is_empty()) {
        errors.push(invalid(query, "query parameters are not permitted in the URL".to_owned()));
    }
    errors
}

/// What is wrong with a reference to a service.
#[must_use]
pub fn validate_service(service: &Value, at: &FieldPath) -> Vec<FieldError> {
    let text = |field: &str| service.get(field).and_then(Value::as_str).unwrap_or_default();
    let mut errors = Vec::new();
    for (field, why) in [("name", "service name is required"), ("namespace", "service namespace is required")]
    {
        if text(field).is_empty() {
            errors.push(FieldError::required(&at.child(field), why));
        }
    }
    let port = service.get("port").and_then(Value::as_i64).unwrap_or(443);
    let wrong = port_number(port);
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(","));
        errors.push(FieldError::invalid(&at.child("port"), port, why));
    }
    let path = text("path");
    let at = at.child("path");
    let mut invalid = |why: String| errors.push(FieldError::invalid(&at, path, why));
    match path {
        "" | "/" => {}
        "//" => invalid("segment[0] may not be empty".to_owned()),
        _ => {
            if !path.starts_with('/') {
                invalid("must start with a '/'".to_owned());
            }
            let inner = path.get(1..).unwrap_or_default();
            let inner = inner.strip_suffix('/').unwrap_or(inner);
            for (index, segment) in inner.split('/').enumerate() {
                if segment.is_empty() {
                    invalid(format!("segment[{index}] may not be empty"));
                    continue;
                }
                for why in dns_subdomain(segment) {
                    invalid(format!("segment[{index}]: {why}"));
                }
            }
        }
    }
    errors
}

/// What is wrong with a `caBundle`.
#[must_use]
pub fn validate_bundle(bundle: &str, at: &FieldPath) -> Option<FieldError> {
    let why = target::roots(bundle).err()?;
    Some(FieldError::invalid(at, bundle, why))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn urls_name_a_host_and_a_path_and_nothing_else() {
        let table: [(&str, &[&str]); 6] = [
            ("https://a.example.com/b", &[]),
            ("https://[::1]:443", &[]),
            (
                "http://a",
                &[
                    r#"u: Invalid value: "http": 'https' is the only allowed URL scheme; desired format: https://host[/path]"#,
                ],
            ),
            (
                "https:///b",
                &[r#"u: Invalid value: "": host must be specified; desired format: https://host[/path]"#],
            ),
            ("https://me@a/b", &[r#"u: Invalid value: "me": user information is not permitted in the URL"#]),
            (
                "https://a/b?c#d",
                &[
                    r#"u: Invalid value: "d": fragments are not permitted in the URL"#,
                    r#"u: Invalid value: "c": query parameters are not permitted in the URL"#,
                ],
            ),
        ];
        for (url, expected) in table {
            let errors = validate_url(url, &FieldPath::of("u"));
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{url}");
        }
    }

    #[test]
    fn services_have_a_name_a_port_and_a_path() {
        let table: [(Value, &[&str]); 5] = [
            (json!({"name": "a", "namespace": "b", "port": 443, "path": "/c/d/"}), &[]),
            (json!({"namespace": "b"}), &["s.name: Required value: service name is required"]),
            (
                json!({"name": "a", "namespace": "b", "port": 0}),
                &["s.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"],
            ),
            (
                json!({"name": "a", "namespace": "b", "path": "//"}),
                &[r#"s.path: Invalid value: "//": segment[0] may not be empty"#],
            ),
            (
                json!({"name": "a", "namespace": "b", "path": "/c//d"}),
                &[r#"s.path: Invalid value: "/c//d": segment[1] may not be empty"#],
            ),
        ];
        for (service, expected) in table {
            let errors = validate_service(&service, &FieldPath::of("s"));
            let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
            assert_eq!(told, expected, "{service}");
        }
    }
}
