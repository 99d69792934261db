//! From a file to the pod that it describes, as the kubelet names it: called after its node too, with a uid that is the file's and
//! changes with what it says. Pure; must never read the file itself.

use std::path::Path;

use barque_api::names;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::defaults;

/// Where a pod comes from; pods of files have `file`.
pub const SOURCE: &str = "kubernetes.io/config.source";
/// What a file says, as a hash.
pub const HASH: &str = "kubernetes.io/config.hash";
/// On the pod that stands for another one in the API server: the hash of that one.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const SEEN: &str = "kubernetes.io/config.seen";
const FROM_FILE: &str = "file";
/// Digits of a uid.
const UID_DIGITS: usize = 32;

/// Why a file describes no pod.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// It is no text in YAML or JSON.
    #[error("it is no YAML: {0}")]
    Yaml(String),
    /// It is about something else.
    #[error("apiVersion and kind must be v1 and Pod, not {0:?} and {1:?}")]
    Kind(String, String),
    /// Its fields are not those of a pod.
    #[error("it is no pod: {0}")]
    Shape(#[source] serde_json::Error),
    /// A field says what it cannot.
    #[error("{field}: {why}")]
    Field {
        /// Which.
        field: String,
        /// What would be right.
        why: String,
    },
}

/// Whether a pod comes from a file of its node.
#[must_use]
pub fn is_static(pod: &Pod) -> bool {
    annotation(pod, SOURCE) == Some(FROM_FILE) && annotation(pod, MIRROR).is_none()
}

/// The hash of the pod that this one stands for; nothing for a pod that stands for itself.
#[must_use]
pub fn mirrored(pod: &Pod) -> Option<&str> {
    annotation(pod, MIRROR)
}

fn annotation<'a>(pod: &'a Pod, key: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod that a file describes.
///
/// # Errors
/// When it describes none, with the field that is wrong.
pub fn read(text: &str, path: &Path, node: &str, now: Timestamp) -> Result<Pod, ManifestError> {
    let value: Value =
        serde_saphyr::from_str(text).map_err(|error| ManifestError::Yaml(error.to_string()))?;
    let word = |field: &str| value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    if (word("apiVersion").as_str(), word("kind").as_str()) != ("v1", "Pod") {
        return Err(ManifestError::Kind(word("apiVersion"), word("kind")));
    }
    let hash = hash(&[node, &path.to_string_lossy(), &value.to_string()]);
    let mut pod: Pod = serde_json::from_value(value).map_err(ManifestError::Shape)?;
    check(&pod)?;

    let metadata = &mut pod.metadata;
    let name = format!("{}-{node}", metadata.name.as_deref().unwrap_or_default());
    if let Some(why) = names::dns_subdomain(&name).into_iter().next() {
        let field = "metadata.name".to_owned();
        return Err(ManifestError::Field {
            field,
            why: format!("{name:?}, which ends with the node's name: {why}"),
        });
    }
    metadata.name = Some(name);
    metadata.namespace.get_or_insert_with(|| "default".to_owned());
    metadata.uid = Some(hash.clone());
    metadata.resource_version = None;
    let annotations = metadata.annotations.get_or_insert_default();
    for (key, value) in [(SOURCE, FROM_FILE.to_owned()), (HASH, hash), (SEEN, now.to_string())] {
        annotations.insert(key.to_owned(), value);
    }
    pod.status = None;
    let spec = pod.spec.get_or_insert_default();
    spec.node_name = Some(node.to_owned());
    defaults::enter(spec);
    // It is the node's own: no taint drives it away.
    let everywhere = Toleration {
        operator: Some("Exists".to_owned()),
        effect: Some("NoExecute".to_owned()),
        ..Toleration::default()
    };
    let tolerations = spec.tolerations.get_or_insert_default();
    if !tolerations.contains(&everywhere) {
        tolerations.push(everywhere);
    }
    Ok(pod)
}

fn check(pod: &Pod) -> Result<(), ManifestError> {
    let wrong = |field: &str, why: String| Err(ManifestError::Field { field: field.to_owned(), why });
    let metadata = &pod.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    if let Some(why) = names::dns_subdomain(name).into_iter().next() {
        return wrong("metadata.name", format!("{name:?}: {why}"));
    }
    if let Some(namespace) = &metadata.namespace
        && let Some(why) = names::dns_label(namespace).into_iter().next()
    {
        return wrong("metadata.namespace", format!("{namespace:?}: {why}"));
    }
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    if containers.is_empty() {
        return wrong("spec.containers", "there must be one".to_owned());
    }
    for (index, container) in containers.iter().enumerate() {
        if let Some(why) = names::dns_label(&container.name).into_iter().next() {
            return wrong(&format!("spec.containers[{index}].name"), format!("{:?}: {why}", container.name));
        }
        if container.image.as_deref().unwrap_or_default().is_empty() {
            return wrong(&format!("spec.containers[{index}].image"), "it must name an image".to_owned());
        }
    }
    Ok(())
}

fn hash(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    digits[..UID_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: c, image: i}]}\n";

    fn told(text: &str, path: &str) -> Result<Pod, String> {
        let now = Timestamp::from_second(0).unwrap();
        read(text, Path::new(path), "n1", now).map_err(|error| error.to_string())
    }

    #[test]
    fn a_pod_of_a_file_is_its_nodes() {
        let pod = told(TEXT, "/a").unwrap();
        assert_eq!(pod.metadata.name.as_deref(), Some("web-n1"));
        assert_eq!(pod.metadata.namespace.as_deref(), Some("default"));
        assert!(is_static(&pod) && mirrored(&pod).is_none());
        assert_eq!(annotation(&pod, HASH), pod.metadata.uid.as_deref());
        let spec = pod.spec.unwrap();
        assert_eq!((spec.node_name.as_deref(), spec.tolerations.unwrap().len()), (Some("n1"), 1));
    }

    #[test]
    fn its_uid_is_that_of_the_file_and_of_what_it_says() {
        let uid = |text: &str, path: &str| told(text, path).unwrap().metadata.uid.unwrap();
        let as_json = r#"{"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "web"}, "spec": {"containers": [{"image": "i", "name": "c"}]}}"#;
        assert_eq!(uid(TEXT, "/a"), uid(TEXT, "/a"));
        assert_eq!(uid(TEXT, "/a"), uid(as_json, "/a"), "the form does not matter");
        assert_ne!(uid(TEXT, "/a"), uid(TEXT, "/b"));
        assert_ne!(uid(TEXT, "/a"), uid(&TEXT.replace("image: i", "image: j"), "/a"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let with = |metadata: &str, spec: &str| {
            format!("{{apiVersion: v1, kind: Pod, metadata: {metadata}, spec: {spec}}}")
        };
        let fine = "{containers: [{name: c, image: i}]}";
        for (text, why) in [
            ("{".to_owned(), "it is no YAML"),
            ("{apiVersion: apps/v1, kind: Deployment}".to_owned(), "not \"apps/v1\" and \"Deployment\""),
            (with("{name: web}", "{containers: 7}"), "it is no pod: invalid type"),
            (with("{name: A_}", fine), "metadata.name: \"A_\": "),
            (with("{name: web, namespace: A_}", fine), "metadata.namespace: \"A_\": "),
            (with("{name: web}", "{containers: []}"), "spec.containers: there must be one"),
            (
                with("{name: web}", "{containers: [{name: c}]}"),
                "spec.containers[0].image: it must name an image",
            ),
        ] {
            let told = told(&text, "/a").unwrap_err();
            assert!(told.contains(why), "{text}: {told}");
        }
    }
}
