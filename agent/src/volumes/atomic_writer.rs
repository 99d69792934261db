//! Files of a volume that change all at once: they are in a directory that `..data` names, and what is seen at the top are links
//! through that name. Must never show a reader files of two versions under one look at `..data`.
//!
//! As the kubelet lays it out: `FILE -> ..data/FILE`, `..data -> ..TIME`, files in `..TIME`.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use k8s_openapi::jiff::Timestamp;

use super::ownership::{Group, give};
use super::payload::{Payload, check, top_level};
use super::remove::remove_tree;

/// The name of the link that is swapped.
const DATA: &str = "..data";
/// The link before it takes the place of the other.
const NEXT: &str = "..data_tmp";

/// Makes the files in the volume's directory those of the payload. Says whether anything was written.
///
/// # Errors
/// When a path is none for a volume, or the file system refuses. What was there before stays then.
pub fn write(dir: &Path, payload: &Payload, group: Option<Group>, now: Timestamp) -> io::Result<bool> {
    check(payload).map_err(|why| io::Error::new(io::ErrorKind::InvalidInput, why))?;
    let current = fs::read_link(dir.join(DATA)).ok();
    let is_same = match &current {
        Some(current) => holds(&dir.join(current), payload, group)?,
        None => false,
    };
    if is_same {
        // The last write may have ended before all was seen.
        link_top_level(dir, payload)?;
        return Ok(false);
    }
    let name = fresh_name(dir, now)?;
    let version = dir.join(&name);
    let written = write_version(&version, payload).and_then(|()| match group {
        Some(group) => give(&version, group),
        None => Ok(()),
    });
    if let Err(error) = written {
        // Nobody has seen it; what cannot be removed now is with the next write.
        drop(remove_tree(&version));
        return Err(error);
    }
    let next = dir.join(NEXT);
    remove_link(&next)?;
    symlink(&name, &next)?;
    fs::rename(&next, dir.join(DATA))?;
    link_top_level(dir, payload)?;
    remove_stale(dir, payload, &name)?;
    Ok(true)
}

