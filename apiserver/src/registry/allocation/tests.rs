//! Whole requests against one store, as several servers make them at once.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use barque_api::kind::{GroupResource, GroupVersionResource};
use barque_api::resources::Builtin;
use barque_api::status::Status;
use barque_api::time::Time;
use parking_lot::Mutex;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Fate;
use super::repair::{Repair, Rest};
use super::settings::ServiceNetwork;
use crate::admission::Told;
use crate::authorization::User;
use crate::registry::collections::Collections;
use crate::registry::decode::FieldValidation;
use crate::registry::deletion::DeleteOptions;
use crate::registry::pipeline::{Pipeline, Request};
use crate::registry::served::Served;
use crate::storage::memory::Memory;
use crate::storage::{Action, Expected, Page, Storage as _, StorageError, Write};
use crate::test_parts;

const NOW: Time = Time::of_unix(1_000_000);

/// One server of a cluster.
struct Server {
    pipeline: Pipeline<Memory>,
    served: Arc<Served>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Server {
    fn start(storage: &Memory, networks: &str, ports: &str) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = test_parts::in_memory(storage.clone());
        let collections = Collections::start(settings, &tasks, &stop);
        let network = ServiceNetwork::parse(networks, ports).unwrap();
        let row = Builtin::table().named(&GroupVersionResource::new("", "v1", "services")).unwrap();
        let served = Arc::new(Served::builtin(Arc::clone(row)));
        let pipeline = test_parts::pipeline(&collections, &network, &tasks, &stop);
        Self { pipeline, served, tasks, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn repair(&self) -> Repair<Memory> {
        Repair::new(self.pipeline.services.clone())
    }

    async fn create(&self, name: &str, spec: Value, dry_run: bool) -> Result<Value, Status> {
        let user = User::default();
        let request = Request { dry_run, ..self.request(&user, "") };
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        let created = self.pipeline.create(&request, object, &[], &mut Told::default()).await?;
        Ok(created.object)
    }

    async fn update(&self, name: &str, spec: Value, dry_run: bool) -> Result<Value, Status> {
        let user = User::default();
        let request = Request { dry_run, ..self.request(&user, name) };
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec});
        let updated = self.pipeline.update(&request, object, &[], &mut Told::default()).await?;
        Ok(updated.object)
    }

    async fn delete(&self, name: &str, dry_run: bool) -> Result<(), Status> {
        let user = User::default();
        let request = Request { dry_run, ..self.request(&user, name) };
        self.pipeline.delete(&request, &DeleteOptions::default(), &mut Told::default()).await.map(|_| ())
    }

    fn request<'a>(&'a self, user: &'a User, name: &'a str) -> Request<'a> {
        Request {
            user,
            served: &self.served,
            namespace: "a",
            name,
            subresource: "",
            dry_run: false,
            manager: "test",
            validation: FieldValidation::Strict,
            options: &Value::Null,
            now: NOW,
        }
    }

    /// The addresses that are taken, as the store has them.
    async fn addresses(&self) -> BTreeSet<String> {
        let resource = GroupResource::new("networking.k8s.io", "ipaddresses");
        let objects = self.pipeline.collections.newest_objects(&resource, "").await.unwrap();
        objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect()
    }

    /// The ports that are taken, as the store has them.
    async fn ports(&self) -> Vec<u16> {
        let got = self.pipeline.collections.storage().get(&"/registry/ranges/servicenodeports".into()).await;
        let Some(entry) = got.unwrap().entry else { return Vec::new() };
        let object: Value = serde_json::from_slice(&entry.value).unwrap();
        super::port_map::PortMap::of_stored(&object).unwrap().taken().collect()
    }
}

fn set(items: &[&str]) -> BTreeSet<String> {
    items.iter().map(|item| (*item).to_owned()).collect()
}

fn web(kind: &str) -> Value {
    json!({"type": kind, "selector": {"app": "web"}, "ports": [{"port": 80}]})
}

