//! The scale of an object of any kind: where it is asked for, and what the answers say. A decision; must never ask by itself.

use serde_json::Value;

use crate::plan::Verdict;
use crate::question::{Answers, Question};

/// An object that has a scale, or should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scalable<'a> {
    /// Where it is.
    pub(crate) namespace: &'a str,
    /// Such as `apps/v1`.
    pub(crate) api_version: &'a str,
    /// Such as `Deployment`.
    pub(crate) kind: &'a str,
    /// Its name.
    pub(crate) name: &'a str,
}

/// The scale of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scale {
    /// Where it is read and written.
    pub(crate) path: String,
    /// The object's uid.
    pub(crate) uid: String,
    /// The version that was read.
    pub(crate) version: String,
    /// How many it shall have.
    pub(crate) wanted: i32,
    /// How many it has.
    pub(crate) there: i32,
    /// Which pods they are; empty when that is not told.
    pub(crate) selector: String,
}

/// How far the search for a scale has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Search {
    /// This must be known first.
    Ask(Question),
    /// There it is.
    Found(Scale),
    /// The object is not there.
    Missing(String),
    /// The kind is not served or has no scale, or the API could not tell; the sentence says it.
    Failed(String),
}

/// Kinds that every API server has, so that nobody needs to ask what they are called in paths.
const BUILT_IN: [(&str, &str, &str); 4] = [
    ("apps/v1", "Deployment", "deployments"),
    ("apps/v1", "ReplicaSet", "replicasets"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("v1", "ReplicationController", "replicationcontrollers"),
];

impl Scalable<'_> {
    fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The root of its API.
    fn root(&self) -> Vec<&str> {
        match self.api_version.split_once('/') {
            Some((group, version)) => vec!["apis", group, version],
            None => vec!["api", self.api_version],
        }
    }

    fn discovery(&self) -> Question {
        Question::get(self.root())
    }

    /// What is next on the way to its scale.
    pub(crate) fn search(&self, answers: &Answers) -> Search {
        if self.api_version.matches('/').count() > 1 || self.api_version.is_empty() {
            return Search::Failed(format!("unexpected GroupVersion string: {}", self.api_version));
        }
        let known =
            BUILT_IN.iter().find(|(version, kind, _)| (*version, *kind) == (self.api_version, self.kind));
        let plural = match known {
            Some((_, _, plural)) => (*plural).to_owned(),
            None => match self.plural(answers) {
                Ok(plural) => plural,
                Err(search) => return search,
            },
        };
        let mut parts = self.root();
        parts.extend(["namespaces", self.namespace, &plural, self.name, "scale"]);
        let question = Question::get(parts);
        match answers.to(&question) {
            None => Search::Ask(question),
            Some(Ok(scale)) => Search::Found(read(question.path, scale)),
            Some(Err(failure)) if failure.verdict == Verdict::Gone => {
                if known.is_none() && !self.is_listed(answers, &format!("{plural}/scale")) {
                    let resource =
                        if self.group().is_empty() { plural } else { format!("{plural}.{}", self.group()) };
                    return Search::Failed(format!("{resource} does not implement the scale subresource"));
                }
                Search::Missing(failure.message.clone())
            }
            Some(Err(failure)) => Search::Failed(failure.message.clone()),
        }
    }

    /// What its kind is called, with its group where it has one: `deployments.apps`.
    pub(crate) fn resource(&self, answers: &Answers) -> Result<String, Search> {
        let known =
            BUILT_IN.iter().find(|(version, kind, _)| (*version, *kind) == (self.api_version, self.kind));
        let plural = known.map_or_else(|| self.plural(answers), |(_, _, plural)| Ok((*plural).to_owned()))?;
        Ok(if self.group().is_empty() { plural } else { format!("{plural}.{}", self.group()) })
    }

    /// What its kind is called in paths.
    fn plural(&self, answers: &Answers) -> Result<String, Search> {
        let question = self.discovery();
        let list = match answers.to(&question) {
            None => return Err(Search::Ask(question)),
            Some(Ok(list)) => list,
            Some(Err(failure)) if failure.verdict == Verdict::Gone => return Err(self.unknown()),
            Some(Err(failure)) => return Err(Search::Failed(failure.message.clone())),
        };
        let found = resources(list).find(|resource| {
            resource["kind"] == self.kind && resource["name"].as_str().is_some_and(|name| !name.contains('/'))
        });
        found.and_then(|resource| resource["name"].as_str()).map(str::to_owned).ok_or_else(|| self.unknown())
    }

    fn unknown(&self) -> Search {
        Search::Failed(format!("no matches for kind {:?} in group {:?}", self.kind, self.group()))
    }

    fn is_listed(&self, answers: &Answers, name: &str) -> bool {
        let list = answers.to(&self.discovery()).and_then(|answer| answer.as_ref().ok());
        list.is_some_and(|list| resources(list).any(|it| it["name"] == name && it["kind"] == "Scale"))
    }
}

