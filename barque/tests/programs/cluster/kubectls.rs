//! The kubectls that tests run. Must never bring one: `make kubectl` does.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A kubectl, and the minor number of its release.
pub(crate) struct Kubectl {
    /// Where it is.
    pub(crate) program: PathBuf,
    /// Of its release.
    pub(crate) minor: u32,
}

/// Debian's, which `make test` puts below `target`, and whatever the machine has.
pub(crate) fn kubectls() -> Vec<Kubectl> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let debian = root.join("target/debian-kubectl/usr/bin/kubectl");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let installed = std::env::split_paths(&path).map(|directory| directory.join("kubectl"));
    let mut found: Vec<Kubectl> = Vec::new();
    for program in std::iter::once(debian).chain(installed).filter(|program| program.is_file()) {
        let version = Command::new(&program).args(["version", "--client", "-o", "json"]).output().unwrap();
        let version: serde_json::Value = serde_json::from_slice(&version.stdout).unwrap();
        let minor =
            version["clientVersion"]["minor"].as_str().unwrap().trim_end_matches('+').parse().unwrap();
        if found.iter().all(|known| known.minor != minor) {
            found.push(Kubectl { program, minor });
        }
    }
    assert!(!found.is_empty(), "there is no kubectl; `make kubectl` brings Debian's");
    found
}
