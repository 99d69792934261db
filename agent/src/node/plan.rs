//! What is to be done so that the cluster knows a node and believes that it lives. A decision; time is handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, NodeStatus};
use k8s_openapi::jiff::Timestamp;

use super::identity::Identity;
use super::status::{differs, status};
use crate::clock::{after, sooner};
use crate::eviction::signals::Pressures;

/// How often a node tells what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rhythm {
    /// The longest time between two reports of its status.
    pub report: Duration,
    /// How long its lease lasts.
    pub lease: Duration,
}

impl Rhythm {
    /// How often the lease is renewed: four times while it lasts.
    #[must_use]
    pub fn renewal(self) -> Duration {
        self.lease / 4
    }
}

/// What is known of the node in the cluster.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// What it is.
    pub identity: &'a Identity,
    /// How often it tells what.
    pub rhythm: Rhythm,
    /// The node in the cluster; nothing when there is none.
    pub seen: Option<&'a Node>,
    /// The labels that every node has were seen to by this agent.
    pub labelled: bool,
    /// When its status was reported last by this agent.
    pub reported: Option<Timestamp>,
    /// When its lease was renewed last by this agent.
    pub renewed: Option<Timestamp>,
    /// Why pods can have no network.
    pub network_problem: Option<&'a str>,
    /// The machine goes down.
    pub shutting_down: bool,
    /// What it is short of.
    pub pressures: &'a Pressures,
    /// The time.
    pub now: Timestamp,
}

/// Something to do.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The node is registered.
    Register(Box<Node>),
    /// Labels of a node that was there before get the values of this one.
    Label(BTreeMap<String, String>),
    /// The status is reported.
    Report(Box<NodeStatus>),
    /// The lease is renewed.
    Renew,
}

/// What to do, and when to ask again.
#[derive(Debug, Clone, PartialEq)]
pub struct NodePlan {
    /// What is to be done now, in this order.
    pub actions: Vec<Action>,
    /// When the next plan is due.
    pub wake_at: Option<Timestamp>,
}

