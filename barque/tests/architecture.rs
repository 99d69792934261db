//! The shape of the project, held: who may import whom, and what every source file looks like.
//!
//! `ARCHITECTURE.md` tells the same for people. A rule changes here and there together, or not at all.

#[path = "architecture/confined.rs"]
mod confined;
#[path = "architecture/dashboards.rs"]
mod dashboards;
#[path = "architecture/pure_code.rs"]
mod pure_code;
#[path = "architecture/store_modules.rs"]
mod store_modules;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use confined::CONFINED;
use pure_code::{IMPURE, PURE};
use store_modules::STORE;

/// The crates from the bottom up, each with the crates of this project that it may import.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("proto", "barque-proto", &[]),
    // Of any process; whoever has metrics has these.
    ("store/process-metrics", "barque-process-metrics", &[]),
    ("store", "barque-store", &["barque-process-metrics", "barque-proto"]),
    ("api", "barque-api", &[]),
    // For where somebody has said that anybody is believed.
    ("api/unverified-tls", "barque-unverified-tls", &[]),
    // The streams of exec and port-forward on the wire, for both of their ends.
    ("api/streams", "barque-streams", &[]),
    // What controllers, scheduler and agent share: they speak to any API server, and know nothing of ours.
    ("api/client", "barque-client", &["barque-api", "barque-process-metrics"]),
    (
        "apiserver",
        "barque-apiserver",
        &[
            "barque-api",
            "barque-process-metrics",
            "barque-proto",
            "barque-store",
            "barque-streams",
            "barque-unverified-tls",
        ],
    ),
    // Decides on compiled objects; who drives it brings them.
    ("scheduler", "barque-scheduler", &["barque-api"]),
    // Speaks to any API server, and knows nothing of ours.
    ("scheduler/driver", "barque-scheduler-driver", &["barque-client", "barque-scheduler"]),
    // What containers are made of; knows no cluster.
    ("agent/images", "barque-images", &["barque-unverified-tls"]),
    // Containers and links on one machine; they know no pod and no server.
    ("agent/containers", "barque-containers", &[]),
    ("agent/network", "barque-network", &["barque-api"]),
    // Waits for changes of directories.
    ("agent/inotify", "barque-inotify", &[]),
    // Drivers of volumes, over their sockets; knows no pod.
    ("agent/csi", "barque-csi", &["barque-inotify"]),
    // Another's containers, over its socket; knows no pod.
    ("agent/cri", "barque-cri", &[]),
    // Names and services from objects that are handed in.
    ("agent/dns", "barque-dns", &["barque-api"]),
    ("agent/proxy", "barque-proxy", &["barque-api"]),
    // Speaks to any API server, as the kubelet does.
    (
        "agent",
        "barque-agent",
        &[
            "barque-api",
            "barque-client",
            "barque-containers",
            "barque-cri",
            "barque-csi",
            "barque-dns",
            "barque-images",
            "barque-inotify",
            "barque-network",
            "barque-proxy",
            "barque-streams",
            "barque-unverified-tls",
        ],
    ),
    // They speak to any API server, and know nothing of ours.
    ("controllers", "barque-controllers", &["barque-api", "barque-client", "barque-inotify"]),
    // Judges any cluster, and so shares no decision with the controllers.
    ("controllers/lint", "barque-lint", &["barque-api", "barque-client"]),
    // Speaks to any API server, and knows nothing of ours.
    ("barque/manifests", "barque-manifests", &["barque-client", "barque-inotify"]),
    // Starts others' processes on one machine; what they do it does not know.
    (
        "barque/local",
        "barque-local",
        &[
            "barque-api",
            "barque-containers",
            "barque-inotify",
            "barque-manifests",
            "barque-network",
            "barque-proxy",
        ],
    ),
    // The administrator's tool speaks the public protocol; of the store it knows `offline`, for files, alone.
    ("kvctl", "kvctl", &["barque-proto", "barque-store", "barque-unverified-tls"]),
    // Knows how machines find each other, and nothing of what they do then.
    ("barque/cluster", "barque-cluster", &["barque-api", "barque-client", "barque-proto", "barque-store"]),
    (
        "barque",
        "barque",
        &[
            "barque-agent",
            "barque-api",
            "barque-apiserver",
            "barque-client",
            "barque-cluster",
            "barque-containers",
            "barque-controllers",
            "barque-images",
            "barque-lint",
            "barque-local",
            "barque-manifests",
            "barque-network",
            "barque-proto",
            "barque-scheduler",
            "barque-scheduler-driver",
            "barque-store",
            "barque-streams",
        ],
    ),
    // Sees processes from outside: what it finds must be what any client finds, the linter among them. Simulations alone run the
    // store itself.
    ("jepsen-like-tests", "jepsen-like-tests", &["barque-lint", "barque-proto", "barque-store"]),
];