/// A name that sorts by time and is not there yet; its directory is made.
fn fresh_name(dir: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let time = now.strftime("..%Y_%m_%d_%H_%M_%S");
    loop {
        let name = PathBuf::from(format!("{time}.{:010}", rand::random::<u32>()));
        match fs::create_dir(dir.join(&name)) {
            Ok(()) => {
                fs::set_permissions(dir.join(&name), fs::Permissions::from_mode(0o755))?;
                return Ok(name);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

fn write_version(version: &Path, payload: &Payload) -> io::Result<()> {
    for (path, file) in payload {
        let path = version.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut out = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        io::Write::write_all(&mut out, &file.content)?;
        if let Some(user) = file.user {
            std::os::unix::fs::fchown(&out, Some(user), None)?;
        }
        // After the owner, since a change of that takes rights away; and past the process's mask.
        out.set_permissions(fs::Permissions::from_mode(file.mode))?;
    }
    Ok(())
}

/// Whether a version is already what it should be.
fn holds(version: &Path, payload: &Payload, group: Option<Group>) -> io::Result<bool> {
    let mut found = Vec::new();
    if collect(version, Path::new(""), &mut found).is_err() || found.len() != payload.len() {
        return Ok(false);
    }
    for path in found {
        let Some(file) = payload.get(&path) else { return Ok(false) };
        let there = version.join(&path);
        let metadata = fs::symlink_metadata(&there)?;
        let (mode, gid) = match group {
            Some(group) => (group.mode(file.mode, false), group.gid),
            None => (file.mode, metadata.gid()),
        };
        let same = metadata.mode() & 0o7777 == mode
            && metadata.gid() == gid
            && metadata.uid() == file.user.unwrap_or_else(|| metadata.uid())
            && metadata.len() == file.content.len() as u64;
        if !same || fs::read(&there)? != file.content {
            return Ok(false);
        }
    }
    Ok(true)
}

fn collect(version: &Path, below: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(version.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            collect(version, &path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}

fn link_top_level(dir: &Path, payload: &Payload) -> io::Result<()> {
    for name in top_level(payload) {
        let target = Path::new(DATA).join(name);
        let link = dir.join(name);
        if fs::read_link(&link).is_ok_and(|there| there == target) {
            continue;
        }
        match symlink(&target, &link) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
    }
    Ok(())
}

/// Takes away what is seen and not in the payload, and all versions but the current one.
fn remove_stale(dir: &Path, payload: &Payload, current: &Path) -> io::Result<()> {
    let kept = top_level(payload);
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = PathBuf::from(entry.file_name());
        let is_version = name.to_string_lossy().starts_with("..");
        if is_version {
            if name != current && entry.file_type()?.is_dir() {
                remove_tree(&entry.path())?;
            }
        } else if !kept.contains(name.as_path()) && entry.file_type()?.is_symlink() {
            remove_link(&entry.path())?;
        }
    }
    Ok(())
}

fn remove_link(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use proptest::prelude::*;

    use super::super::payload::File;
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        let file = |content: &str| File { content: content.as_bytes().to_owned(), mode: 0o644, user: None };
        files.iter().map(|(path, content)| (PathBuf::from(path), file(content))).collect()
    }

    fn put(dir: &Path, payload: &Payload) -> bool {
        write(dir, payload, None, Timestamp::from_second(1_000_000_000).unwrap()).unwrap()
    }

    /// All that is seen, by what it holds.
    fn seen(dir: &Path) -> Vec<(String, String)> {
        let mut files = Vec::new();
        let top = fs::read_dir(dir).unwrap().map(|entry| PathBuf::from(entry.unwrap().file_name()));
        for name in top.filter(|name| !name.to_string_lossy().starts_with("..")) {
            if dir.join(&name).is_dir() {
                collect(dir, &name, &mut files).unwrap();
            } else {
                files.push(name);
            }
        }
        files.sort();
        let read = |path: PathBuf| {
            let content = fs::read_to_string(dir.join(&path)).unwrap();
            (path.to_string_lossy().into_owned(), content)
        };
        files.into_iter().map(read).collect()
    }

    fn versions(dir: &Path) -> usize {
        let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
        entries.filter(|entry| entry.file_type().unwrap().is_dir()).count()
    }

    #[test]
    fn what_changes_is_swapped_and_what_is_gone_disappears() {
        let dir = tempfile::tempdir().unwrap();
        let first = payload(&[("a", "1"), ("d/x", "2"), ("d/y", "3")]);
        assert!(put(dir.path(), &first));
        assert!(!put(dir.path(), &first), "nothing new");
        let target = fs::read_link(dir.path().join(DATA)).unwrap();
        assert!(target.to_string_lossy().starts_with("..2001_09_09_01_46_40."), "{target:?}");
        assert_eq!(fs::read_link(dir.path().join("a")).unwrap(), Path::new("..data/a"));
        assert!(put(dir.path(), &payload(&[("a", "9"), ("e", "5")])));
        let pair = |path: &str, content: &str| (path.to_owned(), content.to_owned());
        assert_eq!(seen(dir.path()), [pair("a", "9"), pair("e", "5")]);
        assert_eq!(versions(dir.path()), 1);
        assert!(put(dir.path(), &Payload::new()));
        assert_eq!((seen(dir.path()), versions(dir.path())), (vec![], 1));
    }

    #[test]
    fn modes_are_those_that_were_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut wanted = payload(&[("a", "1")]);
        wanted.get_mut(Path::new("a")).unwrap().mode = 0o666;
        assert!(put(dir.path(), &wanted));
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o7777, 0o666);
        wanted.get_mut(Path::new("a")).unwrap().mode = 0o400;
        assert!(put(dir.path(), &wanted), "another mode is another version");
        assert_eq!(fs::metadata(dir.path().join("a")).unwrap().mode() & 0o7777, 0o400);
    }

    #[test]
    fn what_an_interrupted_write_left_is_cleaned() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &payload(&[("a", "1")]));
        fs::create_dir(dir.path().join("..2000_01_01_00_00_00.1")).unwrap();
        symlink("nowhere", dir.path().join(NEXT)).unwrap();
        put(dir.path(), &payload(&[("a", "2")]));
        assert_eq!((versions(dir.path()), seen(dir.path()).len()), (1, 1));
        assert!(fs::symlink_metadata(dir.path().join(NEXT)).is_err());
    }

    #[test]
    fn a_path_that_leads_out_is_refused_and_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &payload(&[("a", "1")]));
        let error = write(dir.path(), &payload(&[("../b", "2")]), None, Timestamp::UNIX_EPOCH).unwrap_err();
        assert!(error.to_string().contains("must not contain '..'"), "{error}");
        assert_eq!(seen(dir.path()).len(), 1);
    }

    #[test]
    fn a_reader_never_sees_a_mix() {
        const FILES: usize = 8;
        let dir = tempfile::tempdir().unwrap();
        let version = |number: usize| {
            let names: Vec<String> = (0..FILES).map(|file| format!("f{file}")).collect();
            let content = number.to_string();
            payload(&names.iter().map(|name| (name.as_str(), content.as_str())).collect::<Vec<_>>())
        };
        put(dir.path(), &version(0));
        let done = AtomicBool::new(false);
        let looks = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut looks = 0_usize;
                while !done.load(Ordering::Relaxed) || looks == 0 {
                    // A reader that wants one version looks at the link once and reads there.
                    let Ok(current) = fs::read_link(dir.path().join(DATA)) else { panic!("no data") };
                    let current = dir.path().join(current);
                    let read: io::Result<Vec<String>> =
                        (0..FILES).map(|file| fs::read_to_string(current.join(format!("f{file}")))).collect();
                    // A version that is gone meanwhile is looked for again.
                    let Ok(read) = read else { continue };
                    assert!(read.iter().all(|content| *content == read[0]), "{read:?}");
                    looks += 1;
                }
                looks
            });
            for number in 1..300 {
                assert!(put(dir.path(), &version(number)));
            }
            done.store(true, Ordering::Relaxed);
            reader.join().unwrap()
        });
        assert!(looks > 0);
    }

    proptest! {
        #![proptest_config(ProptestConfig { fork: false, cases: 32, ..ProptestConfig::default() })]
        #[test]
        fn whatever_was_there_the_last_payload_is_what_is_seen(
            rounds in proptest::collection::vec(
                proptest::collection::btree_map("[ab]/[cd]|[e-g]", "[xy]{0,3}", 0..5), 1..5)
        ) {
            let dir = tempfile::tempdir().unwrap();
            for round in rounds {
                let files: Vec<_> = round.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
                put(dir.path(), &payload(&files));
                let expected: Vec<_> = round.into_iter().collect();
                prop_assert_eq!(seen(dir.path()), expected);
                prop_assert_eq!(versions(dir.path()), 1);
            }
        }
    }
}
