//! Random layers, stacked: what overlayfs shows, and what is read without a mount, is what the specification says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tar::{EntryType, Header};
use tokio_util::sync::CancellationToken;

use super::{merged, unpack};
use stacked::Stacked;

#[path = "../../tests/images/stacked.rs"]
mod stacked;

/// An entry of an archive.
#[derive(Debug, Clone)]
enum Op {
    Directory(String, u32),
    File(String, Vec<u8>, u32),
    Link(String),
    Whiteout(String),
    Opaque(String),
}

/// What a layer has under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    /// With its mode, and whether it hides what is below.
    Directory(u32, bool),
    File(Vec<u8>, u32),
    Link,
    Whiteout,
}

type Tree = BTreeMap<String, Node>;

const LINK_TARGET: &str = "/nowhere/at/all";
/// Of directories that nobody named.
const IMPLIED: u32 = 0o755;

fn parents(path: &str) -> Vec<String> {
    let cuts = path.match_indices('/').map(|(at, _)| path[..at].to_owned());
    cuts.collect()
}

fn below(tree: &Tree, path: &str) -> Vec<String> {
    let prefix = format!("{path}/");
    tree.keys().filter(|other| other.starts_with(&prefix)).cloned().collect()
}

/// What one layer holds after its entries, as the specification and tar have it; entries below links are left out.
fn layer_of(ops: &[Op]) -> (Vec<Op>, Tree) {
    let (mut kept, mut tree) = (Vec::new(), Tree::new());
    for op in ops {
        let path = match op {
            Op::Directory(path, _) | Op::File(path, ..) | Op::Link(path) | Op::Whiteout(path) => path.clone(),
            Op::Opaque(path) => format!("{path}/x"),
        };
        if parents(&path).iter().any(|parent| tree.get(parent) == Some(&Node::Link)) {
            continue;
        }
        kept.push(op.clone());
        for parent in parents(&path) {
            match tree.get(&parent) {
                Some(Node::Directory(..)) => {}
                other => {
                    let hides = other.is_some();
                    tree.insert(parent, Node::Directory(IMPLIED, hides));
                }
            }
        }
        let mut replace = |node: Node| {
            for gone in below(&tree, &path) {
                tree.remove(&gone);
            }
            tree.insert(path.clone(), node);
        };
        match op {
            Op::File(_, content, mode) => replace(Node::File(content.clone(), *mode)),
            Op::Link(_) => replace(Node::Link),
            Op::Directory(_, mode) => {
                let hides = match tree.get(&path) {
                    Some(Node::Directory(_, hides)) => *hides,
                    other => other.is_some(),
                };
                tree.insert(path, Node::Directory(*mode, hides));
            }
            Op::Whiteout(_) => match tree.get_mut(&path) {
                Some(Node::Directory(_, hides)) => *hides = true,
                Some(_) => {}
                None => drop(tree.insert(path, Node::Whiteout)),
            },
            Op::Opaque(directory) => {
                if let Some(Node::Directory(_, hides)) = tree.get_mut(directory) {
                    *hides = true;
                }
            }
        }
    }
    (kept, tree)
}

/// The layers below, changed by one on top.
fn stacked(mut lower: Tree, upper: &Tree) -> Tree {
    for (path, node) in upper {
        let merges =
            matches!((node, lower.get(path)), (Node::Directory(_, false), Some(Node::Directory(..)) | None));
        if !merges {
            for gone in below(&lower, path) {
                lower.remove(&gone);
            }
        }
        match node {
            Node::Whiteout => drop(lower.remove(path)),
            Node::Directory(mode, _) => drop(lower.insert(path.clone(), Node::Directory(*mode, false))),
            node => drop(lower.insert(path.clone(), node.clone())),
        }
    }
    lower
}

fn archive(ops: &[Op]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for op in ops {
        let mut header = Header::new_gnu();
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_000_000);
        header.set_size(0);
        header.set_mode(0o644);
        header.set_entry_type(EntryType::Regular);
        let hidden = |path: &str, name: &str| match path.rsplit_once('/') {
            Some((parent, _)) => format!("{parent}/{name}"),
            None => name.to_owned(),
        };
        match op {
            Op::Directory(path, mode) => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                builder.append_data(&mut header, path, &b""[..]).unwrap();
            }
            Op::File(path, content, mode) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                builder.append_data(&mut header, path, &content[..]).unwrap();
            }
            Op::Link(path) => {
                header.set_entry_type(EntryType::Symlink);
                builder.append_link(&mut header, path, LINK_TARGET).unwrap();
            }
            Op::Whiteout(path) => {
                let name = path.rsplit('/').next().unwrap();
                builder.append_data(&mut header, hidden(path, &format!(".wh.{name}")), &b""[..]).unwrap();
            }
            Op::Opaque(path) => {
                builder.append_data(&mut header, format!("{path}/.wh..wh..opq"), &b""[..]).unwrap();
            }
        }
    }
    builder.into_inner().unwrap()
}