fn resources(list: &Value) -> impl Iterator<Item = &Value> {
    list["resources"].as_array().into_iter().flatten()
}

fn read(path: String, scale: &Value) -> Scale {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| i32::try_from(value.as_i64().unwrap_or_default()).unwrap_or(i32::MAX);
    Scale {
        path,
        uid: text(&scale["metadata"]["uid"]),
        version: text(&scale["metadata"]["resourceVersion"]),
        wanted: number(&scale["spec"]["replicas"]),
        there: number(&scale["status"]["replicas"]),
        selector: text(&scale["status"]["selector"]),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::plan::Failure;

    fn gone() -> Failure {
        Failure { verdict: Verdict::Gone, message: "not found".to_owned() }
    }

    #[test]
    fn a_custom_kind_is_looked_up_and_then_its_scale_is_read() {
        let it = Scalable { namespace: "ns", api_version: "example.com/v1", kind: "Ring", name: "a" };
        let mut answers = Answers::default();
        let Search::Ask(discovery) = it.search(&answers) else { panic!() };
        assert_eq!(discovery.path, "/apis/example.com/v1");
        let list = json!({"resources": [
            {"name": "rings/scale", "kind": "Scale"}, {"name": "rings/status", "kind": "Ring"}, {"name": "rings", "kind": "Ring"},
        ]});
        answers.learn(discovery, Ok(list));
        let Search::Ask(scale) = it.search(&answers) else { panic!() };
        assert_eq!(scale.path, "/apis/example.com/v1/namespaces/ns/rings/a/scale");
        let mut missing = answers.clone();
        missing.learn(scale.clone(), Err(gone()));
        assert_eq!(it.search(&missing), Search::Missing("not found".to_owned()));
        answers.learn(
            scale.clone(),
            Ok(json!({
                "metadata": {"uid": "u", "resourceVersion": "7"}, "spec": {"replicas": 3},
                "status": {"replicas": 2, "selector": "a=b"},
            })),
        );
        let expected = Scale {
            path: scale.path,
            uid: "u".into(),
            version: "7".into(),
            wanted: 3,
            there: 2,
            selector: "a=b".into(),
        };
        assert_eq!(it.search(&answers), Search::Found(expected));
    }

    #[test]
    fn what_has_no_scale_is_said() {
        let it = Scalable { namespace: "ns", api_version: "example.com/v1", kind: "Ring", name: "a" };
        let mut answers = Answers::default();
        let discovery = Question::get(["apis", "example.com", "v1"]);
        answers.learn(discovery.clone(), Err(gone()));
        let unknown = "no matches for kind \"Ring\" in group \"example.com\"";
        assert_eq!(it.search(&answers), Search::Failed(unknown.to_owned()));
        answers.learn(discovery, Ok(json!({"resources": [{"name": "rings", "kind": "Ring"}]})));
        let Search::Ask(scale) = it.search(&answers) else { panic!() };
        answers.learn(scale, Err(gone()));
        let none = "rings.example.com does not implement the scale subresource";
        assert_eq!(it.search(&answers), Search::Failed(none.to_owned()));
    }

    #[test]
    fn built_in_kinds_are_known() {
        let it = Scalable { namespace: "ns", api_version: "apps/v1", kind: "Deployment", name: "a" };
        let Search::Ask(scale) = it.search(&Answers::default()) else { panic!() };
        assert_eq!(scale.path, "/apis/apps/v1/namespaces/ns/deployments/a/scale");
    }
}
