//! Looks at everything that a runtime has, again and again, and whether it is ready. Must never act on what it sees.
//!
//! Where the runtime tells of what happens (`GetContainerEvents`: containerd 1.7 and newer, CRI-O), each event is a reason to look;
//! a look now and then finds what was not told. containerd 1.6, which Debian has, tells nothing in all of CRI, so there is no other
//! way than to list everything each second, as the kubelet does.

use std::sync::Arc;
use std::time::Duration;

use barque_api::ip::Cidr;
use barque_cri::{Client, CriError, Events, v1};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::seen::Seen;
use super::view::Listed;

/// How often all is listed when nothing tells of changes; the kubelet's period.
const RELIST: Duration = Duration::from_secs(1);
/// How often where something does; the kubelet's period then.
const RELIST_BESIDE_EVENTS: Duration = Duration::from_secs(300);
/// How often it is asked whether it is ready; the kubelet's period.
const READINESS: Duration = Duration::from_secs(5);

/// The watch of a runtime.
pub(super) struct Watch {
    pub(super) client: Client,
    pub(super) seen: Arc<Seen>,
    /// Why pods can have no network, or nothing can be run at all.
    pub(super) problem: watch::Sender<Option<String>>,
    /// What the runtime is told of the pods' networks.
    pub(super) networks: watch::Receiver<Vec<Cidr>>,
}

/// Everything that a runtime has.
pub(super) async fn list(client: &Client, uid: Option<&str>) -> Result<Listed, CriError> {
    let selector = |uid: &str| [(super::labels::POD_UID.to_owned(), uid.to_owned())].into();
    let of_sandboxes = uid
        .map(|uid| v1::PodSandboxFilter { label_selector: selector(uid), ..v1::PodSandboxFilter::default() });
    let of_containers = uid
        .map(|uid| v1::ContainerFilter { label_selector: selector(uid), ..v1::ContainerFilter::default() });
    let (sandboxes, containers) = tokio::try_join!(
        client.list_pod_sandbox(v1::ListPodSandboxRequest { filter: of_sandboxes }),
        client.list_containers(v1::ListContainersRequest { filter: of_containers }),
    )?;
    Ok(Listed::new(sandboxes.items, containers.containers))
}

/// Why nothing can be run, in the words of the runtime.
pub(super) fn problem(status: &v1::StatusResponse) -> Option<String> {
    let conditions = status.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let unready = |kind: &str| {
        let condition = conditions.iter().find(|condition| condition.r#type == kind);
        match condition {
            Some(condition) if condition.status => None,
            Some(condition) => Some(format!("{}: {}", condition.reason, condition.message)),
            None => Some(format!("the container runtime does not tell of {kind}")),
        }
    };
    unready("RuntimeReady").or_else(|| unready("NetworkReady"))
}

/// Waits until what is wrong now is not any more; for ever when nothing is.
pub(super) async fn solved(mut problem: watch::Receiver<Option<String>>) {
    let is_wrong = problem.borrow().is_some();
    if !is_wrong || problem.wait_for(Option::is_none).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Watch {
    /// Looks for ever.
    pub(super) async fn run(mut self) {
        let mut looks = interval(RELIST);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readiness = interval(READINESS);
        readiness.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut events = self.events().await;
        let mut looked = Instant::now();
        let mut is_there = true;
        loop {
            tokio::select! {
                told = next(&mut events) => {
                    if !told {
                        events = self.events().await;
                    }
                }
                _ = readiness.tick() => {
                    self.ask().await;
                    continue;
                }
                changed = self.networks.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.tell_networks().await;
                    continue;
                }
                _ = looks.tick() => {
                    if events.is_some() && looked.elapsed() < RELIST_BESIDE_EVENTS && is_there {
                        continue;
                    }
                }
            }
            let was_there = is_there;
            is_there = self.look(was_there).await;
            looked = Instant::now();
            if is_there && !was_there {
                events = self.events().await;
            }
        }
    }

    /// What the runtime tells, if it does.
    async fn events(&self) -> Option<Events> {
        match self.client.events().await {
            Ok(events) => Some(events),
            Err(error) => {
                tracing::debug!(%error, "containers are listed each second");
                None
            }
        }
    }

    /// One look; whether the runtime was there. It is told once when it is not, and when it is again.
    async fn look(&self, was_there: bool) -> bool {
        let look = self.seen.begin();
        match list(&self.client, None).await {
            Ok(listed) => {
                if !was_there {
                    tracing::info!(endpoint = %self.client.endpoint(), "the container runtime is there again");
                    self.ask().await;
                }
                self.seen.all(look, listed);
                true
            }
            Err(error) => {
                if was_there {
                    tracing::warn!(%error, "the container runtime does not answer");
                    self.ask().await;
                }
                false
            }
        }
    }

    /// Asks whether it is ready.
    async fn ask(&self) {
        let told = match self.client.status(v1::StatusRequest { verbose: false }).await {
            Ok(status) => problem(&status),
            Err(error) => Some(error.to_string()),
        };
        self.problem.send_if_modified(|known| {
            let differs = *known != told;
            *known = told;
            differs
        });
    }

    async fn tell_networks(&mut self) {
        let pod_cidr =
            self.networks.borrow_and_update().iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        let network_config = Some(v1::NetworkConfig { pod_cidr });
        let request =
            v1::UpdateRuntimeConfigRequest { runtime_config: Some(v1::RuntimeConfig { network_config }) };
        if let Err(error) = self.client.update_runtime_config(request).await {
            tracing::warn!(%error, "the container runtime does not know the pods' networks");
        }
    }
}

/// Waits for the next event; `false` when there are no more, and for ever where there are none.
async fn next(events: &mut Option<Events>) -> bool {
    match events {
        None => std::future::pending().await,
        Some(stream) => matches!(stream.message().await, Ok(Some(_))),
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_runtime_is_ready_when_it_says_so_of_itself_and_of_its_network() {
        let condition = |kind: &str, status| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: "Why".to_owned(),
            message: format!("{kind} is off"),
        };
        let told = |conditions: Vec<v1::RuntimeCondition>| {
            let status = Some(v1::RuntimeStatus { conditions });
            problem(&v1::StatusResponse { status, ..v1::StatusResponse::default() })
        };
        assert_eq!(told(vec![condition("RuntimeReady", true), condition("NetworkReady", true)]), None);
        let table = [(true, false, "Why: NetworkReady is off"), (false, false, "Why: RuntimeReady is off")];
        for (runtime, network, expected) in table {
            let conditions = vec![condition("RuntimeReady", runtime), condition("NetworkReady", network)];
            assert_eq!(told(conditions).as_deref(), Some(expected));
        }
        assert!(told(vec![condition("RuntimeReady", true)]).is_some());
    }

    #[test]
    fn who_waits_for_the_network_is_told_once_it_is_there() {
        let (problem, known) = watch::channel(None);
        let is_solved = || solved(known.clone()).now_or_never().is_some();
        assert!(!is_solved(), "there is nothing to wait for");
        problem.send_replace(Some("off".to_owned()));
        assert!(!is_solved());
        let waiting = solved(known.clone());
        let mut waiting = std::pin::pin!(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        problem.send_replace(None);
        assert!(waiting.now_or_never().is_some());
        assert!(!is_solved(), "it is told to those who waited, and to nobody else");
    }
}