fn walk(root: &Path, at: &Path, found: &mut Tree) {
    for entry in fs::read_dir(at).unwrap() {
        let path = entry.unwrap().path();
        // The kernel lists a whiteout that has nothing below its directory, but has no file of that name.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let mode = metadata.permissions().mode() & 0o7777;
        let node = if metadata.is_dir() {
            walk(root, &path, found);
            Node::Directory(mode, false)
        } else if metadata.is_symlink() {
            assert_eq!(fs::read_link(&path).unwrap(), Path::new(LINK_TARGET));
            Node::Link
        } else {
            assert!(!metadata.file_type().is_char_device(), "a whiteout is seen: {name}");
            assert_eq!((metadata.uid(), metadata.gid(), metadata.mtime()), (7, 8, 1_000_000));
            Node::File(fs::read(&path).unwrap(), mode)
        };
        found.insert(name, node);
    }
}

fn paths() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..4).prop_map(|parts| parts.join("/"))
}

fn ops() -> impl Strategy<Value = Op> {
    let modes = || prop::sample::select(vec![0o644, 0o4755, 0o700, 0o1777]);
    prop_oneof![
        2 => (paths(), modes()).prop_map(|(path, mode)| Op::Directory(path, mode)),
        4 => (paths(), prop::collection::vec(any::<u8>(), 0..20), modes())
            .prop_map(|(path, content, mode)| Op::File(path, content, mode)),
        1 => paths().prop_map(Op::Link),
        3 => paths().prop_map(Op::Whiteout),
        1 => paths().prop_map(Op::Opaque),
    ]
}

fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]
    #[test]
    fn a_stack_of_layers_shows_what_the_specification_says(
        layers in prop::collection::vec(prop::collection::vec(ops(), 0..10), 1..4),
    ) {
        if !is_root() {
            return Ok(());
        }
        let folder = tempfile::tempdir().unwrap();
        let mut directories: Vec<PathBuf> = Vec::new();
        let mut expected = Tree::new();
        for (number, ops) in layers.iter().enumerate() {
            let (ops, tree) = layer_of(ops);
            let directory = folder.path().join(format!("layer-{number}"));
            fs::create_dir(&directory).unwrap();
            let unpacked = unpack::unpack(&archive(&ops)[..], &directory, &CancellationToken::new()).unwrap();
            let mut tree = tree;
            for implied in &unpacked.implied {
                unpack::inherit(&directory, implied, &directories).unwrap();
                let name = implied.to_str().unwrap();
                // What it looks like below, if it is a directory there.
                if let (Some(Node::Directory(lower, _)), Some(Node::Directory(mode, _))) =
                    (expected.get(name), tree.get_mut(name))
                {
                    *mode = *lower;
                }
            }
            expected = stacked(expected, &tree);
            directories.push(directory);
        }
        let mounted = Stacked::new(&directories, folder.path(), true);
        let mut found = Tree::new();
        walk(mounted.path(), mounted.path(), &mut found);
        prop_assert_eq!(&found, &expected);

        for path in ["a", "b", "a/b", "a/b/c", "b/c", "c/c/c", "a/a"] {
            let read = merged::open(&directories, &Path::new("/").join(path)).unwrap().map(|mut file| {
                let mut content = Vec::new();
                file.read_to_end(&mut content).unwrap();
                content
            });
            let content = match expected.get(path) {
                Some(Node::File(content, _)) => Some(content.clone()),
                _ => None,
            };
            prop_assert_eq!(read, content, "{}", path);
        }
    }
}

fn header(kind: EntryType) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    header
}

/// A name as it is, without the care that builders take.
fn raw(header: &mut Header, name: &str) {
    let bytes = header.as_mut_bytes();
    bytes[..100].fill(0);
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    header.set_cksum();
}

