//! Lists, made of items that are encoded already.

use serde_json::Value;

use super::table::Messages;
use super::wire::Writer;
use super::{EncodeError, Envelope};

/// A list of objects of one kind, in its envelope. `metadata` is that of the list; items are the bytes of objects without
/// envelopes.
///
/// # Errors
/// When the metadata is none.
pub fn encode_list<'a>(
    api_version: &str,
    kind: &str,
    metadata: &Value,
    items: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> Result<Vec<u8>, EncodeError> {
    let no_kind = || EncodeError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let message = Messages::builtin().find(group, version, kind).ok_or_else(no_kind)?;
    let list_metadata = message.field_message("metadata").ok_or_else(no_kind)?;
    let mut writer = Writer::with_capacity(4096);
    for item in items.rev() {
        writer.bytes(2, item);
    }
    let before = writer.len();
    list_metadata.encode_to(metadata, &mut writer)?;
    writer.close(1, before);
    Ok(Envelope { api_version, kind, object: &writer.finish() }.seal())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protobuf::encode_object;

    #[test]
    fn a_list_is_as_go_writes_it() {
        let item = Messages::builtin()
            .find("", "v1", "ConfigMap")
            .unwrap()
            .encode(&json!({"metadata": {"name": "a"}}));
        let items = [item.unwrap()];
        let metadata = json!({"resourceVersion": "7"});
        let list = encode_list("v1", "ConfigMapList", &metadata, items.iter().map(Vec::as_slice)).unwrap();
        let hex: String = list.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "6b3873000a130a027631120d436f6e6669674d61704c697374121e0a070a001201371a0012130a110a016112001a0022002a00\
             3200380042001a002200"
        );
    }

    #[test]
    fn a_list_of_parts_is_the_list_of_the_whole() {
        let items =
            [json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b"}, "data": {"k": "v"}})];
        let metadata = json!({"resourceVersion": "7", "remainingItemCount": 3});
        let whole =
            json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
        let message = Messages::builtin().find("", "v1", "ConfigMap").unwrap();
        let parts = items.map(|item| message.encode(&item).unwrap());
        let list = encode_list("v1", "ConfigMapList", &metadata, parts.iter().map(Vec::as_slice));
        assert_eq!(list, encode_object(&whole));
        assert!(encode_list("v1", "FooList", &metadata, std::iter::empty()).is_err());
        assert!(encode_list("v1", "ConfigMapList", &json!({"continue": 1}), std::iter::empty()).is_err());
    }
}
