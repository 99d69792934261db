//! The shape of the project, held: who may import whom, and what every source file looks like.
//!
//! `ARCHITECTURE.md` tells the same for people. A rule changes here and there together, or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The crates from the bottom up, each with the crates of this project that it may import.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("proto", "barque-proto", &[]),
    ("store", "barque-store", &["barque-proto"]),
    ("api", "barque-api", &[]),
    // What controllers, scheduler and agent share: they speak to any API server, and know nothing of ours.
    ("api/client", "barque-client", &["barque-api"]),
    ("apiserver", "barque-apiserver", &["barque-api", "barque-proto", "barque-store"]),
    // The administrator's tool speaks the public protocol; of the store it knows `offline`, for files, alone.
    ("kvctl", "kvctl", &["barque-proto", "barque-store"]),
    (
        "barque",
        "barque",
        &["barque-api", "barque-apiserver", "barque-client", "barque-proto", "barque-store"],
    ),
    // Sees processes from outside: what it finds must be what any client finds. Simulations alone run the store itself.
    ("jepsen-like-tests", "jepsen-like-tests", &["barque-proto", "barque-store"]),
];

/// The store's modules from the bottom up, each with the modules that it may import. A row names earlier rows
/// only. Code that is only compiled for tests is free.
const STORE: &[(&str, &[&str])] = &[
    ("ids", &[]),
    ("varint", &[]),
    ("blocking", &[]),
    ("wall_clock", &[]),
    ("record", &["ids", "varint"]),
    ("command", &["ids", "record"]),
    ("event", &["ids", "record"]),
    ("timeline", &["ids"]),
    ("stored", &["ids", "record", "command", "event", "timeline"]),
    ("auth", &["ids", "command", "stored"]),
    ("grouping", &[]),
    ("activity", &["grouping"]),
    ("error", &["command"]),
    ("identity", &["ids"]),
    ("config", &["ids", "identity"]),
    ("socket", &[]),
    ("tls", &["config", "socket"]),
    ("listen", &["config", "socket", "tls"]),
    ("metrics", &["ids", "command"]),
    ("http", &["command", "metrics"]),
    ("serve", &["activity", "config", "http", "listen", "metrics", "tls"]),
    ("watch", &["ids", "record", "command", "event", "activity"]),
    (
        "rpc",
        &[
            "ids", "record", "command", "timeline", "auth", "error", "grouping", "activity", "tls",
            "metrics", "watch",
        ],
    ),
    ("tree", &[]),
    ("lease", &["ids", "command", "tree"]),
    ("mvcc", &["ids", "record", "command", "event", "stored", "tree", "lease"]),
    ("state", &["ids", "record", "command", "event", "timeline", "stored", "auth", "watch", "lease", "mvcc"]),
    ("wal", &["ids", "blocking"]),
    ("snapshot", &["ids", "varint", "record", "command", "stored"]),
    ("records", &["ids", "record", "stored"]),
    ("storage", &["ids", "record", "stored", "mvcc", "state", "snapshot", "records"]),
    (
        "raft",
        &[
            "ids", "blocking", "record", "command", "stored", "error", "tls", "metrics", "watch", "state",
            "wal", "snapshot", "records", "storage",
        ],
    ),
    (
        "offline",
        &[
            "ids", "record", "command", "stored", "auth", "identity", "config", "mvcc", "state", "wal",
            "snapshot", "storage", "raft",
        ],
    ),
    (
        "member",
        &[
            "ids",
            "blocking",
            "wall_clock",
            "record",
            "command",
            "event",
            "timeline",
            "stored",
            "auth",
            "error",
            "activity",
            "config",
            "tls",
            "metrics",
            "watch",
            "rpc",
            "lease",
            "mvcc",
            "state",
            "wal",
            "snapshot",
            "records",
            "storage",
            "raft",
        ],
    ),
    (
        "server",
        &[
            "ids", "command", "error", "config", "tls", "listen", "metrics", "http", "serve", "watch", "rpc",
            "lease", "storage", "raft", "member",
        ],
    ),
];

