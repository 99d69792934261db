//! What controllers are made of (kube's runtime, and `barque-client`) against two servers over one store, one of which dies
//! while a writer, a watcher and three candidates go on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cluster::Cluster;
use barque_client::events::{Kind, Note, Reporter, recorder};
use barque_client::leader_election::{ApiLeases, Elector, Ended, Settings, run};
use barque_client::servers::{Servers, Source, connect};
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event as WrittenEvent;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::{Controller, WatchStreamExt as _, reflector, watcher};
use kube::{Client, Resource as _, ResourceExt as _};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client over all servers of a cluster, beginning with the first.
async fn client(cluster: &Cluster) -> Client {
    let urls = cluster.servers.iter().map(|server| format!("https://{server}").parse().unwrap()).collect();
    let client = connect(Servers { source: Source::Kubeconfig(cluster.kubeconfig(0)), urls }).await.unwrap();
    // Each server for itself: over both, one that is ready would do.
    let mut alone = Vec::new();
    for server in 0..cluster.servers.len() {
        let source = Source::Kubeconfig(cluster.kubeconfig(server));
        alone.push(connect(Servers { source, urls: Vec::new() }).await.unwrap());
    }
    cluster.wait_until_ready(&alone[0], &alone[1]).await;
    client
}

fn config_map(name: &str, labels: &[(&str, &str)], value: &str) -> ConfigMap {
    let mut made = ConfigMap::default();
    made.metadata.name = Some(name.to_owned());
    made.metadata.labels =
        Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect());
    made.data = Some(BTreeMap::from([("value".to_owned(), value.to_owned())]));
    made
}

/// Reads a stream until something is in it.
async fn until<T>(stream: &mut (impl Stream<Item = T> + Unpin), mut found: impl FnMut(&T) -> bool) -> T {
    let search = async {
        loop {
            let item = stream.next().await.expect("the stream goes on");
            if found(&item) {
                return item;
            }
        }
    };
    timeout(PATIENCE, search).await.expect("it comes in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_of_kube_work() {
    let cluster = Cluster::start(2);
    let client = client(&cluster).await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");

    // A watcher tells what is there, then what changes; a reflector keeps it.
    let labels = [("app", "watched")];
    api.create(&PostParams::default(), &config_map("early", &labels, "1")).await.unwrap();
    let (reader, writer) = reflector::store();
    for mode in [watcher::Config::default(), watcher::Config::default().streaming_lists()] {
        let mut events = Box::pin(watcher(api.clone(), mode.labels("app=watched")));
        let early = |event: &watcher::Result<watcher::Event<ConfigMap>>| matches!(event, Ok(watcher::Event::InitApply(object)) if object.name_any() == "early");
        until(&mut events, early).await.unwrap();
        until(&mut events, |event| matches!(event, Ok(watcher::Event::InitDone))).await.unwrap();
    }
    let stream = watcher(api.clone(), watcher::Config::default().labels("app=watched"));
    let mut touched = Box::pin(reflector(writer, stream).touched_objects());
    until(&mut touched, |object| object.as_ref().is_ok_and(|one| one.name_any() == "early")).await.unwrap();
    api.create(&PostParams::default(), &config_map("late", &labels, "1")).await.unwrap();
    until(&mut touched, |object| object.as_ref().is_ok_and(|one| one.name_any() == "late")).await.unwrap();
    assert_eq!(reader.len(), 2);
    api.delete("early", &DeleteParams::default()).await.unwrap();
    until(&mut touched, |object| object.as_ref().is_ok_and(|one| one.name_any() == "early")).await.unwrap();
    let kept: Vec<_> = reader.state().iter().map(|one| one.name_any()).collect();
    assert_eq!(kept, ["late"]);

    server_side_apply(&api).await;
    a_controller_with_a_finalizer(&client).await;
    custom_objects(&client).await;
    events_are_counted(&client).await;
}

async fn server_side_apply(api: &Api<ConfigMap>) {
    let mine = PatchParams::apply("mine");
    let applied = |value: &str| {
        Patch::Apply(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "applied"}, "data": {"value": value},
        }))
    };
    api.patch("applied", &mine, &applied("1")).await.unwrap();
    let again = api.patch("applied", &mine, &applied("1")).await.unwrap();
    let owners = again.managed_fields();
    assert_eq!(owners.len(), 1, "{owners:?}");
    assert_eq!(owners[0].manager.as_deref(), Some("mine"));
    assert_eq!(owners[0].operation.as_deref(), Some("Apply"));
    let Err(kube::Error::Api(status)) =
        api.patch("applied", &PatchParams::apply("other"), &applied("2")).await
    else {
        panic!("another owner's field is taken")
    };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.message.contains("conflict with \"mine\""), "{}", status.message);
    let forced = api.patch("applied", &PatchParams::apply("other").force(), &applied("2")).await.unwrap();
    assert_eq!(forced.data.unwrap()["value"], "2");
}

