//! Bodies of requests as objects: read in whatever encoding they came, held to the kind that the request is about, pruned of
//! fields that nobody knows. Pure; must never look at what an object means.

use barque_api::kind::GroupVersionKind;
use barque_api::protobuf;
use barque_api::schema::{self, read_document, strict_decoding_error, strict_decoding_warnings};
use barque_api::status::Status;
use serde_json::Value;

use super::served::Served;
use crate::http::negotiation::Encoding;

/// What becomes of fields that are unknown or given twice (`fieldValidation`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum FieldValidation {
    /// They are dropped.
    Ignore,
    /// They are dropped, and the client is told.
    #[default]
    Warn,
    /// The request fails.
    Strict,
}

/// An object of a body.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Its `apiVersion` and `kind` are those that were expected.
    pub object: Value,
    /// Paths of fields that were given twice.
    pub duplicates: Vec<String>,
}

/// Reads any document.
///
/// # Errors
/// 400 for what is none.
pub fn document(body: &[u8], encoding: Encoding, kind: Option<&GroupVersionKind>) -> Result<Decoded, Status> {
    let unreadable = |error: String| Status::bad_request(error);
    Ok(match encoding {
        Encoding::Json => {
            let read = read_document(body).map_err(|error| {
                unreadable(format!(
                    "the object provided is unrecognized (must be of type {}): {error}",
                    named(kind)
                ))
            })?;
            Decoded { object: read.value, duplicates: read.duplicates }
        }
        Encoding::Yaml => {
            let text = std::str::from_utf8(body).map_err(|error| unreadable(format!("{error}")))?;
            let object = serde_saphyr::from_str(text)
                .map_err(|error| unreadable(format!("error decoding YAML: {error}")))?;
            Decoded { object, duplicates: Vec::new() }
        }
        Encoding::Protobuf => {
            let object =
                protobuf::decode_object(body, kind).map_err(|error| unreadable(error.to_string()))?;
            Decoded { object, duplicates: Vec::new() }
        }
    })
}

fn named(kind: Option<&GroupVersionKind>) -> String {
    kind.map_or_else(|| "object".to_owned(), |kind| kind.kind.to_string())
}

/// Holds an object to the kind that a request is about: one that does not say what it is, is that.
///
/// # Errors
/// 400 for one that is something else.
pub fn expect_kind(object: &mut Value, kind: &GroupVersionKind) -> Result<(), Status> {
    let Some(fields) = object.as_object_mut() else {
        return Err(Status::bad_request(format!("the body is no object; expected a {}", kind.kind)));
    };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (api_version, named) = (text("apiVersion"), text("kind"));
    let expected = kind.group_version().to_string();
    if !api_version.is_empty() && api_version != expected {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({expected})"
        )));
    }
    if !named.is_empty() && named != *kind.kind {
        return Err(Status::bad_request(format!(
            "{named} in version \"{}\" cannot be handled as a {}: no kind \"{named}\" is registered here",
            kind.version, kind.kind
        )));
    }
    fields.insert("apiVersion".to_owned(), expected.into());
    fields.insert("kind".to_owned(), (*kind.kind).into());
    Ok(())
}

/// Prunes an object that was written by a client, and judges its shape. What is wrong with fields is told as `validation`
/// says, in `warnings` or as an error.
///
/// # Errors
/// 400 for unknown fields, if they are not allowed, and for fields of a wrong type.
pub fn settle(
    served: &Served,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    fit(served, object, duplicates, validation, warnings).map_err(|why| {
        let (kind, version) = (&served.kind.kind, &served.kind.version);
        Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
    })
}

/// As [`settle`], with what is wrong as a sentence: what becomes of it depends on where the object is from.
pub(super) fn fit(
    served: &Served,
    object: &mut Value,
    duplicates: &[String],
    validation: FieldValidation,
    warnings: &mut Vec<String>,
) -> Result<(), String> {
    let misfits = served.misfits(object);
    if !misfits.is_empty() {
        let told: Vec<String> = misfits.iter().map(ToString::to_string).collect();
        return Err(told.join(", "));
    }
    let unknown = served.prune(object);
    match validation {
        FieldValidation::Ignore => {}
        FieldValidation::Warn => warnings.extend(strict_decoding_warnings(duplicates, &unknown)),
        FieldValidation::Strict => {
            if let Some(error) = strict_decoding_error(duplicates, &unknown) {
                return Err(error);
            }
        }
    }
    Ok(())
}

