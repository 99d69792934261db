//! The envelope of an object: four bytes that tell it from other things, its kind, and the object's own bytes. Watch events
//! are framed by their length, and hold an object in its envelope.

use serde_json::Value;

use super::decode::defaults_of;
use super::table::Messages;
use super::wire::{Reader, Wire, Writer};
use super::{DecodeError, EncodeError};
use crate::kind::GroupVersionKind;

/// What every envelope begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// An object's kind and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// `apps/v1`
    pub api_version: &'a str,
    /// `Deployment`
    pub kind: &'a str,
    /// The object, as [`super::Message::encode`] gives it.
    pub object: &'a [u8],
}

impl<'a> Envelope<'a> {
    /// Whether these are the bytes of an envelope.
    #[must_use]
    pub fn is_one(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// When the bytes are none.
    pub fn open(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let inside = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::NoMagic)?;
        let mut envelope = Self::default();
        each_text(inside, |number, part| {
            match number {
                1 => each_text(part, |number, text| {
                    let text = std::str::from_utf8(text).map_err(|_| "apiVersion or kind is no text")?;
                    match number {
                        1 => envelope.api_version = text,
                        2 => envelope.kind = text,
                        _ => {}
                    }
                    Ok(())
                })?,
                2 => envelope.object = part,
                _ => {}
            }
            Ok(())
        })
        .map_err(|why| DecodeError::Wire { message: "runtime.Unknown".to_owned(), why })?;
        Ok(envelope)
    }

    /// Closes it.
    #[must_use]
    pub fn seal(self) -> Vec<u8> {
        let room = self.object.len() + self.api_version.len() + self.kind.len() + 40;
        let mut writer = Writer::with_capacity(room);
        writer.bytes(4, b"");
        writer.bytes(3, b"");
        writer.bytes(2, self.object);
        seal_before(&mut writer, self.api_version, self.kind);
        writer.finish()
    }
}

/// Writes what stands before the object.
fn seal_before(writer: &mut Writer, api_version: &str, kind: &str) {
    let before = writer.len();
    writer.bytes(2, kind.as_bytes());
    writer.bytes(1, api_version.as_bytes());
    writer.close(1, before);
    writer.raw(&MAGIC);
}

/// Hands out the fields of a message that are text or bytes.
fn each_text<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(u32, &'a [u8]) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        match reader.tag()? {
            (number, Wire::Bytes) => each(number, reader.bytes()?)?,
            (_, wire) => reader.skip(wire)?,
        }
    }
    Ok(())
}