#[tokio::test]
async fn a_service_gets_an_address_and_gives_it_back() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16", "30000-32767");
    let created = server.create("web", web("ClusterIP"), false).await.unwrap();
    let ip = created["spec"]["clusterIP"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.96."), "{ip}");
    assert_eq!(created["spec"]["clusterIPs"], json!([ip]));
    assert_eq!(created["spec"]["ipFamilies"], json!(["IPv4"]));
    assert_eq!(created["spec"]["ipFamilyPolicy"], "SingleStack");
    let resource = GroupResource::new("networking.k8s.io", "ipaddresses");
    let object = server.pipeline.collections.newest_object(&resource, "", &ip).await.unwrap().unwrap();
    assert_eq!(
        object["spec"],
        json!({"parentRef": {"resource": "services", "namespace": "a", "name": "web"}})
    );
    // A replacement that does not know the address keeps it.
    let updated = server.update("web", web("ClusterIP"), false).await.unwrap();
    assert_eq!(updated["spec"], created["spec"]);
    assert_eq!(updated["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"], "no change");
    server.delete("web", true).await.unwrap();
    assert_eq!(server.addresses().await, set(&[&ip]), "a dry run");
    server.delete("web", false).await.unwrap();
    assert_eq!(server.addresses().await, set(&[]));
    server.stop().await;
}

#[tokio::test]
async fn what_is_taken_or_outside_is_refused_in_the_words_of_kubernetes() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/30", "30000-30001");
    let with_ip = |ip: &str| json!({"clusterIP": ip, "ports": [{"port": 80}]});
    server.create("a", with_ip("10.96.0.1"), false).await.unwrap();
    let told = |result: Result<Value, Status>| result.unwrap_err().message;
    for dry_run in [true, false] {
        assert_eq!(
            told(server.create("b", with_ip("10.96.0.1"), dry_run).await),
            "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.0.1\"]: failed to allocate IP \
             10.96.0.1: provided IP is already allocated"
        );
    }
    for ip in ["10.97.0.1", "10.96.0.0", "10.96.0.3"] {
        assert_eq!(
            told(server.create("b", with_ip(ip), false).await),
            format!(
                "Service \"b\" is invalid: spec.clusterIPs: Invalid value: [\"{ip}\"]: failed to allocate IP {ip}: \
                 the provided network does not match the current range"
            )
        );
    }
    server.create("b", web("ClusterIP"), false).await.unwrap();
    assert_eq!(
        told(server.create("c", web("ClusterIP"), false).await),
        "Internal error occurred: failed to allocate a serviceIP: range is full"
    );
    assert_eq!(server.create("a", json!({"clusterIP": "None"}), false).await.unwrap_err().reason.code(), 409);
    let port = json!({"clusterIP": "None", "type": "ClusterIP"});
    server.create("headless", port, false).await.unwrap();
    server.delete("b", false).await.unwrap();
    let node_port = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
    server.create("n", node_port(30_000), false).await.unwrap();
    server.delete("a", false).await.unwrap();
    assert_eq!(
        told(server.create("m", node_port(30_000), false).await),
        "Service \"m\" is invalid: spec.ports[0].nodePort: Invalid value: 30000: provided port is already allocated"
    );
    assert_eq!(server.addresses().await.len(), 1, "the address of what was refused is free again");
    server.stop().await;
}

