//! What people are told of a pod as events: instances that run now, why containers wait, why the pod failed. Remembers what
//! was told. Must never decide anything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use super::observed::Observed;
use super::plan::{Action, PodPlan, StopReason};
use super::spec;
use crate::tell::{Teller, about_container, about_pod, normal, warning};

/// What was told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Instances of which it was told that they run, by container.
    announced: Option<BTreeMap<String, String>>,
    /// Why containers wait and why the pod failed.
    told: Vec<(String, String)>,
}

impl News {
    /// Tells of instances that run now. Those that ran when the agent came were told of by the one before it.
    pub(super) fn of_instances(&mut self, teller: &dyn Teller, pod: &Pod, observed: &Observed) {
        let first =
            self.announced.is_none() && pod.status.as_ref().is_some_and(|it| it.container_statuses.is_some());
        let announced = self.announced.get_or_insert_default();
        for (name, container) in &observed.containers {
            let newest = &container.newest;
            let has_run = newest.running_since().is_some() || newest.exit().is_some();
            if has_run && announced.get(name) != Some(&newest.id) {
                announced.insert(name.clone(), newest.id.clone());
                if !first {
                    teller.tell(about_container(pod, name), normal("Started", "Container started"));
                }
            }
        }
    }

    /// Tells why containers wait and why the pod failed, once for each new reason.
    pub(super) fn of_plan(&mut self, teller: &dyn Teller, pod: &Pod, plan: &PodPlan) {
        let mut told = Vec::new();
        for (name, waiting) in &plan.waiting {
            let of_container = |note| teller.tell(about_container(pod, name), note);
            let key = (
                name.clone(),
                format!("{} {}", waiting.reason, waiting.message.as_deref().unwrap_or_default()),
            );
            if !self.told.contains(&key) {
                match waiting.reason.as_str() {
                    "CrashLoopBackOff" => {
                        let title = spec::title(pod);
                        let text = format!("Back-off restarting failed container {name} in pod {title}");
                        of_container(warning("BackOff", text));
                    }
                    "ImagePullBackOff" => {
                        let image = spec::find(pod, name).map(|it| it.image).unwrap_or_default();
                        of_container(normal("BackOff", format!("Back-off pulling image {image:?}")));
                        of_container(warning("Failed", "Error: ImagePullBackOff"));
                    }
                    _ => {}
                }
            }
            told.push(key);
        }
        if let Some(failure) = &plan.failure {
            let key = (String::new(), failure.reason.clone());
            if !self.told.contains(&key) && !spec::is_terminal(spec::phase(pod)) {
                let note = match failure.reason.as_str() {
                    "DeadlineExceeded" => normal(&failure.reason, &*failure.message),
                    _ => warning(&failure.reason, &*failure.message),
                };
                teller.tell(about_pod(pod), note);
            }
            told.push(key);
        }
        self.told = told;
    }
}

/// Tells of what is about to be done.
pub(super) fn of_action(teller: &dyn Teller, pod: &Pod, action: &Action) {
    if let Action::Stop { container, reason, .. } = action {
        teller.tell(about_container(pod, container), normal("Killing", stop_text(pod, container, reason)));
    }
}

fn stop_text(pod: &Pod, container: &str, reason: &StopReason) -> String {
    let why = match reason {
        StopReason::PodEnds => return format!("Stopping container {container}"),
        StopReason::Changed => return format!("Container {container} definition changed, will be restarted"),
        StopReason::Probe(kind) => format!("failed {} probe", kind.title().to_lowercase()),
    };
    let again = spec::find(pod, container).is_some_and(|container| container.is_restarted_after_a_stop(pod));
    format!("Container {container} {why}{}", if again { ", will be restarted" } else { "" })
}
