//! A file as the cluster has it: one Secret in `kube-system`, which is read and written here and nowhere else. Must never decide what
//! follows from it.
//!
//! | where | what |
//! |---|---|
//! | `data.content` | the file, compressed by gzip |
//! | `data.applied` | JSON: the objects that may be there because of it, in the order in which they were applied |
//! | annotation `barque.dev/file` | the file's name |
//! | annotation `barque.dev/holders` | JSON: the directories that have the file, with their master and the checksum of what is there |
//! | annotation `barque.dev/applied` | the checksum of what was applied as a whole |
//! | annotation `barque.dev/status` | for people: what became of it |
//!
//! Masters write content and holders, the leader the rest; each write but that of a status is for the version that was seen.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::file::Content;
use crate::manifest::Reference;

/// Where the Secrets are.
pub(crate) const NAMESPACE: &str = "kube-system";
/// Their type; no others are looked at.
pub(crate) const TYPE: &str = "barque.dev/manifest";
/// Keeps a Secret until its objects are gone.
const FINALIZER: &str = "barque.dev/manifests";
/// What their names begin with.
const PREFIX: &str = "barque-manifest-";

/// The annotation of objects with the file that has brought them.
pub(crate) const BROUGHT_BY: &str = "barque.dev/manifest";

const FILE: &str = "barque.dev/file";
const HOLDERS: &str = "barque.dev/holders";
const APPLIED: &str = "barque.dev/applied";
const STATUS: &str = "barque.dev/status";

/// The largest file, in bytes.
pub(crate) const MOST: usize = 16 << 20;
/// The largest compressed one: a Secret holds 1 MiB, the list of objects among it.
const MOST_COMPRESSED: usize = 768 << 10;
/// How much of a status is kept, in bytes.
const STATUS_MOST: usize = 1024;

/// A directory that has the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Holder {
    /// Whose it is.
    pub(crate) master: String,
    /// Of what is in it.
    pub(crate) checksum: String,
    /// Its master has another directory by now.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub(crate) is_lost: bool,
}

/// Those who have a file, by what tells directories apart.
pub(crate) type Holders = BTreeMap<String, Holder>;

/// A file as the cluster has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) version: String,
    pub(crate) file: String,
    /// Or why it cannot be read.
    pub(crate) content: Result<Content, String>,
    pub(crate) holders: Holders,
    /// Objects that may be there because of it.
    pub(crate) recorded: Vec<Reference>,
    /// The checksum of what was applied as a whole.
    pub(crate) applied: Option<String>,
    pub(crate) status: Option<String>,
    /// It goes, when its objects are gone.
    pub(crate) is_going: bool,
    /// Who else holds it up.
    other_finalizers: Vec<String>,
}

impl Published {
    /// What a Secret says. What somebody has broken by hand is as if it were not there.
    pub(crate) fn read(secret: Secret) -> Option<Self> {
        let ObjectMeta { name, uid, resource_version, annotations, finalizers, deletion_timestamp, .. } =
            secret.metadata;
        let name = name?;
        let mut annotations = annotations.unwrap_or_default();
        let data = secret.data.unwrap_or_default();
        let file = annotations.remove(FILE).or_else(|| name.strip_prefix(PREFIX).map(str::to_owned))?;
        let holders = annotations.get(HOLDERS).and_then(|text| serde_json::from_str(text).ok());
        let recorded = data.get("applied").and_then(|bytes| serde_json::from_slice(&bytes.0).ok());
        let mut other_finalizers = finalizers.unwrap_or_default();
        other_finalizers.retain(|it| it != FINALIZER);
        Some(Self {
            uid: uid.unwrap_or_default(),
            version: resource_version.unwrap_or_default(),
            file,
            content: data.get("content").ok_or_else(|| "it has no content".to_owned()).and_then(unpacked),
            holders: holders.unwrap_or_default(),
            recorded: recorded.unwrap_or_default(),
            applied: annotations.remove(APPLIED),
            status: annotations.remove(STATUS),
            is_going: deletion_timestamp.is_some(),
            other_finalizers,
            name,
        })
    }

    /// Of its content, where that can be read.
    pub(crate) fn checksum(&self) -> Option<&str> {
        self.content.as_ref().ok().map(|content| content.checksum.as_str())
    }