/// No file is longer.
const MAX_LINES: usize = 700;
/// But for these, which may not grow beyond the number, and never beyond 900.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Names that say nothing of a file's subject.
const EMPTY_NAMES: &[&str] = &["util", "utils", "common", "helper", "helpers", "misc", "shared", "stuff"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate is a folder of the project")
        .to_path_buf()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All files of the crates, relative to the project, with `/`.
fn files() -> Vec<String> {
    let root = root();
    let mut found = Vec::new();
    let mut folders: Vec<_> = CRATES.iter().map(|(folder, ..)| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder that can be read has entries that can be").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let inside = path.strip_prefix(&root).expect("found below the root");
                found.push(inside.to_str().expect("names are plain").to_owned());
            }
        }
    }
    found.sort();
    found
}

fn sources() -> Vec<String> {
    let mut files = files();
    files.retain(|file| file.ends_with(".rs"));
    assert!(
        files.len() > 100,
        "only {} source files were found; this test looks in the wrong place",
        files.len()
    );
    files
}

/// Files that are compiled for tests only: those that a `#[cfg(test)] mod name;` declares.
fn test_only(sources: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in sources {
        let path = Path::new(file);
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a source has a name");
        let folder = path.parent().expect("a source is in a folder");
        let below =
            if ["mod", "lib", "main"].contains(&stem) { folder.to_path_buf() } else { folder.join(stem) };
        let text = read(file);
        let mut lines = text.lines().map(str::trim).peekable();
        while let Some(line) = lines.next() {
            let declared = lines.peek().filter(|_| line == "#[cfg(test)]").and_then(|next| module_of(next));
            if let Some(name) = declared {
                for candidate in [format!("{name}.rs"), format!("{name}/mod.rs")] {
                    found.insert(below.join(candidate).to_str().expect("names are plain").to_owned());
                }
            }
        }
    }
    found
}

/// `name` of `mod name;`, with or without `pub`.
fn module_of(line: &str) -> Option<&str> {
    let (before, name) = line.strip_suffix(';')?.rsplit_once("mod ")?;
    (before.is_empty() || before.starts_with("pub")).then_some(name)
}

/// The lines of a source that are compiled outside tests, numbered from 1, without comments. Tests inside a
/// file are its end.
fn code(text: &str) -> Vec<(usize, &str)> {
    let mut lines = Vec::new();
    let mut all = text.lines().enumerate().peekable();
    while let Some((number, line)) = all.next() {
        if line.trim() == "#[cfg(test)]"
            && all.peek().is_some_and(|(_, next)| next.starts_with("mod tests {"))
        {
            break;
        }
        let line = line.find("//").map_or(line, |at| &line[..at]);
        lines.push((number + 1, line));
    }
    lines
}

/// Whether `line` names `path`, not as the end of a longer name.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path)
        .any(|(at, _)| !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_'))
}

/// The modules of this crate that a line names after `crate::`.
fn crate_modules(line: &str) -> impl Iterator<Item = &str> {
    line.split("crate::").skip(1).map(|rest| {
        let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        &rest[..end]
    })
}

/// Everything that is wrong, at once.
fn judge(rule: &str, wrong: &[String]) {
    assert!(wrong.is_empty(), "{rule}\n  {}\n", wrong.join("\n  "));
}

/// The dependencies of a crate in all its tables, with what stands behind the name.
fn dependencies(folder: &str) -> BTreeMap<String, String> {
    let manifest = read(&format!("{folder}/Cargo.toml"));
    let mut inside = false;
    let mut found = BTreeMap::new();
    for line in manifest.lines().map(str::trim) {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if inside
            && !line.starts_with('#')
            && let Some((name, rest)) = line.split_once(['.', ' ', '='])
        {
            found.insert(name.to_owned(), rest.to_owned());
        }
    }
    found
}

#[test]
fn crates_import_only_what_is_below_them() {
    let ours: Vec<_> = CRATES.iter().map(|(_, name, _)| *name).collect();
    let mut wrong = Vec::new();
    for (folder, name, allowed) in CRATES {
        let manifest = read(&format!("{folder}/Cargo.toml"));
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{folder}/Cargo.toml is not of {name}");
        for dependency in dependencies(folder).keys() {
            if ours.contains(&dependency.as_str()) && !allowed.contains(&dependency.as_str()) {
                wrong.push(format!("{folder}/Cargo.toml: {name} may not depend on {dependency}"));
            }
        }
    }
    judge("a crate imports only crates below it (CRATES in this test, the map in ARCHITECTURE.md)", &wrong);
}