/// Copies what is labelled, marks the copy with an owner, and cleans up by a finalizer.
async fn a_controller_with_a_finalizer(client: &Client) {
    const FINALIZER: &str = "barque.test/cleanup";
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let stop = CancellationToken::new();
    let (cleaned, mut told) = mpsc::channel(10);
    let controller = Controller::new(api.clone(), watcher::Config::default().labels("app=copied"))
        .owns(api.clone(), watcher::Config::default().labels("app=copy"))
        .graceful_shutdown_on(stop.clone().cancelled_owned());
    let reconcile = |object: Arc<ConfigMap>, context: Arc<(Api<ConfigMap>, mpsc::Sender<String>)>| async move {
        let (api, cleaned) = &*context;
        finalizer(api, FINALIZER, object, |event| async {
            match event {
                Event::Apply(object) => {
                    let name = format!("{}-copy", object.name_any());
                    let copy = json!({
                        "apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {
                            "name": name, "labels": {"app": "copy"},
                            "ownerReferences": [object.controller_owner_ref(&())],
                        },
                        "data": object.data,
                    });
                    api.patch(&name, &PatchParams::apply("copier").force(), &Patch::Apply(copy)).await?;
                }
                Event::Cleanup(object) => cleaned.send(object.name_any()).await.unwrap(),
            }
            Ok::<_, kube::Error>(Action::await_change())
        })
        .await
    };
    let retry = |_: Arc<ConfigMap>, _: &_, _: Arc<_>| Action::requeue(Duration::from_millis(100));
    let running = tokio::spawn(
        controller.run(reconcile, retry, Arc::new((api.clone(), cleaned))).for_each(|_| async {}),
    );

    let value = |wanted: &'static str| {
        move |object: Option<&ConfigMap>| {
            object.and_then(|one| one.data.as_ref()).is_some_and(|data| data["value"] == wanted)
        }
    };
    api.create(&PostParams::default(), &config_map("original", &[("app", "copied")], "1")).await.unwrap();
    timeout(PATIENCE, await_condition(api.clone(), "original-copy", value("1"))).await.unwrap().unwrap();
    // A change of the original, and one of the copy, are both seen.
    let patch = |value: &str| Patch::Merge(json!({"data": {"value": value}}));
    api.patch("original", &PatchParams::default(), &patch("2")).await.unwrap();
    timeout(PATIENCE, await_condition(api.clone(), "original-copy", value("2"))).await.unwrap().unwrap();
    api.patch("original-copy", &PatchParams::default(), &patch("spoiled")).await.unwrap();
    timeout(PATIENCE, await_condition(api.clone(), "original-copy", value("2"))).await.unwrap().unwrap();

    let original = api.get("original").await.unwrap();
    assert_eq!(original.finalizers(), [FINALIZER]);
    let uid = original.uid().unwrap();
    api.delete("original", &DeleteParams::default()).await.unwrap();
    assert_eq!(timeout(PATIENCE, told.recv()).await.unwrap().as_deref(), Some("original"));
    let gone = await_condition(api.clone(), "original", conditions::is_deleted(&uid));
    timeout(PATIENCE, gone).await.unwrap().unwrap();
    stop.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap();
}