/// What may not be named below a path, because of what it is for.
const PURE: &[(&str, &str)] = &[
    ("store/src/ids.rs", "vocabulary"),
    ("apiserver/src/validation/", "a decision"),
    ("apiserver/src/registry/strategy/", "a decision; who asks and the time are handed in"),
    ("apiserver/src/registry/deletion.rs", "a decision; time is handed in"),
    ("apiserver/src/registry/conversion.rs", "shapes only"),
    ("apiserver/src/registry/pipeline/prepare.rs", "a decision"),
    ("apiserver/src/authentication/token_request.rs", "a decision; the token's id is handed in"),
    ("apiserver/src/authentication/reviews.rs", "shapes only"),
    ("apiserver/src/flow_control/classify.rs", "a decision"),
    ("apiserver/src/flow_control/scheduler.rs", "a decision; time is handed in"),
    ("apiserver/src/flow_control/width.rs", "a decision"),
    ("store/src/record.rs", "vocabulary"),
    ("store/src/command.rs", "vocabulary"),
    ("store/src/command/", "vocabulary"),
    ("store/src/event.rs", "vocabulary"),
    ("store/src/stored.rs", "vocabulary"),
    ("store/src/stored/", "vocabulary"),
    (
        "store/src/auth/",
        "the same commands give the same users on every member; time and chance are handed in",
    ),
    ("store/src/timeline.rs", "time is handed in, and the same on every member"),
    ("store/src/grouping.rs", "a decision"),
    ("store/src/activity/sketch.rs", "a decision"),
    ("store/src/identity.rs", "every initial member computes the same ids alone"),
    ("store/src/config/valid.rs", "what the words mean does not depend on the machine"),
    ("store/src/config/retention.rs", "what the words mean does not depend on the machine"),
    ("store/src/config/schedule.rs", "what the words mean does not depend on the machine; time is handed in"),
    ("store/src/config/initial_cluster.rs", "what the words mean does not depend on the machine"),
    ("store/src/tree.rs", "a data structure"),
    ("store/src/mvcc/", "the same commands give the same keyspace on every member"),
    ("store/src/lease/", "time is handed in"),
    ("store/src/state/mod.rs", "the same commands give the same state on every member"),
    ("store/src/state/batch.rs", "bytes only"),
    ("store/src/state/members.rs", "the same commands give the same state on every member"),
    ("store/src/watch/range.rs", "a decision"),
    ("store/src/watch/watchers.rs", "a decision"),
    ("store/src/member/quorum.rs", "a decision"),
    ("store/src/member/backups/plan.rs", "a decision; time is handed in"),
    ("store/src/member/backups/name.rs", "text only"),
    ("store/src/offline/chain.rs", "a decision"),
    ("store/src/offline/cluster.rs", "every member that is restored computes the same ids alone"),
    ("store/src/offline/bbolt/page.rs", "bytes only"),
    ("store/src/offline/etcd/keys.rs", "bytes only"),
    ("store/src/offline/etcd/users.rs", "bytes only; chance is handed in"),
    ("store/src/offline/rebase.rs", "members that are restored apart must begin with the same"),
    ("store/src/rpc/chunks.rs", "bytes only"),
    ("store/src/rpc/overlap.rs", "a decision"),
    ("store/src/rpc/space.rs", "numbers only"),
    ("store/src/rpc/validate.rs", "a decision"),
    ("store/src/rpc/convert.rs", "shapes only"),
    ("store/src/wal/format.rs", "bytes only"),
    ("store/src/snapshot/format.rs", "bytes only"),
    ("store/src/records/value.rs", "bytes only"),
    ("store/src/records/rewrite_rule.rs", "a decision; time is handed in"),
    ("api/src/", "the object model"),
    ("api/client/src/servers/choice.rs", "a decision; time is handed in"),
    ("api/client/src/servers/verdict.rs", "a decision"),
    ("api/client/src/leader_election/plan.rs", "a decision; time is handed in"),
    ("api/client/src/events/correlate.rs", "a decision; time is handed in"),
    ("api/client/src/events/recent.rs", "a data structure"),
    ("apiserver/src/aggregation/condition.rs", "a decision; time is handed in"),
    ("apiserver/src/aggregation/endpoints.rs", "a decision"),
    ("apiserver/src/aggregation/registrar.rs", "a decision"),
    ("apiserver/src/aggregation/registration.rs", "shapes only"),
    ("apiserver/src/aggregation/told.rs", "shapes only"),
    ("apiserver/src/audit/event.rs", "time is handed in"),
    ("apiserver/src/audit/policy.rs", "a decision"),
    ("apiserver/src/admission/asked.rs", "a decision"),
    ("apiserver/src/admission/conditions.rs", "a decision"),
    ("apiserver/src/admission/expressions.rs", "a decision"),
    ("apiserver/src/admission/matching.rs", "a decision"),
    ("apiserver/src/admission/policies/mutation.rs", "a decision"),
    ("apiserver/src/admission/policies/parameters.rs", "a decision"),
    ("apiserver/src/admission/policies/policy.rs", "a decision"),
    ("apiserver/src/admission/policies/validation.rs", "a decision"),
    ("apiserver/src/admission/reinvocation.rs", "a decision"),
    ("apiserver/src/admission/webhooks/hook.rs", "a decision"),
    ("apiserver/src/admission/webhooks/review.rs", "a decision"),
    ("apiserver/src/authorization/", "answers depend on the question and on replicated objects alone"),
    ("apiserver/src/bootstrap/", "a decision; time is handed in"),
    ("apiserver/src/custom_resources/conditions.rs", "a decision; time is handed in"),
    ("apiserver/src/custom_resources/definition.rs", "a decision"),
    ("apiserver/src/custom_resources/deletion.rs", "a decision; time is handed in"),
    ("apiserver/src/custom_resources/selectable.rs", "a decision"),
    ("apiserver/src/custom_resources/validation/", "a decision"),
    ("apiserver/src/storage/keys.rs", "text only"),
    ("apiserver/src/storage/etcd/convert.rs", "shapes only"),
    ("apiserver/src/storage/etcd/verdict.rs", "a decision"),
    ("apiserver/src/watch_cache/continue_token.rs", "text only"),
    ("apiserver/src/watch_cache/index.rs", "a data structure"),
    ("apiserver/src/watch_cache/object.rs", "bytes only"),
    ("apiserver/src/watch_cache/page.rs", "a decision"),
    ("apiserver/src/watch_cache/query.rs", "a decision"),
    ("apiserver/src/watch_cache/reader.rs", "bytes only"),
    ("apiserver/src/watch_cache/ring.rs", "time is handed in"),
    ("apiserver/src/watch_cache/state.rs", "time is handed in"),
    ("apiserver/src/webhook_client/target.rs", "a decision"),
    ("apiserver/src/webhook_client/validation.rs", "a decision"),
    ("kvctl/src/output/go_quote.rs", "text only"),
    ("kvctl/src/output/grid.rs", "text only"),
    ("kvctl/src/output/json.rs", "from answers to text"),
    ("kvctl/src/output/simple.rs", "from answers to text"),
    ("kvctl/src/output/fields.rs", "from answers to text"),
    ("kvctl/src/output/rows.rs", "from answers to text"),
    ("kvctl/src/go_duration.rs", "text only"),
    ("kvctl/src/range.rs", "a decision"),
    ("kvctl/src/command/words.rs", "text only"),
    ("kvctl/src/command/member/quorum.rs", "a decision"),
    ("kvctl/src/command/status/metrics.rs", "text only"),
    ("kvctl/src/command/status/screen.rs", "from answers to text"),
    ("kvctl/src/command/top/screen.rs", "from answers to text"),
    ("kvctl/src/command/groups.rs", "a decision"),
    ("kvctl/src/bench/workload.rs", "a decision"),
    ("kvctl/src/bench/grpc/", "bytes only; whoever owns a session moves them"),
];