#[test]
fn crates_are_all_in_the_table_and_share_versions_and_lints() {
    let workspace = read("Cargo.toml");
    let members =
        workspace.lines().find(|line| line.starts_with("members = ")).expect("the workspace's members");
    let members: Vec<_> = members.split('"').skip(1).step_by(2).collect();
    let table: Vec<_> = CRATES.iter().map(|(folder, ..)| *folder).collect();
    assert_eq!(
        members.iter().collect::<BTreeSet<_>>(),
        table.iter().collect::<BTreeSet<_>>(),
        "the workspace's members (left) and CRATES of this test (right) must be the same"
    );
    let mut wrong = Vec::new();
    for folder in table {
        if !read(&format!("{folder}/Cargo.toml")).contains("[lints]\nworkspace = true") {
            wrong.push(format!("{folder}/Cargo.toml: has no `[lints] workspace = true`"));
        }
        for (name, rest) in dependencies(folder) {
            if !rest.contains("workspace = true") {
                wrong.push(format!("{folder}/Cargo.toml: {name} has a version of its own"));
            }
        }
    }
    judge("versions and lints stand in the workspace's Cargo.toml alone", &wrong);
}

#[test]
fn modules_of_the_store_import_only_what_is_below_them() {
    let mut known: Vec<&str> = Vec::new();
    for (module, allowed) in STORE {
        for import in *allowed {
            assert!(
                known.contains(import),
                "STORE of this test: {module} may not import {import}, which is not below it"
            );
        }
        known.push(module);
    }
    let lib = read("store/src/lib.rs");
    let declared: BTreeSet<_> = lib.lines().filter_map(module_of).collect();
    assert_eq!(
        declared,
        known.into_iter().collect(),
        "store/src/lib.rs (left) and STORE of this test (right)"
    );

    let allowed: BTreeMap<_, _> = STORE.iter().copied().collect();
    let sources = sources();
    let test_only = test_only(&sources);
    let mut wrong = Vec::new();
    for file in sources.iter().filter(|file| !test_only.contains(*file)) {
        let Some(inside) = file.strip_prefix("store/src/").filter(|inside| *inside != "lib.rs") else {
            continue;
        };
        let module = inside.split(['/', '.']).next().expect("a split has a first part");
        for (number, line) in code(&read(file)) {
            for import in crate_modules(line) {
                if import.is_empty() {
                    wrong.push(format!("{file}:{number}: `crate::{{`: one line for each module"));
                } else if import != module && !allowed[module].contains(&import) {
                    wrong.push(format!("{file}:{number}: {module} may not import {import}"));
                }
            }
        }
    }
    judge(
        "arrows between the store's modules point down (STORE in this test, the map in ARCHITECTURE.md)",
        &wrong,
    );
}

#[test]
fn pure_code_does_not_name_the_outside_world() {
    let sources = sources();
    let test_only = test_only(&sources);
    let mut wrong = Vec::new();
    for (path, reason) in PURE {
        let files: Vec<_> = sources.iter().filter(|file| file.starts_with(path)).collect();
        assert!(!files.is_empty(), "PURE in pure_code names {path}, which is not there");
        for file in files.into_iter().filter(|file| !test_only.contains(*file)) {
            for (number, line) in code(&read(file)) {
                for word in IMPURE.iter().filter(|word| names(line, word)) {
                    wrong.push(format!("{file}:{number}: names {word}, but is pure: {reason}"));
                }
            }
        }
    }
    judge("pure modules have no I/O, clock, randomness, lock or task", &wrong);
}

#[test]
fn libraries_stay_in_their_place() {
    let sources = sources();
    let test_only = test_only(&sources);
    let mut wrong = Vec::new();
    for file in sources.iter().filter(|file| file.contains("/src/") && !test_only.contains(*file)) {
        for (number, line) in code(&read(file)) {
            for (library, places) in CONFINED {
                let away = !places.iter().any(|place| file.starts_with(place));
                if away && names(line, library) && !line.contains(&format!("\"{library}")) {
                    wrong.push(format!("{file}:{number}: {library} belongs to {}", places.join(", ")));
                }
            }
        }
    }
    judge("some libraries are used in one place only (CONFINED of this test)", &wrong);
}

