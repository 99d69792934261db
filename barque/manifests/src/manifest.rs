//! Manifests as people write them: objects in YAML or JSON, lists taken apart, in an order in which they can be applied. Must never
//! ask a server, or read a file.

use std::fmt;

use kube::core::{GroupVersionKind, TypeMeta};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// An object of a manifest.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// What it is.
    pub kind: GroupVersionKind,
    /// Its namespace, if it says one.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// All of it.
    pub object: Value,
}

/// An object by its name, as it was applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// Such as `apps/v1`.
    pub api_version: String,
    /// Such as `Deployment`.
    pub kind: String,
    /// Its namespace, if the manifest said one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl Reference {
    /// Its group; empty is the core's.
    #[must_use]
    pub fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// What is the same for the same object, in whatever version. A manifest without a namespace means `default`; kinds without
    /// namespaces are all in one place as well.
    #[must_use]
    pub fn key(&self) -> (&str, &str, &str, &str) {
        let namespace = self.namespace.as_deref().filter(|it| !it.is_empty()).unwrap_or("default");
        (self.group(), &self.kind, namespace, &self.name)
    }

    /// Its place among what is applied; what others need has a lower one.
    #[must_use]
    pub fn order(&self) -> u8 {
        order(self.group(), &self.kind)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Manifest {
    /// Which object it is about.
    #[must_use]
    pub fn reference(&self) -> Reference {
        Reference {
            api_version: self.kind.api_version(),
            kind: self.kind.kind.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

/// The objects of a text, in its order.
///
/// # Errors
/// With a sentence, when it is no manifest.
pub fn parse(text: &str) -> Result<Vec<Manifest>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        add(document, &mut found)?;
    }
    Ok(found)
}

/// What others need comes first; the order of the rest stays.
pub fn sort(manifests: &mut [Manifest]) {
    manifests.sort_by_key(|manifest| order(&manifest.kind.group, &manifest.kind.kind));
}

fn add(mut object: Value, found: &mut Vec<Manifest>) -> Result<(), String> {
    let word = |object: &Value, pointer: &str| object.pointer(pointer)?.as_str().map(str::to_owned);
    let (Some(api_version), Some(kind)) = (word(&object, "/apiVersion"), word(&object, "/kind")) else {
        return Err("an object has no apiVersion or no kind".to_owned());
    };
    if kind.ends_with("List")
        && let Some(Value::Array(items)) = object.get_mut("items").map(Value::take)
    {
        return items.into_iter().try_for_each(|item| add(item, found));
    }
    let Some(name) = word(&object, "/metadata/name") else {
        return Err(format!("an object of kind {kind} has no metadata.name"));
    };
    let types = TypeMeta { api_version, kind };
    let kind = GroupVersionKind::try_from(types).map_err(|error| error.to_string())?;
    found.push(Manifest { kind, namespace: word(&object, "/metadata/namespace"), name, object });
    Ok(())
}

/// Namespaces and kinds are there before what needs them.
fn order(group: &str, kind: &str) -> u8 {
    match (group, kind) {
        ("", "Namespace") => 0,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => 1,
        ("", "ServiceAccount" | "Secret" | "ConfigMap") => 2,
        _ => 3,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn lists_are_taken_apart_and_what_others_need_is_first() {
        let mut found = parse(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: x}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: p}}\n- {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}}\n---\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n",
        )
        .unwrap();
        sort(&mut found);
        let names: Vec<_> = found.iter().map(|manifest| manifest.reference().to_string()).collect();
        assert_eq!(names, ["Namespace x", "CustomResourceDefinition c", "Deployment x/d", "Pod p"]);
        assert_eq!((found[2].kind.group.as_str(), found[2].kind.version.as_str()), ("apps", "v1"));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, problem) in [
            ("kind: Pod\nmetadata: {name: a}\n", "no apiVersion"),
            ("apiVersion: v1\nkind: Pod\n", "an object of kind Pod has no metadata.name"),
            ("a: [", "line 1"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(problem), "{told}");
        }
    }

    #[test]
    fn an_object_is_the_same_in_whatever_version_and_without_its_namespace_in_default() {
        let reference = |api_version: &str, namespace: Option<&str>| Reference {
            api_version: api_version.to_owned(),
            kind: "Deployment".to_owned(),
            namespace: namespace.map(str::to_owned),
            name: "d".to_owned(),
        };
        let one = reference("apps/v1", None);
        assert_eq!(one.key(), reference("apps/v1beta1", Some("default")).key());
        assert_ne!(one.key(), reference("apps/v1", Some("other")).key());
        assert_ne!(one.key(), reference("v1", None).key());
    }
}