#[tokio::test]
async fn a_service_changes_its_type() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16,fd00::/112", "30000-32767");
    let outside = json!({"type": "ExternalName", "externalName": "example.com", "ports": [{"port": 80}]});
    server.create("web", outside.clone(), false).await.unwrap();
    assert_eq!((server.addresses().await.len(), server.ports().await.len()), (0, 0));

    let balanced = server.update("web", web("LoadBalancer"), false).await.unwrap();
    assert_eq!((server.addresses().await.len(), server.ports().await.len()), (1, 1));
    let mut local = web("LoadBalancer");
    local["externalTrafficPolicy"] = "Local".into();
    let local = server.update("web", local, false).await.unwrap();
    assert_eq!(local["spec"]["ports"][0]["nodePort"], balanced["spec"]["ports"][0]["nodePort"]);
    let health = local["spec"]["healthCheckNodePort"].as_i64().unwrap();
    assert!(server.ports().await.iter().any(|port| i64::from(*port) == health));
    assert_eq!(server.ports().await.len(), 2);

    let mut dual = local["spec"].clone();
    dual["ipFamilyPolicy"] = "RequireDualStack".into();
    let dual = server.update("web", dual, false).await.unwrap();
    assert_eq!(dual["spec"]["ipFamilies"], json!(["IPv4", "IPv6"]));
    assert_eq!(server.addresses().await.len(), 2);
    let mut single = dual["spec"].clone();
    single["ipFamilyPolicy"] = "SingleStack".into();
    let dry = server.update("web", single.clone(), true).await.unwrap();
    assert_eq!(
        (&dry["spec"]["clusterIPs"], server.addresses().await.len()),
        (&local["spec"]["clusterIPs"], 2)
    );
    let single = server.update("web", single, false).await.unwrap();
    assert_eq!(single["spec"]["clusterIPs"], local["spec"]["clusterIPs"]);
    assert_eq!(server.addresses().await.len(), 1);

    let mut inside = single["spec"].clone();
    inside["type"] = "ClusterIP".into();
    let inside = server.update("web", inside, false).await.unwrap();
    for gone in ["healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
        assert_eq!(inside["spec"].get(gone), None, "{gone}");
    }
    assert_eq!((server.addresses().await.len(), server.ports().await), (1, vec![]));
    let mut outside = inside["spec"].clone();
    outside["type"] = "ExternalName".into();
    outside["externalName"] = "example.com".into();
    let outside = server.update("web", outside, false).await.unwrap();
    assert_eq!(outside["spec"].get("clusterIP"), None);
    assert_eq!((server.addresses().await.len(), server.ports().await), (0, vec![]));
    server.stop().await;
}

#[tokio::test]
async fn a_dry_run_answers_what_would_be_and_takes_nothing() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16", "30000-32767");
    let dry = server.create("web", web("NodePort"), true).await.unwrap();
    assert!(dry["spec"]["clusterIP"].as_str().unwrap().starts_with("10.96."));
    assert!(dry["spec"]["ports"][0]["nodePort"].as_i64().unwrap() >= 30_086);
    assert_eq!((server.addresses().await, server.ports().await), (set(&[]), vec![]));
    server.stop().await;
}

#[tokio::test]
async fn a_service_with_finalizers_gives_back_when_they_are_gone() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16", "30000-32767");
    let user = User::default();
    let mut object = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "web", "finalizers": ["example.com/hold"]}, "spec": web("NodePort")});
    let created =
        server.pipeline.create(&server.request(&user, ""), object.clone(), &[], &mut Told::default()).await;
    let ip = created.unwrap().object["spec"]["clusterIP"].as_str().unwrap().to_owned();
    server.delete("web", false).await.unwrap();
    assert_eq!(server.addresses().await, set(&[&ip]));
    object["metadata"]["finalizers"] = json!([]);
    server.pipeline.update(&server.request(&user, "web"), object, &[], &mut Told::default()).await.unwrap();
    assert_eq!((server.addresses().await, server.ports().await), (set(&[]), vec![]));
    server.stop().await;
}

#[tokio::test]
async fn the_repair_finds_what_a_server_left_that_died() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16", "30000-32767");
    let kept = server.create("kept", web("NodePort"), false).await.unwrap();
    server.create("lost", web("NodePort"), false).await.unwrap();
    // The store loses a service and the object of another's address, as if servers had died in between.
    let ip = kept["spec"]["clusterIP"].as_str().unwrap();
    for key in ["/registry/services/specs/a/lost".to_owned(), format!("/registry/ipaddresses/{ip}")] {
        let entry = storage.get(&key.into()).await.unwrap().entry.unwrap();
        let write = Write { key: entry.key, expected: Expected::At(entry.revision), action: Action::Delete };
        storage.write(&write).await.unwrap();
    }
    let mut repair = server.repair();
    assert_eq!(repair.once(NOW).await, Ok(Rest::Young));
    assert!(server.addresses().await.contains(ip), "made again");
    assert_eq!(server.addresses().await.len(), 2, "what is young may be about to be used");
    assert_eq!(server.ports().await.len(), 2);
    assert_eq!(repair.once(NOW.plus_seconds(600)).await, Ok(Rest::Nothing));
    assert_eq!(server.addresses().await, set(&[ip]));
    assert_eq!(json!(server.ports().await), json!([kept["spec"]["ports"][0]["nodePort"]]));
    assert_eq!(server.create("next", web("NodePort"), false).await.map(|_| ()), Ok(()));
    server.stop().await;
}

