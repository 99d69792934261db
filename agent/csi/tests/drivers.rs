//! Drivers that come, do what they are asked for, and go.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests")]

#[path = "drivers/fake.rs"]
mod fake;

use std::path::Path;

use barque_csi::wire::{NodePublishVolumeRequest, NodeStageVolumeRequest};
use barque_csi::{Capabilities, Drivers, NodeInfo};
use fake::Fake;
use tokio_util::sync::CancellationToken;

#[tokio::test]
async fn a_driver_is_taken_as_long_as_its_socket_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (drivers, stop) = (Drivers::default(), CancellationToken::new());
    let running = tokio::spawn(drivers.run(directory.path(), stop.clone()).unwrap());
    let mut followed = drivers.follow();
    let fake = Fake::start(&directory.path().join("a.sock"), "a.example.com", "1.0.0").await;
    let all = followed.wait_for(|all| !all.is_empty()).await.unwrap().clone();
    let topology = [("example.com/rack".to_owned(), "r1".to_owned())].into();
    let expected = NodeInfo { node_id: "node-7".into(), most_volumes: Some(3), topology };
    assert_eq!(all["a.example.com"].node, expected);
    assert_eq!(fake.told().await, "true ");

    std::fs::remove_file(directory.path().join("a.sock")).unwrap();
    followed.wait_for(|all| all.is_empty()).await.unwrap();
    assert!(drivers.named("a.example.com").is_none());

    // The same one again, after a restart of its own.
    let fake = Fake::start(&directory.path().join("a.sock"), "a.example.com", "1.0.0").await;
    followed.wait_for(|all| all.contains_key("a.example.com")).await.unwrap();
    assert_eq!(fake.told().await, "true ");
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_plugin_that_cannot_be_taken_is_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let (drivers, stop) = (Drivers::default(), CancellationToken::new());
    let running = tokio::spawn(drivers.run(directory.path(), stop.clone()).unwrap());
    let fake = Fake::start(&directory.path().join("old.sock"), "old.example.com", "0.3.0").await;
    assert_eq!(fake.told().await, "false it speaks 0.3.0, and not version 1 of CSI");
    assert!(drivers.named("old.example.com").is_none());
    stop.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_driver_does_what_it_is_asked_for_or_says_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("a.sock");
    let fake = Fake::start(&socket, "a.example.com", "1.0.0").await;
    let driver = barque_csi::Driver::connect(&socket).await.unwrap();
    let expected = Capabilities { stages: true, gives_to_groups: false, knows_single_writers: false };
    assert_eq!(driver.capabilities().await.unwrap(), expected);
    let stage = NodeStageVolumeRequest { volume_id: "v".into(), ..NodeStageVolumeRequest::default() };
    driver.stage(stage).await.unwrap();
    let publish = NodePublishVolumeRequest { volume_id: "v".into(), ..NodePublishVolumeRequest::default() };
    driver.publish(publish).await.unwrap();
    driver.unpublish("v", Path::new("/t")).await.unwrap();
    driver.unstage("v", Path::new("/s")).await.unwrap();
    assert_eq!(fake.calls(), ["stage v", "publish v", "unpublish v /t", "unstage v /s"]);
    let missing =
        NodePublishVolumeRequest { volume_id: "missing".into(), ..NodePublishVolumeRequest::default() };
    let error = driver.publish(missing).await.unwrap_err().to_string();
    assert_eq!(error, "rpc error: code = NotFound desc = volume missing is not here");
    let nobody = barque_csi::Driver::connect(&directory.path().join("nobody.sock")).await.unwrap_err();
    assert!(nobody.to_string().contains("nobody.sock"), "{nobody}");
}
