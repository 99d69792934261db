//! Which nodes get a pod, and which pods go. A decision; time is handed in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use barque_api::int_or_string::{IntOrString, Round};
use barque_client::events::Kind as Gravity;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString as Said;
use k8s_openapi::jiff::Timestamp;

use super::View;
use super::nodes::{self, Fit, fit};
use crate::history::{self, Newest, REVISION_LABEL};
use crate::kind::Object as _;
use crate::owners::{self, Claim};
use crate::plan::{Action, ObjectId, Order, Plan, Planned, Propagation, Told};
use crate::pods;

/// How many pods are made or deleted in one go.
const BURST: usize = 250;
/// A pod that failed sooner after it was made is replaced only then: its node might refuse the next one too.
const FAILED_PAUSE: Duration = Duration::from_secs(10);

/// Which pods are the DaemonSet's.
pub(super) fn claim(view: &View) -> Claim<Pod> {
    owners::claim(&*view.set, &view.selector, &view.pods, |_| true)
}

/// Which revisions are the DaemonSet's.
pub(super) fn revisions(view: &View) -> Claim<ControllerRevision> {
    owners::claim(&*view.set, &view.selector, &view.revisions, |_| true)
}

/// The revision of the current template.
pub(super) fn newest(view: &View, owned: &[Arc<ControllerRevision>]) -> Newest {
    let collisions = view.set.status.as_ref().and_then(|status| status.collision_count);
    let template = &view.set.spec.template;
    history::newest(&*view.set, template, collisions, owned, view.name_is_taken, REVISION_LABEL)
}

/// The pods on each node, or for it: the oldest first, but those first that are bound.
pub(super) fn by_node(pods: &[Arc<Pod>]) -> BTreeMap<&str, Vec<&Arc<Pod>>> {
    let mut nodes: BTreeMap<&str, Vec<&Arc<Pod>>> = BTreeMap::new();
    for pod in pods {
        if let Some(node) = nodes::target(pod) {
            nodes.entry(node).or_default().push(pod);
        }
    }
    for pods in nodes.values_mut() {
        pods.sort_by_cached_key(|pod| {
            let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
            (pods::node(pod).is_empty(), created, pod.key().name)
        });
    }
    nodes
}

/// How many nodes may have two pods, or none, for an update.
fn limits(set: &DaemonSet, nodes: usize) -> (usize, usize) {
    let rolling = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
    let count = |said: Option<&Said>, default: i32| {
        let said = match said {
            Some(Said::Int(count)) => IntOrString::Int(*count),
            Some(Said::String(text)) => IntOrString::Text(text.clone()),
            None => IntOrString::Int(default),
        };
        let total = i64::try_from(nodes).unwrap_or(i64::MAX);
        usize::try_from(said.scaled(total, Round::Up).unwrap_or_default()).unwrap_or_default()
    };
    let surge = count(rolling.and_then(|rolling| rolling.max_surge.as_ref()), 0);
    let unavailable = count(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), 1);
    (surge, if surge == 0 { unavailable.max(1) } else { unavailable })
}

fn is_rolling(set: &DaemonSet) -> bool {
    let said = set.spec.update_strategy.as_ref().and_then(|strategy| strategy.type_.as_deref());
    said != Some("OnDelete")
}

pub(super) fn plan(view: &View, now: Timestamp) -> Plan {
    let mut plan = Plan::nothing();
    let (pods, revisions) = (claim(view), revisions(view));
    pods.plan(&*view.set, &mut plan);
    revisions.plan(&*view.set, &mut plan);
    if !plan.is_empty() || view.set.is_deleting() {
        return plan;
    }
    let current = match newest(view, &revisions.owned) {
        Newest::Known(current) => current,
        Newest::Missing(planned) => {
            plan.then(*planned);
            return plan;
        }
        Newest::NameIsTaken => return plan,
    };
    let hash = current.label(REVISION_LABEL).unwrap_or_default();
    let mut pass = Pass { view, now, hash, make: BTreeSet::new(), delete: BTreeMap::new(), plan };
    let by_node = by_node(&pods.owned);
    pass.all(&by_node, &pods.owned);
    let used: BTreeSet<_> = pods.owned.iter().filter_map(|pod| pod.label(REVISION_LABEL)).collect();
    let is_live = |revision: &&Arc<ControllerRevision>| {
        revision.uid() == current.uid() || revision.label(REVISION_LABEL).is_some_and(|it| used.contains(it))
    };
    let live = revisions.owned.iter().filter(is_live).map(|revision| revision.key().name).collect();
    let mut plan = pass.into_plan();
    history::truncate(&revisions.owned, &live, view.set.spec.revision_history_limit, &mut plan);
    if let Some(seconds) = view.set.spec.min_ready_seconds.filter(|seconds| *seconds > 0) {
        let waits = pods.owned.iter().filter_map(|pod| pods::available_in(pod, seconds, now));
        if let Some(wait) = waits.filter(|wait| !wait.is_zero()).min() {
            plan.look_again_after(wait);
        }
    }
    plan
}

