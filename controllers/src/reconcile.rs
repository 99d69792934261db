//! One pass over one key: observe, plan, act, and what follows for the queue. Must never decide what a controller decides.

use std::time::Duration;

use barque_client::events::{Note, Recorder};
use futures::future::BoxFuture;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;

use crate::act::{self, Api, KubeApi};
use crate::cache::Caches;
use crate::controller::{Controller, Walker};
use crate::expectations::Expectations;
use crate::kind::Key;
use crate::plan::{Failure, Outcome, Plan, Planned, Told, Tried, Verdict};
use crate::queue::WorkQueue;

/// After so many rounds of questions, a plan is made of what is known.
const ROUNDS_MAX: usize = 16;

/// What follows for a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It went well; it is looked at again by then, if ever.
    Settled(Option<Duration>),
    /// It failed; again after its back-off, but by this time, if there is one.
    Retry(Option<Duration>),
    /// The API asked to come later.
    Later(Duration),
}

impl Next {
    /// Says it to the queue, and that the key is done.
    pub(crate) fn follow_up(self, queue: &WorkQueue, key: &Key) {
        match self {
            Self::Settled(again) => {
                queue.forget(key);
                if let Some(delay) = again {
                    queue.add_after(key.clone(), delay);
                }
            }
            Self::Retry(latest) => {
                queue.retry(key.clone());
                if let Some(delay) = latest {
                    queue.add_after(key.clone(), delay);
                }
            }
            Self::Later(delay) => queue.add_after(key.clone(), delay),
        }
        queue.done(key);
    }
}

/// Where sentences for people go.
pub(crate) trait Teller: Send + Sync {
    /// Tells one.
    fn tell(&self, told: Told);
}

impl Teller for Recorder {
    fn tell(&self, told: Told) {
        let action = told.reason.to_owned();
        let note = Note { kind: told.gravity, reason: told.reason.to_owned(), action, text: told.text };
        self.publish(told.regarding, note);
    }
}

/// Makes passes, whatever is done in them.
pub(crate) trait Passes: Send + Sync + 'static {
    /// One pass.
    fn pass<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        api: &'a KubeApi,
        recorder: &'a Recorder,
        queue: &'a WorkQueue,
        now: (Timestamp, Duration),
    ) -> BoxFuture<'a, Next>;
}

impl<C: Controller> Passes for Reconciler<C> {
    fn pass<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        api: &'a KubeApi,
        recorder: &'a Recorder,
        queue: &'a WorkQueue,
        now: (Timestamp, Duration),
    ) -> BoxFuture<'a, Next> {
        Box::pin(self.pass(key, caches, api, recorder, queue, now))
    }
}

/// Passes of a controller that looks past the caches.
pub(crate) struct Walking<W>(pub(crate) W);

impl<W: Walker> Passes for Walking<W> {
    fn pass<'a>(
        &'a self,
        key: &'a Key,
        caches: &'a Caches,
        api: &'a KubeApi,
        _: &'a Recorder,
        _: &'a WorkQueue,
        (now, _): (Timestamp, Duration),
    ) -> BoxFuture<'a, Next> {
        Box::pin(self.0.pass(key, caches, api, now))
    }
}

/// A controller with what it remembers: what it wrote and has not seen yet.
pub(crate) struct Reconciler<C> {
    controller: C,
    expectations: Mutex<Expectations>,
}

impl<C: Controller> Reconciler<C> {
    /// One that has written nothing yet.
    pub(crate) fn new(controller: C) -> Self {
        Self { controller, expectations: Mutex::default() }
    }

    /// One pass. `now` is the time of day, `elapsed` a clock that only grows.
    pub(crate) async fn pass(
        &self,
        key: &Key,
        caches: &Caches,
        api: &impl Api,
        teller: &impl Teller,
        queue: &WorkQueue,
        (now, elapsed): (Timestamp, Duration),
    ) -> Next {
        if let Some(left) = self.unsettled(key, caches, queue, elapsed) {
            return Next::Settled(Some(left));
        }
        let Some(mut view) = self.controller.observe(key, caches) else {
            self.expectations.lock().forget(key);
            self.controller.forget(key);
            return Next::Settled(None);
        };
        for _ in 0..ROUNDS_MAX {
            let questions = self.controller.questions(&view);
            if questions.is_empty() {
                break;
            }
            for (question, answer) in act::ask(questions, api).await {
                self.controller.learn(&mut view, question, answer);
            }
        }
        let mut plan = self.controller.plan(&view, now);
        let again = plan.requeue_after;
        for note in std::mem::take(&mut plan.notes) {
            teller.tell(note);
        }
        let mut outcome = act::perform(plan, api).await;
        if let Some(status) = self.controller.status(&view, &outcome, now) {
            let mut after = Plan::nothing();
            after.then(status);
            let written = act::perform(after, api).await;
            outcome.tried.extend(written.tried);
        }
        self.controller.performed(key, &view, &outcome, now);
        self.expectations.lock().written(key, &outcome, elapsed);
        for tried in &outcome.tried {
            explain(key, tried, teller);
        }
        next(&outcome, again)
    }
}

