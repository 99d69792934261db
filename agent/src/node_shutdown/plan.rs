//! Which pods end when the machine shuts down, one group after the other, and how long each may take. A decision.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use crate::eviction::ranking::{CRITICAL, priority};
use crate::pods::plan::Refusal;
use crate::pods::spec;

/// What a node says of itself meanwhile.
pub const SHUTTING_DOWN: &str = "node is shutting down";

/// Pods of this priority and more, up to that of the next period, have so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The least priority.
    pub priority: i32,
    /// How long all of them together have.
    pub grace: Duration,
}

/// How long pods have when the machine shuts down: periods by rising priority, of which no two are the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Periods(Vec<Period>);

impl Periods {
    /// One for all pods, of which a part is kept for those that the system cannot do without, `critical` being at most `whole`;
    /// nothing when there is no time.
    #[must_use]
    pub fn of_two(whole: Duration, critical: Duration) -> Option<Self> {
        let others = whole.saturating_sub(critical);
        let both =
            vec![Period { priority: 0, grace: others }, Period { priority: CRITICAL, grace: whole - others }];
        (!whole.is_zero()).then_some(Self(both))
    }

    /// These; nothing when there are none.
    #[must_use]
    pub fn of(mut periods: Vec<Period>) -> Option<Self> {
        periods.sort_by_key(|period| period.priority);
        (!periods.is_empty()).then_some(Self(periods))
    }

    /// How long everything takes at most.
    #[must_use]
    pub fn whole(&self) -> Duration {
        self.0.iter().map(|period| period.grace).sum()
    }
}

/// Pods that end together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group<P> {
    /// How long they have; who comes next does not wait longer.
    pub grace: Duration,
    /// Who they are.
    pub pods: Vec<P>,
}

/// The groups in their order, those that matter least first. Groups without pods take no time and are not there; pods for which
/// it is over are in none.
#[must_use]
pub fn groups<P: AsRef<Pod>>(periods: &Periods, pods: Vec<P>) -> Vec<Group<P>> {
    let mut groups: Vec<_> =
        periods.0.iter().map(|period| Group { grace: period.grace, pods: Vec::new() }).collect();
    for pod in pods {
        if spec::is_terminal(spec::phase(pod.as_ref())) {
            continue;
        }
        let priority = priority(pod.as_ref());
        // Who matters less than all periods say is with the first one.
        let at = periods.0.iter().rposition(|period| period.priority <= priority).unwrap_or_default();
        groups[at].pods.push(pod);
    }
    groups.retain(|group| !group.pods.is_empty());
    groups
}

/// Why a pod ends that ran; its containers have no more than this, if it is said.
#[must_use]
pub fn terminated(grace: Option<Duration>) -> Refusal {
    let text = "Pod was terminated in response to imminent node shutdown.";
    Refusal { grace, is_disruption: true, ..Refusal::new("Terminated", text) }
}

/// Why a pod is not begun.
#[must_use]
pub fn refused() -> Refusal {
    Refusal::new("NodeShutdown", "Pod was rejected as the node is shutting down.")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// `name priority phase`, `-` for a pod without a priority.
    fn pod(words: &str) -> Arc<Pod> {
        let [name, priority, phase] = words.split(' ').collect::<Vec<_>>()[..] else { panic!("{words}") };
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"priority": priority.parse::<i32>().ok(), "containers": []},
            "status": {"phase": phase},
        });
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn check(periods: &Periods, pods: &[&str], expected: &[&str]) {
        let told: Vec<_> = groups(periods, pods.iter().map(|words| pod(words)).collect())
            .into_iter()
            .map(|group| {
                let names: Vec<_> = group.pods.iter().map(|pod| pod.metadata.name.clone().unwrap()).collect();
                format!("{}s {}", group.grace.as_secs(), names.join(" "))
            })
            .collect();
        assert_eq!(told, expected, "{pods:?}");
    }

    #[test]
    fn who_the_system_needs_ends_last_and_keeps_its_time() {
        let periods = Periods::of_two(seconds(30), seconds(10)).unwrap();
        assert_eq!(periods.whole(), seconds(30));
        let (plain, usual, less) = ("plain - Running", "usual 1000 Running", "less -5 Pending");
        let (cluster, node) = ("cluster 2000000000 Running", "node 2000001000 Pending");
        check(&periods, &[cluster, plain, node, usual, less], &["20s plain usual less", "10s cluster node"]);
        check(&periods, &["almost 1999999999 Running"], &["20s almost"]);
        check(&periods, &[cluster], &["10s cluster"]);
        check(&periods, &["done 0 Succeeded", "broke 2000000000 Failed"], &[]);
        check(&periods, &[], &[]);
    }

    #[test]
    fn all_time_may_be_for_some_and_no_time_is_no_plan() {
        let pods = ["plain 0 Running", "node 2000001000 Running"];
        check(&Periods::of_two(seconds(5), seconds(0)).unwrap(), &pods, &["5s plain", "0s node"]);
        check(&Periods::of_two(seconds(5), seconds(5)).unwrap(), &pods, &["0s plain", "5s node"]);
        assert_eq!(Periods::of_two(seconds(0), seconds(0)), None);
        assert_eq!(Periods::of(Vec::new()), None);
    }

    #[test]
    fn periods_by_priority_are_for_whoever_has_as_much() {
        let of = |priority, grace| Period { priority, grace: seconds(grace) };
        let periods = Periods::of(vec![of(100_000, 10), of(0, 180), of(10_000, 120)]).unwrap();
        assert_eq!(periods.whole(), seconds(310));
        let pods = ["a -7 Running", "b 0 Running", "c 9999 Running", "d 10000 Running", "e 100000 Running"];
        check(&periods, &pods, &["180s a b c", "120s d", "10s e"]);
        check(&periods, &["f 2000000000 Running", "g 10001 Running"], &["120s g", "10s f"]);
        // Nobody said anything of pods that matter less.
        check(&Periods::of(vec![of(7, 1)]).unwrap(), &["a 0 Running", "b 8 Running"], &["1s a b"]);
    }

    #[test]
    fn reasons_are_the_kubelets() {
        let told = |refusal: Refusal| format!("{} {}", refusal.reason, refusal.message);
        assert_eq!(told(refused()), "NodeShutdown Pod was rejected as the node is shutting down.");
        assert_eq!(
            told(terminated(None)),
            "Terminated Pod was terminated in response to imminent node shutdown."
        );
        assert!(terminated(None).is_disruption && !refused().is_disruption);
        assert_eq!(terminated(Some(seconds(3))).grace, Some(seconds(3)));
    }
}
