//! `metrics.k8s.io`: what nodes and pods use now, as `kubectl top` and autoscalers ask. Agents are asked when somebody asks here;
//! a metrics server that is registered for the group takes this module's place. Must never store anything.

mod exposition;
mod measured;
mod usage;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use barque_api::kind::{GroupResource, GroupVersionResource};
use barque_api::quantity::{Format, Quantity};
use barque_api::status::{Reason, Status};
use barque_api::time::{GoDuration, Time};
use futures::StreamExt as _;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use self::exposition::Totals;
use self::measured::{Measured, Pair};
use self::usage::Usage;
use crate::http::answer::Body;
use crate::http::verbs::{Call, check_path};
use crate::registry::collections::{Collections, parse};
use crate::registry::selection::{Wanted, selection};
use crate::storage::Storage;
use crate::streaming::Streaming;
use crate::watch_cache::query::ListQuery;

const GROUP: &str = "metrics.k8s.io";
/// Where an agent tells what was used.
const PATH: &str = "/metrics/resource";
/// An agent that is silent for so long is left out.
const PATIENCE: Duration = Duration::from_secs(3);
/// Agents that are asked at once.
const AT_ONCE: usize = 32;

/// See the module's description.
pub struct ResourceMetrics {
    streaming: Streaming,
    measured: Measured,
}

impl ResourceMetrics {
    /// Asks agents by way of `streaming`.
    #[must_use]
    pub fn new(streaming: Streaming) -> Self {
        Self { streaming, measured: Measured::default() }
    }

    /// Answers a read; nothing for a request that is about something else.
    ///
    /// # Errors
    /// 400 for selectors that are none, 404 for what is not there or not measured.
    pub async fn answer<S: Storage>(
        &self,
        call: &Call<'_, S>,
        collections: &Collections<S>,
    ) -> Result<Option<Response<Body>>, Status> {
        let resource = &call.info.resource;
        if &*resource.group != GROUP {
            return Ok(None);
        }
        check_path(call)?;
        let of_nodes = &*resource.resource == "nodes";
        let objects = selected(call, collections, if of_nodes { "nodes" } else { "pods" }).await?;
        let items = if of_nodes {
            self.of_nodes(objects, call.now).await
        } else {
            self.of_pods(objects, collections, call.now).await?
        };
        let teller = call.teller()?;
        if call.info.verb == "list" {
            return teller.computed(items).map(Some);
        }
        match items.into_iter().next() {
            Some(item) => teller.answer(StatusCode::OK, item).map(Some),
            None => Err(not_found(of_nodes, &call.info.namespace, &call.info.name)),
        }
    }

    async fn of_nodes(&self, nodes: Vec<Value>, now: Time) -> Vec<Value> {
        let pairs = self.pairs(&nodes).await;
        let measured = nodes.iter().filter_map(|node| {
            let pair = pairs.get(name(node))?;
            let usage = usage::of_node(&pair.before, &pair.after)?;
            let mut item = head("NodeMetrics", node, now, &usage);
            item["usage"] = resources(&usage);
            Some(item)
        });
        measured.collect()
    }

    async fn of_pods<S: Storage>(
        &self,
        pods: Vec<Value>,
        collections: &Collections<S>,
        now: Time,
    ) -> Result<Vec<Value>, Status> {
        let mut by_node: BTreeMap<&str, Option<Value>> = BTreeMap::new();
        for node in pods.iter().filter_map(node_of) {
            by_node.entry(node).or_default();
        }
        for (name, node) in &mut by_node {
            *node = collections.object(&GroupResource::new("", "nodes"), "", name).await?;
        }
        let nodes: Vec<Value> = by_node.into_values().flatten().collect();
        let pairs = self.pairs(&nodes).await;
        let measured = pods.iter().filter_map(|pod| pod_metrics(pod, pairs.get(node_of(pod)?)?, now));
        Ok(measured.collect())
    }

    /// What the nodes' agents told, by name; silent ones are left out.
    async fn pairs(&self, nodes: &[Value]) -> HashMap<String, Pair> {
        self.measured.forget_old();
        let asked: Vec<_> = nodes.iter().map(|node| self.pair(node)).collect();
        let told = futures::stream::iter(asked).buffer_unordered(AT_ONCE);
        told.filter_map(std::future::ready).collect().await
    }

