//! Images out of archives and into them.

use std::sync::Arc;

use barque_images::{Error, Options, PullOptions};
use serde_json::json;

use crate::built::{Built, Packed, archive, file_layer};
use crate::distribution::Distribution;
use crate::{Room, is_root, quick, reference};

fn example() -> Built {
    let layers = [file_layer("a", b"1"), (archive(&[("b", b"2"), (".wh.a", b"")]), Packed::Zstd)];
    Built::new(&layers, &json!({"Cmd": ["/b"]}))
}

fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
    archive(files)
}

#[tokio::test]
async fn what_is_saved_is_loaded_as_the_same_image() {
    if !is_root() {
        return;
    }
    let (registry, room) = (Distribution::start(), Room::new());
    let made = example();
    registry.push("app", "v1", &made);
    let name = format!("{}/app:v1", registry.authority());
    let pulled = room.pull(&name).await.unwrap();
    room.store.tag(pulled.id.as_str(), &reference("other:v2")).unwrap();
    let mut saved = Vec::new();
    room.store.save(&[&name, "other:v2"], &mut saved).unwrap();
    let mut again = Vec::new();
    room.store.save(&[&name, "other:v2"], &mut again).unwrap();
    assert!(saved == again, "the same images make the same archive");

    let elsewhere = Room::new();
    let loaded = elsewhere.store.load(&saved[..], &()).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!((&loaded[0].id, &loaded[0].manifest), (&pulled.id, &pulled.manifest));
    assert_eq!(loaded[0].references, [name, "docker.io/library/other:v2".into()]);
    assert_eq!(std::fs::read(loaded[0].layers[1].join("b")).unwrap(), b"2");
    assert_eq!(elsewhere.files("layers").len(), 2);
    assert!(elsewhere.files("work").is_empty());

    // One that is named by its id has no name there.
    let mut nameless = Vec::new();
    room.store.save(&[pulled.id.hex()], &mut nameless).unwrap();
    let third = Room::new();
    let loaded = third.store.load(&nameless[..], &()).unwrap();
    assert!(loaded[0].references.is_empty());
    assert_eq!(third.store.find(&pulled.id.hex()[..10]).unwrap().unwrap().id, pulled.id);
}

#[tokio::test]
async fn layers_that_were_not_kept_cannot_be_saved_until_they_are_pulled_again() {
    if !is_root() {
        return;
    }
    let (registry, room) = (Distribution::start(), Room::with(Options { keep_blobs: false, ..quick() }));
    registry.push("app", "v1", &example());
    let name = format!("{}/app:v1", registry.authority());
    let pulled = room.pull(&name).await.unwrap();
    assert_eq!(room.files("blobs").len(), 2, "manifest and configuration");
    let error = room.store.save(&[&name], Vec::new()).unwrap_err();
    assert!(matches!(&error, Error::NotKept { image } if *image == pulled.id), "{error}");
    let keep = PullOptions { keep_blobs: Some(true), ..PullOptions::default() };
    room.store.pull(&reference(&name), &[], &keep, Arc::new(())).await.unwrap();
    room.store.save(&[&name], Vec::new()).unwrap();
}

#[test]
fn archives_of_docker_are_loaded_with_all_their_images() {
    if !is_root() {
        return;
    }
    // As old Dockers wrote them: a folder for each layer, and links for those that were there.
    let layers = [(archive(&[("a", b"1")]), Packed::Plain), (archive(&[("b", b"2")]), Packed::Plain)];
    let (one, two) = (Built::new(&layers[..1], &json!({})), Built::new(&layers, &json!({"Cmd": ["x"]})));
    let list = json!([
        {"Config": "one.json", "RepoTags": ["one:v1", "team/one:v2"], "Layers": ["l1/layer.tar"]},
        {"Config": "two.json", "RepoTags": null, "Layers": ["l2/layer.tar", "./l3/layer.tar"]},
    ]);
    let list = serde_json::to_vec(&list).unwrap();
    let files: [(&str, &[u8]); 8] = [
        ("l1/", b""),
        ("l1/layer.tar", &one.layers[0].bytes),
        ("l2/layer.tar -> ../l1/layer.tar", b""),
        ("l3/layer.tar", &two.layers[1].bytes),
        ("one.json", &one.config.bytes),
        ("two.json", &two.config.bytes),
        ("repositories", b"{}"),
        ("manifest.json", &list),
    ];
    let plain = tar(&files);
    let gzip = Built::new(&[(plain.clone(), Packed::Gzip)], &json!({})).layers[0].bytes.clone();
    let zstd = Built::new(&[(plain.clone(), Packed::Zstd)], &json!({})).layers[0].bytes.clone();
    for bytes in [plain, gzip, zstd] {
        let room = Room::new();
        let loaded = room.store.load(&bytes[..], &()).unwrap();
        assert_eq!(loaded.len(), 2);
        assert_eq!(loaded[0].references, ["docker.io/library/one:v1", "docker.io/team/one:v2"]);
        assert_eq!((&loaded[0].id, &loaded[1].id), (&one.config.digest, &two.config.digest));
        assert_eq!(loaded[0].layers[0], loaded[1].layers[0]);
        assert_eq!(std::fs::read(loaded[1].layers[1].join("b")).unwrap(), b"2");
        room.store.save(&["one:v1"], Vec::new()).unwrap();
    }
}

#[test]
fn archives_that_hold_something_else_than_they_say_are_refused() {
    let image = Built::new(&[(archive(&[("a", b"1")]), Packed::Plain)], &json!({}));
    let index = json!({"schemaVersion": 2, "manifests": [
        {"digest": image.manifest.digest, "size": image.manifest.bytes.len()}]});
    let index = serde_json::to_vec(&index).unwrap();
    let name = |blob: &crate::built::Blob| format!("blobs/sha256/{}", blob.digest.hex());
    let (manifest, config, layer) = (name(&image.manifest), name(&image.config), name(&image.layers[0]));
    let mut changed = image.layers[0].bytes.clone();
    changed[600] ^= 1;
    let whole: [(&str, &[u8]); 5] = [
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#),
        ("index.json", &index),
        (&manifest, &image.manifest.bytes),
        (&config, &image.config.bytes),
        (&layer, &image.layers[0].bytes),
    ];
    let mut wrong = whole;
    wrong[4].1 = &changed;
    let room = Room::new();
    for (bytes, part) in [
        (tar(&wrong), "unexpected digest"),
        (tar(&whole[..4]), "not there"),
        (tar(&whole[..2]), "not there"),
        (tar(&[("file", b"x")]), "holds no images"),
        (tar(&whole)[..2000].to_vec(), "reading the archive"),
        (b"no archive at all, just a text that is long enough to be a header".repeat(20), "checksum"),
    ] {
        let error = room.store.load(&bytes[..], &()).unwrap_err();
        assert!(error.message().contains(part), "{part}: {}", error.message());
        for folder in ["work", "layers", "blobs"] {
            assert!(folder == "blobs" || room.files(folder).is_empty(), "{folder}");
        }
    }
    if is_root() {
        assert_eq!(room.store.load(&tar(&whole)[..], &()).unwrap()[0].id, image.config.digest);
    }
}
