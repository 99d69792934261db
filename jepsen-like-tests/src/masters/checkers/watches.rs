//! Informers: each is told every change once, in order, from its list on, over however many masters it goes; a bookmark leaves
//! nothing behind; nobody lists what is older than what he has seen. Pure.

use super::reads::same;
use super::truth::Truth;
use crate::checkers::Violation;
use crate::history::ClientId;
use crate::masters::entry::Told;
use crate::masters::history::{History, Step, Steps};

/// Judges what informers were told; how many events and bookmarks.
///
/// # Errors
/// The first thing that is wrong.
pub fn check(history: &History, truth: &Truth) -> Result<usize, Violation> {
    history.informers.iter().try_fold(0, |sum, (informer, steps)| Ok(sum + follow(*informer, steps, truth)?))
}

fn follow(informer: ClientId, steps: &Steps, truth: &Truth) -> Result<usize, Violation> {
    let mut position = 0;
    let mut told = 0;
    for (_, member, step) in steps {
        let wrong = |what: String| {
            let what =
                format!("informer {} at {member}, which has seen version {position}: {what}", informer.0);
            Err(Violation::new(what).at(position))
        };
        match step {
            Step::Relisted { version, objects } => {
                if *version < position {
                    return wrong(format!("its list is of version {version}"));
                }
                if let Err(what) = same(*version, objects, truth) {
                    return wrong(what);
                }
                position = *version;
            }
            Step::Resumed { version } if *version != position => {
                return wrong(format!("it went on from version {version}"));
            }
            Step::Resumed { .. } => {}
            Step::Told(Told::Bookmark { version }) => {
                if *version < position {
                    return wrong(format!("a bookmark of version {version}"));
                }
                if let Some(missed) = truth.after(position).filter(|missed| missed.object.version <= *version)
                {
                    return wrong(format!("a bookmark of version {version}, without having told {missed:?}"));
                }
                position = *version;
                told += 1;
            }
            Step::Told(event) => {
                let (Told::Added { object } | Told::Modified { object } | Told::Deleted { object }) = event
                else {
                    continue;
                };
                let Some(next) = truth.after(position) else {
                    return wrong(format!("nothing has happened since, and it is told {event:?}"));
                };
                if next.object.version != object.version {
                    return wrong(format!("it is told {event:?}, and the next change is {next:?}"));
                }
                let was = truth.state(&object.name, object.version - 1).is_some();
                let right = match event {
                    Told::Added { .. } => !was && !next.deleted,
                    Told::Modified { .. } => was && !next.deleted,
                    _ => next.deleted,
                };
                if !right {
                    return wrong(format!("it is told {event:?}; that the object was there before is {was}"));
                }
                position = object.version;
                told += 1;
            }
        }
    }
    Ok(told)
}
