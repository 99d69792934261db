//! What a controller wants done, with the reason for each thing: values only. Must never do any of it.

mod difference;

use std::time::Duration;

use barque_client::events::Kind as Gravity;
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

pub(crate) use difference::difference;

use crate::kind::{Key, Kind, Object};

/// What is to be done about one key.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Plan {
    /// Done one after the other; what fails ends it.
    pub(crate) steps: Vec<Step>,
    /// When the key is to be looked at again though nothing has changed.
    pub(crate) requeue_after: Option<Duration>,
    /// What people are told besides.
    pub(crate) notes: Vec<Told>,
}

/// Actions that go together.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// How.
    pub(crate) order: Order,
    /// What.
    pub(crate) actions: Vec<Planned>,
}

/// How the actions of a step are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// One after the other; a failure ends the plan.
    Serial,
    /// All at once; after a failure the plan ends.
    Parallel,
    /// One, then two, then four and so on at once; after a failure no more, so that what cannot work is not tried 500 times.
    SlowStart,
}

/// An action, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    /// What is done.
    pub(crate) action: Action,
    /// Why, in a few words; for logs and tests.
    pub(crate) why: &'static str,
    /// What people are told when it is done; `{name}` stands for the object's name.
    pub(crate) done: Option<Told>,
    /// What people are told when it failed; `{name}` stands for the object's name, `{error}` for the error.
    pub(crate) failed: Option<Told>,
}

/// A sentence for people: an event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Told {
    /// Of whom.
    pub(crate) regarding: ObjectReference,
    /// Whether it is as it should be.
    pub(crate) gravity: Gravity,
    /// Why, in one word such as `SuccessfulCreate`.
    pub(crate) reason: &'static str,
    /// The sentence.
    pub(crate) text: String,
}

/// A write to the API, or a question that stands before one.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// A new object.
    Create {
        /// Of this kind.
        kind: Kind,
        /// Whole, with its namespace; it may have `generateName`.
        object: Value,
    },
    /// A change of what was seen, refused when it is not so any more.
    Update {
        /// What is changed.
        object: ObjectId,
        /// Such as `status`; nothing is the object itself.
        subresource: Option<&'static str>,
        /// What is different, as a merge patch.
        patch: Value,
    },
    /// It goes, if it is still the same (of this uid).
    Delete {
        /// What goes.
        object: ObjectId,
        /// What becomes of its dependents.
        propagation: Propagation,
        /// Nothing is as long as the object says.
        grace_seconds: Option<u32>,
        /// Refuses when it has changed since.
        unchanged: bool,
    },
    /// So many pods, by the scale of an object of whatever kind.
    Scale {
        /// Where the scale is.
        path: String,
        /// Whose scale, as it was read.
        object: ObjectId,
        /// How many.
        replicas: i32,
    },
    /// Asks the API, past the caches, whether the object is still the same and nobody has deleted it. What depends on it comes
    /// in later steps.
    Confirm {
        /// Which object.
        object: ObjectId,
    },
    /// Asks the API, past the caches, whether the object is as it was seen: whoever changed it since is still there.
    Unchanged {
        /// Which object.
        object: ObjectId,
    },
    /// Asks the API, past the caches, whether there is no such object.
    Absent {
        /// Of this kind.
        kind: Kind,
        /// Where it would be.
        key: Key,
    },
}

/// An object as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ObjectId {
    /// Its kind.
    pub(crate) kind: Kind,
    /// Where it is.
    pub(crate) key: Key,
    /// Its uid.
    pub(crate) uid: String,
    /// The version that was seen.
    pub(crate) version: String,
}

impl ObjectId {
    /// That of an object that was seen.
    #[must_use]
    pub(crate) fn of<K: Object>(object: &K) -> Self {
        Self {
            kind: Kind::of::<K>(),
            key: object.key(),
            uid: object.uid().to_owned(),
            version: object.meta().resource_version.clone().unwrap_or_default(),
        }
    }
}

/// What becomes of the dependents of an object that is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Propagation {
    /// As the kind does by itself.
    Default,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

impl Action {
    /// A new object.
    ///
    /// # Panics
    /// Never: objects of the API can be written as JSON.
    #[must_use]
    pub(crate) fn create<K: Object>(object: &K) -> Self {
        Self::Create { kind: Kind::of::<K>(), object: json(object) }
    }

    /// The change from one to the other; nothing when there is none.
    #[must_use]
    pub(crate) fn update<K: Object>(before: &K, after: &K) -> Option<Self> {
        Self::change(before, after, None)
    }

    /// The change of the status from one to the other; nothing when there is none. What else is different is not written.
    #[must_use]
    pub(crate) fn update_status<K: Object>(before: &K, after: &K) -> Option<Self> {
        Self::change(before, after, Some("status"))
    }

    fn change<K: Object>(before: &K, after: &K, subresource: Option<&'static str>) -> Option<Self> {
        let (before_json, after_json) = (json(before), json(after));
        let patch = match subresource {
            Some(part) => {
                let patch = difference(&before_json[part], &after_json[part])?;
                Value::Object([(part.to_owned(), patch)].into_iter().collect())
            }
            None => difference(&before_json, &after_json)?,
        };
        Some(Self::Update { object: ObjectId::of(before), subresource, patch })
    }

    /// It goes, with its dependents after it.
    #[must_use]
    pub(crate) fn delete<K: Object>(object: &K) -> Self {
        Self::Delete {
            object: ObjectId::of(object),
            propagation: Propagation::Background,
            grace_seconds: None,
            unchanged: false,
        }
    }

    /// Asks whether it is still the same.
    #[must_use]
    pub(crate) fn confirm<K: Object>(object: &K) -> Self {
        Self::Confirm { object: ObjectId::of(object) }
    }

