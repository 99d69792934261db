//! Volumes of whole pods on real file systems, with objects from a fake API server.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::future::Future;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use barque_csi::Drivers;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::mount_table::MountTable;
use super::testing::{Root, is_root};
use super::{ImageLayers, NodeDrivers, Volumes};
use crate::clock::Clock;
use crate::containers::NodeFacts;
use crate::containers::mounts::SubPath;
use crate::references::References;
use crate::references::testing::Server;

/// Images that are there.
struct Images(Vec<PathBuf>);

impl ImageLayers for Images {
    fn layers<'a>(
        &'a self,
        _: &'a Pod,
        reference: &'a str,
        _: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<PathBuf>, String>> + Send + 'a>> {
        let found = (reference == "example.org/data:1").then(|| self.0.clone());
        Box::pin(std::future::ready(found.ok_or_else(|| format!("no image {reference}"))))
    }
}

struct World {
    root: Root,
    server: Server,
    volumes: Volumes,
    references: References,
    stop: CancellationToken,
}

impl World {
    fn new() -> Self {
        let root = Root::new();
        let server = Server::default();
        let client = server.client();
        let stop = CancellationToken::new();
        let references = References::new(client.clone(), stop.clone());
        let drivers = Drivers::default();
        let volumes = Volumes::new(
            root.path().to_owned(),
            client,
            references.clone(),
            Arc::new(Images(["low", "high"].map(|layer| root.path().join(layer)).into())),
            NodeDrivers { node: "n".into(), drivers },
            Clock::system(),
        );
        Self { root, server, volumes, references, stop }
    }

    async fn end(self) {
        self.stop.cancel();
        self.references.drained().await;
        let left = MountTable::read().unwrap().below(self.root.path());
        assert!(left.is_empty(), "{left:?}");
    }
}

fn pod(volumes: Value, more: Value) -> Pod {
    let mut spec = more;
    spec["volumes"] = volumes;
    spec["serviceAccountName"] = json!("sa");
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u1", "labels": {"a": "b"}}, "spec": spec}))
    .unwrap()
}