async fn custom_objects(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let definition = serde_json::from_value(json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "boats.barque.test"},
        "spec": {
            "group": "barque.test", "scope": "Namespaced",
            "names": {"plural": "boats", "singular": "boat", "kind": "Boat"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "properties": {"masts": {"type": "integer", "maximum": 5}}},
                    "status": {"type": "object", "properties": {"afloat": {"type": "boolean"}}},
                }}},
            }],
        },
    }));
    definitions.create(&PostParams::default(), &definition.unwrap()).await.unwrap();
    let established = await_condition(definitions, "boats.barque.test", conditions::is_crd_established());
    timeout(PATIENCE, established).await.unwrap().unwrap();
    let kind =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("barque.test", "v1", "Boat"), "boats");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), "default", &kind);
    let mut events = Box::pin(watcher(api.clone(), watcher::Config::default()));
    until(&mut events, |event| matches!(event, Ok(watcher::Event::InitDone))).await.unwrap();
    let boat = |masts: i64| {
        let boat = DynamicObject::new("marigold", &kind).data(json!({"spec": {"masts": masts, "keels": 1}}));
        Patch::Apply(boat)
    };
    let made = api.patch("marigold", &PatchParams::apply("yard"), &boat(3)).await.unwrap();
    assert_eq!(made.data["spec"], json!({"masts": 3}), "what the schema does not know is left out");
    let Err(kube::Error::Api(status)) = api.patch("marigold", &PatchParams::apply("yard"), &boat(6)).await
    else {
        panic!("six masts are too many")
    };
    assert_eq!((status.code, status.reason.as_str()), (422, "Invalid"));
    let afloat = Patch::Merge(json!({"status": {"afloat": true}}));
    api.patch_status("marigold", &PatchParams::default(), &afloat).await.unwrap();
    until(
        &mut events,
        |event| matches!(event, Ok(watcher::Event::Apply(one)) if one.data["status"]["afloat"] == true),
    )
    .await
    .unwrap();
    api.delete("marigold", &DeleteParams::default()).await.unwrap();
    until(&mut events, |event| matches!(event, Ok(watcher::Event::Delete(_)))).await.unwrap();
}

