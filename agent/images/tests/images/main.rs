//! Images against real registries, a hostile one and the kernel, through the public interface alone.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

mod archives;
mod broken_registries;
mod built;
mod distribution;
mod hostile;
mod keeping;
mod pulls;
mod recorder;
mod roots;
mod stacked;

use std::sync::Arc;

use barque_images::{Image, ImageStore, Options, PullOptions, Reference, Registries};

/// Unpacking sets owners and makes whiteouts, which only root may.
fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// A store in a directory of its own.
struct Room {
    store: ImageStore,
    directory: tempfile::TempDir,
}

impl Room {
    fn new() -> Self {
        Self::with(quick())
    }

    fn with(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = ImageStore::open(&directory.path().join("images"), options).unwrap();
        Self { store, directory }
    }

    /// Pulls as nobody in particular.
    async fn pull(&self, name: &str) -> barque_images::Result<Image> {
        self.store.pull(&reference(name), &[], &PullOptions::default(), Arc::new(())).await
    }

    /// What is left in a folder of the store.
    fn files(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path().join("images").join(folder)).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Options with which broken things are told soon.
fn quick() -> Options {
    Options { retry_delay: std::time::Duration::from_millis(1), ..Options::default() }
}

/// Options with a `registries.yaml`.
fn with_registries(yaml: &str) -> Options {
    Options { registries: Registries::from_yaml(yaml).unwrap(), ..quick() }
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}
