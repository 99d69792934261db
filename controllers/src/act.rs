//! Performs plans over the API. Must never decide what is done; what failed is told, and the next observation corrects.

mod kube_api;
mod verdict;

use std::future::Future;

use futures::StreamExt as _;
use futures::stream;

pub(crate) use kube_api::{KubeApi, MANAGER};
pub(crate) use verdict::failure;

use crate::plan::{Action, Done, Failure, Order, Outcome, Plan, Planned, Step, Tried, Verdict};
use crate::question::{Answer, Question};

/// How many requests of one plan are on their way at once.
const AT_ONCE: usize = 64;

/// Where actions go: the API, or a simulated one.
pub(crate) trait Api: Send + Sync {
    /// Does it. May be asked twice for the same.
    fn perform(&self, action: &Action) -> impl Future<Output = Result<Done, Failure>> + Send;

    /// Asks, past the caches.
    fn ask(&self, question: &Question) -> impl Future<Output = Answer> + Send;
}

/// Asks several things at once.
pub(crate) async fn ask(questions: Vec<Question>, api: &impl Api) -> Vec<(Question, Answer)> {
    let asked = questions.into_iter().map(|question| async {
        let answer = api.ask(&question).await;
        (question, answer)
    });
    stream::iter(asked).buffered(AT_ONCE).collect().await
}

/// Performs the steps of a plan.
pub(crate) async fn perform(plan: Plan, api: &impl Api) -> Outcome {
    let mut outcome = Outcome::default();
    for step in plan.steps {
        if outcome.cut {
            break;
        }
        let before = outcome.tried.len();
        step_by(step, api, &mut outcome).await;
        outcome.cut |= outcome.tried[before..].iter().any(ends);
    }
    outcome
}

/// Whether nothing may follow: it failed, or what others need was gone.
fn ends(tried: &Tried) -> bool {
    match &tried.result {
        Ok(_) => false,
        Err(failure) => {
            let asked = matches!(tried.planned.action, Action::Confirm { .. } | Action::Unchanged { .. });
            failure.verdict != Verdict::Gone || asked
        }
    }
}

async fn step_by(step: Step, api: &impl Api, outcome: &mut Outcome) {
    let mut batch = match step.order {
        Order::Serial | Order::SlowStart => 1,
        Order::Parallel => step.actions.len(),
    };
    let mut actions = step.actions.into_iter();
    loop {
        let now: Vec<Planned> = actions.by_ref().take(batch).collect();
        if now.is_empty() {
            return;
        }
        let before = outcome.tried.len();
        let mut tried = stream::iter(now)
            .map(|planned| async {
                let result = api.perform(&planned.action).await;
                Tried { planned, result }
            })
            .buffered(AT_ONCE);
        while let Some(tried) = tried.next().await {
            outcome.tried.push(tried);
        }
        if outcome.tried[before..].iter().any(ends) {
            outcome.cut |= actions.len() > 0;
            return;
        }
        if step.order == Order::SlowStart {
            batch *= 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use k8s_openapi::api::core::v1::Pod;
    use kube::Resource as _;

    use super::*;
    use crate::kind::Key;

    /// Refuses from the call of this number on.
    struct Until(usize, AtomicUsize);

    impl Api for Until {
        async fn perform(&self, action: &Action) -> Result<Done, Failure> {
            if self.1.fetch_add(1, Ordering::Relaxed) < self.0 {
                let key = Key::new("ns", action.name());
                Ok(Done { key, uid: String::new(), version: String::new() })
            } else {
                Err(Failure { verdict: Verdict::Refused, message: "quota".into() })
            }
        }

        async fn ask(&self, question: &Question) -> Answer {
            Err(Failure { verdict: Verdict::Gone, message: question.path.clone() })
        }
    }

    fn plan(order: Order, count: usize) -> Plan {
        let mut plan = Plan::nothing();
        plan.step(
            order,
            (0..count).map(|_| {
                let mut pod = Pod::default();
                pod.meta_mut().generate_name = Some("a-".into());
                Action::create(&pod).because("test")
            }),
        );
        plan.then(Action::create(&Pod::default()).because("after"));
        plan
    }

    async fn calls(order: Order, count: usize, good: usize) -> usize {
        let api = Until(good, AtomicUsize::new(0));
        let outcome = perform(plan(order, count), &api).await;
        assert_eq!(outcome.tried.len(), api.1.load(Ordering::Relaxed));
        assert_eq!(outcome.failure().is_some(), good < api.1.load(Ordering::Relaxed));
        outcome.tried.len()
    }

    #[tokio::test]
    async fn a_failure_ends_the_plan_after_its_batch() {
        assert_eq!(calls(Order::SlowStart, 100, 0).await, 1);
        assert_eq!(calls(Order::SlowStart, 100, 1).await, 3);
        assert_eq!(calls(Order::SlowStart, 100, 8).await, 15);
        assert_eq!(calls(Order::SlowStart, 100, 200).await, 101);
        assert_eq!(calls(Order::Serial, 100, 4).await, 5);
        assert_eq!(calls(Order::Parallel, 100, 4).await, 100);
    }
}
