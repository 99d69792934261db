//! Named formats of Kubernetes in expressions: `format.dns1123Label().validate(name)`. Must never know a format that has
//! no name there.

use super::value::Val;
use crate::schema::{fits, pattern};

const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const DNS1123_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS1123_SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_NAME: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

const NAMES: &[&str] = &[
    "dns1123Label",
    "dns1123LabelPrefix",
    "dns1123Subdomain",
    "dns1123SubdomainPrefix",
    "dns1035Label",
    "dns1035LabelPrefix",
    "qualifiedName",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

/// The format of this name.
pub(super) fn named(name: &str) -> Option<&'static str> {
    NAMES.iter().find(|one| **one == name).copied()
}

/// What keeps a text from having a format: sentences, or nothing.
pub(super) fn validate<'a>(format: &str, text: &str) -> Val<'a> {
    // A prefix may end with a dash, which something will follow.
    let (format, text) = match format.strip_suffix("Prefix") {
        Some(format) => (format, text.strip_suffix('-').filter(|text| !text.is_empty()).unwrap_or(text)),
        None => (format, text),
    };
    let mut errors = Vec::new();
    let mut held_to = |wanted: &str, text: &str, most: usize, what: &str| {
        if text.len() > most {
            errors.push(format!("must be no more than {most} bytes"));
        }
        if !pattern::compile(&format!("^{wanted}$")).is_ok_and(|compiled| compiled.is_match(text)) {
            errors.push(format!("{what} (regex used for validation is '{wanted}')"));
        }
    };
    match format {
        "dns1123Label" => held_to(
            DNS1123_LABEL,
            text,
            63,
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and \
             end with an alphanumeric character",
        ),
        "dns1123Subdomain" => held_to(
            DNS1123_SUBDOMAIN,
            text,
            253,
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
        ),
        "dns1035Label" => held_to(
            DNS1035_LABEL,
            text,
            63,
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
        ),
        "labelValue" => held_to(
            LABEL_VALUE,
            text,
            63,
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
        ),
        "qualifiedName" => {
            let (prefix, name) = match text.split_once('/') {
                Some((prefix, name)) => (Some(prefix), name),
                None => (None, text),
            };
            if let Some(prefix) = prefix {
                held_to(DNS1123_SUBDOMAIN, prefix, 253, "prefix part must be a lowercase RFC 1123 subdomain");
            }
            held_to(
                QUALIFIED_NAME,
                name,
                63,
                "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                 alphanumeric character",
            );
        }
        other => {
            if !fits(other, text) {
                errors.push(format!("invalid {other}"));
            }
        }
    }
    let told = |errors: Vec<String>| Val::list(errors.into_iter().map(Val::text).collect());
    Val::optional((!errors.is_empty()).then(|| told(errors)))
}
