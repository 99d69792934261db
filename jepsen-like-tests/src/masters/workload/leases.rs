//! The Leases by which controllers and schedulers are elected, followed version by version; who holds them now.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{DynamicObject, WatchEvent};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::{Session, Shared};
use crate::masters::client::Server;
use crate::masters::entry::{Entry, LeaseVersion};

/// Where they are.
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases";
/// The controllers' Lease.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";
/// The schedulers' Lease.
pub(crate) const SCHEDULER: &str = "kube-scheduler";
/// Holders renew every second; who is told nothing for so long asks another server.
const SILENCE: Duration = Duration::from_secs(3);

/// Newest versions, by the names of Leases.
pub(crate) type Newest = BTreeMap<String, LeaseVersion>;

/// Follows both Leases until the run ends.
pub(crate) async fn run(shared: Shared, id: u32, newest: watch::Sender<Newest>) {
    let mut session = Session::new(&shared, id);
    let mut position = 0;
    for server in shared.servers.clone().into_iter().cycle() {
        if !session.goes_on() {
            return;
        }
        if position == 0 {
            match list(&shared, &server, &newest).await {
                Some(version) => position = version,
                None => {
                    session.pause().await;
                    continue;
                }
            }
        }
        position = follow(&shared, &server, position, &newest).await;
        session.pause().await;
    }
}

fn take(shared: &Shared, value: &Value, newest: &watch::Sender<Newest>) {
    let Some(lease) = version_of(value) else { return };
    if lease.lease != CONTROLLERS && lease.lease != SCHEDULER {
        return;
    }
    shared.recorder.note(Entry::Lease { time_ns: shared.recorder.now_ns(), lease: lease.clone() });
    newest.send_modify(|newest| {
        newest.insert(lease.lease.clone(), lease);
    });
}

/// What a Lease says.
pub(crate) fn version_of(value: &Value) -> Option<LeaseVersion> {
    let (metadata, spec) = (&value["metadata"], &value["spec"]);
    let time = |field: &str| {
        let text = spec[field].as_str()?;
        let time: k8s_openapi::jiff::Timestamp = text.parse().ok()?;
        Some(time.as_microsecond())
    };
    Some(LeaseVersion {
        lease: metadata["name"].as_str()?.to_owned(),
        version: metadata["resourceVersion"].as_str()?.parse().ok()?,
        holder: spec["holderIdentity"].as_str().unwrap_or_default().to_owned(),
        transitions: spec["leaseTransitions"].as_i64().unwrap_or_default(),
        duration_s: spec["leaseDurationSeconds"].as_i64().unwrap_or_default(),
        acquired_us: time("acquireTime").unwrap_or_default(),
        renewed_us: time("renewTime").unwrap_or_default(),
    })
}

async fn list(shared: &Shared, server: &Server, newest: &watch::Sender<Newest>) -> Option<i64> {
    let answer = server.ask("GET", LEASES, None).await.done().ok()?;
    for item in answer["items"].as_array()? {
        take(shared, item, newest);
    }
    answer["metadata"]["resourceVersion"].as_str()?.parse().ok()
}

/// Follows from behind a version; what was seen last, 0 if that is not kept any more.
async fn follow(shared: &Shared, server: &Server, mut position: i64, newest: &watch::Sender<Newest>) -> i64 {
    let mut stop = shared.stop.clone();
    let mut events = match server.watch(LEASES, position, 30).await {
        Ok(events) => std::pin::pin!(events),
        Err(why) if why.contains("Expired") || why.contains("too old") => return 0,
        Err(_) => return position,
    };
    loop {
        let next = tokio::select! {
            next = timeout(SILENCE, events.next()) => next,
            _ = stop.wait_for(|stop| *stop) => return position,
        };
        let Ok(Some(Ok(event))) = next else { return position };
        match event {
            WatchEvent::Added(lease) | WatchEvent::Modified(lease) | WatchEvent::Deleted(lease) => {
                let version = version(&lease);
                if let Ok(value) = serde_json::to_value(&lease) {
                    take(shared, &value, newest);
                }
                position = version.unwrap_or(position);
            }
            WatchEvent::Bookmark(mark) => {
                position = mark.metadata.resource_version.parse().unwrap_or(position);
            }
            WatchEvent::Error(_) => return 0,
        }
    }
}

fn version(object: &DynamicObject) -> Option<i64> {
    object.metadata.resource_version.as_deref()?.parse().ok()
}
