//! Manifests as people write them: files with objects in YAML or JSON, lists taken apart, in an order in which they can be
//! applied. Must never ask a server.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use kube::core::{GroupVersionKind, TypeMeta};
use serde_json::Value;

/// An object of a file.
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

/// Why there are no objects.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The file cannot be read.
    #[error("-f {path}: cannot be read")]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// It is no YAML.
    #[error("-f {path}: {problem}")]
    Content {
        /// Which one.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// Reads the objects of files; `-` is standard input, and of a directory all files that end with `.yaml`, `.yml` or `.json` are
/// read. What others need comes first.
///
/// # Errors
/// When a file cannot be read, or is no manifest.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Manifest>, ManifestError> {
    let mut found = Vec::new();
    for path in paths {
        for file in files(path)? {
            let text = text(&file).map_err(|source| ManifestError::File { path: file.clone(), source })?;
            let objects =
                parse(&text).map_err(|problem| ManifestError::Content { path: file.clone(), problem })?;
            found.extend(objects);
        }
    }
    found.sort_by_key(|manifest| order(&manifest.kind));
    Ok(found)
}

fn files(path: &Path) -> Result<Vec<PathBuf>, ManifestError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let wrong = |source| ManifestError::File { path: path.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(wrong)? {
        let file = entry.map_err(wrong)?.path();
        let is_manifest =
            file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|one| end == *one));
        if is_manifest {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

fn text(path: &Path) -> std::io::Result<String> {
    if path != Path::new("-") {
        return std::fs::read_to_string(path);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(text)
}

/// The objects of a text.
fn parse(text: &str) -> Result<Vec<Manifest>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut found = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        add(document, &mut found)?;
    }
    Ok(found)
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
fn order(kind: &GroupVersionKind) -> u8 {
    match (kind.group.as_str(), kind.kind.as_str()) {
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
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("b.yaml", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n");
        write(
            "a.yml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: x}\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: p}}\n- {apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, metadata: {name: c}}\n",
        );
        write("c.txt", "not a manifest");
        let found = read(&[directory.path().to_owned()]).unwrap();
        let names: Vec<_> =
            found.iter().map(|manifest| (manifest.kind.kind.as_str(), manifest.name.as_str())).collect();
        assert_eq!(
            names,
            [("Namespace", "x"), ("CustomResourceDefinition", "c"), ("Deployment", "d"), ("Pod", "p")]
        );
        assert_eq!(found[2].namespace.as_deref(), Some("x"));
        assert_eq!((found[2].kind.group.as_str(), found[2].kind.version.as_str()), ("apps", "v1"));
    }

    #[test]
    fn mistakes_are_told_with_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        for (text, problem) in [
            ("kind: Pod\nmetadata: {name: a}\n", "no apiVersion"),
            ("apiVersion: v1\nkind: Pod\n", "metadata.name"),
            ("a: [", "a.yaml"),
        ] {
            std::fs::write(&file, text).unwrap();
            let told = read(std::slice::from_ref(&file)).unwrap_err().to_string();
            assert!(told.contains("a.yaml") && told.contains(problem), "{told}");
        }
        assert!(read(&["/nowhere.yaml".into()]).unwrap_err().to_string().contains("/nowhere.yaml"));
    }
}
