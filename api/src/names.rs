//! Which texts are names: of objects, labels, ports, variables and so on, with the sentences that Kubernetes tells users
//! about those that are none. Must never know what a name is for.

mod generated;

pub use generated::{NameRule, generated_base, generated_name};

/// The most bytes of a DNS label.
pub const MAX_DNS_LABEL: usize = 63;
/// The most bytes of a DNS subdomain.
pub const MAX_DNS_SUBDOMAIN: usize = 253;
/// The most bytes of a label's value.
pub const MAX_LABEL_VALUE: usize = 63;

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_KEY_WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                               an alphanumeric character";

/// The sentence about a text of too many bytes.
#[must_use]
pub fn max_length(characters: usize) -> String {
    format!("must be no more than {characters} characters")
}

/// The sentence about a number outside its bounds.
#[must_use]
pub fn inclusive_range(least: i64, most: i64) -> String {
    format!("must be between {least} and {most}, inclusive")
}

/// The sentence about a text that does not match.
#[must_use]
pub fn no_match(words: &str, expression: &str, examples: &[&str]) -> String {
    if examples.is_empty() {
        return format!("{words} (regex used for validation is '{expression}')");
    }
    let examples: Vec<_> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{words} (e.g. {}regex used for validation is '{expression}')", examples.join(" or "))
}

fn max_bytes(bytes: usize) -> String {
    format!("must be no more than {bytes} bytes")
}

