//! Roots of containers: mounted by the kernel, run with busybox.

use std::path::PathBuf;
use std::process::Command;

use barque_images::account_files;
use serde_json::json;

use crate::built::{Built, Packed, archive};
use crate::stacked::Stacked;
use crate::{Room, is_root};

/// Loads an image without a registry.
fn load(room: &Room, layers: &[(Vec<u8>, Packed)]) -> Vec<PathBuf> {
    let image = Built::new(layers, &json!({}));
    let names: Vec<String> = (0..image.layers.len()).map(|n| format!("{n}.tar")).collect();
    let list = serde_json::to_vec(&json!([{"Config": "config.json", "Layers": names}])).unwrap();
    let mut files: Vec<(&str, &[u8])> = vec![("manifest.json", &list), ("config.json", &image.config.bytes)];
    files.extend(
        names.iter().map(String::as_str).zip(image.layers.iter().map(|layer| layer.bytes.as_slice())),
    );
    room.store.load(&archive(&files)[..], &()).unwrap().remove(0).layers
}

#[test]
fn programs_run_in_a_root_and_write_above_the_layers() {
    if !is_root() {
        return;
    }
    let busybox = std::fs::read("/bin/busybox").expect("Debian's busybox-static");
    let room = Room::new();
    let layers = load(
        &room,
        &[
            (
                archive(&[
                    ("bin/", b""),
                    ("bin/busybox", &busybox),
                    ("bin/sh -> busybox", b""),
                    ("old", b"1"),
                ]),
                Packed::Gzip,
            ),
            (archive(&[(".wh.old", b""), ("new", b"2")]), Packed::Gzip),
        ],
    );
    let mounted = Stacked::new(&layers, room.directory.path(), false);
    let run = |script: &str| {
        let ran =
            Command::new("chroot").arg(mounted.path()).args(["/bin/sh", "-c", script]).output().unwrap();
        String::from_utf8(ran.stdout).unwrap()
    };
    assert_eq!(run("cd / && /bin/busybox ls && echo hi > /new && /bin/busybox rm bin/sh"), "bin\nnew\n");
    assert_eq!(std::fs::read(mounted.path().join("new")).unwrap(), b"hi\n");
    assert_eq!(std::fs::read(layers[1].join("new")).unwrap(), b"2", "layers do not change");
    assert!(layers[0].join("bin/sh").is_symlink());
    let target = mounted.path().to_owned();
    drop(mounted);
    assert_eq!(std::fs::read_dir(target).unwrap().count(), 0);
}

#[test]
fn users_are_looked_up_through_the_layers_and_never_outside() {
    if !is_root() {
        return;
    }
    let room = Room::new();
    let passwd = b"root:x:0:0::/root:\napp:x:1000:1001::/users/app:\n";
    let layers = load(
        &room,
        &[
            (
                archive(&[("etc/", b""), ("etc/passwd", passwd), ("etc/group", b"staff:x:50:app\n")]),
                Packed::Gzip,
            ),
            (
                archive(&[
                    ("conf/", b""),
                    ("conf/group", b"wheel:x:10:app\n"),
                    ("etc/", b""),
                    ("etc/group -> /conf/group", b""),
                ]),
                Packed::Gzip,
            ),
            // Out of the image there are other users.
            (archive(&[("up/", b""), ("up/passwd -> ../../../../../../etc/passwd", b"")]), Packed::Gzip),
        ],
    );
    let files = |layers: &[PathBuf]| account_files(layers).unwrap();
    let passwd = String::from_utf8_lossy(passwd).into_owned();
    assert_eq!(files(&layers), (passwd.clone(), "wheel:x:10:app\n".to_owned()), "through a link");
    assert_eq!(files(&layers[..1]), (passwd, "staff:x:50:app\n".to_owned()));

    let whited = load(&room, &[(archive(&[("etc/.wh.passwd", b"")]), Packed::Gzip)]);
    assert_eq!(files(&[&layers[..1], &whited].concat()).0, "", "it was taken away");
    let outward = load(&room, &[(archive(&[("etc -> ../../../../../../../../etc", b"")]), Packed::Gzip)]);
    let refused = account_files(&outward).unwrap_err().to_string();
    assert!(refused.contains("/etc/passwd"), "links end in the image, here in a loop: {refused}");
}