#[test]
fn no_name_and_no_link_leads_out_of_the_layer() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (target, outside) = (folder.path().join("layer"), folder.path().join("outside"));
    fs::create_dir(&target).unwrap();
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut file = |name: &str| {
        let mut header = header(EntryType::Regular);
        header.set_size(2);
        raw(&mut header, name);
        builder.append(&header, &b"hi"[..]).unwrap();
    };
    file("../../outside/one");
    file("/outside/two");
    for (name, to) in
        [("up", "../../outside"), ("absolute", outside.to_str().unwrap()), ("outer", "../outside")]
    {
        builder.append_link(&mut header(EntryType::Symlink), name, to).unwrap();
    }
    let mut through = header(EntryType::Regular);
    through.set_size(2);
    raw(&mut through, "up/three");
    builder.append(&through, &b"hi"[..]).unwrap();
    let mut whiteout = header(EntryType::Regular);
    raw(&mut whiteout, "up/.wh.secret");
    builder.append(&whiteout, &b""[..]).unwrap();
    let archive = builder.into_inner().unwrap();

    unpack::unpack(&archive[..], &target, &CancellationToken::new()).unwrap();
    let left: Vec<_> = fs::read_dir(&outside).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["secret"]);
    for name in ["one", "two", "three"] {
        assert_eq!(fs::read(target.join("outside").join(name)).unwrap(), b"hi", "{name}");
    }

    // A hard link to a file outside finds nothing, and leaves nothing.
    let mut builder = tar::Builder::new(Vec::new());
    builder.append_link(&mut header(EntryType::Link), "stolen", "../outside/secret").unwrap();
    let archive = builder.into_inner().unwrap();
    let empty = folder.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(unpack::unpack(&archive[..], &empty, &CancellationToken::new()).is_err());
    assert_eq!(fs::read_dir(&empty).unwrap().count(), 0);
}

#[test]
fn links_devices_attributes_and_times_are_kept() {
    if !is_root() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut builder = tar::Builder::new(Vec::new());
    let mut directory = header(EntryType::Directory);
    directory.set_mode(0o1750);
    directory.set_mtime(12345);
    builder.append_data(&mut directory, "d", &b""[..]).unwrap();
    // A capability, as `setcap cap_net_raw+ep` writes it: it has to survive the change of owner.
    let capability: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records = [
        ("SCHILY.xattr.security.capability", capability),
        ("SCHILY.xattr.user.note", b"a\nb"),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("mtime", b"99.5"),
    ];
    builder.append_pax_extensions(records).unwrap();
    let mut file = header(EntryType::Regular);
    file.set_size(3);
    file.set_uid(1000);
    file.set_mode(0o4755);
    builder.append_data(&mut file, "d/file", &b"abc"[..]).unwrap();
    builder.append_link(&mut header(EntryType::Link), "hard", "d/file").unwrap();
    let mut device = header(EntryType::Char);
    device.set_device_major(1).unwrap();
    device.set_device_minor(3).unwrap();
    builder.append_data(&mut device, "null", &b""[..]).unwrap();
    builder.append_data(&mut header(EntryType::Fifo), "pipe", &b""[..]).unwrap();
    let mut link = header(EntryType::Symlink);
    link.set_uid(5);
    builder.append_link(&mut link, "soft", "d/file").unwrap();
    let archive = builder.into_inner().unwrap();

    let unpacked = unpack::unpack(&archive[..], folder.path(), &CancellationToken::new()).unwrap();
    assert_eq!((unpacked.bytes, unpacked.implied.len()), (3, 0));
    let stat = |name: &str| fs::symlink_metadata(folder.path().join(name)).unwrap();
    assert_eq!((stat("d").mode() & 0o7777, stat("d").mtime()), (0o1750, 12345));
    let file = stat("d/file");
    assert_eq!((file.mode() & 0o7777, file.uid(), file.nlink()), (0o4755, 1000, 2));
    assert_eq!((file.mtime(), file.mtime_nsec()), (99, 500_000_000));
    assert_eq!(file.ino(), stat("hard").ino());
    assert!(stat("pipe").file_type().is_fifo());
    assert_eq!(stat("null").rdev(), rustix::fs::makedev(1, 3));
    assert_eq!(stat("soft").uid(), 5);
    let attribute = |name: &str| {
        let mut value = [0_u8; 64];
        let length = rustix::fs::getxattr(folder.path().join("d/file"), name, &mut value[..]).ok()?;
        Some(value[..length].to_vec())
    };
    assert_eq!(attribute("security.capability").as_deref(), Some(capability));
    assert_eq!(attribute("user.note").as_deref(), Some(&b"a\nb"[..]));
    assert_eq!(attribute("trusted.overlay.redirect"), None);
}

#[test]
fn unpacking_ends_when_nobody_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = CancellationToken::new();
    cancel.cancel();
    assert!(unpack::unpack(&archive(&[])[..], folder.path(), &cancel).is_err());
}