/// The outside world, as pure code would name it.
const IMPURE: &[&str] = &[
    "tokio::",
    "openraft::",
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "rand::rng",
    "rand::random",
    "parking_lot::",
];

/// Libraries that stay in their place, so that replacing one touches that place alone.
const CONFINED: &[(&str, &[&str])] = &[
    // Hashing takes tens of milliseconds: never where commands are executed or calls are served.
    ("argon2::", &["store/src/auth/password.rs"]),
    ("bcrypt::", &["store/src/auth/password.rs"]),
    // The member still reads openraft's metrics and proposes its membership changes directly.
    ("openraft::", &["store/src/raft/", "store/src/member/"]),
    ("sled::", &["store/src/records/"]),
    (
        "tonic::",
        &[
            "proto/",
            "store/src/error.rs",
            "store/src/metrics/grpc.rs",
            "store/src/serve/",
            "store/src/server.rs",
            "store/src/rpc/",
            "store/src/raft/",
            "store/src/member/peer_backend.rs",
            "kvctl/src/connection/",
            "apiserver/src/storage/etcd/",
            "jepsen-like-tests/",
        ],
    ),
    // Real processes are seen as any client sees them; only simulations are made of the store's parts.
    (
        "barque_store::",
        &[
            "store/",
            "barque/",
            "kvctl/",
            "jepsen-like-tests/src/simulation/",
            "apiserver/src/aggregation/",
            "apiserver/src/storage/",
            "apiserver/src/watch_cache/index.rs",
            // Certificates that are followed, and numbers of the process, are told once.
            "apiserver/src/config/",
            "apiserver/src/metrics/mod.rs",
            "apiserver/src/server.rs",
            "apiserver/src/streaming/",
            "apiserver/src/test_parts.rs",
        ],
    ),
    // The tool would otherwise depend on what members are made of.
    ("barque_store::offline", &["kvctl/src/command/snapshot/", "kvctl/src/command/recover.rs", "store/"]),
    // How a command reaches the cluster is no command's business.
    (
        "rustls::",
        &[
            "store/src/tls/",
            "kvctl/src/connection/",
            "apiserver/src/aggregation/dial.rs",
            "apiserver/src/authentication/",
            "apiserver/src/dial.rs",
            "apiserver/src/http/serve.rs",
            "apiserver/src/server.rs",
            "apiserver/src/streaming/dial.rs",
            "apiserver/src/webhook_client/",
            "apiserver/src/admission/webhooks/test_server.rs",
            "apiserver/src/custom_resources/tests/webhook.rs",
            "barque/tests/hostile.rs",
            "jepsen-like-tests/src/door.rs",
        ],
    ),
    // Only a network of the tests' own carries packets.
    ("tokio_tun::", &["jepsen-like-tests/src/network/"]),
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
        assert!(!files.is_empty(), "PURE of this test names {path}, which is not there");
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
    judge("some libraries are used in one place only (CONFINED in this test)", &wrong);
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
