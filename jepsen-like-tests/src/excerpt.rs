//! The few requests and answers that show a violation: what a person needs to see of a failing history.
//!
//! What an excerpt leaves out is never needed to see the fault; where the fault is a revision that nobody made, the
//! revision and whoever might have made it is all there is.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::checkers::{Extent, Finding, Past, Violation, revisions, watch};
use crate::history::{
    Answer, Compare, Event, History, Operation, Outcome, Relation, Request, RevisionEvents, Span, Watch,
};
use crate::shrink::{Budget, smallest};

/// The smallest part found of `history` that shows what a checker found; nothing when it found nothing.
#[must_use]
pub fn of(history: &History, finding: &Finding) -> Option<History> {
    let violation = finding.verdict.violation()?;
    let Ok(past) = Past::of(&history.revisions) else {
        // The fault is in the revisions themselves.
        return Some(History { revisions: history.revisions.clone(), ..History::default() });
    };
    let mut excerpt = History::default();
    let watch = violation.watch.and_then(|id| history.watches.iter().find(|watch| watch.id == id));
    match finding.checker {
        "revisions" => {
            // The watch is a witness only: of one answer.
            let proof = watch.map(|watch| proof(watch, violation));
            excerpt.operations = smallest_requests(history, &past, violation, proof.as_ref());
            excerpt.watches.extend(proof);
        }
        "watch" => {
            excerpt.operations = of_violation(history, violation);
            excerpt.watches.extend(watch.map(|watch| shortest(history, watch, &past)));
        }
        _ => {
            excerpt.operations = of_violation(history, violation);
            excerpt.watches.extend(watch.cloned());
        }
    }
    if finding.checker == "end" {
        excerpt.members.clone_from(&history.members);
    }
    excerpt.revisions = revisions_of(&excerpt, violation, history);
    let shown = |fault: &&crate::history::Fault| {
        let ended_ns = fault.ended_ns.unwrap_or(u64::MAX);
        excerpt.operations.iter().any(|operation| (fault.began_ns..=ended_ns).contains(&operation.invoked_ns))
    };
    excerpt.faults = history.faults.iter().filter(shown).cloned().collect();
    Some(excerpt)
}

fn of_violation(history: &History, violation: &Violation) -> Vec<Operation> {
    let shows = |operation: &&Operation| violation.operations.contains(&operation.id);
    history.operations.iter().filter(shows).cloned().collect()
}

/// Requests that still contradict the order of revisions, or else those that the violation names.
fn smallest_requests(
    history: &History,
    past: &Past,
    violation: &Violation,
    watch: Option<&Watch>,
) -> Vec<Operation> {
    let watches: Vec<Watch> = watch.cloned().into_iter().collect();
    let fails = |operations: &[Operation]| {
        let part =
            History { operations: operations.to_vec(), watches: watches.clone(), ..History::default() };
        revisions::check(&part, past, Extent::Excerpt).violation().is_some()
    };
    let named = of_violation(history, violation);
    if fails(&named) {
        return smallest(&named, Budget::default(), fails);
    }
    if fails(&history.operations) {
        return smallest(&history.operations, Budget::default(), fails);
    }
    named
}

/// The first answer of the watch that tells one of the violation's revisions.
fn proof(watch: &Watch, violation: &Violation) -> Watch {
    let newest = violation.revisions.iter().max();
    let tells = |answer: &&crate::history::WatchAnswer| {
        answer.events.last().map(|event| &event.kv.mod_revision) == newest
    };
    Watch { answers: watch.answers.iter().find(tells).cloned().into_iter().collect(), ..watch.clone() }
}

/// The watch without what came before and after the fault.
fn shortest(history: &History, watch: &Watch, past: &Past) -> Watch {
    let fails = |part: &Watch| {
        let part = History {
            operations: history.operations.clone(),
            watches: vec![part.clone()],
            ..History::default()
        };
        watch::check(&part, past).violation().is_some()
    };
    // Whether a beginning fails grows with it, so the shortest one is found by halving.
    let beginning = |len: usize| Watch {
        answers: watch.answers[..len].to_vec(),
        complete_to: None,
        compacted: None,
        ..watch.clone()
    };
    let mut shortest = watch.clone();
    if fails(&beginning(watch.answers.len())) {
        let (mut passes, mut found) = (0, watch.answers.len());
        while passes + 1 < found {
            let middle = passes.midpoint(found);
            if fails(&beginning(middle)) {
                found = middle;
            } else {
                passes = middle;
            }
        }
        shortest = beginning(found);
    }
    // A watch that began with a later answer would have had to deliver the same from there.
    for from in (1..shortest.answers.len()).rev() {
        let Some(event) = shortest.answers[from].events.first() else { continue };
        let mut later = Watch { answers: shortest.answers[from..].to_vec(), ..shortest.clone() };
        later.request.start_revision = event.kv.mod_revision;
        later.request.resumes = None;
        if fails(&later) {
            return later;
        }
    }
    shortest
}

/// The revisions that the excerpt speaks of.
fn revisions_of(excerpt: &History, violation: &Violation, history: &History) -> Vec<RevisionEvents> {
    let mut wanted: BTreeSet<i64> = violation.revisions.iter().copied().collect();
    wanted.extend(excerpt.operations.iter().filter_map(|operation| operation.ok()).map(|(at, _)| at));
    history.revisions.iter().filter(|revision| wanted.contains(&revision.revision)).cloned().collect()
}

