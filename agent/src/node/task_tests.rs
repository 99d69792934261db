//! The task of a node against a fake API server, on simulated time.

use std::sync::Arc;
use std::time::Duration;

use barque_client::events::Note;
use http::{Method, Request, Response};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::{Node, ObjectReference};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::plan::Rhythm;
use super::task::NodeTask;
use super::watch::Seen;
use crate::clock::Clock;
use crate::config::{Config, ContainerFlags, Machine, ShutdownFlags};
use crate::runtime::Runtime as _;
use crate::runtime::hollow::HollowRuntime;
use crate::tell::Teller;

struct Silent;

impl Teller for Silent {
    fn tell(&self, _: ObjectReference, _: Note) {}
}

struct World {
    /// The node as the server has it.
    node: Arc<Mutex<Value>>,
    /// What was asked of it, in short.
    asked: mpsc::UnboundedReceiver<String>,
    seen: watch::Sender<Seen>,
    runtime: Arc<HollowRuntime>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

/// Answers for one node and its lease: what is created or replaced is answered, what is patched is merged.
async fn answer(
    node: Arc<Mutex<Value>>,
    told: mpsc::UnboundedSender<String>,
    request: Request<Body>,
) -> Result<Response<Body>, kube::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let mut body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let what = if head.uri.path().contains("/leases") { "lease" } else { "node" };
    let ready = body["status"]["conditions"][3]["status"].as_str().unwrap_or_default();
    told.send(format!("{} {what} {ready}", head.method).trim_end().to_owned()).expect("the test listens");
    let (code, answer) = match (what, head.method) {
        ("lease", Method::GET) => (
            404,
            json!({"kind": "Status", "code": 404, "reason": "NotFound", "status": "Failure", "message": ""}),
        ),
        ("lease", _) => {
            body["metadata"]["resourceVersion"] = json!("1");
            (200, body)
        }
        (_, method) => {
            let mut node = node.lock();
            let refusals = node["refusals"].as_u64().unwrap_or_default();
            if method == Method::PATCH && refusals > 0 {
                node["refusals"] = json!(refusals - 1);
                let status = json!({"kind": "Status", "code": 409, "reason": "Conflict", "status": "Failure", "message": ""});
                (409, status)
            } else if method == Method::GET {
                (200, node.clone())
            } else if method == Method::POST {
                *node = body;
                node["metadata"]["uid"] = json!("u");
                node["metadata"]["resourceVersion"] = json!("1");
                (200, node.clone())
            } else {
                node["status"]["conditions"] = body["status"]["conditions"].take();
                let version: u64 = node["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
                node["metadata"]["resourceVersion"] = json!((version + 1).to_string());
                (200, node.clone())
            }
        }
    };
    Ok(Response::builder().status(code).body(Body::from(serde_json::to_vec(&answer).unwrap())).unwrap())
}

impl World {
    fn new() -> Self {
        let node = Arc::new(Mutex::new(Value::Null));
        let (told, asked) = mpsc::unbounded_channel();
        let server = node.clone();
        let service =
            tower::service_fn(move |request| Box::pin(answer(server.clone(), told.clone(), request)));
        let config = Config {
            kubeconfig: None,
            servers_file: None,
            master: Vec::new(),
            hostname_override: Some("n".into()),
            node_ip: Vec::new(),
            node_labels: Vec::new(),
            register_with_taints: Vec::new(),
            node_status_update_frequency: "5m".into(),
            node_lease_duration_seconds: 40,
            max_pods: None,
            pod_cidr: None,
            runtime: "hollow".into(),
            hollow_nodes: None,
            containers: ContainerFlags::default(),
            shutdown: ShutdownFlags::default(),
            hollow_capacity: Vec::new(),
            healthz_bind_address: "127.0.0.1".into(),
            healthz_port: 0,
        };
        let machine = Machine {
            hostname: "n".into(),
            address: "10.0.0.1".parse().unwrap(),
            info: Default::default(),
            resources: Default::default(),
        };
        let identity = config.validate().unwrap().identities(&machine).unwrap().remove(0);
        let clock = Clock::of_tokio(Timestamp::from_second(1_000).unwrap());
        let (seen, receiver) = watch::channel(Seen::Unknown);
        let runtime = Arc::new(HollowRuntime::new(clock.clone(), Arc::new(Silent)));
        let stop = CancellationToken::new();
        let task = NodeTask {
            client: Client::new(service, "default"),
            rhythm: Rhythm { report: Duration::from_secs(300), lease: Duration::from_secs(40) },
            clock,
            teller: Arc::new(Silent),
            runtime: runtime.clone(),
            seen: receiver,
            known: watch::channel(Arc::new(identity.node())).0,
            pressures: watch::channel(Default::default()).1,
            shutting_down: watch::channel(false).1,
            identity,
        };
        let task = tokio::spawn(task.run(stop.clone()));
        Self { node, asked, seen, runtime, stop, task }
    }

    async fn expect(&mut self, all: &[&str]) {
        for expected in all {
            assert_eq!(self.asked.recv().await.unwrap(), *expected);
        }
    }

    /// The server's node, changed, is seen.
    fn show(&self, change: impl FnOnce(&mut Value)) {
        let mut node = self.node.lock();
        change(&mut node);
        let version: u64 = node["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
        node["metadata"]["resourceVersion"] = json!((version + 1).to_string());
        let node: Node = serde_json::from_value(node.clone()).unwrap();
        self.seen.send_replace(Seen::Present(Arc::new(node)));
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_is_registered_renewed_ready_with_its_network_and_registered_again() {
    let mut world = World::new();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(world.asked.is_empty(), "nobody has said whether it is there");
    world.seen.send_replace(Seen::Absent);
    world
        .expect(&["POST node False", "PATCH node False", "GET lease", "POST lease", "PUT lease", "PUT lease"])
        .await;
    world.show(|node| node["spec"]["podCIDR"] = json!("10.9.0.0/24"));
    world.expect(&["PATCH node True", "PUT lease"]).await;
    assert_eq!(world.runtime.network_problem(), None);
    // Others may say that it is dead; it is not.
    world.show(|node| node["status"]["conditions"][3]["status"] = json!("Unknown"));
    world.expect(&["PATCH node True"]).await;
    world.seen.send_replace(Seen::Absent);
    world.expect(&["POST node False"]).await;
    assert!(world.runtime.network_problem().is_some());
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_be_written_just_now_is_not_gone() {
    let mut world = World::new();
    world.seen.send_replace(Seen::Absent);
    world.expect(&["POST node False", "PATCH node False", "GET lease", "POST lease"]).await;
    world.show(|node| {
        node["spec"]["podCIDR"] = json!("10.9.0.0/24");
        node["refusals"] = json!(2);
    });
    let refused = ["PATCH node True", "GET node"];
    world.expect(&refused).await;
    world.expect(&refused).await;
    world.expect(&["PATCH node True", "PUT lease"]).await;
    assert_eq!(world.runtime.network_problem(), None);
    world.end().await;
}