async fn events_are_counted(client: &Client) {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let object = api.create(&PostParams::default(), &config_map("noted", &[], "1")).await.unwrap();
    let reporter = Reporter { controller: "barque.test/noter".to_owned(), instance: "noter-1".to_owned() };
    let (recorder, writer) = recorder(client.clone(), reporter);
    let writing = tokio::spawn(writer.run(CancellationToken::new()));
    let note = |text: &str| Note {
        kind: Kind::Warning,
        reason: "Leaking".to_owned(),
        action: "Pumping".to_owned(),
        text: text.to_owned(),
    };
    for text in ["below", "above", "below", "below"] {
        recorder.publish(object.object_ref(&()), note(text));
    }
    let events: Api<WrittenEvent> = Api::namespaced(client.clone(), "default");
    let mut stream = Box::pin(watcher(events.clone(), watcher::Config::default()).applied_objects());
    until(&mut stream, |event| {
        let Ok(event) = event else { return false };
        event.note.as_deref() == Some("below") && event.series.as_ref().is_some_and(|it| it.count == 3)
    })
    .await
    .unwrap();
    assert_eq!((recorder.dropped(), recorder.failed(), recorder.limited()), (0, 0, 0));
    // Without recorders the writer ends.
    drop(recorder);
    timeout(PATIENCE, writing).await.unwrap().unwrap();
    let written = events.list(&ListParams::default()).await.unwrap();
    let mut told: Vec<_> = written
        .iter()
        .filter(|event| event.reporting_controller.as_deref() == Some("barque.test/noter"))
        .map(|event| (event.note.clone().unwrap(), event.series.as_ref().map_or(1, |series| series.count)))
        .collect();
    told.sort();
    assert_eq!(told, [("above".to_owned(), 1), ("below".to_owned(), 3)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_and_a_watcher_survive_their_server() {
    const WRITES: usize = 300;
    let mut cluster = Cluster::start(2);
    let client = client(&cluster).await;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), "default");

    let (store, keep) = reflector::store();
    let (all, mut written) = watch::channel(0);
    let labels = watcher::Config::default().labels("app=stream");
    let stream = reflector(keep, watcher(api.clone(), labels).default_backoff()).touched_objects();
    let (seen, mut names) = mpsc::unbounded_channel();
    let watching = tokio::spawn(async move {
        let mut stream = Box::pin(stream);
        while let Some(object) = stream.next().await {
            // An error is a watch that ended with its server; the stream goes on.
            if let Ok(object) = object
                && seen.send(object.name_any()).is_err()
            {
                return;
            }
        }
    });
    store.wait_until_ready().await.unwrap();

    let writer = tokio::spawn(async move {
        let (mut acknowledged, mut unknown) = (BTreeSet::new(), BTreeSet::new());
        for number in 0..WRITES {
            let name = format!("write-{number:03}");
            match api.create(&PostParams::default(), &config_map(&name, &[("app", "stream")], "1")).await {
                Ok(_) => acknowledged.insert(name),
                // A server that has begun to end, or ended: this write may have happened.
                Err(kube::Error::Api(status)) => panic!("{name}: {status:?}"),
                Err(_) => unknown.insert(name),
            };
            all.send_replace(number + 1);
        }
        (acknowledged, unknown, api)
    });
    timeout(PATIENCE, written.wait_for(|count| *count >= WRITES / 3)).await.unwrap().unwrap();
    cluster.end(0);
    let (acknowledged, unknown, api) = timeout(PATIENCE, writer).await.unwrap().unwrap();
    // One writer has at most one write on its way.
    assert!(unknown.len() <= 1, "{unknown:?}");
    assert!(acknowledged.len() >= WRITES - 1);

    let mut missing = acknowledged.clone();
    while !missing.is_empty() {
        let name = timeout(PATIENCE, names.recv()).await.unwrap_or_else(|_| panic!("not seen: {missing:?}"));
        missing.remove(&name.unwrap());
    }
    let listed = api.list(&ListParams::default().labels("app=stream")).await.unwrap();
    let listed: BTreeSet<_> = listed.iter().map(|one| one.name_any()).collect();
    assert!(listed.is_superset(&acknowledged), "an acknowledged write is lost");
    let allowed: BTreeSet<_> = acknowledged.union(&unknown).cloned().collect();
    assert!(listed.is_subset(&allowed));
    let kept: BTreeSet<_> = store.state().iter().map(|one| one.name_any()).collect();
    assert!(kept.is_superset(&acknowledged));
    watching.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_three_candidates_leads_also_when_a_server_dies() {
    let mut cluster = Cluster::start(2);
    let client = client(&cluster).await;
    let settings = Settings {
        lease_duration: Duration::from_secs(4),
        renew_deadline: Duration::from_secs(3),
        retry_period: Duration::from_millis(500),
    };
    let leading = Arc::new(AtomicUsize::new(0));
    let (told, mut leaders) = mpsc::channel(10);
    let mut candidates = BTreeMap::new();
    for name in ["a", "b", "c"] {
        let stop = CancellationToken::new();
        let leases = ApiLeases::new(client.clone(), "default", "captain");
        let elector = Elector::new(leases, name, settings, stop.clone()).unwrap();
        let (leading, told) = (leading.clone(), told.clone());
        let task = tokio::spawn(run(elector, move |office| async move {
            assert_eq!(leading.fetch_add(1, Ordering::SeqCst), 0, "two lead");
            told.send(name).await.unwrap();
            office.token().cancelled().await;
            leading.fetch_sub(1, Ordering::SeqCst);
        }));
        candidates.insert(name, (stop, task));
    }
    let first = timeout(PATIENCE, leaders.recv()).await.unwrap().unwrap();

    // The leader goes on renewing over the other server.
    let api: Api<Lease> = Api::namespaced(client.clone(), "default");
    cluster.end(0);
    let mut renewals =
        Box::pin(watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects());
    let mut times = BTreeSet::new();
    while times.len() < 5 {
        let lease = timeout(PATIENCE, renewals.try_next()).await.unwrap();
        let Ok(Some(lease)) = lease else { continue };
        if lease.name_any() == "captain" {
            let spec = lease.spec.unwrap();
            assert_eq!(spec.holder_identity.as_deref(), Some(first));
            times.insert(spec.renew_time.unwrap().0);
        }
    }

    // One that stops gives the lease away.
    let (stop, task) = candidates.remove(first).unwrap();
    stop.cancel();
    assert_eq!(timeout(PATIENCE, task).await.unwrap().unwrap(), Ended::Stopped);
    let second = timeout(PATIENCE, leaders.recv()).await.unwrap().unwrap();
    assert_ne!(second, first);

    // One that dies is waited for.
    let (_, task) = candidates.remove(second).unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    leading.fetch_sub(1, Ordering::SeqCst);
    let renewed = api.get("captain").await.unwrap().spec.unwrap().renew_time.unwrap().0;
    let third = timeout(PATIENCE, leaders.recv()).await.unwrap().unwrap();
    assert!(third != second && third != first);
    let spec = api.get("captain").await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref(), Some(third));
    assert_eq!(spec.lease_transitions, Some(2));
    // One machine has one clock: here the lease's times can be compared.
    let waited = spec.acquire_time.unwrap().0.duration_since(renewed);
    assert!(waited.as_secs_f64() >= 3.5, "{waited:?}");
    let (stop, task) = candidates.remove(third).unwrap();
    stop.cancel();
    assert_eq!(timeout(PATIENCE, task).await.unwrap().unwrap(), Ended::Stopped);
    let spec = api.get("captain").await.unwrap().spec.unwrap();
    assert_eq!(spec.holder_identity.as_deref().unwrap_or_default(), "", "it was given away");
}