    async fn pair(&self, node: &Value) -> Option<(String, Pair)> {
        let name = name(node).to_owned();
        match self.measured.pair(&name, || self.ask(node)).await {
            Ok(pair) => Some((name, pair)),
            Err(status) => {
                tracing::warn!(node = name, "it is not known what it uses: {}", status.message);
                None
            }
        }
    }

    async fn ask(&self, node: &Value) -> Result<Totals, Status> {
        match tokio::time::timeout(PATIENCE, self.streaming.read(node, PATH)).await {
            Ok(answer) => Ok(exposition::read(&answer?)),
            Err(_) => Err(Status::new(Reason::Timeout, "its agent does not answer")),
        }
    }
}

/// The nodes or pods that the request means.
async fn selected<S: Storage>(
    call: &Call<'_, S>,
    collections: &Collections<S>,
    resource: &str,
) -> Result<Vec<Value>, Status> {
    let catalog = collections.catalog();
    let endpoint = catalog.named(&GroupVersionResource::new("", "v1", resource));
    let endpoint = endpoint.ok_or_else(Status::no_such_path)?;
    let collection = endpoint.collection.as_ref().ok_or_else(Status::no_such_path)?;
    let wanted = Wanted {
        namespace: &call.info.namespace,
        name: &call.info.name,
        labels: call.parameters.text("labelSelector"),
        fields: call.parameters.text("fieldSelector"),
    };
    let selection = selection(wanted, &endpoint.served, collection)?;
    let query = ListQuery { resource_version: "0".to_owned(), ..ListQuery::default() };
    let list = collection.cache.list(&query, &selection).await?;
    list.objects.iter().map(|object| parse(object)).collect()
}

/// What a pod uses, if all of it that runs is known.
fn pod_metrics(pod: &Value, pair: &Pair, now: Time) -> Option<Value> {
    let (namespace, name) = (pod.pointer("/metadata/namespace")?.as_str()?, name(pod));
    let containers = usage::of_pod(&pair.before, &pair.after, namespace, name);
    // The moment and the window are those of the container that was measured first.
    let (_, earliest) = containers.iter().min_by_key(|(_, usage)| usage.at_ms)?;
    let mut item = head("PodMetrics", pod, now, earliest);
    item["metadata"]["namespace"] = namespace.into();
    item["containers"] =
        containers.iter().map(|(name, usage)| json!({"name": name, "usage": resources(usage)})).collect();
    Some(item)
}

/// What is the same for nodes and pods.
fn head(kind: &str, of: &Value, now: Time, usage: &Usage) -> Value {
    let mut metadata = json!({"name": name(of), "creationTimestamp": now.to_string()});
    if let Some(labels) = of.pointer("/metadata/labels") {
        metadata["labels"] = labels.clone();
    }
    json!({
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": metadata,
        "timestamp": Time::of_unix(usage.at_ms.div_euclid(1000)).to_string(),
        "window": GoDuration::of_nanos(usage.window_ms.saturating_mul(1_000_000)).to_string(),
    })
}

fn resources(usage: &Usage) -> Value {
    let cpu = Quantity::new(i64::try_from(usage.cpu_nano).unwrap_or(i64::MAX), -9, Format::DecimalSi);
    let memory = Quantity::new(i64::try_from(usage.memory_bytes).unwrap_or(i64::MAX), 0, Format::BinarySi);
    json!({"cpu": cpu.to_string(), "memory": memory.to_string()})
}

fn name(object: &Value) -> &str {
    object.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default()
}

fn node_of(pod: &Value) -> Option<&str> {
    pod.pointer("/spec/nodeName").and_then(Value::as_str).filter(|name| !name.is_empty())
}

/// In the words of metrics-server, which `kubectl top` passes on.
fn not_found(of_nodes: bool, namespace: &str, name: &str) -> Status {
    if of_nodes {
        Status::not_found(&GroupResource::new(GROUP, "nodemetrics"), name)
    } else {
        Status::not_found(&GroupResource::new(GROUP, "podmetrics"), &format!("{namespace}/{name}"))
    }
}