    /// Asks whether it is as it was seen.
    #[must_use]
    pub(crate) fn unchanged<K: Object>(object: &K) -> Self {
        Self::Unchanged { object: ObjectId::of(object) }
    }

    /// It goes as its kind goes, within the time that it says.
    #[must_use]
    pub(crate) fn delete_as_it_says<K: Object>(object: &K) -> Self {
        Self::Delete {
            object: ObjectId::of(object),
            propagation: Propagation::Default,
            grace_seconds: None,
            unchanged: false,
        }
    }

    /// It goes at once, without being asked.
    #[must_use]
    pub(crate) fn delete_at_once<K: Object>(object: &K) -> Self {
        Self::Delete {
            object: ObjectId::of(object),
            propagation: Propagation::Default,
            grace_seconds: Some(0),
            unchanged: false,
        }
    }

    /// With the reason, and nothing told to people.
    #[must_use]
    pub(crate) fn because(self, why: &'static str) -> Planned {
        Planned { action: self, why, done: None, failed: None }
    }

    /// The kind that it is about.
    #[must_use]
    pub(crate) fn kind(&self) -> &Kind {
        match self {
            Self::Create { kind, .. } | Self::Absent { kind, .. } => kind,
            Self::Update { object, .. }
            | Self::Delete { object, .. }
            | Self::Scale { object, .. }
            | Self::Confirm { object }
            | Self::Unchanged { object } => &object.kind,
        }
    }

    /// The name of its object; of one that is created with a generated name, what that begins with.
    #[must_use]
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Create { object, .. } => {
                let meta = &object["metadata"];
                meta["name"].as_str().or(meta["generateName"].as_str()).unwrap_or_default()
            }
            Self::Update { object, .. }
            | Self::Delete { object, .. }
            | Self::Scale { object, .. }
            | Self::Confirm { object }
            | Self::Unchanged { object } => &object.key.name,
            Self::Absent { key, .. } => &key.name,
        }
    }
}

/// As JSON.
fn json<K: Object>(object: &K) -> Value {
    serde_json::to_value(object).expect("objects of the API can be written as JSON")
}

impl Planned {
    /// Told when it is done: an event of this kind and reason about `regarding`.
    #[must_use]
    pub(crate) fn tell(
        mut self,
        regarding: &ObjectReference,
        reason: &'static str,
        text: impl Into<String>,
    ) -> Self {
        let text = text.into();
        self.done = Some(Told { regarding: regarding.clone(), gravity: Gravity::Normal, reason, text });
        self
    }

    /// Told when it failed.
    #[must_use]
    pub(crate) fn warn(
        mut self,
        regarding: &ObjectReference,
        reason: &'static str,
        text: impl Into<String>,
    ) -> Self {
        let text = text.into();
        self.failed = Some(Told { regarding: regarding.clone(), gravity: Gravity::Warning, reason, text });
        self
    }
}

impl Plan {
    /// Nothing is done.
    #[must_use]
    pub(crate) fn nothing() -> Self {
        Self::default()
    }

    /// One more step, unless it is empty.
    pub(crate) fn step(&mut self, order: Order, actions: impl IntoIterator<Item = Planned>) {
        let actions: Vec<_> = actions.into_iter().collect();
        if !actions.is_empty() {
            self.steps.push(Step { order, actions });
        }
    }

    /// One more step of one action.
    pub(crate) fn then(&mut self, action: Planned) {
        self.step(Order::Serial, [action]);
    }

    /// The key is looked at again by then; the earliest of several times counts.
    pub(crate) fn look_again_after(&mut self, delay: Duration) {
        self.requeue_after = Some(self.requeue_after.map_or(delay, |before| before.min(delay)));
    }

    /// All actions, in order.
    #[cfg(test)]
    pub(crate) fn actions(&self) -> impl Iterator<Item = &Planned> {
        self.steps.iter().flat_map(|step| &step.actions)
    }

    /// Whether nothing is to be done or told.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.notes.is_empty()
    }
}

/// What became of a plan.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What was tried, in order.
    pub(crate) tried: Vec<Tried>,
    /// Whether something was left out because of what failed before.
    pub(crate) cut: bool,
}

/// What became of one action.
#[derive(Debug)]
pub(crate) struct Tried {
    /// What was planned.
    pub(crate) planned: Planned,
    /// How it went.
    pub(crate) result: Result<Done, Failure>,
}

/// What an action left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Done {
    /// Where the object is; the name was perhaps generated.
    pub(crate) key: Key,
    /// Its uid.
    pub(crate) uid: String,
    /// Its new version; empty when that was not told.
    pub(crate) version: String,
}

/// Why an action failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// What follows.
    pub(crate) verdict: Verdict,
    /// As the API said it.
    pub(crate) message: String,
}

/// What follows from a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// What was to be changed or deleted is not there any more, or is another: nothing is left to do.
    Gone,
    /// It has changed, or is there already: the plan was made of old news.
    Outdated,
    /// Its namespace is going away: nothing can be made there.
    Terminating,
    /// The API asked to come later.
    Later(Duration),
    /// It will not be taken as it is.
    Refused,
    /// The API could not; the write may have happened.
    Unknown,
}

impl Outcome {
    /// The first thing that failed for another reason than that it was not needed any more.
    #[must_use]
    pub(crate) fn failure(&self) -> Option<(&Planned, &Failure)> {
        self.tried.iter().find_map(|tried| match &tried.result {
            Err(failure) if failure.verdict != Verdict::Gone => Some((&tried.planned, failure)),
            _ => None,
        })
    }
}