/// A DNS label of RFC 1123: `my-name`, `123-abc`.
#[must_use]
pub fn dns_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_DNS_LABEL {
        errors.push(max_length(MAX_DNS_LABEL));
    }
    if !is_dns_label(value) {
        errors.push(if is_dns_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            no_match(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
                 and end with an alphanumeric character",
                DNS_LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    errors
}

/// DNS labels of RFC 1123 with dots between: `example.com`.
#[must_use]
pub fn dns_subdomain(value: &str) -> Vec<String> {
    subdomain(value, max_length(MAX_DNS_SUBDOMAIN))
}

fn subdomain(value: &str, too_long: String) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_DNS_SUBDOMAIN {
        errors.push(too_long);
    }
    if !is_dns_subdomain(value) {
        errors.push(no_match(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            DNS_SUBDOMAIN,
            &["example.com"],
        ));
    }
    errors
}

/// A DNS subdomain behind `*.`: `*.example.com`.
#[must_use]
pub fn wildcard_dns_subdomain(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_DNS_SUBDOMAIN {
        errors.push(max_length(MAX_DNS_SUBDOMAIN));
    }
    if !value.strip_prefix("*.").is_some_and(is_dns_subdomain) {
        errors.push(no_match(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist \
             of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{DNS_SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    errors
}

/// A DNS subdomain whose parts may begin with and contain underscores.
#[must_use]
pub fn dns_subdomain_with_underscore(value: &str) -> Vec<String> {
    const LABEL: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut errors = Vec::new();
    if value.len() > MAX_DNS_SUBDOMAIN {
        errors.push(max_length(MAX_DNS_SUBDOMAIN));
    }
    let right = value.split('.').all(|label| {
        let label = label.strip_prefix('_').unwrap_or(label);
        bounded_by(label, is_lower_or_digit, |byte| is_lower_or_digit(byte) || matches!(byte, b'-' | b'_'))
    });
    if !right {
        errors.push(no_match(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and \
             must start and end with an alphanumeric character",
            &format!(r"{LABEL}(\.{LABEL})*"),
            &["example.com"],
        ));
    }
    errors
}

/// A DNS label of RFC 1035, which begins with a letter: `my-name`, `abc-123`.
#[must_use]
pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_DNS_LABEL {
        errors.push(max_length(MAX_DNS_LABEL));
    }
    if !(is_dns_label(value) && value.as_bytes()[0].is_ascii_lowercase()) {
        errors.push(no_match(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// The key of a label, also called a qualified name: `MyName`, `example.com/MyName`.
#[must_use]
pub fn label_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let examples = ["MyName", "my.name", "123-abc"];
    let mut parts = value.split('/');
    let name = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), None, _) => name,
        (Some(prefix), Some(name), None) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                let wrong = subdomain(prefix, max_bytes(MAX_DNS_SUBDOMAIN));
                errors.extend(wrong.into_iter().map(|error| format!("prefix part {error}")));
            }
            name
        }
        _ => {
            let wrong = no_match(LABEL_KEY_WORDS, LABEL_KEY, &examples);
            return vec![format!(
                "a valid label key {wrong} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            )];
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_DNS_LABEL {
        errors.push(format!("name part {}", max_bytes(MAX_DNS_LABEL)));
    }
    if !is_label_name(name) {
        errors.push(format!("name part {}", no_match(LABEL_KEY_WORDS, LABEL_KEY, &examples)));
    }
    errors
}

/// The key of a label with a prefix: `example.com/MyName`.
#[must_use]
pub fn prefixed_label_key(value: &str) -> Vec<String> {
    let errors = label_key(value);
    if errors.is_empty() && !value.contains('/') {
        return vec!["must include a prefix (e.g. 'example.com/key')".to_owned()];
    }
    errors
}

/// The key of an annotation: as that of a label, with capitals in the prefix too.
#[must_use]
pub fn annotation_key(value: &str) -> Vec<String> {
    label_key(&value.to_lowercase())
}

/// The value of a label: `MyValue`, `my_value`, `12345`, or nothing.
#[must_use]
pub fn label_value(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_LABEL_VALUE {
        errors.push(max_bytes(MAX_LABEL_VALUE));
    }
    if !value.is_empty() && !is_label_name(value) {
        errors.push(no_match(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &format!("({LABEL_KEY})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// An identifier of C: `my_name`.
#[must_use]
pub fn c_identifier(value: &str) -> Vec<String> {
    let start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    let right = value.bytes().next().is_some_and(start)
        && value.bytes().all(|byte| start(byte) || byte.is_ascii_digit());
    told(
        right,
        "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
         characters or '_'",
        "[A-Za-z_][A-Za-z0-9_]*",
        &["my_name", "MY_NAME", "MyName"],
    )
}

/// The number of a port.
#[must_use]
pub fn port_number(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) { Vec::new() } else { vec![inclusive_range(1, 65535)] }
}

/// The name of a port, which is an IANA service name in small letters: `http`, `metrics-2`.
#[must_use]
pub fn port_name(port: &str) -> Vec<String> {
    let mut errors = Vec::new();
    let mut wrong = |is: bool, words: &str| {
        if is {
            errors.push(words.to_owned());
        }
    };
    wrong(port.len() > 15, &max_length(15));
    let right = !port.is_empty() && port.bytes().all(|byte| is_lower_or_digit(byte) || byte == b'-');
    wrong(!right, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    wrong(!port.bytes().any(|byte| byte.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    wrong(port.contains("--"), "must not contain consecutive hyphens");
    wrong(port.starts_with('-') || port.ends_with('-'), "must not begin or end with a hyphen");
    errors
}

/// A share of a whole: `25%`.
#[must_use]
pub fn percent(value: &str) -> Vec<String> {
    let right = value
        .strip_suffix('%')
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()));
    told(
        right,
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )
}

/// The name of an HTTP header: `X-Header-Name`.
#[must_use]
pub fn http_header_name(value: &str) -> Vec<String> {
    let right = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    told(
        right,
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )
}

/// The name of a variable, as it once was: `my.env-name`, `MY_ENV.NAME`.
#[must_use]
pub fn strict_env_var_name(value: &str) -> Vec<String> {
    let right = value.bytes().next().is_some_and(|byte| !byte.is_ascii_digit()) && is_file_name(value);
    let mut errors = told(
        right,
        "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must \
         not start with a digit",
        "[-._a-zA-Z][-._a-zA-Z0-9]*",
        &["my.env-name", "MY_ENV.NAME", "MyEnvName1"],
    );
    errors.extend(parent_folder(value));
    errors
}

/// The name of a variable: anything printable but `=`.
#[must_use]
pub fn env_var_name(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value.bytes().all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=') {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='"
            .to_owned(),
    ]
}

/// A key of a `ConfigMap` or Secret: `key.name`.
#[must_use]
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_DNS_SUBDOMAIN {
        errors.push(max_length(MAX_DNS_SUBDOMAIN));
    }
    errors.extend(told(
        is_file_name(value),
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
        "[-._a-zA-Z0-9]+",
        &["key.name", "KEY_NAME", "key-name"],
    ));
    errors.extend(parent_folder(value));
    errors
}

/// A name that can stand between the slashes of a path.
#[must_use]
pub fn path_segment_name(name: &str) -> Vec<String> {
    match name {
        "." | ".." => vec![format!("may not be '{name}'")],
        _ => path_segment_prefix(name),
    }
}

/// The beginning of a name that can stand between the slashes of a path.
#[must_use]
pub fn path_segment_prefix(name: &str) -> Vec<String> {
    let found = ['/', '%'].into_iter().filter(|what| name.contains(*what));
    found.map(|what| format!("may not contain '{what}'")).collect()
}

/// Why a condition is as it is: `MyName`, `ReasonA:ReasonB`. Its length is looked at elsewhere.
#[must_use]
pub fn condition_reason(value: &str) -> Vec<String> {
    let end = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = value.as_bytes();
    let right = bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().copied().is_some_and(end)
        && value.bytes().all(|byte| end(byte) || matches!(byte, b',' | b':'));
    told(
        right,
        "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric \
         characters or '_,:', and must end with an alphanumeric character or '_'",
        "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
        &["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"],
    )
}

/// The id of a user or group of Linux.
#[must_use]
pub fn user_id(id: i64) -> Vec<String> {
    const MOST: i64 = i32::MAX as i64;
    if (0..=MOST).contains(&id) { Vec::new() } else { vec![inclusive_range(0, MOST)] }
}

/// Whether it is a DNS label, however long.
fn is_dns_label(value: &str) -> bool {
    bounded_by(value, is_lower_or_digit, |byte| is_lower_or_digit(byte) || byte == b'-')
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_label_name(value: &str) -> bool {
    let end = |byte: u8| byte.is_ascii_alphanumeric();
    bounded_by(value, end, |byte| end(byte) || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn is_file_name(value: &str) -> bool {
    let right = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !value.is_empty() && value.bytes().all(right)
}

/// Whether a text begins and ends with bytes of one kind, and has only bytes of the other kind between.
fn bounded_by(value: &str, end: impl Fn(u8) -> bool, inner: impl Fn(u8) -> bool) -> bool {
    let bytes = value.as_bytes();
    matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if end(*first) && end(*last))
        && bytes.iter().all(|byte| inner(*byte))
}

fn told(right: bool, words: &str, expression: &str, examples: &[&str]) -> Vec<String> {
    if right { Vec::new() } else { vec![no_match(words, expression, examples)] }
}

fn parent_folder(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ => value.starts_with("..").then(|| "must not start with '..'".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Check = fn(&str) -> Vec<String>;

    #[test]
    fn names_that_are_right() {
        let table: &[(Check, &[&str])] = &[
            (dns_label, &["a", "0", "my-name", "123-abc"]),
            (dns_subdomain, &["a", "a.b", "example.com", "1.2.3"]),
            (wildcard_dns_subdomain, &["*.a", "*.example.com"]),
            (dns_subdomain_with_underscore, &["_a", "_tcp.a_b.c"]),
            (dns_1035_label, &["a", "abc-123"]),
            (label_key, &["a", "A.b_c-d", "example.com/MyName", "0"]),
            (prefixed_label_key, &["a/b"]),
            (annotation_key, &["Example.com/MyName", "A"]),
            (label_value, &["", "a", "A_b.c-d"]),
            (c_identifier, &["a", "_", "A9"]),
            (port_name, &["http", "a", "metrics-2", "0a"]),
            (percent, &["0%", "125%"]),
            (http_header_name, &["X-A", "-"]),
            (strict_env_var_name, &["A", "_a", "a.b-c", "-"]),
            (env_var_name, &["A", "1", "a b", "a:b", ".."]),
            (config_map_key, &["a", "KEY_1", ".a", "..."]),
            (path_segment_name, &["a", "", "system:a b", "..."]),
            (condition_reason, &["A", "A_", "A,B:C1"]),
        ];
        for (check, names) in table {
            for name in *names {
                if *name == "..." && check(".").iter().any(|error| error.starts_with("must not be")) {
                    assert_eq!(check(name), ["must not start with '..'"]);
                } else {
                    assert_eq!(check(name), [""; 0], "{name:?}");
                }
            }
        }
    }

    #[test]
    fn sentences_are_those_of_kubernetes() {
        let long = "a".repeat(64);
        let label = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
        let subdomain = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                         '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
                         for validation is \
                         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
        let name = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                    an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation \
                    is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
        let key = "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                   with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                   validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix \
                   and '/' (e.g. 'example.com/MyName')";
        let value = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', \
                     and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or \
                     '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
        let prefix = format!("prefix part {subdomain}");
        let table: &[(Check, &str, &[&str])] = &[
            (dns_label, "", &[label]),
            (dns_label, "A", &[label]),
            (dns_label, "a.b", &["must not contain dots"]),
            (dns_label, &long, &["must be no more than 63 characters"]),
            (dns_subdomain, "-", &[subdomain]),
            (dns_subdomain, "a..b", &[subdomain]),
            (label_key, "", &["name part must be non-empty", name]),
            (label_key, "a/", &["name part must be non-empty", name]),
            (label_key, "/a", &["prefix part must be non-empty"]),
            (label_key, "A/a", &[&prefix]),
            (label_key, "a/b/c", &[key]),
            (label_key, "a b", &[name]),
            (label_key, &long, &["name part must be no more than 63 bytes"]),
            (prefixed_label_key, "a", &["must include a prefix (e.g. 'example.com/key')"]),
            (label_value, "a b", &[value]),
            (label_value, &long, &["must be no more than 63 bytes"]),
            (
                port_name,
                "",
                &[
                    "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                    "must contain at least one letter (a-z)",
                ],
            ),
            (port_name, "a--b", &["must not contain consecutive hyphens"]),
            (port_name, "-a", &["must not begin or end with a hyphen"]),
            (port_name, "abcdefghijklmnop", &["must be no more than 15 characters"]),
            (env_var_name, "", &["environment variable name must be non-empty"]),
            (
                env_var_name,
                "a=b",
                &[
                    "a valid environment variable name must consist only of printable ASCII characters other than '='",
                ],
            ),
            (path_segment_name, "..", &["may not be '..'"]),
            (path_segment_name, "a/b%", &["may not contain '/'", "may not contain '%'"]),
        ];
        for (check, text, errors) in table {
            assert_eq!(&check(text), errors, "{text:?}");
        }
        assert_eq!(port_number(0), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(user_id(-1), ["must be between 0 and 2147483647, inclusive"]);
    }
}