    /// The Secret, for events.
    pub(crate) fn regarding(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            name: Some(self.name.clone()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// With other holders and, where it is given, another content.
    pub(crate) fn held(&self, holders: &Holders, content: Option<&Packed>) -> Value {
        let mut patch = self.patch(json!({HOLDERS: text(holders)}));
        if let Some(content) = content {
            patch["data"] = json!({"content": content.0});
        }
        patch
    }

    /// With other objects that may be there because of it.
    pub(crate) fn recording(&self, recorded: &[Reference]) -> Value {
        let mut patch = self.patch(json!({}));
        patch["data"] = json!({"applied": packed_references(recorded)});
        patch
    }

    /// Applied as a whole.
    pub(crate) fn finished(&self, checksum: &str, recorded: &[Reference], status: &str) -> Value {
        let mut patch = self.patch(json!({APPLIED: checksum, STATUS: cut(status)}));
        patch["data"] = json!({"applied": packed_references(recorded)});
        patch
    }

    /// With another status, whatever else is written meanwhile; nothing when it says so already.
    pub(crate) fn telling(&self, status: &str) -> Option<Value> {
        let status = cut(status);
        (self.status.as_deref() != Some(status))
            .then(|| json!({"metadata": {"annotations": {STATUS: status}}}))
    }

    /// Not held up by us any more.
    pub(crate) fn released(&self) -> Value {
        json!({"metadata": {"resourceVersion": self.version, "finalizers": self.other_finalizers}})
    }

    fn patch(&self, annotations: Value) -> Value {
        json!({"metadata": {"resourceVersion": self.version, "annotations": annotations}})
    }
}

/// A new Secret of a file.
pub(crate) fn secret(file: &str, content: Packed, holders: &Holders) -> Secret {
    let annotations = [(FILE, file.to_owned()), (HOLDERS, text(holders))];
    Secret {
        metadata: ObjectMeta {
            name: Some(name_of(file)),
            finalizers: Some(vec![FINALIZER.to_owned()]),
            annotations: Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()),
            ..ObjectMeta::default()
        },
        type_: Some(TYPE.to_owned()),
        data: Some(BTreeMap::from([("content".to_owned(), content.0)])),
        ..Secret::default()
    }
}

/// The name of a file's Secret. One that cannot stand in a name is told by a part of its checksum.
pub(crate) fn name_of(file: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_label = |part: &str| {
        let ends = [part.bytes().next(), part.bytes().last()];
        ends.into_iter().all(|end| end.is_some_and(plain))
            && part.bytes().all(|byte| plain(byte) || byte == b'-')
    };
    if file.len() <= 200 && file.split('.').all(is_label) {
        return format!("{PREFIX}{file}");
    }
    let word: String = file.to_lowercase().chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    let sum = &crate::file::checksum(file.as_bytes())[..16];
    format!("{PREFIX}{word}-{sum}")
}

/// A content as a Secret holds it.
#[derive(Debug, Clone)]
pub(crate) struct Packed(ByteString);

/// Compressed.
///
/// # Errors
/// With a sentence, when it is too large for a Secret.
pub(crate) fn packed(content: &Content) -> Result<Packed, String> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let packed = encoder.write_all(&content.bytes).and_then(|()| encoder.finish());
    let bytes = packed.map_err(|error| error.to_string())?;
    if bytes.len() > MOST_COMPRESSED {
        let most = MOST_COMPRESSED >> 10;
        return Err(format!(
            "it is {} KiB large when it is compressed, and a Secret has room for {most}: divide it",
            bytes.len() >> 10
        ));
    }
    Ok(Packed(ByteString(bytes)))
}

fn unpacked(bytes: &ByteString) -> Result<Content, String> {
    let mut content = Vec::new();
    let most = u64::try_from(MOST).expect("a few MiB");
    let read = GzDecoder::new(bytes.0.as_slice()).take(most + 1).read_to_end(&mut content);
    match read {
        Ok(size) if size > MOST => Err(format!("its content is larger than {} MiB", MOST >> 20)),
        Ok(_) => Ok(Content::of(content)),
        Err(error) => Err(format!("its content is not compressed by gzip: {error}")),
    }
}

fn text(holders: &Holders) -> String {
    serde_json::to_string(holders).expect("texts can be written as JSON")
}

fn packed_references(references: &[Reference]) -> ByteString {
    ByteString(serde_json::to_vec(references).expect("texts can be written as JSON"))
}

fn cut(status: &str) -> &str {
    &status[..status.floor_char_boundary(STATUS_MOST)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders() -> Holders {
        let holder = Holder { master: "m1".to_owned(), checksum: "c".to_owned(), is_lost: false };
        BTreeMap::from([("d1".to_owned(), holder)])
    }

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        let content = Content::of(b"kind: A".to_vec());
        let mut written = secret("a.yaml", packed(&content).unwrap(), &holders());
        let read = Published::read(written.clone()).unwrap();
        assert_eq!((read.file.as_str(), read.content.unwrap()), ("a.yaml", content));
        assert_eq!((read.holders, read.applied, read.is_going), (holders(), None, false));
        assert!(read.other_finalizers.is_empty() && read.recorded.is_empty());
        // What was broken by hand.
        written.data = Some(BTreeMap::from([
            ("content".to_owned(), ByteString(b"plain".to_vec())),
            ("applied".to_owned(), ByteString(b"{".to_vec())),
        ]));
        written.metadata.annotations = None;
        let read = Published::read(written).unwrap();
        assert_eq!(read.file, "a.yaml");
        assert!(read.content.unwrap_err().contains("gzip") && read.holders.is_empty());
    }

    #[test]
    fn every_file_has_a_name_of_its_own_that_a_secret_may_have() {
        assert_eq!(name_of("app-1.v2.yaml"), "barque-manifest-app-1.v2.yaml");
        let odd = ["App.yaml", "app_1.yaml", "-a.yaml", "a b.yaml", "ä.yaml", "a..yaml", "a-.yaml"];
        let names: std::collections::BTreeSet<_> = odd.iter().map(|file| name_of(file)).collect();
        assert_eq!(names.len(), odd.len());
        for name in names {
            let rest = name.strip_prefix(PREFIX).unwrap();
            assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{name}");
        }
        assert!(name_of(&format!("{}.yaml", "a".repeat(240))).len() < 80);
    }

    #[test]
    fn what_has_no_room_is_told() {
        let mut state = 1_u64;
        let noise = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state.to_be_bytes()[0]
        });
        let told = packed(&Content::of(noise.take(1 << 20).collect())).unwrap_err();
        assert!(told.contains("a Secret has room for 768"), "{told}");
        assert!(packed(&Content::of(vec![b'a'; 8 << 20])).is_ok());
    }
}