/// An object in its envelope, by its `apiVersion` and `kind`.
///
/// # Errors
/// When it has none, or a field has a value that its type has not.
pub fn encode_object(object: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let message = Messages::builtin()
        .find(group, version, kind)
        .ok_or_else(|| EncodeError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    let mut writer = Writer::with_capacity(2048);
    writer.bytes(4, b"");
    writer.bytes(3, b"");
    let before = writer.len();
    message.encode_to(object, &mut writer)?;
    writer.close(2, before);
    seal_before(&mut writer, api_version, kind);
    Ok(writer.finish())
}

/// The object in an envelope, with its `apiVersion` and `kind`. Where the envelope does not say them, it is `default`.
///
/// # Errors
/// When the bytes are damaged, or their kind has no protobuf.
pub fn decode_object(bytes: &[u8], default: Option<&GroupVersionKind>) -> Result<Value, DecodeError> {
    decode(bytes, default, Messages::builtin(), 0, &mut defaults_of(bytes))
}

/// An object inside an object.
pub(super) fn decode_nested(
    bytes: &[u8],
    messages: &Messages,
    depth: usize,
    defaults: &mut usize,
) -> Result<Value, DecodeError> {
    decode(bytes, None, messages, depth, defaults)
}

fn decode(
    bytes: &[u8],
    default: Option<&GroupVersionKind>,
    messages: &Messages,
    depth: usize,
    defaults: &mut usize,
) -> Result<Value, DecodeError> {
    let envelope = Envelope::open(bytes)?;
    let default_version = default.map_or_else(String::new, |kind| kind.group_version().to_string());
    let api_version = if envelope.api_version.is_empty() { &default_version } else { envelope.api_version };
    let kind = match default {
        Some(default) if envelope.kind.is_empty() => &default.kind,
        _ => envelope.kind,
    };
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let message = messages
        .find(group, version, kind)
        .ok_or_else(|| DecodeError::Kind { api_version: api_version.to_owned(), kind: kind.to_owned() })?;
    let mut object = message.decode_at(envelope.object, depth, defaults)?;
    object["apiVersion"] = api_version.into();
    object["kind"] = kind.into();
    Ok(object)
}

/// One event of a watch as it goes to the client: its length in four bytes, its type (`ADDED` and so on), and an object
/// in its envelope.
#[must_use]
pub fn watch_frame(event_type: &str, object: &[u8]) -> Vec<u8> {
    let mut writer = Writer::with_capacity(object.len() + event_type.len() + 32);
    writer.bytes(1, object);
    writer.close(2, 0);
    writer.bytes(1, event_type.as_bytes());
    // A client refuses frames that need more than four bytes for their length, long before there are such objects.
    let length = u32::try_from(writer.len()).unwrap_or(u32::MAX);
    writer.raw(&length.to_be_bytes());
    writer.finish()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn envelopes_are_sealed_and_opened() {
        let envelope = Envelope { api_version: "apps/v1", kind: "Deployment", object: b"abc" };
        let sealed = envelope.seal();
        assert_eq!(Envelope::open(&sealed), Ok(envelope));
        assert_eq!(Envelope::open(b"{}"), Err(DecodeError::NoMagic));
        assert!(matches!(Envelope::open(b"k8s\0\x0a\x05"), Err(DecodeError::Wire { .. })));
    }

    #[test]
    fn an_object_is_the_same_sealed_at_once_or_later() {
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}});
        let sealed = encode_object(&object).unwrap();
        let message = Messages::builtin().find("", "v1", "ConfigMap").unwrap();
        let later =
            Envelope { api_version: "v1", kind: "ConfigMap", object: &message.encode(&object).unwrap() };
        assert_eq!(later.seal(), sealed);
        assert_eq!(decode_object(&sealed, None), Ok(object));
    }

    #[test]
    fn kinds_may_be_left_to_the_request() {
        let sealed = Envelope::default().seal();
        let kind = GroupVersionKind::new("apps", "v1", "DeleteOptions");
        let options = decode_object(&sealed, Some(&kind)).unwrap();
        assert_eq!(options, json!({"apiVersion": "apps/v1", "kind": "DeleteOptions"}));
        assert!(matches!(decode_object(&sealed, None), Err(DecodeError::Kind { .. })));
        let custom = json!({"apiVersion": "example.com/v1", "kind": "Foo"});
        assert_eq!(
            encode_object(&custom).unwrap_err().to_string(),
            r#"no protobuf is defined for kind "Foo" of apiVersion "example.com/v1"; use JSON"#
        );
    }

    #[test]
    fn a_frame_is_a_watch_event_with_the_object_in_its_envelope() {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        let frame = watch_frame("ADDED", &encode_object(&object).unwrap());
        let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
        // As Go writes it.
        assert_eq!(
            hex,
            "000000390a05414444454412300a2e6b3873000a0f0a0276311209436f6e6669674d617012130a110a016112001a0022002a00\
             3200380042001a002200"
        );
        let (length, event) = frame.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, event.len());
        let message = Messages::builtin().find("", "v1", "WatchEvent").unwrap();
        assert_eq!(message.decode(event).unwrap(), json!({"type": "ADDED", "object": object}));
    }

    #[test]
    fn objects_in_objects_end_somewhere() {
        let list = |object: &[u8]| {
            let mut writer = Writer::with_capacity(0);
            writer.bytes(1, object);
            writer.close(2, 0);
            let object = writer.finish();
            Envelope { api_version: "v1", kind: "List", object: &object }.seal()
        };
        let deep = (0..500).fold(Vec::new(), |inner, _| list(&inner));
        assert_eq!(decode_object(&deep, None), Err(DecodeError::TooMuch));
    }
}
