//! How long pods take until they run, as whoever created them sees it: from before the request to the event that says so.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, stream};
use http::Request;
use kube::Client;
use serde_json::{Value, json};

use super::images::BUSYBOX;
use super::requests::{Events, create};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// What becomes of a pod, in this order.
const STAGES: [&str; 2] = ["bound", "running"];

/// Times of many pods, in seconds.
#[derive(Default)]
pub(crate) struct Starts {
    /// From before the request until the pod has a node, and until it runs.
    stages: [Vec<f64>; STAGES.len()],
    /// From before the first request until the last pod runs.
    pub(crate) last: f64,
}

impl Starts {
    /// How many.
    pub(crate) fn count(&self) -> usize {
        self.stages[1].len()
    }

    /// Half of them, and 99 of 100, until this stage.
    pub(crate) fn until(&self, stage: usize) -> (f64, f64) {
        let mut times = self.stages[stage].clone();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() - 1) as f64 * share).ceil() as usize];
        (at(0.5), at(0.99))
    }
}

fn pod(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "labels": {"of": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "c", "image": BUSYBOX, "command": ["sleep", "100000"]}],
        },
    })
}

/// The pods that are followed, with when each was asked for.
struct Followed {
    events: Events,
    asked: HashMap<String, (Instant, [bool; STAGES.len()])>,
    running: usize,
    starts: Starts,
}

impl Followed {
    async fn begin(client: &Client) -> Self {
        let events = Events::watch(client, PODS, "&labelSelector=of%3Dbench").await;
        Self { events, asked: HashMap::new(), running: 0, starts: Starts::default() }
    }

    /// Takes events in until so many pods run.
    async fn until(&mut self, running: usize) {
        while self.running < running {
            let event: Value = serde_json::from_str(&self.events.next().await).unwrap();
            let object = &event["object"];
            let name = object["metadata"]["name"].as_str().unwrap();
            let Some((asked, seen)) = self.asked.get_mut(name) else { continue };
            let now = [!object["spec"]["nodeName"].is_null(), object["status"]["phase"] == "Running"];
            for stage in 0..STAGES.len() {
                if now[stage] && !std::mem::replace(&mut seen[stage], true) {
                    self.starts.stages[stage].push(asked.elapsed().as_secs_f64());
                    self.running += usize::from(stage == 1);
                }
            }
        }
    }
}

/// Each is created when the one before it runs.
pub(crate) async fn one_at_a_time(client: &Client, count: usize) -> Starts {
    let mut followed = Followed::begin(client).await;
    let began = Instant::now();
    for number in 0..count {
        let name = format!("single-{number}");
        followed.asked.insert(name.clone(), (Instant::now(), Default::default()));
        create(client, PODS, &pod(&name)).await;
        followed.until(number + 1).await;
    }
    followed.starts.last = began.elapsed().as_secs_f64();
    end(client, &mut followed.events, count).await;
    followed.starts
}

/// All are created at the same time.
pub(crate) async fn together(client: &Client, count: usize) -> Starts {
    let mut followed = Followed::begin(client).await;
    let began = Instant::now();
    let names: Vec<String> = (0..count).map(|number| format!("many-{number}")).collect();
    for name in &names {
        followed.asked.insert(name.clone(), (began, Default::default()));
    }
    let created = stream::iter(&names).for_each_concurrent(count, |name| {
        let pod = pod(name);
        async move { create(client, PODS, &pod).await }
    });
    tokio::join!(created, followed.until(count));
    followed.starts.last = began.elapsed().as_secs_f64();
    followed.starts
}

/// Deletes all; how long it takes until the last one of so many is gone.
pub(crate) async fn end_all(client: &Client, count: usize) -> Duration {
    let mut events = Events::watch(client, PODS, "&labelSelector=of%3Dbench").await;
    let began = Instant::now();
    end(client, &mut events, count).await;
    began.elapsed()
}

async fn end(client: &Client, events: &mut Events, count: usize) {
    let request = Request::delete(format!("{PODS}?labelSelector=of%3Dbench")).body(Vec::new()).unwrap();
    client.request_text(request).await.unwrap();
    let mut gone = 0;
    while gone < count {
        gone += usize::from(events.next().await.starts_with("{\"type\":\"DELETED\""));
    }
}
