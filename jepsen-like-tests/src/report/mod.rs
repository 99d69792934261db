//! One page that shows a run: who did what when, under which faults, how fast, and where it is wrong.
//!
//! The page holds everything it needs; it must never load anything. Text of the store is data and never markup.

use serde::Serialize;

use crate::checkers::{Finding, Verdict};
use crate::excerpt;
use crate::history::{History, Operation, Watch};

const PAGE: &str = include_str!("page.html");

/// The words around the pictures.
#[derive(Clone, Debug)]
pub struct Words {
    /// What ran.
    pub title: String,
    /// The command that does it again.
    pub again: String,
}

#[derive(Serialize)]
struct Data {
    end: f64,
    operations: Vec<Shown>,
    watches: Vec<ShownWatch>,
    faults: Vec<ShownFault>,
    bad: Vec<u64>,
    #[serde(rename = "badWatch")]
    bad_watch: Option<u64>,
}

#[derive(Serialize)]
struct Shown {
    id: u64,
    client: u32,
    name: &'static str,
    state: &'static str,
    began: f64,
    end: f64,
    text: String,
}

#[derive(Serialize)]
struct ShownWatch {
    id: u64,
    client: u32,
    opened: f64,
    last: f64,
    answers: Vec<f64>,
    text: String,
}

#[derive(Serialize)]
struct ShownFault {
    kind: String,
    members: Vec<String>,
    began: f64,
    ended: Option<f64>,
}

fn ms(time_ns: u64) -> f64 {
    time_ns as f64 / 1e6
}

fn shown(operation: &Operation, end_ns: u64) -> Shown {
    let state = match operation {
        operation if operation.ok().is_some() => "ok",
        operation if operation.has_failed() => "failed",
        _ => "open",
    };
    let ended_ns = operation.completed.as_ref().map_or(end_ns, |(time_ns, _)| *time_ns);
    Shown {
        id: operation.id.0,
        client: operation.client.0,
        name: operation.request.name(),
        state,
        began: ms(operation.invoked_ns),
        end: ms(ended_ns),
        text: excerpt::describe(operation),
    }
}

fn shown_watch(watch: &Watch) -> ShownWatch {
    let events: usize = watch.answers.iter().map(|answer| answer.events.len()).sum();
    ShownWatch {
        id: watch.id.0,
        client: watch.client.0,
        opened: ms(watch.opened_ns),
        last: ms(watch.answers.last().map_or(watch.opened_ns, |answer| answer.time_ns)),
        answers: watch.answers.iter().map(|answer| ms(answer.time_ns)).collect(),
        text: format!(
            "watch {} at {} from revision {}: {} answers, {events} events",
            watch.id.0,
            watch.member,
            watch.request.start_revision,
            watch.answers.len()
        ),
    }
}

/// The page of a run.
///
/// # Errors
/// When the data cannot be written as JSON.
pub fn page(words: &Words, history: &History, findings: &[Finding]) -> Result<String, serde_json::Error> {
    let end_ns = history.end_ns();
    let violation = findings.iter().find(|finding| finding.verdict.violation().is_some());
    let excerpt = violation.and_then(|finding| excerpt::of(history, finding));
    let shows = |operation: &Operation| operation.id.0;
    let data = Data {
        end: ms(end_ns),
        operations: history.operations.iter().map(|operation| shown(operation, end_ns)).collect(),
        watches: history.watches.iter().map(shown_watch).collect(),
        faults: history
            .faults
            .iter()
            .map(|fault| ShownFault {
                kind: fault.kind.clone(),
                members: fault.members.clone(),
                began: ms(fault.began_ns),
                ended: fault.ended_ns.map(ms),
            })
            .collect(),
        bad: excerpt.iter().flat_map(|excerpt| excerpt.operations.iter().map(shows)).collect(),
        bad_watch: violation.and_then(|finding| finding.verdict.violation()?.watch).map(|watch| watch.0),
    };
    let smallest = excerpt.map_or(String::new(), |excerpt| {
        format!("<h2>The smallest failing history</h2><pre>{}</pre>", escape(&excerpt::text(&excerpt)))
    });
    let passed = findings.iter().all(|finding| finding.verdict.passed());
    let summary = format!(
        "{}. {} requests, {} watches, {} faults in {:.1} s.",
        if passed { "Nothing is wrong" } else { "FAILED" },
        history.operations.len(),
        history.watches.len(),
        history.faults.len(),
        end_ns as f64 / 1e9
    );
    // Inside a script element only `<` could end it.
    let json = serde_json::to_string(&data)?.replace('<', "\\u003c");
    Ok(fill(&[
        ("@TITLE@", &escape(&words.title)),
        ("@SUMMARY@", &escape(&summary)),
        ("@AGAIN@", &escape(&words.again)),
        ("@VERDICTS@", &findings.iter().map(row).collect::<String>()),
        ("@SMALLEST@", &smallest),
        ("@DATA@", &json),
    ]))
}

/// Puts each text at its places, in one pass, so that no text is taken for a place.
fn fill(texts: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = PAGE;
    let next = |rest: &str| {
        let found = texts.iter().filter_map(|(place, text)| Some((rest.find(place)?, *place, *text)));
        found.min_by_key(|(at, ..)| *at)
    };
    while let Some((at, place, text)) = next(rest) {
        filled.push_str(&rest[..at]);
        filled.push_str(text);
        rest = &rest[at + place.len()..];
    }
    filled + rest
}

fn row(finding: &Finding) -> String {
    let class = match &finding.verdict {
        Verdict::Passed { .. } => "passed",
        Verdict::Failed(_) => "failed",
        Verdict::Unknown { .. } => "unknown",
    };
    let (checker, verdict) = (escape(finding.checker), escape(&finding.verdict.to_string()));
    format!("<tr><td>{checker}</td><td class=\"{class}\">{verdict}</td></tr>")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use super::*;
    use crate::checkers::Violation;
    use crate::history::{Answer, ClientId, OperationId, Outcome, Request};

    /// Text of the store neither ends the script nor becomes markup, and the data is read back as it was.
    #[test]
    fn text_stays_text() {
        let evil = "</script><script>alert(1)</script>@DATA@";
        let operation = Operation {
            id: OperationId(7),
            client: ClientId(1),
            member: "m1".to_owned(),
            request: Request::put("a", evil),
            invoked_ns: 1,
            completed: Some((2, Outcome::Ok { revision: 2, answer: Answer::Put })),
        };
        let history = History { operations: vec![operation], ..History::default() };
        let violation = Violation::new(evil).by([OperationId(7)]);
        let findings = [Finding { checker: "set", verdict: Verdict::Failed(Box::new(violation)) }];
        let words = Words { title: evil.to_owned(), again: evil.to_owned() };
        let page = page(&words, &history, &findings).unwrap();
        assert_eq!(page.matches("<script").count(), 2, "only the page's own scripts");
        assert_eq!(page.matches("</script>").count(), 2);
        let begin = page.find("id=\"data\">").unwrap() + "id=\"data\">".len();
        let end = begin + page[begin..].find("</script>").unwrap();
        let data: serde_json::Value = serde_json::from_str(&page[begin..end]).unwrap();
        assert_eq!(data["bad"][0], 7);
        assert!(data["operations"][0]["text"].as_str().unwrap().contains(evil));
    }

    #[test]
    fn the_page_loads_nothing() {
        for outside in ["http:", "https:", "src=", "@import", "url(", "fetch("] {
            assert!(!PAGE.contains(outside), "the page names {outside}");
        }
    }
}
