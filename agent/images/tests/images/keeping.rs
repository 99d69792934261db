//! What stays and what goes, with several processes in one directory, and when they are killed.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc;

use barque_images::{CollectPolicy, Error, ImageStore, PullOptions};
use serde_json::json;

use crate::built::{Built, archive, file_layer, noise};
use crate::distribution::Distribution;
use crate::hostile::{Hostile, blob, head, serve};
use crate::{Room, is_root, quick, reference};

fn image(name: &str) -> Built {
    Built::new(&[file_layer("base", b"base"), file_layer(name, name.as_bytes())], &json!({}))
}

async fn pull(store: &ImageStore, registry: &Distribution, name: &str) -> barque_images::Image {
    registry.push(name, "latest", &image(name));
    let name = reference(&format!("{}/{name}", registry.authority()));
    store.pull(&name, &[], &PullOptions::default(), Arc::new(())).await.unwrap()
}

#[tokio::test]
async fn shared_layers_go_with_the_last_image_that_has_them() {
    if !is_root() {
        return;
    }
    let (registry, room) = (Distribution::start(), Room::new());
    let one = pull(&room.store, &registry, "one").await;
    let two = pull(&room.store, &registry, "two").await;
    assert_eq!(one.layers[0], two.layers[0]);
    assert_eq!(room.files("layers").len(), 3);
    room.store.tag(one.id.as_str(), &reference("renamed:v2")).unwrap();
    let removed = room.store.remove(&one.references[0]).unwrap();
    assert!(removed.deleted.is_empty());
    assert_eq!(room.store.remove("renamed:v2").unwrap().deleted, [one.id]);
    assert_eq!(room.files("layers").len(), 2);
    assert!(two.layers.iter().all(|layer| layer.exists()));
    assert!(matches!(room.store.remove("renamed:v2"), Err(Error::NotFound(_))));
    assert_eq!(room.store.prune(&BTreeSet::from([two.id.clone()])).unwrap().deleted.len(), 0);
    assert_eq!(room.store.prune(&BTreeSet::new()).unwrap().deleted, [two.id]);
    for folder in ["layers", "blobs", "work"] {
        assert!(room.files(folder).is_empty(), "{folder}");
    }
}

#[tokio::test]
async fn an_image_that_is_held_is_neither_removed_nor_collected_also_by_others() {
    if !is_root() {
        return;
    }
    let (registry, room) = (Distribution::start(), Room::new());
    let image = pull(&room.store, &registry, "one").await;
    room.store.hold("container-1", &image.id).unwrap();
    // As another process would.
    let other = ImageStore::open(room.store.root(), quick()).unwrap();
    let error = other.remove(image.id.as_str()).unwrap_err();
    assert!(matches!(&error, Error::InUse { by, .. } if by == "container-1"), "{error}");
    let everything =
        CollectPolicy { high_percent: 0, low_percent: 0, min_age: std::time::Duration::ZERO, max_age: None };
    assert!(other.collect(&BTreeSet::new(), everything).unwrap().removed.deleted.is_empty());
    assert!(other.prune(&BTreeSet::new()).unwrap().deleted.is_empty());
    room.store.release("container-1").unwrap();
    room.store.pin(image.id.as_str(), true).unwrap();
    assert!(other.collect(&BTreeSet::new(), everything).unwrap().removed.deleted.is_empty());
    other.pin(image.id.as_str(), false).unwrap();
    let collected = other.collect(&BTreeSet::new(), everything).unwrap();
    assert_eq!(collected.removed.deleted, [image.id]);
    assert!(room.store.list().unwrap().is_empty() && room.files("layers").is_empty());
}

#[tokio::test]
async fn directories_that_a_layer_does_not_name_look_as_those_below() {
    if !is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_uid(7);
    header.set_gid(7);
    header.set_mtime(5);
    header.set_size(0);
    builder.append_data(&mut header, "tmp", &b""[..]).unwrap();
    let base = (builder.into_inner().unwrap(), crate::built::Packed::Plain);
    let top = file_layer("tmp/file", b"x");
    let (registry, room) = (Distribution::start(), Room::new());
    for (name, layers) in [("over", vec![base.clone(), top.clone()]), ("alone", vec![top])] {
        registry.push(name, "latest", &Built::new(&layers, &json!({})));
        let reference = reference(&format!("{}/{name}", registry.authority()));
        let image = room.store.pull(&reference, &[], &PullOptions::default(), Arc::new(())).await.unwrap();
        let implied = std::fs::metadata(image.layers.last().unwrap().join("tmp")).unwrap();
        let mode = if name == "over" { 0o1777 } else { 0o755 };
        assert_eq!(implied.permissions().mode() & 0o7777, mode, "{name}");
    }
    assert_eq!(room.files("layers").len(), 3, "the layer is not the same in both");
}