#[tokio::test]
async fn a_map_that_is_lost_begins_with_what_services_have() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16", "30000-30001");
    let first = server.create("first", web("NodePort"), false).await.unwrap();
    let entry = storage.get(&"/registry/ranges/servicenodeports".into()).await.unwrap().entry.unwrap();
    let write = Write { key: entry.key, expected: Expected::At(entry.revision), action: Action::Delete };
    storage.write(&write).await.unwrap();
    let second = server.create("second", web("NodePort"), false).await.unwrap();
    assert_ne!(first["spec"]["ports"], second["spec"]["ports"]);
    server.stop().await;
}

#[tokio::test]
async fn what_became_of_a_service_decides_what_is_given_back() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/16", "30000-32767");
    let user = User::default();
    let request = server.request(&user, "");
    let services = &server.pipeline.services;
    let kept = async |fate: Fate| {
        let mut service = json!({"metadata": {"namespace": "a", "name": "web"}, "spec": web("NodePort")});
        let reservation = services.create(&request, &mut service).await.unwrap();
        services.settle(reservation, fate, NOW).await;
        let kept = (server.addresses().await.len(), server.ports().await.len());
        services.release(&request, &service).await;
        kept
    };
    assert_eq!(kept(Fate::Refused).await, (0, 0));
    assert_eq!(kept(Fate::Gone).await, (0, 0));
    assert_eq!(kept(Fate::Stored).await, (1, 1));
    assert_eq!(
        kept(Fate::of_failure(&StorageError::Unknown { why: String::new() }.to_status())).await,
        (1, 1)
    );
    assert_eq!(Fate::of_failure(&StorageError::TooLarge.to_status()), Fate::Refused);
    server.stop().await;
}

#[tokio::test]
async fn a_full_network_is_followed_by_another_one() {
    let storage = Memory::new();
    let server = Server::start(&storage, "10.96.0.0/30", "30000-32767");
    for name in ["a", "b"] {
        server.create(name, web("ClusterIP"), false).await.unwrap();
    }
    assert_eq!(server.create("c", web("ClusterIP"), false).await.unwrap_err().reason.code(), 500);
    let object = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "more"}, "spec": {"cidrs": ["10.97.0.0/29"]}});
    let write = Write {
        key: "/registry/servicecidrs/more".into(),
        expected: Expected::Absent,
        action: Action::Put { value: object.to_string().into(), lease: None },
    };
    storage.write(&write).await.unwrap();
    let cidrs = GroupResource::new("networking.k8s.io", "servicecidrs");
    assert_eq!(server.pipeline.collections.newest_objects(&cidrs, "").await.unwrap().len(), 1);
    let third = server.create("c", web("ClusterIP"), false).await.unwrap();
    assert!(third["spec"]["clusterIP"].as_str().unwrap().starts_with("10.97.0."), "{third}");
    server.stop().await;
}

/// What one client does, one after another.
#[derive(Clone, Debug)]
enum Deed {
    Create { kind: usize, ip: Option<u8>, port: Option<i64> },
    Retype { which: usize, kind: usize },
    Delete { which: usize },
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let create = (0..4_usize, prop::option::of(1..13_u8), prop::option::of(30_000..30_008_i64))
        .prop_map(|(kind, ip, port)| Deed::Create { kind, ip, port });
    let retype = (0..8_usize, 0..3_usize).prop_map(|(which, kind)| Deed::Retype { which, kind });
    let delete = (0..8_usize).prop_map(|which| Deed::Delete { which });
    prop::collection::vec(prop_oneof![4 => create, 2 => retype, 3 => delete], 1..25)
}