/// What the node needs now.
#[must_use]
pub fn plan(known: &Known<'_>) -> NodePlan {
    let mut actions = Vec::new();
    let Some(seen) = known.seen else {
        let mut node = known.identity.node();
        node.status = Some(status(
            known.identity,
            &node,
            known.network_problem,
            known.shutting_down,
            known.pressures,
            known.now,
        ));
        return NodePlan { actions: vec![Action::Register(Box::new(node))], wake_at: None };
    };
    if !known.labelled {
        let nothing = BTreeMap::new();
        let have = seen.metadata.labels.as_ref().unwrap_or(&nothing);
        let mut wrong = known.identity.default_labels();
        wrong.retain(|key, value| have.get(key) != Some(value));
        if !wrong.is_empty() {
            actions.push(Action::Label(wrong));
        }
    }
    let wanted =
        status(known.identity, seen, known.network_problem, known.shutting_down, known.pressures, known.now);
    let next_report = known.reported.map(|reported| after(reported, known.rhythm.report));
    let report_due = next_report.is_none_or(|next| next <= known.now);
    if report_due || differs(seen, &wanted) {
        actions.push(Action::Report(Box::new(wanted)));
    }
    let next_renewal = known.renewed.map(|renewed| after(renewed, known.rhythm.renewal()));
    if next_renewal.is_none_or(|next| next <= known.now) {
        actions.push(Action::Renew);
    }
    let later = |moment: &Timestamp| *moment > known.now;
    NodePlan { actions, wake_at: sooner(next_report.filter(later), next_renewal.filter(later)) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::eviction::signals::Pressure;
    use crate::node::status::status_patch;

    static DISK: std::sync::LazyLock<Pressures> = std::sync::LazyLock::new(|| [Pressure::Disk].into());

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn identity() -> Identity {
        Identity {
            name: "n1".into(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            instance_type: "hollow".into(),
            taints: Vec::new(),
            capacity: serde_json::from_value(json!({"cpu": "2"})).unwrap(),
            allocatable: serde_json::from_value(json!({"cpu": "2"})).unwrap(),
            node_api_port: None,
            addresses: vec!["10.0.0.1".parse().unwrap()],
            pod_cidrs: Vec::new(),
            info: k8s_openapi::api::core::v1::NodeSystemInfo {
                operating_system: "linux".into(),
                architecture: "amd64".into(),
                ..Default::default()
            },
        }
    }

    fn check(change: impl FnOnce(&mut Known<'_>), expected: &str) {
        let (identity, nothing) = (identity(), Pressures::new());
        let mut node = identity.node();
        node.status = Some(status(&identity, &node, None, false, &Pressures::new(), at(0)));
        let mut known = Known {
            identity: &identity,
            rhythm: Rhythm { report: Duration::from_secs(300), lease: Duration::from_secs(40) },
            seen: Some(&node),
            labelled: true,
            reported: Some(at(100)),
            renewed: Some(at(100)),
            network_problem: None,
            shutting_down: false,
            pressures: &nothing,
            now: at(105),
        };
        change(&mut known);
        let plan = plan(&known);
        let name = |action: &Action| match action {
            Action::Register(node) => format!("register {}", node.metadata.name.as_ref().unwrap()),
            Action::Label(labels) => format!("label {}", labels.len()),
            Action::Report(status) => {
                let ready = status.conditions.iter().flatten().find(|it| it.type_ == "Ready").unwrap();
                let short = status
                    .conditions
                    .iter()
                    .flatten()
                    .filter(|it| it.type_ != "Ready" && it.status == "True");
                let short: String = short.map(|it| format!(" {}", it.type_)).collect();
                format!("report {}{short}", ready.status)
            }
            Action::Renew => "renew".to_owned(),
        };
        let mut told: Vec<_> = plan.actions.iter().map(name).collect();
        told.extend(plan.wake_at.map(|wake| format!("wake {}", wake.as_second())));
        assert_eq!(told.join(", "), expected);
    }

    #[test]
    fn a_node_is_registered_alive_and_fresh() {
        check(|_| {}, "wake 110");
        check(|known| known.now = at(110), "renew, wake 400");
        check(|known| (known.now, known.renewed) = (at(400), Some(at(395))), "report True, wake 405");
        check(|known| known.seen = None, "register n1");
        check(|known| (known.reported, known.renewed) = (None, None), "report True, renew");
        check(|known| known.network_problem = Some("no pod CIDR"), "report False, wake 110");
        check(|known| known.shutting_down = true, "report False, wake 110");
        check(|known| known.pressures = &DISK, "report True DiskPressure, wake 110");
        check(|known| known.labelled = false, "wake 110");
    }

    #[test]
    fn what_others_say_in_its_name_is_put_right() {
        let mut node = identity().node();
        node.status = Some(status(&identity(), &node, None, false, &Pressures::new(), at(0)));
        node.status.as_mut().unwrap().conditions.as_mut().unwrap()[3].status = "Unknown".into();
        node.metadata.labels.as_mut().unwrap().remove("kubernetes.io/os");
        let node = &node;
        // The closure cannot lend what it made.
        let identity = identity();
        let known = Known {
            identity: &identity,
            rhythm: Rhythm { report: Duration::from_secs(300), lease: Duration::from_secs(40) },
            seen: Some(node),
            labelled: false,
            reported: Some(at(1)),
            renewed: Some(at(1)),
            network_problem: None,
            shutting_down: false,
            pressures: &Pressures::new(),
            now: at(2),
        };
        let actions = plan(&known).actions;
        assert!(
            matches!(&actions[..], [Action::Label(labels), Action::Report(_)] if labels.len() == 1),
            "{actions:?}"
        );
    }

    #[test]
    fn all_that_keeps_it_from_being_ready_is_said() {
        let identity = identity();
        let told = |network, shutting_down| {
            let said = status(&identity, &identity.node(), network, shutting_down, &Pressures::new(), at(0));
            let ready = said.conditions.unwrap().into_iter().find(|it| it.type_ == "Ready").unwrap();
            format!("{}: {}", ready.reason.unwrap(), ready.message.unwrap())
        };
        assert_eq!(told(None, false), "KubeletReady: kubelet is posting ready status");
        assert_eq!(told(None, true), "KubeletNotReady: node is shutting down");
        assert_eq!(
            told(Some("no"), true),
            "KubeletNotReady: [container runtime network not ready: NetworkReady=false \
             reason:NetworkPluginNotReady message:no, node is shutting down]"
        );
    }

    #[test]
    fn addresses_are_replaced_and_conditions_of_others_stay() {
        let identity = identity();
        let seen = Node::default();
        let patch = status_patch(&seen, &status(&identity, &seen, None, false, &Pressures::new(), at(0)));
        assert_eq!(patch["status"]["addresses"][0], json!({"$patch": "replace"}));
        assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 4);
        let same = identity.node();
        assert_eq!(
            status_patch(&same, &status(&identity, &same, None, false, &Pressures::new(), at(0)))["status"]["addresses"],
            json!(null)
        );
    }
}