#[tokio::test]
async fn volumes_are_made_kept_up_to_date_and_torn_down() {
    if !is_root() {
        return;
    }
    let world = World::new();
    world.server.put("secrets/s", json!({"data": {"k": "dg=="}}));
    world.server.put("configmaps/m", json!({"data": {"a": "1", "gone": "x"}}));
    world.server.put("configmaps/kube-root-ca.crt", json!({"data": {"ca.crt": "CA"}}));
    let host = world.root.path().join("host");
    let pod = pod(
        json!([
            {"name": "disk", "emptyDir": {}},
            {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "host", "hostPath": {"path": host, "type": "DirectoryOrCreate"}},
            {"name": "map", "configMap": {"name": "m"}},
            {"name": "secret", "secret": {"secretName": "s", "defaultMode": 0o400}},
            {"name": "down", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "api", "projected": {"defaultMode": 0o644, "sources": [
                {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}},
            {"name": "optional", "configMap": {"name": "none", "optional": true}},
        ]),
        json!({"securityContext": {"fsGroup": 4321}}),
    );
    let node = NodeFacts::default();
    let mounted = world.volumes.ready(&pod, &node).await.unwrap();
    let path = |name: &str| mounted[name].path.clone();
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    assert_eq!(mounted.len(), 8);
    assert!(path("disk").ends_with("pods/u1/volumes/kubernetes.io~empty-dir/disk"));
    let table = MountTable::read().unwrap();
    for (name, in_memory) in
        [("disk", false), ("memory", true), ("secret", true), ("api", true), ("map", false)]
    {
        assert_eq!(table.has(&path(name)), in_memory, "{name}");
    }
    assert!(table.has(&world.volumes.layout("u1").unwrap().shm()));
    assert_eq!(fs::metadata(path("disk")).unwrap().mode() & 0o7777, 0o2777);
    assert_eq!(fs::metadata(path("disk")).unwrap().gid(), 4321);
    assert!(host.is_dir());
    assert_eq!((read(&path("map").join("a")), read(&path("secret").join("k"))), ("1".into(), "v".into()));
    assert_eq!(read(&path("down").join("l")), "a=\"b\"");
    assert_eq!(read(&path("api").join("token")), "tok");
    assert_eq!(read(&path("api").join("ca.crt")), "CA");
    assert_eq!(read(&path("api").join("namespace")), "ns");
    let secret = fs::metadata(path("secret").join("k")).unwrap();
    assert_eq!((secret.mode() & 0o777, secret.gid()), (0o440, 4321), "the group may read it");
    let token = fs::metadata(path("api").join("token")).unwrap();
    assert_eq!((token.mode() & 0o777, token.gid()), (0o640, 4321));

    // A part of a volume, a bound in memory, and what is measured.
    let part = SubPath { index: 0, volume: "map".into(), path: "a".into(), read_only: true };
    let parts = world.volumes.sub_paths("u1", "c", &mounted, vec![part.clone()]).await.unwrap();
    assert_eq!(read(&parts[&0]), "1");
    assert!(fs::write(path("memory").join("big"), vec![0_u8; 2 << 20]).is_err(), "more than its bound");
    fs::write(path("disk").join("f"), vec![1_u8; 8192]).unwrap();
    let usage = world.volumes.usage(&pod).await.unwrap();
    assert!(usage["disk"].bytes >= 8192 && usage["disk"].inodes == 2, "{usage:?}");

    // A change is told and shown; a part stays as the container has it.
    world.server.put("configmaps/m", json!({"data": {"a": "2"}}));
    world.volumes.changed("u1").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while read(&path("map").join("a")) != "2" {
        assert!(std::time::Instant::now() < deadline);
        world.volumes.ready(&pod, &node).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert!(!path("map").join("gone").exists());
    assert_eq!(read(&parts[&0]), "1");
    assert_eq!(read(&path("disk").join("f")).len(), 8192, "what containers wrote stays");
    let parts = world.volumes.sub_paths("u1", "c", &mounted, vec![part]).await.unwrap();
    assert_eq!(read(&parts[&0]), "2", "the next start has the next version");

    // What a container did to its directory stays when its pod is looked at again.
    fs::set_permissions(path("disk"), fs::Permissions::from_mode(0o700)).unwrap();
    world.volumes.ready(&pod, &node).await.unwrap();
    assert_eq!(fs::metadata(path("disk")).unwrap().mode() & 0o777, 0o700);

    // A secret that is gone leaves the pod what it has.
    world.server.remove("secrets/s");
    world.volumes.changed("u1").await;
    assert_eq!(world.volumes.ready(&pod, &node).await.unwrap(), mounted);
    assert_eq!(read(&path("secret").join("k")), "v");

    fs::write(host.join("precious"), "x").unwrap();
    world.volumes.tear_down("u1").await.unwrap();
    assert!(!world.root.path().join("pods/u1").exists() && host.join("precious").exists());
    assert_eq!(world.references.followed(), 0);
    world.volumes.tear_down("u1").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn what_is_missing_is_told_and_the_rest_is_made() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let node = NodeFacts::default();
    let table = [
        (
            json!({"secret": {"secretName": "y"}}),
            "MountVolume.SetUp failed for volume \"x\" : secret \"y\" not found",
        ),
        (
            json!({"configMap": {"name": "y"}}),
            "MountVolume.SetUp failed for volume \"x\" : configmap \"y\" not found",
        ),
        (
            json!({"hostPath": {"path": "/proc/none", "type": "Directory"}}),
            "MountVolume.SetUp failed for volume \"x\" : hostPath type check failed: /proc/none is not a directory",
        ),
        (
            json!({"persistentVolumeClaim": {"claimName": "none"}}),
            "MountVolume.SetUp failed for volume \"x\" : error processing PVC ns/none: failed to fetch PVC from API server: persistentvolumeclaims \"none\" not found",
        ),
        (
            json!({"nfs": {"server": "s", "path": "/"}}),
            "MountVolume.SetUp failed for volume \"x\" : this node does not know volumes of this kind",
        ),
    ];
    for (source, expected) in table {
        let mut source = source;
        source["name"] = json!("x");
        let pod = pod(json!([source, {"name": "fine", "emptyDir": {}}]), json!({}));
        let error = world.volumes.ready(&pod, &node).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
        assert!(world.root.path().join("pods/u1/volumes/kubernetes.io~empty-dir/fine").is_dir());
    }
    // The one that was missing is waited for.
    let pod = pod(json!([{"name": "x", "secret": {"secretName": "y"}}]), json!({}));
    world.volumes.ready(&pod, &node).await.unwrap_err();
    world.server.put("secrets/y", json!({"data": {}}));
    world.volumes.changed("u1").await;
    world.volumes.ready(&pod, &node).await.unwrap();
    world.volumes.tear_down("u1").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn claims_are_mounted_when_they_are_bound_and_what_is_in_them_stays() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let data = world.root.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("f"), "kept").unwrap();
    fs::set_permissions(data.join("f"), fs::Permissions::from_mode(0o600)).unwrap();
    world.server.put("persistentvolumeclaims/c", json!({"metadata": {"uid": "cu"}, "spec": {}}));
    let volume = json!({"spec": {"local": {"path": data}, "claimRef": {"uid": "cu"}, "nodeAffinity": {"required":
        {"nodeSelectorTerms": [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n"]}]}]}}}});
    world.server.put("persistentvolumes/pv", volume);
    let pod = pod(
        json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]),
        json!({"securityContext": {"fsGroup": 4321}}),
    );
    let mut node = NodeFacts::default();
    let error = world.volumes.ready(&pod, &node).await.unwrap_err().to_string();
    assert!(error.ends_with("error processing PVC ns/c: PVC is not bound"), "{error}");
    let bound =
        json!({"metadata": {"uid": "cu"}, "spec": {"volumeName": "pv"}, "status": {"phase": "Bound"}});
    world.server.put("persistentvolumeclaims/c", bound);
    let error = world.volumes.ready(&pod, &node).await.unwrap_err().to_string();
    assert!(error.contains("NodeAffinity check failed"), "{error}");
    node.labels = [("kubernetes.io/hostname".to_owned(), "n".to_owned())].into();
    let mounted = world.volumes.ready(&pod, &node).await.unwrap();
    let path = &mounted["v"].path;
    assert_eq!(fs::read_to_string(path.join("f")).unwrap(), "kept");
    assert_eq!(fs::metadata(data.join("f")).unwrap().gid(), 4321);
    // A mount in it is unmounted with it, and nothing behind either is removed.
    let inner = world.root.path().join("inner");
    fs::create_dir(&inner).unwrap();
    fs::write(inner.join("g"), "kept").unwrap();
    fs::create_dir(path.join("m")).unwrap();
    rustix::mount::mount_bind(&inner, path.join("m")).unwrap();
    world.volumes.tear_down("u1").await.unwrap();
    assert!(data.join("f").exists() && inner.join("g").exists() && data.join("m").is_dir());
    world.end().await;
}

#[tokio::test]
async fn images_are_stacked_and_cannot_be_changed() {
    if !is_root() {
        return;
    }
    let world = World::new();
    for (layer, file, text) in [("low", "a", "low"), ("low", "b", "low"), ("high", "a", "high")] {
        fs::create_dir_all(world.root.path().join(layer)).unwrap();
        fs::write(world.root.path().join(layer).join(file), text).unwrap();
    }
    let image = |reference: &str| pod(json!([{"name": "i", "image": {"reference": reference}}]), json!({}));
    let node = NodeFacts::default();
    let error = world.volumes.ready(&image("other"), &node).await.unwrap_err().to_string();
    assert_eq!(error, "MountVolume.SetUp failed for volume \"i\" : no image other");
    let mounted = world.volumes.ready(&image("example.org/data:1"), &node).await.unwrap();
    let path = &mounted["i"].path;
    let read = |name: &str| fs::read_to_string(path.join(name)).unwrap();
    assert_eq!((read("a"), read("b"), mounted["i"].read_only), ("high".into(), "low".into(), true));
    assert!(fs::write(path.join("c"), "x").is_err());
    world.volumes.tear_down("u1").await.unwrap();
    assert!(world.root.path().join("low/a").exists());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_hangs_keeps_its_pod_and_only_that() {
    let world = World::new();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let mut hanging = Box::pin(world.volumes.alone("u1", move || released.recv()));
    assert!(futures::poll!(&mut hanging).is_pending());
    let longer = super::set::PATIENCE + std::time::Duration::from_secs(1);
    tokio::time::advance(longer).await;
    let error = hanging.await.unwrap_err().to_string();
    assert!(error.starts_with("an operation on the volumes of pod u1 is still under way"), "{error}");
    let mut next = Box::pin(world.volumes.alone("u1", || ()));
    assert!(futures::poll!(&mut next).is_pending());
    assert_eq!(world.volumes.alone("u2", || 7).await.unwrap(), 7);
    tokio::time::advance(longer).await;
    next.await.unwrap_err();
    release.send(()).unwrap();
    world.volumes.alone("u1", || ()).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_busy_volume_is_an_error_and_torn_down_later() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let pod = pod(json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]), json!({}));
    let mounted = world.volumes.ready(&pod, &NodeFacts::default()).await.unwrap();
    let open = fs::File::create(mounted["m"].path.join("f")).unwrap();
    let error = world.volumes.tear_down("u1").await.unwrap_err();
    assert_eq!(error.to_string(), "the volumes of pod u1 cannot be torn down");
    drop(open);
    world.volumes.tear_down("u1").await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn orphans_are_torn_down_and_known_pods_are_not() {
    if !is_root() {
        return;
    }
    let world = World::new();
    let one = pod(json!([{"name": "m", "emptyDir": {"medium": "Memory"}}]), json!({}));
    let mut two = one.clone();
    two.metadata.uid = Some("u2".into());
    let node = NodeFacts::default();
    world.volumes.ready(&one, &node).await.unwrap();
    world.volumes.ready(&two, &node).await.unwrap();
    let failed = world.volumes.tear_down_orphans(&HashSet::from(["u2".to_owned()])).await.unwrap();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(world.volumes.there().unwrap(), ["u2"]);
    let failed = world.volumes.tear_down_orphans(&HashSet::new()).await.unwrap();
    assert!(failed.is_empty() && world.volumes.there().unwrap().is_empty());
    let wrong = SubPath { index: 0, volume: "x".into(), path: "a".into(), read_only: false };
    let error = world.volumes.sub_paths("u1", "c", &BTreeMap::new(), vec![wrong]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to prepare subPath for volumeMount \"x\" of container \"c\": the pod has no such volume"
    );
    world.end().await;
}
