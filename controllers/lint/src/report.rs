//! What was found, for people: a table, or the same as JSON. Text only.

use std::fmt::Write as _;

use serde::Serialize;

use crate::finding::{Finding, Rule};
use crate::rules::notes;
use crate::snapshot::Snapshot;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many objects were looked at.
    pub objects: usize,
    /// What is wrong, in order.
    pub findings: Vec<Finding>,
    /// What could not be judged, as sentences.
    pub notes: Vec<String>,
}

impl Report {
    /// What was found in a picture.
    pub(crate) fn of(snapshot: &Snapshot, findings: Vec<Finding>) -> Self {
        Self { objects: snapshot.objects.len(), findings, notes: notes(snapshot) }
    }

    /// Without what these rules found.
    #[must_use]
    pub fn without(mut self, rules: &[Rule]) -> Self {
        self.findings.retain(|finding| !rules.contains(&finding.rule));
        self
    }

    /// For people: a line for each finding, then what could not be judged, and how much was looked at.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text = String::new();
        let rows: Vec<[String; 3]> = std::iter::once(["RULE", "OBJECT", "WHAT IS WRONG"].map(str::to_owned))
            .chain(
                self.findings
                    .iter()
                    .map(|one| [one.rule.to_string(), one.object.to_string(), one.words.clone()]),
            )
            .collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let (rules, objects) = (width(0), width(1));
        // Writing to a string does not fail.
        if !self.findings.is_empty() {
            for [rule, object, words] in &rows {
                let _ = writeln!(text, "{rule:<rules$}  {object:<objects$}  {words}");
            }
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "not judged: {note}");
        }
        let count = match self.findings.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "one thing is wrong".to_owned(),
            count => format!("{count} things are wrong"),
        };
        let _ = writeln!(text, "{} objects, {count}", self.objects);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Object;

    #[test]
    fn it_is_a_table() {
        let finding = |rule, namespace: &str, words: &str| Finding {
            rule,
            object: Object { kind: "Pod".to_owned(), namespace: namespace.to_owned(), name: "p".to_owned() },
            words: words.to_owned(),
        };
        let report = Report {
            objects: 3,
            findings: vec![
                finding(Rule::OwnerGone, "shop", "is alone"),
                finding(Rule::IndexTwice, "", "is there twice"),
            ],
            notes: vec!["x was not read: no".to_owned()],
        };
        let table = [
            "RULE         OBJECT      WHAT IS WRONG",
            "owner-gone   Pod shop/p  is alone",
            "index-twice  Pod p       is there twice",
            "",
            "not judged: x was not read: no",
            "3 objects, 2 things are wrong",
            "",
        ];
        assert_eq!(report.table(), table.join("\n"));
        let one = report.clone().without(&[Rule::OwnerGone]);
        assert!(one.table().ends_with("not judged: x was not read: no\n3 objects, one thing is wrong\n"));
        let none = Report { notes: Vec::new(), ..report.without(&[Rule::OwnerGone, Rule::IndexTwice]) };
        assert_eq!(none.table(), "3 objects, nothing is wrong\n");
    }
}
