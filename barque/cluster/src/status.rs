//! How a cluster is: its masters with their stores, nodes, pods, and what happened last. Looks once; must never change anything.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use barque_proto::etcdserverpb::StatusRequest;
use barque_proto::etcdserverpb::maintenance_client::MaintenanceClient;
use barque_store::config::TlsFiles;
use barque_store::tls::{ClientTls, PeerConnector};
use futures::future::join_all;
use http::{Request, Uri};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Node, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use serde::{Serialize, Serializer};
use tonic::transport::Endpoint;

use crate::discovery::told;
use crate::membership::innermost;
use crate::settings::{ClusterSettings, MASTERS, NAMESPACE};

/// A master that does not answer within this time is told to be silent.
pub(crate) const PATIENCE: Duration = Duration::from_secs(3);
/// So many events are told.
const EVENTS: usize = 8;

/// A cluster cannot be looked at.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be read: {}", told(error))]
pub struct StatusError {
    what: &'static str,
    error: Box<kube::Error>,
}

/// How a cluster is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// By name.
    pub masters: BTreeMap<String, Master>,
    /// By name.
    pub nodes: BTreeMap<String, NodeStatus>,
    /// How many pods there are in each phase.
    pub pods: BTreeMap<String, usize>,
    /// What happened last, the latest first.
    pub events: Vec<Told>,
}

/// A master.
#[derive(Clone, Debug, Serialize)]
pub struct Master {
    /// Of its API server.
    pub url: String,
    /// Whether its API server is ready; why not otherwise.
    #[serde(serialize_with = "outcome")]
    pub api: Result<Ready, String>,
    /// Its member of the store; why nothing is known of it otherwise.
    #[serde(serialize_with = "outcome")]
    pub store: Result<Member, String>,
}

/// What is known, or `{"error": why}`.
fn outcome<T: Serialize, S: Serializer>(outcome: &Result<T, String>, to: S) -> Result<S::Ok, S::Error> {
    match outcome {
        Ok(known) => known.serialize(to),
        Err(why) => BTreeMap::from([("error", why)]).serialize(to),
    }
}

/// An API server that is ready.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ready {
    /// Always true.
    ready: bool,
}

