//! Files and flags that are wrong: told in a sentence, found before anything is written.

use std::fs;
use std::path::Path;

use jepsen_like_tests::cluster::{Cluster, Flavor, Options};
use jepsen_like_tests::deadline::PATIENCE;
use jepsen_like_tests::etcdctl::{Etcdctl, Printed};

use super::{json, kvctl, restore_flags, save, text};

async fn verify(file: &Path) -> Printed {
    kvctl().run(&["snapshot", "verify", text(file)]).await
}

async fn restore(file: &Path, dir: &Path) -> Printed {
    kvctl().run(&["snapshot", "restore", text(file), "--data-dir", text(dir)]).await
}

/// One byte anywhere: in the head, in keys, in the footer, in what fills the file up, in the digest behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_byte_is_found_and_nothing_is_written() {
    let cluster = Cluster::start(Flavor::Barque, 1, Options::default().fast_elections()).await.unwrap();
    for key in 0..50 {
        cluster.client(0).put(format!("key/{key}"), "some value").await.unwrap();
    }
    let file = save(&cluster, "saved").await;
    assert_eq!(verify(&file).await.code, 0);
    let whole = fs::read(&file).unwrap();
    let (damaged, dir) = (cluster.scratch().join("damaged"), cluster.scratch().join("restored"));
    let ends = [0, 8, 12, 20, whole.len() - 1, whole.len() - 32, whole.len() - 33];
    for at in (0..whole.len()).step_by(whole.len() / 40).chain(ends) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&damaged, bytes).unwrap();
        let verdict = verify(&damaged).await;
        assert_eq!(verdict.code, 1, "byte {at}: {verdict:?}");
        assert!(verdict.err.contains(text(&damaged)), "{verdict:?}");
        let restored = restore(&damaged, &dir).await;
        assert_eq!(restored.code, 1, "byte {at}: {restored:?}");
        assert!(!dir.exists() && !cluster.scratch().join("restored.part").exists(), "byte {at}");
    }
    fs::write(&damaged, &whole[..whole.len() - 100]).unwrap();
    assert!(verify(&damaged).await.err.contains("cut off"));
    let told = kvctl().run(&["snapshot", "verify", text(&damaged), "-w", "json"]).await;
    assert_eq!((json(&told.out)["verdict"].as_str(), told.code), (Some("unusable"), 1));
    // What is wrong with the digest behind the content can be passed over, wrong content cannot.
    let mut bytes = whole.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let words = ["snapshot", "restore", text(&damaged), "--data-dir", text(&dir), "--skip-hash-check"];
    assert!(kvctl().run(&words).await.ok().contains("50 keys"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_files_and_places_are_refused() {
    let etcd = Cluster::start(Flavor::Etcd, 1, Options::default()).await.unwrap();
    let cluster = Cluster::start(Flavor::Barque, 1, Options::default().fast_elections()).await.unwrap();
    cluster.client(0).put("k", "v").await.unwrap();
    let (of_etcd, file) = (save(&etcd, "of-etcd").await, save(&cluster, "saved").await);
    let dir = cluster.scratch().join("restored");
    let written = |name: &str, content: &[u8]| {
        let path = cluster.scratch().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mut newer = fs::read(&file).unwrap();
    newer[8] = 9;
    for (file, sentence) in [
        (of_etcd, "is a snapshot of etcd, not of Barque: `kvctl snapshot import` reads it"),
        (written("text", b"apiVersion: v1\n"), "is no snapshot of Barque (it looks like text)"),
        (written("empty", b""), "it is empty"),
        (written("newer", &newer), "has format version 9"),
        (cluster.scratch().to_owned(), "it is a directory"),
    ] {
        for printed in [restore(&file, &dir).await, verify(&file).await] {
            assert!(printed.code == 1 && printed.err.contains(sentence), "{printed:?}");
        }
        assert!(!dir.exists());
    }
    let absent = restore(&cluster.scratch().join("absent"), &dir).await;
    assert!(absent.code == 6 && absent.err.contains("cannot open"), "{absent:?}");

    let exists = restore(&file, cluster.data_dir(0)).await;
    assert!(exists.code == 1 && exists.err.contains("exists and is not empty"), "{exists:?}");
    for (flags, sentence) in [
        (&["--name=b", "--initial-cluster=a=http://h:1"][..], "--initial-cluster does not name this member"),
        (&["--initial-cluster=default=http://h:1"], "they must be equal"),
        (&["--to-revision=99"], "the files end at revision 2"),
        (&["--to-revision=0"], "is not in it any more"),
    ] {
        let words = [&["snapshot", "restore", text(&file), "--data-dir", text(&dir)], flags].concat();
        let printed = kvctl().run(&words).await;
        assert!(printed.code == 128 && printed.err.contains(sentence), "{printed:?}");
    }
    let twice =
        kvctl().run(&["snapshot", "restore", text(&file), text(&file), "--data-dir", text(&dir)]).await;
    assert!(twice.code == 128 && twice.err.contains("can only be the first file"), "{twice:?}");
    let all = kvctl().run(&["snapshot", "restore", text(&file), "--all", text(&dir)]).await;
    assert!(all.code == 128 && all.err.contains("--all needs --initial-cluster"), "{all:?}");
    assert!(!dir.exists());
}

/// Members that were restored from different files, or not at all, under the same flags never form a cluster.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_with_other_data_do_not_meet() {
    let cluster = Cluster::start(Flavor::Barque, 1, Options::default().fast_elections()).await.unwrap();
    cluster.client(0).put("k", "1").await.unwrap();
    let first = save(&cluster, "first").await;
    cluster.client(0).put("k", "2").await.unwrap();
    let second = save(&cluster, "second").await;
    let mut restored = Cluster::prepare(Flavor::Barque, 3, Options::default().fast_elections()).unwrap();
    for (index, file) in [(0, &first), (1, &first), (2, &second)] {
        let words = restore_flags(&restored, index, file);
        kvctl().run(&words.iter().map(String::as_str).collect::<Vec<_>>()).await.ok();
    }
    restored.restart_all(&[0, 1]).await.unwrap();
    assert_eq!(restored.client(1).get("k").await.unwrap().unwrap(), "1");
    restored.spawn(2).unwrap();
    let ended = restored.ended(2, PATIENCE).await.unwrap().expect("it is refused");
    assert_eq!(ended.code(), Some(1));
    assert!(restored.log(2).contains("cluster ID mismatch"), "{}", restored.log(2));
    // Nor one that was forgotten.
    restored.wipe(2).unwrap();
    restored.spawn(2).unwrap();
    assert!(restored.ended(2, PATIENCE).await.unwrap().is_some());
    assert!(restored.log(2).matches("cluster ID mismatch").count() > 1, "{}", restored.log(2));
    let through = Etcdctl::kvctl(&[restored.endpoint(0), restored.endpoint(1)]);
    through.run(&["put", "k", "3"]).await.ok();
}