/// What the killed process does; the test below runs it in one of its own.
const CHILD: &str = "BARQUE_IMAGES_TEST_CHILD";

#[tokio::test]
async fn what_a_killed_process_leaves_goes_and_what_others_work_on_stays() {
    if let Ok(words) = std::env::var(CHILD) {
        let (root, name) = words.split_once(' ').unwrap();
        let store = ImageStore::open(root.as_ref(), quick()).unwrap();
        let _ = store.pull(&reference(name), &[], &PullOptions::default(), Arc::new(())).await;
        return;
    }
    if !is_root() {
        return;
    }
    let made = Built::new(
        &[(archive(&[("a", b"1")]), crate::built::Packed::Plain), file_layer("b", &noise(4, 100_000))],
        &json!({}),
    );
    let (stalled, is_stalled) = mpsc::channel();
    let (resume, may_go_on) = mpsc::channel::<()>();
    let gate = std::sync::Mutex::new((stalled, may_go_on));
    let served = made.clone();
    let server = Hostile::start(move |request, client| match blob(request, &served) {
        // Half of the last layer, and then nothing until the test says so.
        Some(blob) if blob.digest == served.layers[1].digest => {
            head(client, "200 OK", &[], blob.bytes.len())?;
            let (first, second) = blob.bytes.split_at(blob.bytes.len() / 2);
            client.write_all(first)?;
            client.flush()?;
            let gate = gate.lock().unwrap();
            let _ = gate.0.send(());
            let _ = gate.1.recv();
            client.write_all(second)
        }
        _ => serve(request, client, &served),
    });
    let room = Room::new();
    let name = format!("{}/app", server.authority());
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "keeping::what_a_killed_process_leaves_goes_and_what_others_work_on_stays"])
        .env(CHILD, format!("{} {name}", room.store.root().display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    is_stalled.recv().unwrap();
    // While it works, nobody takes anything away from it.
    let other = ImageStore::open(room.store.root(), quick()).unwrap();
    assert_eq!(room.files("work").len(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(room.files("work").len(), 1);
    drop(ImageStore::open(room.store.root(), quick()).unwrap());
    for folder in ["work", "layers", "blobs"] {
        assert!(room.files(folder).is_empty(), "{folder}: {:?}", room.files(folder));
    }
    // Nobody holds the server up any more.
    drop(resume);
    let pulled = other.pull(&reference(&name), &[], &PullOptions::default(), Arc::new(())).await.unwrap();
    assert_eq!(std::fs::read(pulled.layers[1].join("b")).unwrap(), noise(4, 100_000));
}

#[tokio::test]
async fn a_pull_that_nobody_waits_for_leaves_nothing() {
    if !is_root() {
        return;
    }
    let made = image("one");
    let (stalled, is_stalled) = tokio::sync::oneshot::channel();
    let stalled = std::sync::Mutex::new(Some(stalled));
    let server = Hostile::start(move |request, client| match blob(request, &made) {
        Some(blob) if blob.digest == made.layers[1].digest => {
            head(client, "200 OK", &[], blob.bytes.len())?;
            if let Some(stalled) = stalled.lock().unwrap().take() {
                let _ = stalled.send(());
            }
            // Until the client is gone.
            std::io::copy(client, &mut std::io::sink()).map(drop)
        }
        _ => serve(request, client, &made),
    });
    let room = Room::new();
    let name = reference(&format!("{}/app", server.authority()));
    let options = PullOptions::default();
    tokio::select! {
        pulled = room.store.pull(&name, &[], &options, Arc::new(())) => panic!("{pulled:?}"),
        told = is_stalled => told.unwrap(),
    }
    drop(server);
    drop(ImageStore::open(room.store.root(), quick()).unwrap());
    assert!(room.store.list().unwrap().is_empty());
    assert!(room.files("layers").is_empty());
}
