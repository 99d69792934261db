//! What has to be known to remove a sandbox's network: a file per sandbox, written before plugins run. Must never be
//! needed to give one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Sandbox;
use super::configuration::Configuration;
use super::error::CniError;
use crate::names::pod_link;

/// A sandbox's network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) sandbox: Sandbox,
    /// The one that the network was made with.
    pub(super) configuration: Configuration,
    /// None while the plugins run.
    pub(super) result: Option<Value>,
}

/// The files.
#[derive(Debug)]
pub(super) struct Cache {
    directory: PathBuf,
}

impl Cache {
    pub(super) fn open(directory: PathBuf) -> Result<Self, CniError> {
        fs::create_dir_all(&directory).map_err(failed("creating the directory", &directory))?;
        Ok(Self { directory })
    }

    /// Writes the entry, all or nothing.
    pub(super) fn write(&self, entry: &Entry) -> Result<(), CniError> {
        let path = self.path(&entry.sandbox.id);
        let new = path.with_extension("new");
        let write = || {
            fs::write(&new, serde_json::to_vec(entry)?)?;
            fs::rename(&new, &path)
        };
        write().map_err(failed("writing", &path))
    }

    pub(super) fn read(&self, id: &str) -> Result<Option<Entry>, CniError> {
        let path = self.path(id);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            text => {
                let entry = text.and_then(|text| serde_json::from_slice(&text).map_err(Into::into));
                entry.map(Some).map_err(failed("reading", &path))
            }
        }
    }

    pub(super) fn remove(&self, id: &str) -> Result<(), CniError> {
        let path = self.path(id);
        fs::remove_file(&path).map_err(failed("removing", &path))
    }

    /// The sandboxes that have a network, or half of one.
    pub(super) fn sandboxes(&self) -> Result<Vec<String>, CniError> {
        let mut sandboxes = Vec::new();
        let directory = &self.directory;
        for file in fs::read_dir(directory).map_err(failed("reading the directory", directory))? {
            let path = file.map_err(failed("reading the directory", directory))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read(&path).map_err(failed("reading", &path))?;
                match serde_json::from_slice::<Entry>(&text) {
                    Ok(entry) => sandboxes.push(entry.sandbox.id),
                    Err(error) => {
                        tracing::warn!(path = %path.display(), %error, "what is known of a pod's network cannot be read");
                    }
                }
            }
        }
        Ok(sandboxes)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.directory.join(pod_link(id).name).with_extension("json")
    }
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CniError {
    let path = path.to_owned();
    move |source| CniError::File { what, path, source }
}
