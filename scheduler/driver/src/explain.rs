//! Why a pod goes where it goes, or nowhere: the decision as it would be now, node by node, for people. Must never act on it.

use std::fmt::Write as _;
use std::time::Duration;

use barque_client::servers::{ConnectError, Servers, connect};
use barque_scheduler::config::Configuration;
use barque_scheduler::decision::{Decision, NodeOpinion, Scheduler};
use barque_scheduler::plugins::gated;
use barque_scheduler::preemption::{Outcome, Preemptor};
use barque_scheduler::snapshot::Snapshot;
use k8s_openapi::api::core::v1 as core;
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::observe::{Gone, Kind, Named, Object, read_all};

/// Which pod.
#[derive(Debug, Clone)]
pub enum Asked {
    /// One that is there; for one that has a node: as if it had none.
    Pod {
        /// Where it lives.
        namespace: String,
        /// Its name there.
        name: String,
    },
    /// One that is not there: a manifest in YAML or JSON. The API server says what it would be, and creates nothing.
    WhatIf {
        /// Where it would live, unless the manifest says so.
        namespace: String,
        /// The manifest.
        manifest: String,
    },
}

/// Why there is no explanation.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is no client.
    #[error("the API servers")]
    Connect(#[from] ConnectError),
    /// The API did not answer, or not as was wished.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// The manifest is no pod.
    #[error("the manifest is no pod: {0}")]
    Manifest(String),
    /// The pod belongs to another scheduler, is being deleted or has ended.
    #[error(
        "pod {0:?} is none that this scheduler places: its schedulerName is {1:?}, or it is going or has ended"
    )]
    NotOurs(String, String),
}

/// What a plugin thought of a node.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
pub struct Score {
    /// Its name.
    pub plugin: &'static str,
    /// In its own measure.
    pub raw: i64,
    /// In relation to the other nodes, from 0 to 100.
    pub normalized: i64,
    /// By the plugin's weight.
    pub weighted: i64,
}

/// What is thought of a node.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Opinion {
    /// Its name.
    pub node: String,
    /// The sum of the scores of a node that will do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<i64>,
    /// The scores.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<Score>,
    /// The plugin that refused a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<&'static str>,
    /// In which words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
}

/// Pods that would have to go.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Room {
    /// Where.
    pub node: String,
    /// Which, as `namespace/name`.
    pub victims: Vec<String>,
    /// How many of them a budget would keep.
    pub violated_budgets: usize,
}

/// A decision, explained.
#[derive(Debug, Clone, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// `namespace/name`.
    pub pod: String,
    /// The profile that decides.
    pub scheduler_name: String,
    /// Where it runs now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
    /// Where it would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it would go nowhere, in one sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What would be done so that it finds room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preemption: Option<Room>,
    /// All nodes, the best first, those that will not do last.
    pub nodes: Vec<Opinion>,
}

/// Reads the cluster once and explains.
///
/// # Errors
/// When the cluster cannot be read, or there is no such pod.
pub async fn explain(
    servers: Servers,
    configuration: Configuration,
    asked: Asked,
) -> Result<Explanation, ExplainError> {
    let client = connect(servers).await?;
    let pod: core::Pod = match asked {
        Asked::Pod { namespace, name } => Api::namespaced(client.clone(), &namespace).get(&name).await?,
        Asked::WhatIf { namespace, manifest } => {
            let value: Value = serde_saphyr::from_str(&manifest)
                .map_err(|error| ExplainError::Manifest(error.to_string()))?;
            let pod: core::Pod =
                serde_json::from_value(value).map_err(|error| ExplainError::Manifest(error.to_string()))?;
            let namespace = pod.metadata.namespace.clone().unwrap_or(namespace);
            let params = PostParams { dry_run: true, ..PostParams::default() };
            Api::namespaced(client.clone(), &namespace).create(&params, &pod).await?
        }
    };
    let mut cluster = Cluster::new(&configuration.profiles, configuration.queue);
    for object in read_all(&client).await? {
        cluster.there(object, NOW);
    }
    cluster.complete();
    explained(cluster, configuration, pod)
}

/// Nothing waits here.
const NOW: Duration = Duration::ZERO;

