//! What is told of each container. A decision: must never know the phase.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    Pod,
};

use super::failures::Waiting;
use super::observed::{Instance, Observed, State};
use super::probes::Probes;
use super::resize::in_force;
use super::spec::{self, ContainerSpec, Kind};
use crate::clock::told;

/// What the statuses are made from.
pub(super) struct Words<'a> {
    pub(super) pod: &'a Pod,
    pub(super) observed: &'a Observed,
    pub(super) probes: &'a Probes,
    /// Why containers wait.
    pub(super) waiting: &'a BTreeMap<String, Waiting>,
    /// Nothing of the pod is left.
    pub(super) ended: bool,
}

/// Of these containers; by name where the order does not matter.
pub(super) fn statuses<'a>(
    words: &Words<'_>,
    containers: impl Iterator<Item = ContainerSpec<'a>>,
    by_name: bool,
) -> Vec<ContainerStatus> {
    let mut all: Vec<_> = containers.map(|container| words.of(&container)).collect();
    if by_name {
        all.sort_by(|one, other| one.name.cmp(&other.name));
    }
    all
}

impl Words<'_> {
    fn of(&self, container: &ContainerSpec<'_>) -> ContainerStatus {
        let waiting = self.waiting.get(container.name);
        let Some(found) = self.observed.containers.get(container.name) else {
            return self.of_nothing(container, waiting);
        };
        let newest = &found.newest;
        let (state, last) = match (&newest.state, waiting) {
            (State::Exited(_), Some(waiting)) => (of_waiting(waiting), Some(newest)),
            (State::Created, _) => (self.created(), found.before.as_ref()),
            (State::Running { since }, _) => {
                let running = ContainerStateRunning { started_at: Some(told(*since)) };
                (
                    ContainerState { running: Some(running), ..ContainerState::default() },
                    found.before.as_ref(),
                )
            }
            (State::Exited(_), None) => (terminated(newest).unwrap_or_default(), found.before.as_ref()),
        };
        let running = newest.running_since().is_some();
        let started = running && self.probes.has_started(container.name);
        ContainerStatus {
            name: container.name.to_owned(),
            container_id: Some(newest.id.clone()),
            image: newest.image.clone(),
            image_id: newest.image_id.clone(),
            restart_count: i32::try_from(newest.attempt).unwrap_or(i32::MAX),
            ready: match container.kind {
                Kind::Init => newest.exit().is_some_and(|exit| exit.code == 0),
                Kind::Ephemeral => false,
                Kind::Sidecar | Kind::Main => started && self.probes.is_ready(container.name),
            },
            started: (container.kind != Kind::Ephemeral).then_some(started),
            state: Some(state),
            last_state: last.and_then(terminated),
            allocated_resources: container
                .container
                .and_then(|container| container.resources.as_ref()?.requests.clone()),
            resources: container.container.map(|container| in_force(container, newest.bounds.as_ref())),
            ..ContainerStatus::default()
        }
    }

    /// A container of which there has been none.
    fn of_nothing(&self, container: &ContainerSpec<'_>, waiting: Option<&Waiting>) -> ContainerStatus {
        let lost = self.ended && self.was_its_turn(container);
        let state = if lost {
            let terminated = ContainerStateTerminated {
                exit_code: 137,
                reason: Some("ContainerStatusUnknown".to_owned()),
                message: Some("The container could not be located when the pod was terminated".to_owned()),
                ..ContainerStateTerminated::default()
            };
            ContainerState { terminated: Some(terminated), ..ContainerState::default() }
        } else {
            waiting.map_or_else(|| self.created(), of_waiting)
        };
        ContainerStatus {
            name: container.name.to_owned(),
            image: container.image.to_owned(),
            started: (container.kind != Kind::Ephemeral).then_some(false),
            state: Some(state),
            ..ContainerStatus::default()
        }
    }

    /// Whether something that comes after it was created, so that it must have been there.
    fn was_its_turn(&self, container: &ContainerSpec<'_>) -> bool {
        let begun = |other: ContainerSpec<'_>| self.observed.containers.contains_key(other.name);
        match container.kind {
            Kind::Main => spec::main_containers(self.pod).any(begun),
            Kind::Init | Kind::Sidecar => spec::init_containers(self.pod)
                .skip_while(|other| other.name != container.name)
                .chain(spec::main_containers(self.pod))
                .any(begun),
            Kind::Ephemeral => false,
        }
    }

    /// What containers wait for that have not been started.
    fn created(&self) -> ContainerState {
        let has_init = spec::init_containers(self.pod).next().is_some();
        let reason = if has_init { "PodInitializing" } else { "ContainerCreating" };
        of_waiting(&Waiting { reason: reason.to_owned(), message: None })
    }
}

fn of_waiting(waiting: &Waiting) -> ContainerState {
    let waiting =
        ContainerStateWaiting { reason: Some(waiting.reason.clone()), message: waiting.message.clone() };
    ContainerState { waiting: Some(waiting), ..ContainerState::default() }
}

fn terminated(instance: &Instance) -> Option<ContainerState> {
    let exit = instance.exit()?;
    let terminated = ContainerStateTerminated {
        container_id: Some(instance.id.clone()),
        exit_code: exit.code,
        reason: Some(exit.reason.clone()),
        message: exit.message.clone(),
        started_at: Some(told(exit.started_at)),
        finished_at: Some(told(exit.finished_at)),
        signal: None,
    };
    Some(ContainerState { terminated: Some(terminated), ..ContainerState::default() })
}
