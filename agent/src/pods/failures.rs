//! What failed while a pod was being started, and when it is tried again: ten seconds, doubling to five minutes. A decision;
//! time is handed in.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::clock::after;

/// The wait after the first failure.
const FIRST: Duration = Duration::from_secs(10);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(300);

/// How long it takes until something is tried again that has failed so often in a row.
#[must_use]
pub fn delay(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST.saturating_mul(if failures == 0 { 0 } else { 1 << doublings }).min(LONGEST)
}

/// Why a container waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// In one word, as `ImagePullBackOff`.
    pub reason: String,
    /// The story.
    pub message: Option<String>,
}

/// What could not be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failed {
    /// The image could not be pulled.
    Pull,
    /// The container could not be made or run, for this reason.
    Start(&'static str),
    /// The sandbox could not be made.
    Sandbox,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Failure {
    what: Failed,
    image: String,
    message: String,
    count: u32,
    at: Timestamp,
}

/// What failed lately, by the container's name; the empty name is the sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Failures(BTreeMap<String, Failure>);

impl Failures {
    /// The sandbox's name among those of containers.
    pub const SANDBOX: &'static str = "";

    /// It failed.
    pub fn failed(&mut self, name: &str, what: Failed, image: &str, message: String, at: Timestamp) {
        let before = self.0.get(name).filter(|before| before.what == what && before.image == image);
        let count = before.map_or(1, |before| before.count.saturating_add(1));
        self.0.insert(name.to_owned(), Failure { what, image: image.to_owned(), message, count, at });
    }

    /// It worked.
    pub fn worked(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Until when it is not tried again; nothing when it may be tried now. Another image is another thing.
    #[must_use]
    pub fn waits_until(&self, name: &str, image: &str, now: Timestamp) -> Option<Timestamp> {
        let failure = self.0.get(name).filter(|failure| failure.image == image)?;
        Some(after(failure.at, delay(failure.count))).filter(|retry| now < *retry)
    }

    /// What is told of a container that waits because of a failure, and when something else is to be told. The failure
    /// itself is told for the first half of the wait, the wait itself for the second.
    #[must_use]
    pub fn waiting(&self, name: &str, now: Timestamp) -> Option<(Waiting, Option<Timestamp>)> {
        let failure = self.0.get(name)?;
        let waiting =
            |reason: &str, message: String| Waiting { reason: reason.to_owned(), message: Some(message) };
        match failure.what {
            Failed::Sandbox => None,
            Failed::Start(reason) => Some((waiting(reason, failure.message.clone()), None)),
            Failed::Pull => {
                let turn = after(failure.at, delay(failure.count) / 2);
                if now < turn {
                    return Some((waiting("ErrImagePull", failure.message.clone()), Some(turn)));
                }
                let text = format!(
                    "Back-off pulling image \"{}\": ErrImagePull: {}",
                    failure.image, failure.message
                );
                Some((waiting("ImagePullBackOff", text), None))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn waits_double_up_to_five_minutes() {
        let delays: Vec<_> = (0..9).map(|count| delay(count).as_secs()).collect();
        assert_eq!(delays, [0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(delay(u32::MAX), LONGEST);
    }

    #[test]
    fn an_image_that_cannot_be_pulled_is_told_as_the_kubelet_does() {
        let mut failures = Failures::default();
        failures.failed("c", Failed::Pull, "i:1", "no such image".into(), at(0));
        let reason = |failures: &Failures, second| failures.waiting("c", at(second)).unwrap().0.reason;
        assert_eq!(reason(&failures, 4), "ErrImagePull");
        assert_eq!(reason(&failures, 5), "ImagePullBackOff");
        assert_eq!(failures.waits_until("c", "i:1", at(9)), Some(at(10)));
        assert_eq!(failures.waits_until("c", "i:1", at(10)), None);
        assert_eq!(failures.waits_until("c", "i:2", at(1)), None, "another image");
        failures.failed("c", Failed::Pull, "i:1", "no such image".into(), at(10));
        assert_eq!(failures.waits_until("c", "i:1", at(10)), Some(at(30)));
        failures.worked("c");
        assert_eq!(failures.waits_until("c", "i:1", at(10)), None);
    }
}
