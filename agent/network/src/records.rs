//! Which pod has which addresses, in a file per pod, so that a restart gives none of them to another pod. Must never be
//! asked for anything while the agent runs: it is read once.

use core::net::IpAddr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::NetworkError;
use crate::names::pod_link;

/// What a pod has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The pod.
    pub(crate) pod_id: String,
    /// Its addresses.
    pub(crate) addresses: Vec<IpAddr>,
    /// What the pod is called for people.
    pub(crate) description: String,
}

/// The files.
#[derive(Debug)]
pub(crate) struct Records {
    directory: PathBuf,
}

impl Records {
    /// Those in the directory, which is made if it is not there. What a crash left half written counts as not there.
    pub(crate) fn open(directory: PathBuf) -> Result<(Self, Vec<Record>), NetworkError> {
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| NetworkError::File { what, path, source }
        };
        fs::create_dir_all(&directory).map_err(failed("creating the directory", &directory))?;
        let mut records = Vec::new();
        let entries = fs::read_dir(&directory).map_err(failed("reading the directory", &directory))?;
        for entry in entries {
            let path = entry.map_err(failed("reading the directory", &directory))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_file(&path).map_err(failed("removing", &path))?;
                continue;
            }
            let text = fs::read(&path).map_err(failed("reading", &path))?;
            match serde_json::from_slice::<Record>(&text) {
                Ok(record) => records.push(record),
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "a pod's addresses cannot be read; the file is removed");
                    fs::remove_file(&path).map_err(failed("removing", &path))?;
                }
            }
        }
        Ok((Self { directory }, records))
    }

    /// Writes the record, all or nothing.
    pub(crate) fn write(&self, record: &Record) -> Result<(), NetworkError> {
        let path = self.path(&record.pod_id);
        let new = path.with_extension("new");
        let write = || {
            fs::write(&new, serde_json::to_vec(record)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(|source| NetworkError::File { what: "writing", path: path.clone(), source })
    }

    /// Removes the pod's record, if there is one.
    pub(crate) fn remove(&self, pod_id: &str) -> Result<(), NetworkError> {
        let path = self.path(pod_id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(NetworkError::File { what: "removing", path, source: error })
            }
            _ => Ok(()),
        }
    }

    fn path(&self, pod_id: &str) -> PathBuf {
        self.directory.join(pod_link(pod_id).name).with_extension("json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(pod_id: &str) -> Record {
        Record {
            pod_id: pod_id.to_owned(),
            addresses: vec!["10.0.0.2".parse().unwrap()],
            description: "default/web".to_owned(),
        }
    }

    #[test]
    fn records_survive_and_what_was_half_written_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pods");
        let (records, found) = Records::open(path.clone()).unwrap();
        assert_eq!(found, []);
        records.write(&record("../strange")).unwrap();
        records.write(&record("b")).unwrap();
        records.remove("b").unwrap();
        records.remove("b").unwrap();
        fs::write(path.join("torn.new"), "{").unwrap();
        fs::write(path.join("torn.json"), "{").unwrap();
        let (_, found) = Records::open(path.clone()).unwrap();
        assert_eq!(found, [record("../strange")]);
        assert_eq!(fs::read_dir(path).unwrap().count(), 1);
    }
}
