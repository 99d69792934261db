//! What the containers of a pod look like to its plan. A decision: must never ask the runtime.

use core::net::IpAddr;
use std::collections::BTreeMap;

use barque_containers::spec::{ContainerState, Phase, Resources, SandboxState};
use k8s_openapi::jiff::Timestamp;

use crate::clock::between;
use crate::pods::observed::{Container, Exit, HEALTHY_RUN, Instance, Observed, Sandbox, State};

/// On a container: how often those of its name had ended when it was made, since one last ran for long.
pub(in super::super) const CRASHES: &str = "barque.io/crashes";

/// What is known of a pod's sandbox.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Known {
    /// What the ids of containers begin with, as `barque://`.
    pub(in super::super) scheme: String,
    /// As the runtime has it.
    pub(in super::super) state: Option<SandboxState>,
    /// Something of it is there, or of what was to become one.
    pub(in super::super) is_left: bool,
    /// The pod's addresses.
    pub(in super::super) addresses: Vec<IpAddr>,
    /// It has its network, and its files are in place.
    pub(in super::super) is_whole: bool,
    /// When containers are killed that were asked to stop, by their ids.
    pub(in super::super) killed_at: BTreeMap<String, Timestamp>,
    /// What its containers may use together.
    pub(in super::super) bounds: Option<Resources>,
}

fn moment(ns: i64) -> Timestamp {
    Timestamp::from_nanosecond(ns.into()).unwrap_or_default()
}

/// The pod, as its plan sees it.
pub(in super::super) fn observed(known: &Known, containers: &[ContainerState]) -> Observed {
    let created = known.state.as_ref().map(|state| moment(state.created_ns));
    let ready = known.is_whole && known.state.as_ref().is_some_and(|state| state.ready);
    let sandbox = (known.is_left || known.state.is_some()).then(|| Sandbox {
        created: created.unwrap_or_default(),
        addresses: known.addresses.clone(),
        ready,
        bounds: known.bounds.clone(),
    });
    let mut by_name: BTreeMap<&str, Vec<&ContainerState>> = BTreeMap::new();
    for state in containers {
        by_name.entry(&state.spec.name).or_default().push(state);
    }
    let of_name = |(name, mut all): (&str, Vec<&ContainerState>)| {
        all.sort_by_key(|state| state.spec.attempt);
        let newest = all.pop()?;
        let instance = |state: &ContainerState| instance(state, known);
        let container =
            Container { newest: instance(newest), before: all.pop().map(instance), crashes: crashes(newest) };
        Some((name.to_owned(), container))
    };
    Observed { sandbox, containers: by_name.into_iter().filter_map(of_name).collect() }
}

/// How often containers of this name have ended since one last ran for long, with this one.
pub(in super::super) fn crashes(state: &ContainerState) -> u32 {
    let before = state.spec.annotations.get(CRASHES).and_then(|text| text.parse().ok()).unwrap_or_default();
    match &state.phase {
        Phase::Created | Phase::Running { .. } => before,
        Phase::Exited(exit) => {
            let began = moment(exit.started_ns.unwrap_or(exit.finished_ns));
            let was_healthy = between(began, moment(exit.finished_ns)) >= HEALTHY_RUN;
            if was_healthy { 1 } else { before.saturating_add(1) }
        }
    }
}

fn instance(state: &ContainerState, known: &Known) -> Instance {
    Instance {
        id: format!("{}{}", known.scheme, state.spec.id),
        image: state.spec.image.clone(),
        image_id: state.spec.image_id.clone(),
        attempt: state.spec.attempt,
        created: moment(state.created_ns),
        state: match &state.phase {
            Phase::Created => State::Created,
            Phase::Running { started_ns } => State::Running { since: moment(*started_ns) },
            Phase::Exited(end) => State::Exited(exit(end, state.created_ns)),
        },
        killed_at: known.killed_at.get(&state.spec.id).copied(),
        // The agent always says how much of a processor is a container's.
        bounds: Some(state.spec.resources.clone()).filter(|bounds| bounds.cpu_shares.is_some()),
    }
}