/// The excerpt for people, a line for each thing.
#[must_use]
pub fn text(excerpt: &History) -> String {
    let mut lines: Vec<(u64, String)> = Vec::new();
    for operation in &excerpt.operations {
        lines.push((operation.invoked_ns, describe(operation)));
    }
    for watch in &excerpt.watches {
        let (id, request) = (watch.id.0, &watch.request);
        let opened = format!(
            "{} watch {id} at {}: {:?}..{:?} from revision {}",
            seconds(watch.opened_ns),
            watch.member,
            request.span.key,
            request.span.end,
            request.start_revision
        );
        lines.push((watch.opened_ns, opened));
        for answer in &watch.answers {
            let events: Vec<String> = answer.events.iter().map(event).collect();
            let what = if events.is_empty() { "progress".to_owned() } else { events.join(", ") };
            let came = format!("{} watch {id} revision {}: {what}", seconds(answer.time_ns), answer.revision);
            lines.push((answer.time_ns, came));
        }
    }
    lines.sort();
    let mut text = String::new();
    for (_, line) in lines {
        let _ = writeln!(text, "{line}");
    }
    for revision in &excerpt.revisions {
        let events: Vec<String> = revision.events.iter().map(event).collect();
        let _ = writeln!(text, "the history at revision {}: {}", revision.revision, events.join(", "));
    }
    for state in &excerpt.members {
        let (keys, hash) = (state.kvs.len(), state.hash);
        let _ =
            writeln!(text, "{} ends at revision {}: {keys} keys, hash {hash}", state.member, state.revision);
    }
    text
}

fn seconds(time_ns: u64) -> String {
    format!("{:>12.6} s", time_ns as f64 / 1e9)
}

fn event(event: &Event) -> String {
    let kv = &event.kv;
    let change = if event.deleted {
        "deleted".to_owned()
    } else {
        format!("= {:?} (version {})", kv.value, kv.version)
    };
    let prev = event.prev.as_ref().map_or(String::new(), |prev| format!(" was {:?}", prev.value));
    format!("{} {change}{prev} at {}", kv.key, kv.mod_revision)
}

/// One request in one line.
#[must_use]
pub fn describe(operation: &Operation) -> String {
    let Operation { id, client, member, request: asked, invoked_ns, completed } = operation;
    let ended = completed.as_ref().map_or("        open".to_owned(), |(time_ns, _)| seconds(*time_ns));
    let outcome = match completed {
        None => "no answer".to_owned(),
        Some((_, Outcome::Ok { revision, answer: told })) => format!("revision {revision}: {}", answer(told)),
        Some((_, Outcome::Failed { error })) => format!("refused: {error}"),
        Some((_, Outcome::Unknown { error })) => format!("unknown: {error}"),
    };
    let (began, asked) = (seconds(*invoked_ns), request(asked));
    format!("{began} -{ended}  operation {} client {} at {member}: {asked} -> {outcome}", id.0, client.0)
}

fn keys(span: &Span) -> String {
    let end = if span.is_one() { String::new() } else { format!("..{:?}", span.end) };
    format!("{:?}{end}", span.key)
}

/// A request in a few words.
#[must_use]
pub fn request(request: &Request) -> String {
    let all = |requests: &[Request]| requests.iter().map(self::request).collect::<Vec<_>>().join("; ");
    match request {
        Request::Range { span, limit, revision, serializable, selection } => {
            let kind = if *serializable { "serializable get" } else { "get" };
            let what = if selection.is_everything() { String::new() } else { format!(" {selection:?}") };
            format!("{kind} {} limit {limit} at {revision}{what}", keys(span))
        }
        Request::Put { key, value, lease: 0 } => format!("put {key:?} {value:?}"),
        Request::Put { key, value, lease } => format!("put {key:?} {value:?} on lease {lease}"),
        Request::Delete { span } => format!("delete {:?}..{:?}", span.key, span.end),
        Request::Txn { compares, then, otherwise } => {
            let condition = |compare: &Compare| {
                let relation = match compare.relation {
                    Relation::Equal => "",
                    Relation::NotEqual => "not ",
                    Relation::Greater => "more than ",
                    Relation::Less => "less than ",
                };
                format!("{} {relation}{:?}", keys(&compare.span), compare.target)
            };
            let conditions: Vec<String> = compares.iter().map(condition).collect();
            format!("if {} then {} else {}", conditions.join(" and "), all(then), all(otherwise))
        }
        Request::LeaseGrant { id, ttl_s } => format!("grant lease {id} for {ttl_s} s"),
        Request::LeaseKeepAlive { id } => format!("keep lease {id} alive"),
        Request::LeaseRevoke { id } => format!("revoke lease {id}"),
        Request::Compact { revision } => format!("compact {revision}"),
        Request::AuthGrant | Request::AuthRevoke | Request::AuthEnable | Request::AuthDisable => {
            request.name().to_owned()
        }
    }
}

/// An answer in a few words.
#[must_use]
pub fn answer(answer: &Answer) -> String {
    match answer {
        Answer::Range { kvs, count, .. } => {
            let shown =
                kvs.iter().take(10).map(|kv| format!("{:?}={:?}@{}", kv.key, kv.value, kv.mod_revision));
            format!("{count} keys [{}]", shown.collect::<Vec<_>>().join(", "))
        }
        Answer::Put | Answer::Done => "done".to_owned(),
        Answer::Delete { deleted } => format!("{deleted} deleted"),
        Answer::Txn { succeeded, answers } => {
            let answers: Vec<String> = answers.iter().map(self::answer).collect();
            format!("{} [{}]", if *succeeded { "then" } else { "else" }, answers.join("; "))
        }
        Answer::Lease { ttl_s } => format!("{ttl_s} s left"),
    }
}
