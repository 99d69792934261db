//! The task of one node: keeps it registered, its status fresh and its lease renewed. Must never decide what is due: that is
//! the plan's.

use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::parse_cidr;
use barque_api::resource_version::ResourceVersion;
use futures::StreamExt as _;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::identity::Identity;
use super::plan::{Action, Known, Rhythm, plan};
use super::status::status_patch;
use super::watch::{Seen, lean};
use crate::clock::{Clock, after, sooner};
use crate::eviction::signals::Pressures;
use crate::runtime::Runtime;
use crate::tell::{Teller, about_node, normal};

/// Where leases of nodes are.
const LEASES: &str = "kube-node-lease";
/// The wait after the first failure; it doubles.
const RETRY: Duration = Duration::from_millis(200);
/// The longest wait, as the kubelet's.
const LONGEST_RETRY: Duration = Duration::from_secs(7);

/// What a node's task is made of.
pub struct NodeTask<R> {
    /// By whom it speaks.
    pub client: Client,
    /// What it is.
    pub identity: Identity,
    /// How often it tells what.
    pub rhythm: Rhythm,
    /// The time.
    pub clock: Clock,
    /// Who takes events.
    pub teller: Arc<dyn Teller>,
    /// Told of the pods' networks, asked for problems.
    pub runtime: Arc<R>,
    /// What the cluster knows.
    pub seen: watch::Receiver<Seen>,
    /// Who wants to know the node.
    pub known: watch::Sender<Arc<Node>>,
    /// What it is short of.
    pub pressures: watch::Receiver<Pressures>,
    /// Whether the machine goes down.
    pub shutting_down: watch::Receiver<bool>,
}

/// What a node's task has done so far.
#[derive(Default)]
struct Done {
    labelled: bool,
    reported: Option<Timestamp>,
    renewed: Option<Timestamp>,
    lease: Option<Lease>,
    /// The newest version that is known: what was seen, or what a write answered.
    node: Option<Arc<Node>>,
    failures: u32,
}

impl<R: Runtime> NodeTask<R> {
    /// Keeps the node until the token is cancelled; it is left as it is then.
    pub async fn run(mut self, stop: CancellationToken) {
        stop.run_until_cancelled(self.keep()).await;
    }

    async fn keep(&mut self) {
        let mut done = Done::default();
        let mut network = self.runtime.network_changes();
        loop {
            let mut retry = None;
            if self.look(&mut done) {
                let problem = self.runtime.network_problem();
                let pressures = self.pressures.borrow_and_update().clone();
                let shutting_down = *self.shutting_down.borrow_and_update();
                let known = Known {
                    identity: &self.identity,
                    rhythm: self.rhythm,
                    seen: done.node.as_deref(),
                    labelled: done.labelled,
                    reported: done.reported,
                    renewed: done.renewed,
                    network_problem: problem.as_deref(),
                    shutting_down,
                    pressures: &pressures,
                    now: self.clock.now(),
                };
                let plan = plan(&known);
                done.labelled |=
                    known.seen.is_some() && !plan.actions.iter().any(|it| matches!(it, Action::Label(_)));
                retry = plan.wake_at;
                if !plan.actions.is_empty() {
                    match self.act(&mut done, plan.actions).await {
                        Ok(()) => {
                            done.failures = 0;
                            continue;
                        }
                        Err(error) => {
                            tracing::warn!(node = %self.identity.name, %error, "a node was not written");
                            let wait = RETRY.saturating_mul(1 << done.failures.min(10)).min(LONGEST_RETRY);
                            done.failures = done.failures.saturating_add(1);
                            self.clock.sleep_until(Some(after(self.clock.now(), wait))).await;
                            continue;
                        }
                    }
                }
            }
            tokio::select! {
                changed = self.seen.changed() => match changed {
                    // It is looked at above.
                    Ok(()) => self.seen.mark_changed(),
                    Err(_) => return,
                },
                // A node whose pods can have a network now is ready now.
                Some(()) = network.next() => {}
                // Where nobody looks it is short of nothing.
                Ok(()) = self.pressures.changed() => {}
                // Where nobody looks it does not go down.
                Ok(()) = self.shutting_down.changed() => {}
                () = self.clock.sleep_until(sooner(retry, None)) => {}
            }
        }
    }

    /// Takes in what was seen. Says whether anything is known.
    fn look(&mut self, done: &mut Done) -> bool {
        if self.seen.has_changed().unwrap_or(false) {
            let seen = self.seen.borrow_and_update().clone();
            match seen {
                Seen::Unknown => {}
                Seen::Absent => {
                    *done = Done { failures: done.failures, ..Done::default() };
                    // Until it is there again.
                    self.runtime.set_pod_networks(&[]);
                    return true;
                }
                Seen::Present(node) => self.know(done, node),
            }
        }
        done.node.is_some() || *self.seen.borrow() == Seen::Absent
    }