/// A decision in the making.
struct Pass<'a> {
    view: &'a View,
    now: Timestamp,
    hash: &'a str,
    /// Nodes that get a pod.
    make: BTreeSet<String>,
    /// Pods that go, with the reason.
    delete: BTreeMap<String, (Arc<Pod>, &'static str)>,
    plan: Plan,
}

impl Pass<'_> {
    fn all(&mut self, by_node: &BTreeMap<&str, Vec<&Arc<Pod>>>, owned: &[Arc<Pod>]) {
        let spec = self.view.set.spec.template.spec.clone().unwrap_or_default();
        let fits: BTreeMap<String, Fit> =
            self.view.nodes.iter().map(|node| (node.key().name, fit(node, &spec))).collect();
        let wanted = fits.values().filter(|fit| **fit == Fit::Run).count();
        let (surge, unavailable) = limits(&self.view.set, wanted);
        for (node, fit) in &fits {
            let pods = by_node.get(node.as_str()).map(Vec::as_slice).unwrap_or_default();
            self.on_node(node, *fit, pods, surge > 0);
        }
        // Nobody binds a pod that asks for a node which is not there.
        for pod in owned.iter().filter(|pod| pods::node(pod).is_empty() && !pod.is_deleting()) {
            if nodes::target(pod).is_some_and(|node| !fits.contains_key(node)) {
                self.remove(pod, "its node is not there");
            }
        }
        // What is out of order is put in order before anything rolls.
        if self.make.is_empty() && self.delete.is_empty() && is_rolling(&self.view.set) {
            let runs = fits.iter().filter(|(_, fit)| **fit == Fit::Run).map(|(node, _)| node);
            let nodes = runs.map(|node| {
                (node.as_str(), by_node.get(node.as_str()).map(Vec::as_slice).unwrap_or_default())
            });
            if surge > 0 {
                self.roll_with_surge(nodes, surge);
            } else {
                self.roll(nodes, unavailable);
            }
        }
    }

    fn remove(&mut self, pod: &Arc<Pod>, why: &'static str) {
        self.delete.insert(pod.uid().to_owned(), (pod.clone(), why));
    }

    fn is_new(&self, pod: &Pod) -> bool {
        pod.label(REVISION_LABEL) == Some(self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        let seconds = self.view.set.spec.min_ready_seconds.unwrap_or_default();
        pods::is_available(pod, seconds, self.now)
    }

    /// One node has the pods that it is to have.
    fn on_node(&mut self, node: &str, fit: Fit, pods: &[&Arc<Pod>], surges: bool) {
        if fit == Fit::Never {
            for pod in pods.iter().filter(|pod| !pod.is_deleting()) {
                self.remove(pod, "its node does not fit any more");
            }
            return;
        }
        let mut running = Vec::new();
        for pod in pods.iter().filter(|pod| !pod.is_deleting()) {
            match pods::phase(pod) {
                "Failed" => self.replace_failed(pod, node),
                "Succeeded" => self.remove(pod, "it has ended"),
                _ => running.push(*pod),
            }
        }
        // One on its way out is waited for, if there are never two.
        if fit == Fit::Run
            && if surges { running.is_empty() && self.no_failed(pods) } else { pods.is_empty() }
        {
            self.make.insert(node.to_owned());
        }
        if !surges {
            for pod in running.iter().skip(1) {
                self.remove(pod, "its node has another one");
            }
            return;
        }
        let new = running.iter().find(|pod| self.is_new(pod)).copied();
        let old = running.iter().find(|pod| !self.is_new(pod)).copied();
        let (new_uid, old_uid) = (new.map(|pod| pod.uid()), old.map(|pod| pod.uid()));
        for pod in &running {
            if Some(pod.uid()) != new_uid && Some(pod.uid()) != old_uid {
                self.remove(pod, "its node has another one");
            }
        }
        if let (Some(new), Some(old)) = (new, old)
            && (!pods::is_ready(old) || self.is_available(new))
        {
            self.remove(old, "its successor is there");
        }
    }

    /// Whether no pod there waits to be replaced.
    fn no_failed(&self, pods: &[&Arc<Pod>]) -> bool {
        !pods.iter().any(|pod| pods::phase(pod) == "Failed" && !pod.is_deleting())
    }

    fn replace_failed(&mut self, pod: &Arc<Pod>, node: &str) {
        let created = pod.metadata.creation_timestamp.as_ref().map_or(self.now, |time| time.0);
        let age = Duration::try_from(self.now.duration_since(created)).unwrap_or_default();
        if age < FAILED_PAUSE {
            self.plan.look_again_after(FAILED_PAUSE - age);
            return;
        }
        self.plan.notes.push(Told {
            regarding: self.view.set.reference(),
            gravity: Gravity::Warning,
            reason: "FailedDaemonPod",
            text: format!("Found failed daemon pod {} on node {node}, will try to kill it", pod.key()),
        });
        self.remove(pod, "it has failed");
    }

    /// Old pods go: those that are not available, and as many others as may be missed.
    fn roll<'b>(&mut self, nodes: impl Iterator<Item = (&'b str, &'b [&'b Arc<Pod>])>, most: usize) {
        let mut down = 0;
        let mut candidates = Vec::new();
        for (_, pods) in nodes {
            match pods {
                [pod] if !pod.is_deleting() && !pods::is_terminal(pod) => {
                    let available = self.is_available(pod);
                    if self.is_new(pod) || !available {
                        down += usize::from(!available);
                    }
                    if !self.is_new(pod) {
                        if available {
                            candidates.push(*pod);
                        } else {
                            self.remove(pod, "its template is an old one");
                        }
                    }
                }
                _ => down += 1,
            }
        }
        for pod in candidates.into_iter().take(most.saturating_sub(down)) {
            self.remove(pod, "its template is an old one");
        }
    }

    /// New pods come beside old ones, on as many nodes as may have two.
    fn roll_with_surge<'b>(
        &mut self,
        nodes: impl Iterator<Item = (&'b str, &'b [&'b Arc<Pod>])>,
        most: usize,
    ) {
        let mut surging = 0;
        let mut candidates = Vec::new();
        for (node, pods) in nodes {
            let mut there = pods.iter().filter(|pod| !pod.is_deleting());
            let (first, second) = (there.next(), there.next());
            match (first, second) {
                (Some(only), None) if !self.is_new(only) => {
                    if self.is_available(only) {
                        candidates.push(node);
                    } else {
                        self.make.insert(node.to_owned());
                    }
                }
                (Some(_), Some(_)) => surging += 1,
                _ => {}
            }
        }
        let free = most.saturating_sub(surging);
        self.make.extend(candidates.into_iter().take(free).map(str::to_owned));
    }

    fn into_plan(self) -> Plan {
        let Self { view, hash, make, delete, mut plan, .. } = self;
        let about = view.set.reference();
        let deletions = delete.into_values().take(BURST).map(|(pod, why)| {
            let action = Action::Delete {
                object: ObjectId::of(&*pod),
                propagation: Propagation::Default,
                grace_seconds: None,
                unchanged: false,
            };
            action.because(why).tell(&about, "SuccessfulDelete", "Deleted pod: {name}").warn(
                &about,
                "FailedDelete",
                "Error deleting: {error}",
            )
        });
        plan.step(Order::Parallel, deletions);
        let creations: Vec<Planned> =
            make.iter().take(BURST).map(|node| create(&view.set, hash, node)).collect();
        plan.step(Order::SlowStart, creations);
        plan
    }
}

fn create(set: &DaemonSet, hash: &str, node: &str) -> Planned {
    let mut pod = pods::from_template(&set.spec.template, &set.key().namespace, &set.as_controller());
    let labels = pod.metadata.labels.get_or_insert_default();
    labels.insert(REVISION_LABEL.to_owned(), hash.to_owned());
    let spec = pod.spec.get_or_insert_default();
    spec.tolerations = Some(nodes::tolerations(spec));
    spec.affinity = Some(nodes::only(spec.affinity.take(), node));
    let about = set.reference();
    Action::create(&pod)
        .because("a node has no pod")
        .tell(&about, "SuccessfulCreate", "Created pod: {name}")
        .warn(&about, "FailedCreate", "Error creating: {error}")
}
