//! The Python client (Debian's `python3-kubernetes`) against a server: `python/client.py` does what people write with it, and
//! fails with what it did not expect.

use std::path::Path;
use std::process::Command;

use crate::cluster::Cluster;

/// What the script says it has done, in its order.
const PARTS: &[&str] = &[
    "version and discovery",
    "config maps",
    "pods",
    "deployments",
    "errors",
    "pages",
    "watch",
    "dry run and owners of fields",
    "names that are encoded",
    "custom objects",
];

#[test]
fn the_python_client_works() {
    let cluster = Cluster::start(1);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/python/client.py");
    // Debian's Python: another one would not see Debian's packages.
    let run = Command::new("/usr/bin/python3").arg(script).arg(cluster.kubeconfig(0)).output();
    let run = run.expect("python3 and python3-kubernetes are installed; `make packages` does it");
    let told = String::from_utf8_lossy(&run.stdout).into_owned();
    let wrong = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{}\n{told}\n{wrong}", run.status);
    let lines: Vec<_> = told.lines().collect();
    let expected: Vec<_> = PARTS.iter().map(|part| format!("ok: {part}")).collect();
    assert_eq!(lines, expected);
}