/// An object in a body that is no object of a collection, such as options or a review: read and held to its kind, without
/// judging its fields; nothing for an empty body.
///
/// # Errors
/// As [`document`] and [`expect_kind`].
pub fn plain(body: &[u8], encoding: Encoding, kind: &GroupVersionKind) -> Result<Option<Value>, Status> {
    if body.is_empty() {
        return Ok(None);
    }
    let mut object = document(body, encoding, Some(kind))?.object;
    expect_kind(&mut object, kind)?;
    let schemas = schema::BuiltinSchemas::get();
    if let Some(view) = schemas.name_of(kind).and_then(|name| schemas.definitions().view(name)) {
        schema::drop_nulls(view, &mut object);
    }
    Ok(Some(object))
}

#[cfg(test)]
mod tests {
    use barque_api::kind::GroupVersionResource;
    use barque_api::resources::Builtin;
    use serde_json::json;

    use super::*;

    fn pods() -> Served {
        Served::builtin(Builtin::table().named(&GroupVersionResource::new("", "v1", "pods")).unwrap().clone())
    }

    #[test]
    fn an_object_that_does_not_say_what_it_is_is_what_was_expected() {
        let kind = GroupVersionKind::new("", "v1", "Pod");
        let mut object = json!({"metadata": {}});
        expect_kind(&mut object, &kind).unwrap();
        assert_eq!(object, json!({"apiVersion": "v1", "kind": "Pod", "metadata": {}}));
        let error = expect_kind(&mut json!({"apiVersion": "apps/v1"}), &kind).unwrap_err();
        assert_eq!(
            error.message,
            "the API version in the data (apps/v1) does not match the expected API version (v1)"
        );
        assert_eq!(expect_kind(&mut json!({"kind": "Node"}), &kind).unwrap_err().reason.code(), 400);
        assert_eq!(expect_kind(&mut json!([]), &kind).unwrap_err().reason.code(), 400);
    }

    #[test]
    fn unknown_fields_are_dropped_told_or_refused() {
        let text = br#"{"spec":{"containers":[{"name":"a","image":"b","imagee":"c"}],"nodeName":"x","nodeName":"y"}}"#;
        let table = [
            (FieldValidation::Ignore, Ok(0)),
            (FieldValidation::Warn, Ok(2)),
            (
                FieldValidation::Strict,
                Err("Pod in version \"v1\" cannot be handled as a Pod: strict decoding error: \
                     duplicate field \"spec.nodeName\", unknown field \"spec.containers[0].imagee\""),
            ),
        ];
        for (validation, expected) in table {
            let mut warnings = Vec::new();
            let read = document(text, Encoding::Json, None).unwrap();
            let mut object = read.object;
            let settled = settle(&pods(), &mut object, &read.duplicates, validation, &mut warnings);
            match expected {
                Ok(told) => {
                    assert_eq!((settled, warnings.len()), (Ok(()), told));
                    assert_eq!(object["spec"]["containers"], json!([{"name": "a", "image": "b"}]));
                }
                Err(message) => assert_eq!(settled.unwrap_err().message, message),
            }
        }
    }

    #[test]
    fn what_has_the_wrong_type_cannot_be_handled() {
        let mut object = json!({"spec": {"containers": "none"}});
        let settled = settle(&pods(), &mut object, &[], FieldValidation::Ignore, &mut Vec::new());
        assert!(
            settled.unwrap_err().message.starts_with("Pod in version \"v1\" cannot be handled as a Pod: ")
        );
    }

    #[test]
    fn yaml_and_json_are_the_same() {
        let yaml = document(b"spec:\n  replicas: 3\n  paused: true\n", Encoding::Yaml, None).unwrap();
        assert_eq!(yaml.object, json!({"spec": {"replicas": 3, "paused": true}}));
        assert_eq!(document(b"{", Encoding::Json, None).unwrap_err().reason.code(), 400);
        assert_eq!(document(b"a: [", Encoding::Yaml, None).unwrap_err().reason.code(), 400);
        assert_eq!(document(b"k8s", Encoding::Protobuf, None).unwrap_err().reason.code(), 400);
    }
}