/// A member of the store.
#[derive(Clone, Debug, Serialize)]
pub struct Member {
    /// `leader`, `follower` or `learner`.
    pub role: &'static str,
    /// Raft's term.
    pub term: u64,
    /// The last revision that it knows.
    pub revision: i64,
    /// Of its data, in bytes.
    pub size: i64,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeStatus {
    /// Whether it is ready.
    pub ready: bool,
    /// What keeps it from being used: conditions that do not hold, taints.
    pub trouble: Vec<String>,
    /// Where it is.
    pub address: String,
    /// How many pods are bound to it.
    pub pods: usize,
}

/// What happened.
#[derive(Clone, Debug, Serialize)]
pub struct Told {
    /// How many seconds ago.
    pub ago_s: u64,
    /// `Normal` or `Warning`.
    pub kind: String,
    /// To what.
    pub object: String,
    /// In a word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

/// Looks at a cluster. `store` is how members of the store are asked; without it nothing is known of them.
///
/// # Errors
/// When no API server answers.
pub async fn status(
    client: &Client,
    settings: &ClusterSettings,
    single: impl Fn(&Uri) -> Option<Client>,
    store: Option<&TlsFiles>,
    now: SystemTime,
) -> Result<Status, StatusError> {
    let failed = |what| move |error| StatusError { what, error: Box::new(error) };
    let all = ListParams::default();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let (nodes, pods, events): (Api<Node>, Api<Pod>, Api<Event>) =
        (Api::all(client.clone()), Api::all(client.clone()), Api::all(client.clone()));
    let known = maps.get(MASTERS).await.map_err(failed("masters"))?.data.unwrap_or_default();
    let nodes = nodes.list(&all).await.map_err(failed("nodes"))?.items;
    let pods = pods.list(&all).await.map_err(failed("pods"))?.items;
    let events = events.list(&all).await.map_err(failed("events"))?.items;

    let connector = store.and_then(|tls| ClientTls::load(tls).ok());
    let connector = connector.map(|tls| PeerConnector::new(Some(Arc::new(tls)), PATIENCE));
    let looking = known.into_iter().map(|(name, url)| {
        let (connector, client) = (connector.clone(), url.parse().ok().and_then(|url| single(&url)));
        async move {
            let (api, store) =
                futures::join!(ready(client), member(&url, settings.store_client_port, connector));
            (name, Master { url, api, store })
        }
    });
    Ok(Status {
        masters: join_all(looking).await.into_iter().collect(),
        nodes: nodes.iter().map(|node| (node.name_any(), of_node(node, &pods))).collect(),
        pods: phases(&pods),
        events: latest(&events, now),
    })
}

pub(crate) async fn ready(client: Option<Client>) -> Result<Ready, String> {
    let client = client.ok_or_else(|| "its URL is none".to_owned())?;
    let request = Request::get("/readyz").body(Vec::new()).map_err(|error| error.to_string())?;
    match tokio::time::timeout(PATIENCE, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(Ready { ready: true }),
        Ok(Err(kube::Error::Api(status))) => Err(failing(&status.message)),
        Ok(Err(error)) => Err(innermost(&error)),
        Err(_) => Err(format!("silent for {} s", PATIENCE.as_secs())),
    }
}

/// The checks that failed, of an answer that lists all of them; the whole answer when it lists none.
fn failing(answer: &str) -> String {
    let failed = answer.lines().filter_map(|line| line.strip_prefix("[-]"));
    let failed: Vec<&str> = failed.map(|line| line.trim_end_matches(": reason withheld")).collect();
    if failed.is_empty() { answer.trim().to_owned() } else { failed.join(", ") }
}

async fn member(url: &str, port: u16, connector: Option<PeerConnector>) -> Result<Member, String> {
    let connector =
        connector.ok_or_else(|| "not asked: the store's certificates are on masters".to_owned())?;
    let host = url.parse::<Uri>().ok().and_then(|url| url.host().map(str::to_owned)).unwrap_or_default();
    let endpoint =
        Endpoint::from_shared(format!("https://{host}:{port}")).map_err(|error| error.to_string())?;
    let asking = async {
        let channel =
            endpoint.connect_with_connector(connector).await.map_err(|_| "no connection".to_owned())?;
        let answer = MaintenanceClient::new(channel).status(StatusRequest {}).await;
        Ok::<_, String>(answer.map_err(|status| status.message().to_owned())?.into_inner())
    };
    let silent = |_| format!("silent for {} s", PATIENCE.as_secs());
    let answer = tokio::time::timeout(PATIENCE, asking).await.map_err(silent)??;
    let header = answer.header.unwrap_or_default();
    let role = match () {
        () if answer.is_learner => "learner",
        () if answer.leader == header.member_id => "leader",
        () => "follower",
    };
    Ok(Member { role, term: answer.raft_term, revision: header.revision, size: answer.db_size })
}

/// Whether a node is ready, and what keeps it from being used.
pub(crate) fn trouble(node: &Node) -> (bool, Vec<String>) {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().any(|it| it.type_ == "Ready" && it.status == "True");
    let wrong = conditions.iter().filter(|it| (it.type_ == "Ready") != (it.status == "True"));
    let mut trouble: Vec<String> = wrong
        .map(|it| {
            format!("{}: {}", it.type_, it.message.as_deref().or(it.reason.as_deref()).unwrap_or(&it.status))
        })
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        trouble.push("cordoned".to_owned());
    }
    (ready, trouble)
}

fn of_node(node: &Node, pods: &[Pod]) -> NodeStatus {
    let (ready, trouble) = trouble(node);
    let status = node.status.clone().unwrap_or_default();
    let addresses = status.addresses.unwrap_or_default();
    let name = node.name_any();
    let bound = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()) == Some(&name);
    NodeStatus {
        ready,
        trouble,
        address: addresses.into_iter().next().map(|it| it.address).unwrap_or_default(),
        pods: pods.iter().filter(bound).count(),
    }
}