/// What clients believe to have: addresses and ports, each with its one holder.
#[derive(Default)]
struct Believed(Mutex<HashSet<Value>>);

impl Believed {
    fn parts(service: &Value) -> Vec<Value> {
        let spec = &service["spec"];
        let ips = spec["clusterIPs"].as_array().into_iter().flatten().filter(|ip| **ip != "None").cloned();
        let ports =
            spec["ports"].as_array().into_iter().flatten().filter_map(|port| port.get("nodePort").cloned());
        let mut parts: Vec<_> = ips.chain(ports).chain(spec.get("healthCheckNodePort").cloned()).collect();
        parts.dedup();
        parts
    }

    fn gain(&self, service: &Value) {
        for part in Self::parts(service) {
            assert!(self.0.lock().insert(part.clone()), "{part} was given away twice");
        }
    }

    fn lose(&self, service: &Value) {
        for part in Self::parts(service) {
            assert!(self.0.lock().remove(&part));
        }
    }
}

const KINDS: [&str; 3] = ["ClusterIP", "NodePort", "LoadBalancer"];

async fn act(server: Arc<Server>, client: usize, deeds: Vec<Deed>, believed: Arc<Believed>) {
    let mut mine: Vec<(String, Value)> = Vec::new();
    for (step, deed) in deeds.into_iter().enumerate() {
        match deed {
            Deed::Create { kind, ip, port } => {
                let mut spec = web(KINDS.get(kind).copied().unwrap_or("ClusterIP"));
                if kind == 2 {
                    spec["externalTrafficPolicy"] = "Local".into();
                }
                if let Some(ip) = ip {
                    spec["clusterIP"] = format!("10.96.0.{ip}").into();
                }
                if kind == 3 {
                    spec["clusterIP"] = "None".into();
                }
                if let Some(port) = port.filter(|_| kind == 1 || kind == 2) {
                    spec["ports"][0]["nodePort"] = port.into();
                }
                let name = format!("s{client}-{step}");
                if let Ok(created) = server.create(&name, spec, false).await {
                    believed.gain(&created);
                    mine.push((name, created));
                }
            }
            Deed::Retype { which, kind } if which < mine.len() => {
                let (name, before) = &mut mine[which];
                let mut spec = before["spec"].clone();
                if spec["clusterIP"] == "None" {
                    continue;
                }
                spec["type"] = KINDS[kind].into();
                // What it may lose can be somebody else's as soon as the answer is on its way.
                believed.lose(before);
                match server.update(name, spec, false).await {
                    Ok(after) => *before = after,
                    Err(status) => assert_eq!(status.reason.code(), 500, "{status}"),
                }
                believed.gain(before);
            }
            Deed::Delete { which } if which < mine.len() => {
                let (name, service) = mine.swap_remove(which);
                believed.lose(&service);
                server.delete(&name, false).await.unwrap();
            }
            _ => {}
        }
    }
    for (name, service) in mine {
        believed.lose(&service);
        server.delete(&name, false).await.unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn servers_never_give_one_thing_away_twice_and_lose_nothing(
        clients in prop::collection::vec(deeds(), 4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let storage = Memory::new();
            let servers: Vec<_> =
                (0..2).map(|_| Arc::new(Server::start(&storage, "10.96.0.0/28", "30000-30007"))).collect();
            let believed = Arc::new(Believed::default());
            let acts = clients.into_iter().enumerate().map(|(client, deeds)| {
                let server = Arc::clone(&servers[client % servers.len()]);
                tokio::spawn(act(server, client, deeds, Arc::clone(&believed)))
            });
            for act in acts.collect::<Vec<_>>() {
                act.await.unwrap();
            }
            let page = Page { prefix: "/registry/ipaddresses/".into(), ..Page::default() };
            assert_eq!(storage.list(&page).await.unwrap().entries, []);
            assert_eq!(servers[0].ports().await, Vec::<u16>::new());
            for server in servers {
                Arc::into_inner(server).unwrap().stop().await;
            }
        });
    }
}