fn exit(end: &barque_containers::spec::Exit, created_ns: i64) -> Exit {
    let reason = match (end.oom_killed, end.started_ns, end.code) {
        (true, ..) => "OOMKilled",
        (_, None, _) => "StartError",
        (_, _, 0) => "Completed",
        _ => "Error",
    };
    Exit {
        code: end.code,
        reason: reason.to_owned(),
        message: Some(end.message.clone()).filter(|message| !message.is_empty()),
        started_at: moment(end.started_ns.unwrap_or(created_ns)),
        finished_at: moment(end.finished_ns),
    }
}

#[cfg(test)]
mod tests {
    use barque_containers::spec::{ContainerSpec, Exit as End, SandboxSpec};

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn state(name: &str, attempt: u32, crashes: u32, phase: Phase) -> ContainerState {
        let annotations = [(CRASHES.to_owned(), crashes.to_string())].into();
        let spec = ContainerSpec {
            id: format!("{name}{attempt}"),
            name: name.to_owned(),
            attempt,
            annotations,
            ..ContainerSpec::default()
        };
        ContainerState { spec, created_ns: 10 * SECOND, phase, pid: None }
    }

    fn ended(code: i32, from: i64, to: i64) -> Phase {
        Phase::Exited(End {
            code,
            signal: None,
            oom_killed: false,
            started_ns: Some(from * SECOND),
            finished_ns: to * SECOND,
            message: String::new(),
        })
    }

    fn sandbox(ready: bool) -> Option<SandboxState> {
        let spec = SandboxSpec::default();
        Some(SandboxState { spec, created_ns: 5 * SECOND, ready, network_namespace: None })
    }

    #[test]
    fn a_sandbox_is_ready_when_all_of_it_is() {
        let of = |known: Known| observed(&known, &[]).sandbox.map(|sandbox| sandbox.ready);
        assert_eq!(of(Known::default()), None);
        assert_eq!(of(Known { is_left: true, ..Known::default() }), Some(false));
        let whole = |ready, is_whole| Known { state: sandbox(ready), is_whole, ..Known::default() };
        assert_eq!(of(whole(true, true)), Some(true));
        assert_eq!((of(whole(false, true)), of(whole(true, false))), (Some(false), Some(false)));
    }

    #[test]
    fn the_last_two_of_a_name_are_told() {
        let all = [
            state("a", 2, 1, Phase::Running { started_ns: 50 * SECOND }),
            state("a", 1, 0, ended(3, 20, 30)),
            state("b", 0, 0, ended(0, 20, 30)),
        ];
        let known = Known {
            scheme: "barque://".to_owned(),
            killed_at: [("a2".to_owned(), moment(99))].into(),
            ..Known::default()
        };
        let seen = observed(&known, &all);
        let a = &seen.containers["a"];
        assert_eq!(
            (a.newest.id.as_str(), a.newest.running_since()),
            ("barque://a2", Some(moment(50 * SECOND)))
        );
        assert_eq!((a.newest.killed_at, a.crashes), (Some(moment(99)), 1));
        assert_eq!(a.before.as_ref().unwrap().exit().unwrap().code, 3);
        let b = seen.newest("b").unwrap().exit().unwrap();
        assert_eq!((b.reason.as_str(), b.message.as_ref()), ("Completed", None));
    }

    #[test]
    fn who_ran_for_long_begins_to_count_anew() {
        assert_eq!(crashes(&state("a", 4, 3, ended(1, 20, 30))), 4);
        assert_eq!(crashes(&state("a", 4, 3, ended(1, 20, 620))), 1);
        assert_eq!(crashes(&state("a", 4, 3, Phase::Created)), 3);
    }

    #[test]
    fn why_it_ended_is_told_in_one_word() {
        let reason = |change: fn(&mut End)| {
            let Phase::Exited(mut end) = ended(137, 20, 30) else { unreachable!() };
            change(&mut end);
            exit(&end, 7).reason
        };
        assert_eq!(reason(|end| end.oom_killed = true), "OOMKilled");
        assert_eq!(reason(|end| end.started_ns = None), "StartError");
        assert_eq!(reason(|_| {}), "Error");
    }
}