impl<C> Reconciler<C> {
    /// How long is still waited for what was written for a key. News of it wake the key; the time is for what never comes.
    fn unsettled(
        &self,
        key: &Key,
        caches: &Caches,
        queue: &WorkQueue,
        elapsed: Duration,
    ) -> Option<Duration> {
        let mut expectations = self.expectations.lock();
        expectations.unsettled(key, caches, elapsed)?;
        for kind in expectations.kinds(key) {
            let (queue, key) = (queue.clone(), key.clone());
            caches.wake_at_news(&kind, Box::new(move || queue.add(key)));
        }
        // What came between the question and the call for news is not missed.
        expectations.unsettled(key, caches, elapsed)
    }
}

fn next(outcome: &Outcome, again: Option<Duration>) -> Next {
    let mut next = Next::Settled(again);
    for tried in &outcome.tried {
        match tried.result.as_ref().map_err(|failure| failure.verdict) {
            Ok(_) | Err(Verdict::Gone | Verdict::Terminating) => {}
            Err(Verdict::Later(delay)) => match next {
                Next::Later(longer) if longer >= delay => {}
                _ => next = Next::Later(delay),
            },
            Err(_) if matches!(next, Next::Settled(_)) => next = Next::Retry(again),
            Err(_) => {}
        }
    }
    next
}

fn explain(key: &Key, tried: &Tried, teller: &impl Teller) {
    let Planned { action, why, done, failed } = &tried.planned;
    let kind = action.kind();
    match &tried.result {
        Ok(result) => {
            tracing::debug!(%key, %kind, object = %result.key, why, "done");
            if let Some(told) = done {
                let text = told.text.replace("{name}", &result.key.name);
                teller.tell(Told { text, ..told.clone() });
            }
        }
        Err(Failure { verdict, message }) => {
            tracing::debug!(%key, %kind, object = action.name(), why, ?verdict, message, "not done");
            let news = !matches!(verdict, Verdict::Gone | Verdict::Terminating);
            if let Some(told) = failed.as_ref().filter(|_| news) {
                let text = told.text.replace("{name}", action.name()).replace("{error}", message);
                teller.tell(Told { text, ..told.clone() });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;
    use crate::plan::{Action, Done};

    #[test]
    fn the_worst_answer_says_when_the_key_comes_again() {
        let tried = |verdict: Option<Verdict>| Tried {
            planned: Action::create(&Pod::default()).because("test"),
            result: match verdict {
                None => Ok(Done { key: Key::new("", ""), uid: String::new(), version: String::new() }),
                Some(verdict) => Err(Failure { verdict, message: String::new() }),
            },
        };
        let check = |verdicts: &[Option<Verdict>], expected: Next| {
            let outcome = Outcome { tried: verdicts.iter().map(|one| tried(*one)).collect(), cut: false };
            assert_eq!(next(&outcome, Some(Duration::from_secs(9))), expected, "{verdicts:?}");
        };
        let settled = Next::Settled(Some(Duration::from_secs(9)));
        let later = |seconds| Verdict::Later(Duration::from_secs(seconds));
        check(&[], settled);
        check(&[None, Some(Verdict::Gone)], settled);
        check(&[Some(Verdict::Terminating)], settled);
        check(&[None, Some(Verdict::Outdated)], Next::Retry(Some(Duration::from_secs(9))));
        check(&[Some(Verdict::Refused), Some(later(3)), Some(later(2))], Next::Later(Duration::from_secs(3)));
        check(&[Some(later(3)), Some(Verdict::Unknown)], Next::Later(Duration::from_secs(3)));
    }
}