fn explained(
    mut cluster: Cluster,
    configuration: Configuration,
    mut pod: core::Pod,
) -> Result<Explanation, ExplainError> {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let named = Named { namespace: text(&pod.metadata.namespace), name: text(&pod.metadata.name) };
    let uid = text(&pod.metadata.uid);
    let whole = format!("{}/{}", named.namespace, named.name);
    let spec = pod.spec.get_or_insert_default();
    let scheduler_name = text(&spec.scheduler_name);
    let bound_to = spec.node_name.take().filter(|node| !node.is_empty());
    cluster.gone(&Gone { kind: Kind::Pod, named, uid: uid.clone() }, NOW);
    cluster.there(Object::Pod(Box::new(pod)), NOW);
    let Some(pending) = cluster.refresh(&uid) else {
        return Err(ExplainError::NotOurs(whole, scheduler_name));
    };
    let mut scheduler = Scheduler::new(configuration.profiles, 0);
    let snapshot = &cluster.snapshot;
    let opinions = scheduler.explain(snapshot, &pending.pod, pending.profile);
    let mut explanation = Explanation {
        pod: whole,
        scheduler_name,
        bound_to,
        node: None,
        message: None,
        preemption: None,
        nodes: opinions.into_iter().map(|opinion| told(snapshot, opinion)).collect(),
    };
    if let Some(refusal) = gated(&pending.pod.gates) {
        explanation.message = Some(refusal.reasons.join(", "));
        return Ok(explanation);
    }
    match scheduler.decide(snapshot, &pending.pod, pending.profile) {
        Decision::Placed(placement) => explanation.node = Some(snapshot.node_name(placement.node).to_owned()),
        Decision::Refused(refused) => {
            let profile = &scheduler.profiles()[pending.profile];
            explanation.message = Some(refused.message());
            if profile.preempts && refused.nodes > 0 {
                let mut preemptor = Preemptor::new(0);
                let outcome = preemptor.plan(snapshot, &pending.pod, profile, &refused, &cluster.budgets);
                explanation.message = Some(outcome.told_after(&refused));
                if let Outcome::Preempt(preemption) = outcome {
                    let name = |victim: &barque_scheduler::pod::PodName| {
                        format!("{}/{}", victim.namespace, victim.name)
                    };
                    explanation.preemption = Some(Room {
                        node: snapshot.node_name(preemption.node).to_owned(),
                        victims: preemption.victims.iter().map(|victim| name(&victim.name)).collect(),
                        violated_budgets: preemption.violations,
                    });
                }
            }
        }
    }
    Ok(explanation)
}

fn told(snapshot: &Snapshot, opinion: NodeOpinion) -> Opinion {
    let node = snapshot.node_name(opinion.node).to_owned();
    match opinion.verdict {
        Ok(scores) => {
            let total = scores.iter().map(|score| score.weighted).sum();
            let score = |score: barque_scheduler::decision::PluginScore| Score {
                plugin: score.plugin.name(),
                raw: score.raw,
                normalized: score.normalized,
                weighted: score.weighted,
            };
            let scores = scores.into_iter().map(score).collect();
            Opinion { node, total: Some(total), scores, refused_by: None, reasons: Vec::new() }
        }
        Err(refusal) => Opinion {
            node,
            total: None,
            scores: Vec::new(),
            refused_by: Some(refusal.plugin.name()),
            reasons: refusal.reasons.iter().map(ToString::to_string).collect(),
        },
    }
}

impl Explanation {
    /// For people: what is decided, then the nodes that will do with what each plugin gave them, then the others.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = match (&self.node, &self.message) {
            (Some(node), _) => format!("{} goes to {node}", self.pod),
            (None, message) => format!("{} waits: {}", self.pod, message.as_deref().unwrap_or_default()),
        };
        text.push('\n');
        // Writing to a string does not fail.
        if let Some(node) = &self.bound_to {
            let _ = writeln!(text, "It runs on {node} already; this is as if it did not.");
        }
        if let Some(room) = &self.preemption {
            let (node, victims) = (&room.node, room.victims.join(", "));
            let _ = writeln!(text, "On {node}, these would go for it: {victims}");
            if room.violated_budgets > 0 {
                let _ = writeln!(text, "Budgets would keep {} of them.", room.violated_budgets);
            }
        }
        let scored: Vec<&Opinion> = self.nodes.iter().filter(|node| node.total.is_some()).collect();
        if let Some(first) = scored.first() {
            let plugins = first.scores.iter().map(|score| score.plugin.to_owned());
            let mut rows = vec![["NODE".to_owned(), "SCORE".to_owned()].into_iter().chain(plugins).collect()];
            rows.extend(scored.iter().map(|node| {
                let scores = node.scores.iter().map(|score| score.weighted.to_string());
                let total = node.total.unwrap_or_default().to_string();
                [node.node.clone(), total].into_iter().chain(scores).collect::<Vec<_>>()
            }));
            text.push('\n');
            text.push_str(&aligned(&rows));
        }
        let refused: Vec<&Opinion> = self.nodes.iter().filter(|node| node.refused_by.is_some()).collect();
        if !refused.is_empty() {
            let mut rows = vec![["NODE", "PLUGIN", "WHY NOT"].map(str::to_owned).to_vec()];
            rows.extend(refused.iter().map(|node| {
                let plugin = node.refused_by.unwrap_or_default().to_owned();
                vec![node.node.clone(), plugin, node.reasons.join(", ")]
            }));
            text.push('\n');
            text.push_str(&aligned(&rows));
        }
        text
    }
}

