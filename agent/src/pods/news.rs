//! What people are told of a pod as events: instances that run now, why containers wait, why the pod failed. Remembers what
//! was told. Must never decide anything.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod};
use serde_json::{Value, json};

use super::observed::Observed;
use super::plan::{Action, PodPlan, StopReason};
use super::resize::{IN_PROGRESS, Resizing, condition};
use super::spec::{self, Kind};
use crate::tell::{Teller, about_container, about_pod, normal, warning};

/// What was told.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Instances of which it was told that they run, by container.
    announced: Option<BTreeMap<String, String>>,
    /// Why containers wait and why the pod failed.
    told: Vec<(String, String)>,
    /// What was told of a resize, and whether one is under way; nothing before the first look.
    resize: Option<(Resizing, bool)>,
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

    /// Tells how a resize goes on. What was so when the agent came was told by the one before it.
    pub(super) fn of_resize(
        &mut self,
        teller: &dyn Teller,
        asked: &Pod,
        granted: &Pod,
        now: &Resizing,
        in_progress: bool,
    ) {
        let first = || (now.clone(), condition(granted, IN_PROGRESS).is_some());
        let (before, under_way) = self.resize.get_or_insert_with(first);
        if let Some(pending) = now.pending.as_ref().filter(|_| now.pending != before.pending) {
            let text = resize_text(&pending.reason, asked, pending.generation, Some(&pending.message));
            teller.tell(about_pod(asked), warning(&format!("Resize{}", pending.reason), text));
        }
        if now.generation != before.generation {
            let text = resize_text("started", granted, now.generation, None);
            teller.tell(about_pod(granted), normal("ResizeStarted", text));
            *under_way = true;
        }
        if let Some(error) = now.error.as_ref().filter(|_| now.error != before.error) {
            let text = resize_text("error", granted, now.generation, Some(error));
            teller.tell(about_pod(granted), warning("ResizeError", text));
        }
        if *under_way && !in_progress {
            *under_way = false;
            let text = resize_text("completed", granted, now.generation, None);
            teller.tell(about_pod(granted), normal("ResizeCompleted", text));
        }
        before.clone_from(now);
    }
}

fn resize_text(what: &str, pod: &Pod, generation: Option<i64>, error: Option<&str>) -> String {
    let of = |container: &Container| json!({"name": container.name, "resources": container.resources});
    let sidecars = spec::init_containers(pod).filter(|container| container.kind == Kind::Sidecar);
    let init: Vec<Value> = sidecars.filter_map(|container| container.container.map(of)).collect();
    let main: Vec<Value> = spec::main_containers(pod).filter_map(|it| it.container.map(of)).collect();
    let mut told = json!({"containers": main, "generation": generation});
    if !init.is_empty() {
        told["initContainers"] = Value::Array(init);
    }
    if let Some(error) = error {
        told["error"] = json!(error);
    }
    format!("Pod resize {what}: {told}")
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
        StopReason::Resized => return format!("Container {container} resize requires restart"),
        StopReason::Changed => return format!("Container {container} definition changed, will be restarted"),
        StopReason::Probe(kind) => format!("failed {} probe", kind.title().to_lowercase()),
    };
    let again = spec::find(pod, container).is_some_and(|container| container.is_restarted_after_a_stop(pod));
    format!("Container {container} {why}{}", if again { ", will be restarted" } else { "" })
}
