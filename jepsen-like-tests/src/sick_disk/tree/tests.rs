//! What processes see of the tree, and what a power cut leaves of it.

#![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;

fn cut(tree: &mut Tree, loss: Loss) {
    tree.power_cut(loss, &mut StdRng::seed_from_u64(1));
}

fn create(tree: &mut Tree, name: &str) -> Inode {
    tree.create(Inode::ROOT, OsStr::new(name), 0o644).unwrap()
}

fn content(tree: &mut Tree, path: &str) -> Option<Vec<u8>> {
    let inode = tree.at(Path::new(path)).ok()?;
    Some(tree.read(inode, 0, usize::MAX).unwrap().to_vec())
}

/// What a program does, and what is there after the power was gone.
#[test]
fn what_is_left_after_a_power_cut() {
    type Case = (&'static str, fn(&mut Tree), &'static [(&'static str, &'static str)]);
    let table: [Case; 9] = [
        ("nothing is synced", |t| t.create(Inode::ROOT, "a".as_ref(), 0).map(drop).unwrap(), &[]),
        (
            "content is synced, the name is not",
            |t| {
                let a = create(t, "a");
                t.write(a, 0, b"x").unwrap();
                t.sync(a).unwrap();
            },
            &[],
        ),
        (
            "the name is synced, content is not",
            |t| {
                let a = create(t, "a");
                t.write(a, 0, b"x").unwrap();
                t.sync(Inode::ROOT).unwrap();
            },
            &[("a", "")],
        ),
        (
            "both are",
            |t| {
                let a = create(t, "a");
                t.write(a, 0, b"x").unwrap();
                t.sync(a).unwrap();
                t.sync(Inode::ROOT).unwrap();
                t.write(a, 0, b"y").unwrap();
            },
            &[("a", "x")],
        ),
        (
            "a rename is not",
            |t| {
                let a = create(t, "a");
                let b = create(t, "b");
                t.write(a, 0, b"old").unwrap();
                t.write(b, 0, b"new").unwrap();
                t.write_back();
                t.rename(Inode::ROOT, "b".as_ref(), "a".as_ref()).unwrap();
            },
            &[("a", "old"), ("b", "new")],
        ),
        (
            "a rename is",
            |t| {
                let b = create(t, "b");
                create(t, "a");
                t.write(b, 0, b"new").unwrap();
                t.sync(b).unwrap();
                t.rename(Inode::ROOT, "b".as_ref(), "a".as_ref()).unwrap();
                t.sync(Inode::ROOT).unwrap();
            },
            &[("a", "new")],
        ),
        (
            "a removal is not",
            |t| {
                create(t, "a");
                t.write_back();
                t.unlink(Inode::ROOT, "a".as_ref()).unwrap();
                assert!(t.lookup(Inode::ROOT, "a".as_ref()).is_err());
            },
            &[("a", "")],
        ),
        (
            "a directory's own name is not, what is in it is",
            |t| {
                let d = t.make_directory(Inode::ROOT, "d".as_ref(), 0o755).unwrap();
                t.create(d, "a".as_ref(), 0o644).unwrap();
                t.sync(d).unwrap();
            },
            &[],
        ),
        (
            "a sync failed, and the next one did not write what that one should have",
            |t| {
                let a = create(t, "a");
                t.write(a, 0, b"xy").unwrap();
                t.sync(a).unwrap();
                t.sync(Inode::ROOT).unwrap();
                t.write(a, 0, b"z").unwrap();
                t.fail_sync(a).unwrap();
                t.write(a, 1, b"z").unwrap();
                t.sync(a).unwrap();
                assert_eq!(content(t, "a").unwrap(), b"zz");
            },
            &[("a", "xz")],
        ),
    ];
    for (what, program, expected) in table {
        let mut tree = Tree::default();
        program(&mut tree);
        cut(&mut tree, Loss::Everything);
        let paths = tree.files();
        let found: Vec<_> = paths
            .iter()
            .map(|(path, _)| {
                let path = path.to_str().unwrap();
                (path, String::from_utf8(content(&mut tree, path).unwrap()).unwrap())
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|(path, text)| (*path, (*text).to_owned())).collect();
        assert_eq!(found, expected, "{what}");
    }
}

#[test]
fn numbers_are_new_after_a_power_cut() {
    let mut tree = Tree::default();
    let before = create(&mut tree, "a");
    tree.write_back();
    for _ in 0..3 {
        cut(&mut tree, Loss::Everything);
        let after = tree.at(Path::new("a")).unwrap();
        assert_ne!(before, after);
        assert_eq!(tree.attributes(before), Err(Errno::NOENT));
        let other = tree.create(Inode::ROOT, "b".as_ref(), 0o644).unwrap();
        assert_ne!(other, after);
    }
}

/// A name may be on the disk before the content is.
#[test]
fn names_that_were_not_synced_may_be_there() {
    let found = (0..50).any(|seed| {
        let mut tree = Tree::default();
        let a = create(&mut tree, "a");
        tree.write(a, 0, b"x").unwrap();
        tree.power_cut(Loss::Torn(512), &mut StdRng::seed_from_u64(seed));
        content(&mut tree, "a") == Some(Vec::new())
    });
    assert!(found);
}

#[test]
fn what_is_open_or_may_come_back_stays_in_memory() {
    let mut tree = Tree::default();
    let a = create(&mut tree, "a");
    tree.write(a, 0, b"abc").unwrap();
    tree.open(a).unwrap();
    tree.write_back();
    tree.unlink(Inode::ROOT, "a".as_ref()).unwrap();
    assert_eq!(tree.bytes(), 3, "its removal is not on the disk");
    tree.sync(Inode::ROOT).unwrap();
    assert_eq!(tree.read(a, 1, 9).unwrap(), b"bc", "it is open");
    tree.close(a);
    tree.sync(Inode::ROOT).unwrap();
    assert_eq!(tree.bytes(), 0);
}

#[test]
fn refusals_are_those_of_the_system() {
    let mut tree = Tree::default();
    let a = create(&mut tree, "a");
    let d = tree.make_directory(Inode::ROOT, "d".as_ref(), 0o755).unwrap();
    tree.create(d, "inside".as_ref(), 0o644).unwrap();
    let root = Inode::ROOT;
    assert_eq!(tree.create(root, "a".as_ref(), 0), Err(Errno::EXIST));
    assert_eq!(tree.lookup(root, "b".as_ref()), Err(Errno::NOENT));
    assert_eq!(tree.lookup(a, "b".as_ref()), Err(Errno::NOTDIR));
    assert_eq!(tree.write(d, 0, b"x"), Err(Errno::ISDIR));
    assert_eq!(tree.unlink(root, "d".as_ref()), Err(Errno::ISDIR));
    assert_eq!(tree.remove_directory(root, "a".as_ref()), Err(Errno::NOTDIR));
    assert_eq!(tree.remove_directory(root, "d".as_ref()), Err(Errno::NOTEMPTY));
    assert_eq!(tree.rename(root, "a".as_ref(), "d".as_ref()), Err(Errno::ISDIR));
    assert_eq!(tree.rename(root, "d".as_ref(), "a".as_ref()), Err(Errno::NOTDIR));
    assert_eq!(tree.rename(root, "a".as_ref(), "a".as_ref()), Ok(()));
}