#[test]
fn the_tool_knows_one_module_of_the_store() {
    let mut wrong = Vec::new();
    for file in sources().iter().filter(|file| file.starts_with("kvctl/src/")) {
        for (number, line) in code(&read(file)) {
            let named = line.matches("barque_store").count();
            if named != line.matches("barque_store::offline").count() {
                wrong.push(format!("{file}:{number}: names another part of the store than `offline`"));
            }
        }
    }
    judge("kvctl uses barque_store::offline and nothing else of the store", &wrong);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |file: &String| !read(file).starts_with("//!");
    let wrong: Vec<_> = sources().into_iter().filter(silent).collect();
    judge("a source file opens with `//!`: what it is for and what it must never do", &wrong);
}

#[test]
fn files_have_one_subject() {
    let mut wrong = Vec::new();
    for file in sources() {
        let lines = read(&file).lines().count();
        let exception = LONG_FILES.iter().find(|(path, ..)| *path == file);
        let most = exception.map_or(MAX_LINES, |(_, most, _)| *most);
        if lines > most {
            wrong.push(format!("{file}: {lines} lines, of at most {most}"));
        }
        if exception.is_some() && lines <= MAX_LINES {
            wrong.push(format!("{file}: {lines} lines; LONG_FILES of this test need not name it any more"));
        }
        let says_nothing = |part: &str| EMPTY_NAMES.contains(&part.trim_end_matches(".rs"));
        if file.split('/').any(says_nothing) {
            wrong.push(format!("{file}: the name does not say what is in it"));
        }
    }
    for (path, most, reason) in LONG_FILES {
        assert!(
            *most <= 900 && !reason.is_empty(),
            "{path}: 900 lines are the end, and there must be a reason"
        );
        assert!(root().join(path).is_file(), "LONG_FILES of this test names {path}, which is not there");
    }
    judge("a file has one subject, its name says which, and it can be read in one go", &wrong);
}

#[test]
fn no_path_of_somebodys_machine() {
    // Put together here, so that this file does not hold them.
    let paths = [concat!("/wo", "rk/"), concat!("/tm", "p/w"), concat!("/ho", "me/"), concat!("/ro", "ot/")];
    let mut files = files();
    files.extend(
        ["Cargo.toml", "Makefile", "README.md", "ARCHITECTURE.md", "deny.toml", ".ci/run"].map(String::from),
    );
    let mut wrong = Vec::new();
    for file in files {
        // Proptest keeps its findings beside the sources, and they are text too.
        let text = fs::read(root().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for (number, line) in String::from_utf8_lossy(&text).lines().enumerate() {
            for path in paths.iter().filter(|path| line.contains(*path)) {
                wrong.push(format!("{file}:{}: names {path}", number + 1));
            }
        }
    }
    judge("sources hold on every machine", &wrong);
}

#[test]
fn the_front_pages_name_what_is_there() {
    let map = read("ARCHITECTURE.md");
    let mut wrong = Vec::new();
    for (folder, ..) in CRATES {
        if !map.contains(&format!("`{folder}/`")) {
            wrong.push(format!("ARCHITECTURE.md: does not name the folder `{folder}/`"));
        }
    }
    for (module, _) in STORE {
        if !map.contains(&format!("| `{module}` |")) {
            wrong.push(format!("ARCHITECTURE.md: has no row for the store's module `{module}`"));
        }
    }
    let makefile = read("Makefile");
    for page in ["README.md", "ARCHITECTURE.md"] {
        for target in read(page).split("`make ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()) {
            if !makefile.lines().any(|line| line.starts_with(&format!("{target}:"))) {
                wrong.push(format!("{page}: `make {target}` is not in the Makefile"));
            }
        }
    }
    judge("the front pages are kept true", &wrong);
}

#[test]
fn the_scanner_sees_what_it_looks_for() {
    let text = "use crate::raft::node;\n// crate::comment\nfn f() { crate::wal::open() }\n#[cfg(test)]\nmod tests {\nuse crate::rpc;";
    let seen: Vec<_> = code(text).into_iter().flat_map(|(_, line)| crate_modules(line)).collect();
    assert_eq!(seen, ["raft", "wal"]);
    assert!(names("use tokio::sync;", "tokio::") && names("(std::fs::read(x))", "std::fs"));
    assert!(names("time::Instant::now()", "Instant::now"));
    assert!(!names("use my_tokio::sync;", "tokio::") && !names("StdInstant::now()", "Instant::now"));
    assert_eq!(module_of("pub mod x;"), Some("x"));
    assert_eq!(module_of("mod y;"), Some("y"));
    assert_eq!(module_of("mod tests {"), None);
}