/// Columns with two or more blanks between them.
fn aligned(rows: &[Vec<String>]) -> String {
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn cluster(configuration: &Configuration) -> Cluster {
        let mut cluster = Cluster::new(&configuration.profiles, configuration.queue);
        for (name, cpu) in [("large", "8"), ("small", "1")] {
            let node = json!({
                "metadata": {"name": name},
                "status": {"allocatable": {"cpu": cpu, "memory": "8Gi", "pods": "10"}},
            });
            cluster.there(Object::Node(serde_json::from_value(node).unwrap()), NOW);
        }
        cluster
    }

    fn pod(name: &str, cpu: &str, more: &Value) -> core::Pod {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}],
                "schedulerName": "default-scheduler"},
        });
        for (key, value) in more.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        serde_json::from_value(pod).unwrap()
    }

    #[test]
    fn scores_and_refusals_are_told_node_by_node() {
        let configuration = Configuration::default();
        let told = explained(cluster(&configuration), configuration, pod("p", "2", &json!({}))).unwrap();
        assert_eq!(told.node.as_deref(), Some("large"));
        let table = told.table();
        assert!(table.starts_with("default/p goes to large\n"), "{table}");
        let scores = table.lines().find(|line| line.starts_with("NODE   SCORE")).unwrap();
        assert!(scores.contains("NodeResourcesFit"), "{table}");
        assert!(table.ends_with("small  NodeResourcesFit  Insufficient cpu\n"), "{table}");
        let value = serde_json::to_value(&told).unwrap();
        assert_eq!(
            value["nodes"][1],
            json!({
                "node": "small", "refusedBy": "NodeResourcesFit", "reasons": ["Insufficient cpu"],
            })
        );
    }

    #[test]
    fn a_pod_that_runs_is_explained_as_if_it_did_not() {
        let configuration = Configuration::default();
        let mut cluster = cluster(&configuration);
        let running = pod("p", "8", &json!({"nodeName": "large"}));
        cluster.there(Object::Pod(Box::new(running.clone())), NOW);
        let told = explained(cluster, configuration, running).unwrap();
        assert_eq!((told.bound_to.as_deref(), told.node.as_deref()), (Some("large"), Some("large")));
    }

    #[test]
    fn who_would_have_to_go_is_told() {
        let configuration = Configuration::default();
        let mut cluster = cluster(&configuration);
        let low = pod("low", "8", &json!({"nodeName": "large"}));
        cluster.there(Object::Pod(Box::new(low)), NOW);
        let told = explained(cluster, configuration, pod("p", "8", &json!({"priority": 5}))).unwrap();
        let room = told.preemption.as_ref().unwrap();
        assert_eq!((&*room.node, &*room.victims), ("large", &["default/low".to_owned()][..]));
        assert_eq!(told.message.as_deref(), Some("0/2 nodes are available: 2 Insufficient cpu."));
        assert!(told.table().contains("On large, these would go for it: default/low\n"));
    }

    #[test]
    fn gates_and_other_schedulers_are_told() {
        let configuration = Configuration::default();
        let gates = json!({"schedulingGates": [{"name": "a/b"}]});
        let told = explained(cluster(&configuration), configuration.clone(), pod("p", "1", &gates)).unwrap();
        assert_eq!(told.message.as_deref(), Some("waiting for scheduling gates: [a/b]"));
        let foreign = pod("p", "1", &json!({"schedulerName": "foreign"}));
        assert!(explained(cluster(&configuration), configuration, foreign).is_err());
    }
}