fn phases(pods: &[Pod]) -> BTreeMap<String, usize> {
    let mut counted = BTreeMap::new();
    for pod in pods {
        let phase = pod.status.as_ref().and_then(|status| status.phase.clone());
        *counted.entry(phase.unwrap_or_else(|| "Unknown".to_owned())).or_default() += 1;
    }
    counted
}

fn latest(events: &[Event], now: SystemTime) -> Vec<Told> {
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let at = |event: &Event| {
        let times = [
            event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0),
            event.last_timestamp.as_ref().map(|time| time.0),
            event.event_time.as_ref().map(|time| time.0),
            event.metadata.creation_timestamp.as_ref().map(|time| time.0),
        ];
        times
            .into_iter()
            .flatten()
            .next()
            .map_or(0, |time| u64::try_from(time.as_second()).unwrap_or_default())
    };
    let mut sorted: Vec<(u64, &Event)> = events.iter().map(|event| (at(event), event)).collect();
    sorted.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
    let told = sorted.into_iter().take(EVENTS).map(|(at, event)| {
        let object = &event.involved_object;
        let name = object.name.clone().unwrap_or_default();
        let place = object.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
        Told {
            ago_s: seconds.saturating_sub(at),
            kind: event.type_.clone().unwrap_or_default(),
            object: format!("{} {place}{name}", object.kind.clone().unwrap_or_default()),
            reason: event.reason.clone().unwrap_or_default(),
            message: event.message.clone().unwrap_or_default(),
        }
    });
    told.collect()
}

impl Status {
    /// For people.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let width =
            |names: &mut dyn Iterator<Item = usize>, least: usize| names.max().unwrap_or(0).max(least) + 2;
        let wide = width(&mut self.masters.keys().chain(self.nodes.keys()).map(String::len), 6);
        let url = width(&mut self.masters.values().map(|it| it.url.len()), 8);
        let _ = writeln!(
            text,
            "{:wide$}{:url$}{:8}{:10}{:>6}{:>10}{:>9}",
            "MASTER", "API", "READY", "STORE", "TERM", "REVISION", "SIZE"
        );
        let newest =
            self.masters.values().filter_map(|it| it.store.as_ref().ok()).map(|it| it.revision).max();
        for (name, master) in &self.masters {
            let ready = if master.api.is_ok() { "yes" } else { "no" };
            let _ = write!(text, "{name:wide$}{:url$}{ready:8}", master.url);
            let _ = match &master.store {
                Ok(member) => {
                    let behind = newest.unwrap_or_default() - member.revision;
                    let behind = if behind > 0 { format!(" (-{behind})") } else { String::new() };
                    writeln!(
                        text,
                        "{:10}{:>6}{:>10}{:>9}",
                        member.role,
                        member.term,
                        format!("{}{behind}", member.revision),
                        size(member.size)
                    )
                }
                Err(why) => writeln!(text, "{why}"),
            };
            if let Err(why) = &master.api {
                let _ = writeln!(text, "{:wide$}API server: {why}", "");
            }
        }
        let address = width(&mut self.nodes.values().map(|it| it.address.len()), 7);
        let _ = writeln!(text, "\n{:wide$}{:address$}{:8}{:>5}", "NODE", "ADDRESS", "READY", "PODS");
        for (name, node) in &self.nodes {
            let ready = if node.ready { "yes" } else { "no" };
            let _ = writeln!(text, "{name:wide$}{:address$}{ready:8}{:>5}", node.address, node.pods);
            for trouble in &node.trouble {
                let _ = writeln!(text, "{:wide$}{trouble}", "");
            }
        }
        let pods: Vec<String> = self.pods.iter().map(|(phase, count)| format!("{count} {phase}")).collect();
        let _ =
            writeln!(text, "\nPODS  {}", if pods.is_empty() { "none".to_owned() } else { pods.join(", ") });
        if !self.events.is_empty() {
            let _ = writeln!(text, "\nLAST EVENTS");
        }
        for event in &self.events {
            let _ = writeln!(
                text,
                "{:>7}  {:8}{}: {}: {}",
                ago(event.ago_s),
                event.kind,
                event.object,
                event.reason,
                event.message
            );
        }
        text
    }

    /// Whether every master and every node is as it should be.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let masters = self.masters.values().all(|master| master.api.is_ok());
        masters && self.nodes.values().all(|node| node.ready)
    }
}

