//! The phase of a pod from the states of its containers, as the kubelet's `getPhase`. A decision; must never know how the
//! states came about.

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, Pod};

use super::spec::{self, Kind};

/// What one container does, as far as the phase goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Unknown,
    /// It has not run yet.
    Waiting,
    Running,
    /// It waits to run again.
    Again {
        code: i32,
    },
    Ended {
        code: i32,
    },
}

fn doing(status: Option<&ContainerStatus>) -> Doing {
    let code = |state: &Option<ContainerState>| state.as_ref()?.terminated.as_ref().map(|end| end.exit_code);
    let Some(status) = status else { return Doing::Unknown };
    match &status.state {
        Some(state) if state.running.is_some() => Doing::Running,
        Some(state) if state.waiting.is_some() => {
            code(&status.last_state).map_or(Doing::Waiting, |code| Doing::Again { code })
        }
        state => code(state).map_or(Doing::Unknown, |code| Doing::Ended { code }),
    }
}

fn find<'a>(list: &'a [ContainerStatus], name: &str) -> Option<&'a ContainerStatus> {
    list.iter().find(|status| status.name == name)
}

/// The phase of a pod. `is_over` says that nothing is started any more.
#[must_use]
pub fn phase(pod: &Pod, init: &[ContainerStatus], main: &[ContainerStatus], is_over: bool) -> &'static str {
    let mains: Vec<_> = spec::main_containers(pod).map(|it| (it, doing(find(main, it.name)))).collect();
    let any_has_begun = mains.iter().any(|(_, doing)| !matches!(doing, Doing::Unknown | Doing::Waiting));

    let (mut running, mut waiting, mut unknown, mut ended, mut succeeded, mut for_good) = (0, 0, 0, 0, 0, 0);
    let mut initialising = false;
    for container in spec::init_containers(pod) {
        let status = find(init, container.name);
        match (container.kind, doing(status)) {
            (Kind::Sidecar, Doing::Running) => {
                running += 1;
                initialising |= status.is_none_or(|status| status.started != Some(true)) && !any_has_begun;
            }
            // A sidecar that has ended says nothing of the pod.
            (Kind::Sidecar, Doing::Ended { .. } | Doing::Again { .. }) => {}
            (Kind::Sidecar, Doing::Waiting) => {
                waiting += 1;
                initialising |= !any_has_begun;
            }
            (Kind::Sidecar, Doing::Unknown) => {
                unknown += 1;
                initialising |= !any_has_begun;
            }
            (_, Doing::Ended { code: 0 } | Doing::Again { code: 0 }) => {}
            (_, Doing::Ended { code } | Doing::Again { code }) => {
                if !container.is_restarted(pod, code) {
                    return "Failed";
                }
                initialising = true;
            }
            (_, Doing::Running | Doing::Waiting | Doing::Unknown) => initialising = true,
        }
    }
    for (container, doing) in &mains {
        match *doing {
            Doing::Unknown => unknown += 1,
            Doing::Waiting => waiting += 1,
            Doing::Running => running += 1,
            Doing::Again { .. } => ended += 1,
            Doing::Ended { code } => {
                ended += 1;
                succeeded += usize::from(code == 0);
                for_good += usize::from(!container.is_restarted(pod, code));
            }
        }
    }
    if initialising || waiting > 0 || unknown > 0 {
        return "Pending";
    }
    if running > 0 {
        return "Running";
    }
    if ended == 0 {
        return "Pending";
    }
    let outcome = if succeeded == ended { "Succeeded" } else { "Failed" };
    // Who waits for the next start still counts as running.
    if is_over || for_good == ended { outcome } else { "Running" }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// `name=doing`: `-` unknown, `w` waiting, `r` running, `R` running and started, `a1` waits again after 1, `0` ended.
    fn statuses(words: &str) -> Vec<ContainerStatus> {
        let one = |word: &str| {
            let (name, doing) = word.split_once('=').unwrap();
            let ended = |code: &str| json!({"terminated": {"exitCode": code.parse::<i32>().unwrap()}});
            let (state, last) = match doing {
                "-" => return None,
                "w" => (json!({"waiting": {}}), Value::Null),
                "r" | "R" => (json!({"running": {}}), Value::Null),
                _ => match doing.strip_prefix('a') {
                    Some(code) => (json!({"waiting": {}}), ended(code)),
                    None => (ended(doing), Value::Null),
                },
            };
            serde_json::from_value(
                json!({"name": name, "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "started": doing == "R", "state": state, "lastState": last}),
            )
            .unwrap()
        };
        words.split_whitespace().filter_map(one).collect()
    }

    fn check(policy: &str, init: &str, main: &str, is_over: bool, expected: &str) {
        let named = |words: &str| -> Vec<Value> {
            let names = words.split_whitespace().map(|word| word.split_once('=').unwrap().0);
            names
                .map(|name| {
                    let policy = if name.starts_with('s') { json!("Always") } else { Value::Null };
                    json!({"name": name, "restartPolicy": policy})
                })
                .collect()
        };
        let pod: Pod = serde_json::from_value(json!({"spec": {
            "restartPolicy": policy, "initContainers": named(init), "containers": named(main)}}))
        .unwrap();
        let found = phase(&pod, &statuses(init), &statuses(main), is_over);
        assert_eq!(found, expected, "{policy}: {init} | {main} over={is_over}");
    }

    #[test]
    fn phases_are_the_kubelets() {
        for (policy, init, main, expected) in [
            ("Always", "", "a=-", "Pending"),
            ("Always", "", "a=w", "Pending"),
            ("Always", "", "a=R", "Running"),
            ("Always", "", "a=R b=w", "Pending"),
            ("Always", "", "a=R b=a1", "Running"),
            ("Always", "", "a=R b=1", "Running"),
            ("Always", "", "a=0", "Running"),
            ("Always", "", "a=a1", "Running"),
            ("OnFailure", "", "a=0", "Succeeded"),
            ("OnFailure", "", "a=1", "Running"),
            ("OnFailure", "", "a=0 b=a1", "Running"),
            ("Never", "", "a=0 b=0", "Succeeded"),
            ("Never", "", "a=0 b=1", "Failed"),
            ("Never", "", "a=0 b=R", "Running"),
            ("Always", "i=r", "a=w", "Pending"),
            ("Always", "i=0", "a=R", "Running"),
            ("Always", "i=1", "a=w", "Pending"),
            ("Always", "i=a1", "a=w", "Pending"),
            ("Never", "i=1", "a=w", "Failed"),
            ("Always", "s=r", "a=w", "Pending"),
            ("Always", "s=R", "a=R", "Running"),
            ("Always", "s=a1", "a=R", "Running"),
            ("Never", "s=R", "a=0", "Running"),
            ("Never", "s=1", "a=0", "Succeeded"),
        ] {
            check(policy, init, main, false, expected);
        }
    }

    #[test]
    fn when_it_is_over_the_codes_decide() {
        check("Always", "", "a=0", true, "Succeeded");
        check("Always", "", "a=0 b=143", true, "Failed");
        check("OnFailure", "s=0", "a=1", true, "Failed");
        check("Always", "i=r", "a=w", true, "Pending");
    }
}
