//! What becomes of an event: a new object, one more in a series, or nothing. A decision; time is handed in.
//!
//! Numbers are client-go's (`tools/record`): of more than 10 stories of the same kind within 10 minutes one event is made; an
//! object may have 25 writes at once and one more every 5 minutes.

use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;

use super::recent::Recent;
use super::{Kind, Note};

/// How many series, and how many objects, are remembered.
const REMEMBERED: usize = 4096;
/// How many stories of one kind have an event of their own.
const STORIES: usize = 10;
/// After which silence of a kind its stories are forgotten.
const STORIES_END: Duration = Duration::from_secs(600);
/// After which silence a series ends; what comes then is a new event.
const SERIES_END: Duration = Duration::from_secs(360);
/// How many writes about one object may come at once.
const BURST: f64 = 25.0;
/// How long it takes until one more may come.
const REFILL: Duration = Duration::from_secs(300);
/// What stands before the story of an event that is made of many.
const COMBINED: &str = "(combined from similar events): ";

/// What an event is about, without its story.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct About {
    object: Object,
    kind: Kind,
    reason: String,
    action: String,
}

/// Which object: api version, kind, namespace, name, uid, part.
type Object = [Option<String>; 6];

/// Which series.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    about: About,
    /// Its story; none where many are combined.
    story: Option<String>,
}

#[derive(Debug, Default)]
struct Stories {
    different: Vec<String>,
    last: Duration,
}

#[derive(Debug)]
struct Series {
    /// The name of its event, once it was written.
    name: Option<String>,
    count: i32,
    last: Duration,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Duration,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is created with this story; [`Correlator::created`] tells its name.
    Create(Key, String),
    /// The series of the event with this name counts so many.
    Count(Key, String, i32),
    /// It is not written; its series counts it.
    Limited,
}

/// What was told lately.
#[derive(Debug)]
pub(super) struct Correlator {
    stories: Recent<About, Stories>,
    series: Recent<Key, Series>,
    buckets: Recent<Object, Bucket>,
}

impl Correlator {
    /// One that has heard nothing.
    pub(super) fn new() -> Self {
        Self {
            stories: Recent::new(REMEMBERED),
            series: Recent::new(REMEMBERED),
            buckets: Recent::new(REMEMBERED),
        }
    }

    /// An event was told.
    pub(super) fn decide(&mut self, regarding: &ObjectReference, note: &Note, now: Duration) -> Decision {
        let object = object(regarding);
        let about = About {
            object: object.clone(),
            kind: note.kind,
            reason: note.reason.clone(),
            action: note.action.clone(),
        };
        let combined = self.is_one_of_many(&about, &note.text, now);
        let key = Key { about, story: (!combined).then(|| note.text.clone()) };
        let series = self.series.entry(&key, || Series { name: None, count: 0, last: now });
        if now > series.last + SERIES_END {
            *series = Series { name: None, count: 0, last: now };
        }
        series.count = series.count.saturating_add(1);
        series.last = now;
        let (name, count) = (series.name.clone(), series.count);
        if !self.may_write(&object, now) {
            return Decision::Limited;
        }
        match name {
            Some(name) => Decision::Count(key, name, count),
            None if combined => Decision::Create(key, format!("{COMBINED}{}", note.text)),
            None => Decision::Create(key, note.text.clone()),
        }
    }

    /// The event of a series was created.
    pub(super) fn created(&mut self, key: &Key, name: String, now: Duration) {
        self.series.entry(key, || Series { name: None, count: 1, last: now }).name = Some(name);
    }

    /// The event of a series is gone: the next one is created.
    pub(super) fn gone(&mut self, key: &Key, now: Duration) {
        *self.series.entry(key, || Series { name: None, count: 1, last: now }) =
            Series { name: None, count: 1, last: now };
    }

    fn is_one_of_many(&mut self, about: &About, story: &str, now: Duration) -> bool {
        let stories = self.stories.entry(about, || Stories { different: Vec::new(), last: now });
        if now > stories.last + STORIES_END {
            stories.different.clear();
        }
        stories.last = now;
        if stories.different.iter().any(|known| known == story) {
            return false;
        }
        if stories.different.len() < STORIES {
            stories.different.push(story.to_owned());
            return false;
        }
        true
    }

