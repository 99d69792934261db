//! What controllers ask of the API beyond what caches hold: values only. Must never ask for anything itself.

use std::collections::HashMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::plan::Failure;

/// What stands for itself in a path or a query.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b':').remove(b'*');

/// A question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    /// Where, with the query.
    pub(crate) path: String,
    /// What is posted there; nothing only reads. Posting must change nothing: a review.
    pub(crate) body: Option<Value>,
}

/// What the API says to one.
pub(crate) type Answer = Result<Value, Failure>;

/// Those that came.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answers(HashMap<Question, Answer>);

impl Question {
    /// Reads what is there. Each part is one part of the path, whatever stands in it.
    #[must_use]
    pub(crate) fn get<'a>(parts: impl IntoIterator<Item = &'a str>) -> Self {
        let path: String =
            parts.into_iter().filter(|part| !part.is_empty()).fold(String::new(), |path, part| {
                // As a part of a path these would mean another path.
                let part = if part == "." || part == ".." { "%2E" } else { part };
                path + "/" + &encoded(part)
            });
        Self { path, body: None }
    }

    /// With a query.
    #[must_use]
    pub(crate) fn with<'a>(mut self, query: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        for (number, (name, value)) in query.into_iter().enumerate() {
            let sign = if number == 0 { '?' } else { '&' };
            self.path.push(sign);
            self.path += &format!("{name}={}", encoded(value));
        }
        self
    }

    /// Has something judged.
    #[must_use]
    pub(crate) fn review(path: &str, body: Value) -> Self {
        Self { path: path.to_owned(), body: Some(body) }
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, PLAIN).to_string()
}

impl Answers {
    /// The answer, if it came.
    pub(crate) fn to(&self, question: &Question) -> Option<&Answer> {
        self.0.get(question)
    }

    /// It came.
    pub(crate) fn learn(&mut self, question: Question, answer: Answer) {
        self.0.insert(question, answer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_stay_parts() {
        let question = Question::get(["apis", "", "a/b", "..", "x y"]).with([("labelSelector", "a=b,c")]);
        assert_eq!(question.path, "/apis/a%2Fb/%252E/x%20y?labelSelector=a%3Db%2Cc");
    }
}