    fn know(&self, done: &mut Done, node: Arc<Node>) {
        let is_other = done.node.as_ref().is_none_or(|known| known.metadata.uid != node.metadata.uid);
        if !is_other && done.node.as_ref().is_some_and(|known| version(known) > version(&node)) {
            return;
        }
        if is_other {
            (done.lease, done.renewed) = (None, None);
        }
        let spec = node.spec.as_ref();
        let cidrs = spec.and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        let cidrs = if cidrs.is_empty() {
            let one = spec.and_then(|spec| spec.pod_cidr.clone());
            one.map_or_else(|| self.identity.pod_cidrs.clone(), |cidr| vec![cidr])
        } else {
            cidrs
        };
        let networks: Vec<_> = cidrs.iter().filter_map(|cidr| parse_cidr(cidr)).collect();
        self.runtime.set_pod_networks(&networks);
        self.known.send_replace(node.clone());
        done.node = Some(node);
    }

    async fn act(&self, done: &mut Done, actions: Vec<Action>) -> Result<(), kube::Error> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let name = &self.identity.name;
        for action in actions {
            match action {
                Action::Register(node) => match nodes.create(&PostParams::default(), &node).await {
                    Ok(node) => {
                        tracing::info!(node = %name, "registered");
                        self.teller.tell(about_node(&node), normal("Starting", "Starting kubelet."));
                        self.know(done, Arc::new(lean(node)));
                        done.labelled = true;
                    }
                    // It is there already: the watch will say, or has it been missed.
                    Err(kube::Error::Api(status)) if status.is_already_exists() => {
                        let node = nodes.get(name).await?;
                        self.know(done, Arc::new(lean(node)));
                    }
                    Err(error) => return Err(error),
                },
                Action::Label(labels) => {
                    let patch = json!({"metadata": {"labels": labels}});
                    let node = nodes.patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
                    self.know(done, Arc::new(lean(node)));
                }
                Action::Report(status) => {
                    let Some(seen) = &done.node else { continue };
                    let patch = Patch::Strategic(status_patch(seen, &status));
                    match nodes.patch_status(name, &PatchParams::default(), &patch).await {
                        Ok(node) => {
                            self.know(done, Arc::new(lean(node)));
                            done.reported = Some(self.clock.now());
                        }
                        Err(error) if self.is_gone(&nodes, seen, &error).await? => return self.lost(done),
                        Err(error) => return Err(error),
                    }
                }
                Action::Renew => self.renew(done).await?,
            }
        }
        Ok(())
    }

    /// Whether a node was not written because it is gone. A conflict is another one of its name, or a server that could not do it
    /// just now.
    async fn is_gone(
        &self,
        nodes: &Api<Node>,
        seen: &Node,
        error: &kube::Error,
    ) -> Result<bool, kube::Error> {
        match error {
            kube::Error::Api(status) if status.code == 404 => Ok(true),
            kube::Error::Api(status) if status.code == 409 => {
                let there = nodes.get_metadata_opt(&self.identity.name).await?;
                Ok(there.and_then(|there| there.metadata.uid) != seen.metadata.uid)
            }
            _ => Ok(false),
        }
    }

    /// The node is gone, and the watch has not said so yet.
    fn lost(&self, done: &mut Done) -> Result<(), kube::Error> {
        tracing::info!(node = %self.identity.name, "the node is gone");
        *done = Done::default();
        self.runtime.set_pod_networks(&[]);
        Ok(())
    }

    async fn renew(&self, done: &mut Done) -> Result<(), kube::Error> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let now = self.clock.now();
        let before = match done.lease.take() {
            Some(lease) => Some(lease),
            None => leases.get_opt(&self.identity.name).await?,
        };
        let lease = self.lease(before, done.node.as_deref(), now);
        let params = PostParams::default();
        let written = if lease.metadata.resource_version.is_some() {
            leases.replace(&self.identity.name, &params, &lease).await?
        } else {
            leases.create(&params, &lease).await?
        };
        done.lease = Some(written);
        done.renewed = Some(now);
        Ok(())
    }

    fn lease(&self, before: Option<Lease>, node: Option<&Node>, now: Timestamp) -> Lease {
        let mut lease = before.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(self.identity.name.clone()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let uid = node.and_then(|node| node.metadata.uid.clone()).unwrap_or_default();
        lease.metadata.managed_fields = None;
        lease.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Node".to_owned(),
            name: self.identity.name.clone(),
            uid,
            ..OwnerReference::default()
        }]);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.identity.name.clone()),
            lease_duration_seconds: i32::try_from(self.rhythm.lease.as_secs()).ok(),
            renew_time: Some(MicroTime(now)),
            ..lease.spec.unwrap_or_default()
        });
        lease
    }
}

fn version(node: &Node) -> ResourceVersion {
    let text = node.metadata.resource_version.as_deref().unwrap_or_default();
    ResourceVersion::parse(text).unwrap_or(ResourceVersion::NONE)
}