    fn may_write(&mut self, object: &Object, now: Duration) -> bool {
        let bucket = self.buckets.entry(object, || Bucket { tokens: BURST, filled: now });
        let passed = now.saturating_sub(bucket.filled);
        bucket.tokens = (bucket.tokens + passed.as_secs_f64() / REFILL.as_secs_f64()).min(BURST);
        bucket.filled = now;
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }
}

fn object(of: &ObjectReference) -> Object {
    [
        of.api_version.clone(),
        of.kind.clone(),
        of.namespace.clone(),
        of.name.clone(),
        of.uid.clone(),
        of.field_path.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str) -> ObjectReference {
        ObjectReference { kind: Some("Pod".into()), name: Some(name.into()), ..ObjectReference::default() }
    }

    fn note(text: &str) -> Note {
        Note { kind: Kind::Warning, reason: "Failed".into(), action: "Start".into(), text: text.into() }
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Tells, creates what is to be created, and says it in short.
    fn tell(correlator: &mut Correlator, object: &str, text: &str, seconds: u64) -> String {
        match correlator.decide(&pod(object), &note(text), at(seconds)) {
            Decision::Create(key, text) => {
                correlator.created(&key, format!("{object}.{seconds}"), at(seconds));
                format!("create {text}")
            }
            Decision::Count(_, name, count) => format!("{name} x{count}"),
            Decision::Limited => "limited".to_owned(),
        }
    }

    #[test]
    fn the_same_again_is_counted() {
        let mut correlator = Correlator::new();
        assert_eq!(tell(&mut correlator, "a", "no disk", 0), "create no disk");
        assert_eq!(tell(&mut correlator, "a", "no disk", 10), "a.0 x2");
        assert_eq!(tell(&mut correlator, "b", "no disk", 11), "create no disk");
        assert_eq!(tell(&mut correlator, "a", "no memory", 12), "create no memory");
        assert_eq!(tell(&mut correlator, "a", "no disk", 20), "a.0 x3");
        assert_eq!(tell(&mut correlator, "a", "no disk", 381), "create no disk", "the series had ended");
    }

    #[test]
    fn an_event_that_is_gone_is_created_anew() {
        let mut correlator = Correlator::new();
        tell(&mut correlator, "a", "no disk", 0);
        let Decision::Count(key, ..) = correlator.decide(&pod("a"), &note("no disk"), at(1)) else {
            panic!()
        };
        correlator.gone(&key, at(1));
        assert_eq!(tell(&mut correlator, "a", "no disk", 2), "create no disk");
    }

    #[test]
    fn many_stories_of_one_kind_become_one_event() {
        let mut correlator = Correlator::new();
        for story in 0..10 {
            assert_eq!(tell(&mut correlator, "a", &format!("s{story}"), story), format!("create s{story}"));
        }
        assert_eq!(tell(&mut correlator, "a", "s10", 10), "create (combined from similar events): s10");
        assert_eq!(tell(&mut correlator, "a", "s11", 11), "a.10 x2");
        assert_eq!(tell(&mut correlator, "a", "s3", 12), "a.3 x2", "it has its own");
        assert_eq!(tell(&mut correlator, "a", "s12", 613), "create s12", "after ten quiet minutes");
    }

    #[test]
    fn an_object_has_25_writes_and_one_more_every_5_minutes() {
        let mut correlator = Correlator::new();
        for count in 0..25 {
            assert_ne!(tell(&mut correlator, "a", "again", 0), "limited", "{count}");
        }
        assert_eq!(tell(&mut correlator, "a", "again", 0), "limited");
        assert_eq!(tell(&mut correlator, "a", "again", 299), "limited");
        assert_eq!(tell(&mut correlator, "b", "again", 299), "create again");
        // What was not written is counted all the same.
        assert_eq!(tell(&mut correlator, "a", "again", 300), "a.0 x28");
        assert_eq!(tell(&mut correlator, "a", "again", 301), "limited");
    }
}
