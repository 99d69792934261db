//! Step by step through a plan at two stores, up to the first difference.

use std::collections::BTreeMap;
use std::fmt;

use super::answer::Answer;
use super::live::Heard;
use super::plan::{Plan, Step};
use crate::history::WatchId;

/// What a store told in one step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// The answer of a call.
    pub answer: Option<Answer>,
    /// What watches told, where they told anything; 0 is the watch of everything.
    pub watches: BTreeMap<WatchId, Heard>,
}

/// Something that takes steps and tells what came.
pub trait Store {
    /// Why it cannot go on.
    type Error;

    /// Takes one step, and waits for everything that it must bring.
    fn take(&mut self, step: &Step) -> impl Future<Output = Result<Told, Self::Error>>;
}

/// The first thing in which two stores differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Which step of the plan, from 1.
    pub number: usize,
    /// The step.
    pub step: Step,
    /// The watch of the record in which they differ; `None` for the answer.
    pub watch: Option<WatchId>,
    /// What the first store told.
    pub first: String,
    /// What the second store told.
    pub second: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, step, watch, first, second } = self;
        write!(f, "step {number} of the replay ")?;
        match step {
            Step::Call(_, Some(id)) => write!(f, "(operation {} of the history)", id.0)?,
            Step::Call(_, None) => write!(f, "(none of the history's own)")?,
            Step::Watch(id, _) | Step::Unwatch(id) => write!(f, "(watch {} of the history)", id.0)?,
        }
        match watch {
            None => writeln!(f, " is answered differently")?,
            Some(WatchId(0)) => writeln!(f, " brings other events")?,
            Some(WatchId(id)) => writeln!(f, " brings other things to watch {id}")?,
        }
        writeln!(f, "request: {step:#?}\nfirst:   {first}\nsecond:  {second}")
    }
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    /// Calls that were answered alike.
    pub calls: usize,
    /// Those of them that were refused.
    pub refused: usize,
    /// Watches that were opened.
    pub watches: usize,
    /// Events that watches told alike.
    pub events: usize,
    /// The newest revision that an answer named.
    pub revision: i64,
    /// Where it ended, if the stores differ.
    pub difference: Option<Difference>,
}

/// Takes the steps at both stores; `tell` is given the number of steps taken so far after each of them.
///
/// # Errors
/// When one of them cannot go on.
pub async fn compare<S: Store, T: Store<Error = S::Error>>(
    plan: &Plan,
    first: &mut S,
    second: &mut T,
    tell: impl Fn(usize, &Replayed),
) -> Result<Replayed, S::Error> {
    let mut replayed = Replayed::default();
    for (index, step) in plan.steps.iter().enumerate() {
        let (one, other) = tokio::join!(first.take(step), second.take(step));
        let (one, other) = (one?, other?);
        replayed.difference = difference(index + 1, step, &one, &other);
        if replayed.difference.is_some() {
            return Ok(replayed);
        }
        replayed.count(step, &one);
        tell(index + 1, &replayed);
    }
    Ok(replayed)
}

fn difference(number: usize, step: &Step, one: &Told, other: &Told) -> Option<Difference> {
    let differ = |watch, first, second| Some(Difference { number, step: step.clone(), watch, first, second });
    let agree = match (&one.answer, &other.answer) {
        (Some(one), Some(other)) => one.agrees_with(other),
        (one, other) => one == other,
    };
    if !agree {
        return differ(None, format!("{:#?}", one.answer), format!("{:#?}", other.answer));
    }
    let ids = one.watches.keys().chain(other.watches.keys());
    let id = ids.copied().find(|id| one.watches.get(id) != other.watches.get(id))?;
    let heard = |told: &Told| format!("{:#?}", told.watches.get(&id));
    differ(Some(id), heard(one), heard(other))
}

impl Replayed {
    fn count(&mut self, step: &Step, told: &Told) {
        match step {
            Step::Call(..) => self.calls += 1,
            Step::Watch(..) => self.watches += 1,
            Step::Unwatch(_) => {}
        }
        match &told.answer {
            Some(Answer::Error(..)) => self.refused += 1,
            Some(answer) => self.revision = self.revision.max(answer.revision().unwrap_or(0)),
            None => {}
        }
        self.events += told.watches.values().map(|heard| heard.events.len()).sum::<usize>();
    }
}
