//! What is told of a pod: its phase, conditions and containers, with the kubelet's reasons and words. A decision: must never
//! write it, and never takes a terminal phase back.

use core::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, PodIP, PodStatus};

use super::conditions::{Facts, conditions};
use super::container_status::{Words, statuses};
use super::phase::phase;
use super::plan::{Known, PodPlan, Stage};
use super::resize;
use super::spec;
use crate::clock::told;

/// The status of a pod, as far as the agent says it.
#[must_use]
pub fn status(known: &Known<'_>, plan: &PodPlan, host: &[IpAddr]) -> PodStatus {
    let Known { pod, observed, probes, now, .. } = *known;
    let nothing = PodStatus::default();
    let before = pod.status.as_ref().unwrap_or(&nothing);
    let ended = plan.stage == Stage::Ended;
    let words = Words { pod, observed, probes, waiting: &plan.waiting, ended };
    let main = statuses(&words, spec::main_containers(pod), true);
    let init = statuses(&words, spec::init_containers(pod), false);
    let ephemeral = statuses(&words, spec::ephemeral_containers(pod), true);

    let mut now_in = phase(pod, &init, &main, ended || plan.failure.is_some());
    if plan.failure.is_some() {
        now_in = "Failed";
    }
    let old_phase = spec::phase(pod);
    let mut shown = now_in;
    if spec::is_terminal(old_phase) {
        shown = old_phase;
    } else if !ended && spec::is_terminal(now_in) {
        // While something is left of it, others must not believe that it is over.
        shown = old_phase;
    } else if ended && !spec::is_terminal(now_in) {
        shown = "Failed";
    }
    let (reason, message) = match &plan.failure {
        Some(failure) if shown == "Failed" => (Some(failure.reason.clone()), Some(failure.message.clone())),
        _ if shown == old_phase => (before.reason.clone(), before.message.clone()),
        _ => (None, None),
    };

    let facts = Facts {
        init: &init,
        main: &main,
        // Readiness follows what has happened, also while the phase waits for the rest.
        phase: if spec::is_terminal(now_in) { now_in } else { shown },
        has_sandbox: observed.ready_sandbox().is_some(),
        disruption: plan.failure.as_ref().filter(|failure| failure.is_disruption && shown == "Failed"),
    };
    let mut addresses =
        observed.sandbox.as_ref().map(|sandbox| sandbox.addresses.clone()).unwrap_or_default();
    if spec::uses_host_network(pod) {
        addresses = host.to_vec();
    }
    let mut all = conditions(pod, &facts, now);
    if plan.stage == Stage::Active {
        all.extend(resize::conditions(pod, known.resizing, plan.resizing, now));
    }
    let some = |list: Vec<_>| Some(list).filter(|list| !list.is_empty());
    PodStatus {
        phase: Some(shown.to_owned()),
        reason,
        message,
        conditions: Some(all),
        host_ip: host.first().map(ToString::to_string),
        host_ips: Some(host.iter().map(|ip| HostIP { ip: ip.to_string() }).collect()),
        pod_ip: addresses.first().map(ToString::to_string),
        pod_ips: Some(addresses.iter().map(|ip| PodIP { ip: ip.to_string() }).collect::<Vec<_>>())
            .filter(|list| !list.is_empty()),
        start_time: before.start_time.clone().or_else(|| Some(told(now))),
        container_statuses: some(main),
        init_container_statuses: some(init),
        ephemeral_container_statuses: some(ephemeral),
        observed_generation: pod.metadata.generation,
        ..PodStatus::default()
    }
}