fn ago(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

fn size(bytes: i64) -> String {
    match bytes {
        ..1_048_576 => format!("{} KiB", bytes / 1024),
        1_048_576..1_073_741_824 => format!("{} MiB", bytes / 1_048_576),
        _ => format!("{} GiB", bytes / 1_073_741_824),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_a_server_that_is_not_ready_only_what_fails_is_told() {
        let answer = "[+]ping ok\n[-]etcd failed: reason withheld\nreadyz check failed";
        assert_eq!(failing(answer), "etcd failed");
        assert_eq!(failing("Forbidden\n"), "Forbidden");
    }

    #[test]
    fn what_is_wrong_stands_below_who_it_is_wrong_with() {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1"},
            "spec": {"unschedulable": true},
            "status": {
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "conditions": [
                    {"type": "Ready", "status": "False", "message": "it sleeps"},
                    {"type": "DiskPressure", "status": "False"},
                ],
            },
        }))
        .unwrap();
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running"},
        }))
        .unwrap();
        let pods = [pod];
        let member = Member { role: "leader", term: 2, revision: 90, size: 2 << 20 };
        let status = Status {
            masters: BTreeMap::from([
                (
                    "m1".to_owned(),
                    Master {
                        url: "https://a:1".to_owned(),
                        api: Ok(Ready { ready: true }),
                        store: Ok(member),
                    },
                ),
                (
                    "m2".to_owned(),
                    Master {
                        url: "https://b:1".to_owned(),
                        api: Err("connection refused".to_owned()),
                        store: Err("no connection".to_owned()),
                    },
                ),
            ]),
            nodes: BTreeMap::from([("n1".to_owned(), of_node(&node, &pods))]),
            pods: phases(&pods),
            events: Vec::new(),
        };
        let expected = "\
MASTER  API          READY   STORE       TERM  REVISION     SIZE
m1      https://a:1  yes     leader         2        90    2 MiB
m2      https://b:1  no      no connection
        API server: connection refused

NODE    ADDRESS   READY    PODS
n1      10.0.0.1  no          1
        Ready: it sleeps
        cordoned

PODS  1 Running
";
        assert_eq!(status.table(), expected);
        assert!(!status.is_whole());
    }

    #[test]
    fn the_latest_events_come_first() {
        let event = |name: &str, at: &str| -> Event {
            serde_json::from_value(json!({
                "metadata": {"name": name}, "involvedObject": {"kind": "Pod", "namespace": "n", "name": name},
                "lastTimestamp": at, "type": "Normal", "reason": "Pulled", "message": "m",
            }))
            .unwrap()
        };
        let events = [event("old", "1970-01-01T00:00:10Z"), event("new", "1970-01-01T00:01:00Z")];
        let told = latest(&events, SystemTime::UNIX_EPOCH + Duration::from_secs(70));
        assert_eq!(
            told.iter().map(|it| (it.ago_s, it.object.as_str())).collect::<Vec<_>>(),
            [(10, "Pod n/new"), (60, "Pod n/old")]
        );
    }
}
