//! What was written and has not come back through the caches: until it has, a plan would be made of old news. A decision; time
//! is handed in.
//!
//! Where upstream counts creations and deletions, this compares versions: what was written has this version, and the cache of
//! its kind has it, or anything newer, or not yet.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::cache::Seen;
use crate::kind::{Key, Kind};
use crate::plan::{Action, Done, Outcome, Tried, Verdict};

/// After so long the caches are believed anyway.
const PATIENCE: Duration = Duration::from_secs(5 * 60);

/// What was written for which keys.
#[derive(Debug, Default)]
pub(crate) struct Expectations {
    of: HashMap<Key, (Duration, Vec<Expected>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expected {
    kind: Kind,
    key: Key,
    uid: String,
    change: Expectation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expectation {
    /// It has at least this version.
    Version(u64),
    /// It is gone or going.
    Deletion,
    /// It is gone: the API said so when it was to be written.
    Absence,
}

/// What caches know.
pub(crate) trait Known {
    /// An object of a kind.
    fn seen(&self, kind: &Kind, key: &Key) -> Option<Seen>;
    /// The newest version of any object of a kind; nothing when it is not watched.
    fn latest(&self, kind: &Kind) -> Option<u64>;
}

impl Known for crate::cache::Caches {
    fn seen(&self, kind: &Kind, key: &Key) -> Option<Seen> {
        Self::seen(self, kind, key)
    }

    fn latest(&self, kind: &Kind) -> Option<u64> {
        Self::latest(self, kind)
    }
}

impl Expectations {
    /// This was done for a key.
    pub(crate) fn written(&mut self, key: &Key, outcome: &Outcome, now: Duration) {
        let mut expected: Vec<_> = outcome.tried.iter().filter_map(Expected::of).collect();
        if !expected.is_empty() {
            let entry = self.of.entry(key.clone()).or_insert((now, Vec::new()));
            entry.0 = now;
            entry.1.append(&mut expected);
        }
    }

    /// How long is still waited for what was written for a key; nothing when all of it has come back.
    pub(crate) fn unsettled(&mut self, key: &Key, known: &impl Known, now: Duration) -> Option<Duration> {
        let (since, expected) = self.of.get_mut(key)?;
        expected.retain(|expected| !expected.is_met(known));
        let left = (*since + PATIENCE).saturating_sub(now);
        if expected.is_empty() || left.is_zero() {
            if !expected.is_empty() {
                tracing::warn!(%key, ?expected, "what was written has not come back");
            }
            self.of.remove(key);
            return None;
        }
        Some(left)
    }

    /// The kinds of which news are waited for.
    pub(crate) fn kinds(&self, key: &Key) -> BTreeSet<Kind> {
        let expected = self.of.get(key).into_iter().flat_map(|(_, expected)| expected);
        expected.map(|expected| expected.kind).collect()
    }

    /// Nothing is expected for a key any more.
    pub(crate) fn forget(&mut self, key: &Key) {
        self.of.remove(key);
    }
}

impl Expected {
    /// What the caches will tell after this, if anything.
    fn of(tried: &Tried) -> Option<Self> {
        let action = &tried.planned.action;
        let of_done = |done: &Done, change| {
            Some(Self { kind: *action.kind(), key: done.key.clone(), uid: done.uid.clone(), change })
        };
        match (action, &tried.result) {
            (Action::Create { .. } | Action::Update { .. }, Ok(done)) => {
                of_done(done, Expectation::Version(done.version.parse().ok()?))
            }
            (Action::Delete { .. }, Ok(done)) => of_done(done, Expectation::Deletion),
            // A cache that has it still is behind, and a plan may have gone on from its absence already.
            (Action::Update { object, .. } | Action::Delete { object, .. }, Err(failure))
                if failure.verdict == Verdict::Gone =>
            {
                let (key, uid) = (object.key.clone(), object.uid.clone());
                Some(Self { kind: object.kind, key, uid, change: Expectation::Absence })
            }
            (_, Err(_))
            // The scale may be of any kind; the next observation asks for it.
            | (
                Action::Scale { .. } | Action::Confirm { .. } | Action::Unchanged { .. } | Action::Absent { .. },
                Ok(_),
            ) => None,
        }
    }

    fn is_met(&self, known: &impl Known) -> bool {
        let Some(latest) = known.latest(&self.kind) else {
            // Nobody watches it, so nobody plans by it.
            return true;
        };
        let seen = known.seen(&self.kind, &self.key).filter(|seen| seen.uid == self.uid);
        match self.change {
            // Versions of one kind grow: with a newer one, this one has come, though the object may have gone since.
            Expectation::Version(version) => {
                latest >= version || seen.is_some_and(|seen| seen.version >= version)
            }
            Expectation::Deletion => seen.is_none_or(|seen| seen.deleting),
            Expectation::Absence => seen.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::*;
    use crate::plan::Failure;

    #[derive(Default)]
    struct Fake {
        latest: u64,
        pods: HashMap<Key, Seen>,
    }

    impl Known for Fake {
        fn seen(&self, _: &Kind, key: &Key) -> Option<Seen> {
            self.pods.get(key).cloned()
        }

        fn latest(&self, _: &Kind) -> Option<u64> {
            Some(self.latest)
        }
    }

    fn done(action: Action, version: &str) -> Outcome {
        let done = Done { key: Key::new("ns", "p"), uid: "u".into(), version: version.into() };
        Outcome { tried: vec![Tried { planned: action.because("test"), result: Ok(done) }], cut: false }
    }

    fn pod() -> Pod {
        serde_json::from_value(json!({"metadata": {"namespace": "ns", "name": "p", "uid": "u"}})).unwrap()
    }

    const T: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_creation_is_waited_for() {
        let (mut expectations, key) = (Expectations::default(), Key::new("ns", "r"));
        let mut known = Fake { latest: 9, ..Fake::default() };
        expectations.written(&key, &done(Action::create(&pod()), "10"), T(0));
        assert_eq!(expectations.unsettled(&key, &known, T(60)), Some(T(240)));
        assert_eq!(expectations.unsettled(&Key::new("ns", "other"), &known, T(0)), None);
        known.latest = 10;
        assert_eq!(expectations.unsettled(&key, &known, T(61)), None);
    }

    #[test]
    fn a_deletion_is_waited_for() {
        let (mut expectations, key) = (Expectations::default(), Key::new("ns", "r"));
        let mut known = Fake { latest: 20, ..Fake::default() };
        let seen = |deleting| Seen { uid: "u".into(), version: 5, deleting };
        known.pods.insert(Key::new("ns", "p"), seen(false));
        expectations.written(&key, &done(Action::delete(&pod()), ""), T(0));
        assert!(expectations.unsettled(&key, &known, T(1)).is_some());
        known.pods.insert(Key::new("ns", "p"), seen(true));
        assert_eq!(expectations.unsettled(&key, &known, T(2)), None);
    }

    #[test]
    fn what_the_api_does_not_have_any_more_must_leave_the_caches() {
        let (mut expectations, key) = (Expectations::default(), Key::new("ns", "r"));
        let mut known = Fake { latest: 20, ..Fake::default() };
        known.pods.insert(Key::new("ns", "p"), Seen { uid: "u".into(), version: 5, deleting: true });
        let gone = Err(Failure { verdict: Verdict::Gone, message: "not found".into() });
        let tried = Tried { planned: Action::delete(&pod()).because("test"), result: gone };
        expectations.written(&key, &Outcome { tried: vec![tried], cut: false }, T(0));
        assert!(expectations.unsettled(&key, &known, T(1)).is_some());
        known
            .pods
            .insert(Key::new("ns", "p"), Seen { uid: "its successor".into(), version: 21, deleting: false });
        assert_eq!(expectations.unsettled(&key, &known, T(2)), None);
    }

    #[test]
    fn after_five_minutes_the_caches_are_believed() {
        let (mut expectations, key) = (Expectations::default(), Key::new("ns", "r"));
        expectations.written(&key, &done(Action::create(&pod()), "10"), T(0));
        assert!(expectations.unsettled(&key, &Fake::default(), T(299)).is_some());
        assert_eq!(expectations.unsettled(&key, &Fake::default(), T(300)), None);
    }
}
