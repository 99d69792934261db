//! What every [`Storage`] promises, as tests that are generic over it, and the storages that they run against. Compiled for
//! tests only.

mod member_process;
mod real_etcd;
mod suite;

use std::time::Duration;

use super::etcd::{EtcdConfig, EtcdStorage};
use super::member::MemberStorage;
use super::memory::Memory;
use super::{Revision, Storage, StorageError};
use bytes::Bytes;
use member_process::{in_process, over_grpc};
use suite::Promises;

#[tokio::test]
async fn memory_keeps_the_contract() {
    suite::run(&Memory::new(), Promises { has_size_limit: false, has_members: false }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_in_this_process_keeps_the_contract() {
    let running = in_process().await;
    suite::run(
        &MemberStorage::new(running.member.clone()),
        Promises { has_size_limit: true, has_members: true },
    )
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_over_grpc_keeps_the_contract() {
    let server = over_grpc();
    // The first endpoint is nobody's: every request that finds a connection went past it.
    let config = EtcdConfig::new(vec![member_process::free_url(), server.url.clone()]);
    let storage = EtcdStorage::new(&config).unwrap();
    ready(&storage).await;
    assert!(storage.tells_progress().await);
    suite::run(&storage, Promises { has_size_limit: true, has_members: true }).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_the_contract() {
    let Some(etcd) = real_etcd::start() else { return };
    let storage = EtcdStorage::new(&EtcdConfig::new(vec![etcd.url.clone()])).unwrap();
    ready(&storage).await;
    suite::run(&storage, Promises { has_size_limit: true, has_members: true }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_answers_is_unavailable_and_was_not_done() {
    let storage = EtcdStorage::new(&EtcdConfig::new(vec![member_process::free_url()])).unwrap();
    let write = suite::create("/registry/x", "1", None);
    assert!(matches!(storage.write(&write).await, Err(StorageError::Unavailable { .. })));
    let key = Bytes::from_static(b"/registry/x");
    assert!(matches!(storage.get(&key).await, Err(StorageError::Unavailable { .. })));
    assert!(matches!(storage.members().await, Err(StorageError::Unavailable { .. })));
    let watch = storage.watch(&key, Revision(1)).await;
    assert!(matches!(watch.err(), Some(StorageError::Unavailable { .. })));
}

/// Waits until a server that was just started answers.
async fn ready(storage: &impl Storage) {
    let answers = async {
        while storage.current_revision().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), answers).await.expect("the server answers within 30 s");
}
