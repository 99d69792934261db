//! The files of `-f`, in an order in which their objects can be applied. Must never ask a server.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use barque_manifests::manifest::{Manifest, parse, sort};

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
    sort(&mut found);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_a_manifest_is_read_and_what_others_need_is_first() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
        write("b.yaml", "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: x}\n---\n");
        write("a.yml", "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n");
        write("c.txt", "not a manifest");
        let found = read(&[directory.path().to_owned()]).unwrap();
        let names: Vec<_> = found.iter().map(|manifest| manifest.name.as_str()).collect();
        assert_eq!(names, ["x", "p"]);
    }

    #[test]
    fn mistakes_are_told_with_their_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.yaml");
        std::fs::write(&file, "apiVersion: v1\nkind: Pod\n").unwrap();
        let told = read(std::slice::from_ref(&file)).unwrap_err().to_string();
        assert!(told.contains("a.yaml") && told.contains("metadata.name"), "{told}");
        assert!(read(&["/nowhere.yaml".into()]).unwrap_err().to_string().contains("/nowhere.yaml"));
    }
}
