//! The audit policy (`audit.k8s.io/v1` Policy): which requests are told, how much of them, and at which stages. The first
//! rule that fits decides. Must never see a body.

use barque_api::field::{FieldError, FieldPath};
use barque_api::names;
use serde::Deserialize;
use serde_json::json;

use crate::authorization::User;
use crate::http::request_info::{RequestInfo, ResourceRequest};

/// How much is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Nothing.
    #[default]
    None,
    /// Who, what, when and how it ended.
    Metadata,
    /// Also what was sent.
    Request,
    /// Also what was answered.
    RequestResponse,
}

/// When something is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Before anything was done.
    RequestReceived,
    /// The answer has begun and goes on: watches and the like.
    ResponseStarted,
    /// The answer is complete.
    ResponseComplete,
    /// The server failed within.
    Panic,
}

impl Level {
    const ALL: [Self; 4] = [Self::None, Self::Metadata, Self::Request, Self::RequestResponse];

    /// As policies and events write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

impl Stage {
    const ALL: [Self; 4] =
        [Self::RequestReceived, Self::ResponseStarted, Self::ResponseComplete, Self::Panic];

    /// As policies and events write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// What is to be told of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audited {
    /// How much.
    pub level: Level,
    /// At which stages nothing is told.
    pub omit_stages: Vec<Stage>,
    /// Whether `managedFields` are left out of objects.
    pub omit_managed_fields: bool,
}

/// A policy that was checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    omit_stages: Vec<Stage>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    matching: RuleText,
    audited: Audited,
}

/// A file that is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// It cannot be read.
    #[error("failed decoding: {0}")]
    Decoding(String),
    /// It is something else.
    #[error("unknown group version field {api_version}, Kind={kind} in policy")]
    Other {
        /// Its type.
        api_version: String,
        /// Its kind.
        kind: String,
    },
    /// It says what makes no sense: all of it.
    #[error("{0}")]
    Invalid(String),
    /// It would tell nothing.
    #[error("loaded illegal policy with 0 rules")]
    Empty,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PolicyText {
    api_version: String,
    kind: String,
    rules: Vec<RuleText>,
    omit_stages: Vec<String>,
    omit_managed_fields: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuleText {
    level: String,
    users: Vec<String>,
    user_groups: Vec<String>,
    verbs: Vec<String>,
    resources: Vec<Resources>,
    namespaces: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    paths: Vec<String>,
    omit_stages: Vec<String>,
    omit_managed_fields: Option<bool>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Resources {
    group: String,
    resources: Vec<String>,
    resource_names: Vec<String>,
}

impl Policy {
    /// Reads a policy file, YAML or JSON. Fields that are not known are passed over.
    ///
    /// # Errors
    /// When it is none, with all that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let text: PolicyText =
            serde_saphyr::from_str(text).map_err(|error| PolicyError::Decoding(error.to_string()))?;
        if text.api_version != "audit.k8s.io/v1" || text.kind != "Policy" {
            return Err(PolicyError::Other { api_version: text.api_version, kind: text.kind });
        }
        let mut errors = Vec::new();
        let omit_stages = read_stages(&text.omit_stages, &FieldPath::of("omitStages"), &mut errors);
        let rules = text.rules.into_iter().enumerate();
        let rules: Vec<Rule> = rules
            .map(|(index, rule)| {
                let path = FieldPath::of("rules").index(index);
                let level = read_level(&rule.level, &path.child("level"), &mut errors);
                errors.extend(check_rule(&rule, &path));
                let mut stages = omit_stages.clone();
                stages.extend(read_stages(&rule.omit_stages, &path.child("omitStages"), &mut errors));
                let omit_managed_fields = rule.omit_managed_fields.unwrap_or(text.omit_managed_fields);
                Rule { matching: rule, audited: Audited { level, omit_stages: stages, omit_managed_fields } }
            })
            .collect();
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let all = texts.join(", ");
            return Err(PolicyError::Invalid(if texts.len() == 1 { all } else { format!("[{all}]") }));
        }
        if rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        Ok(Self { rules, omit_stages, omit_managed_fields: text.omit_managed_fields })
    }

    /// What is to be told of a request. Where no rule fits, it is nothing.
    #[must_use]
    pub fn audited(&self, user: &User, request: &RequestInfo) -> Audited {
        let rule = self.rules.iter().find(|rule| rule.matching.fits(user, request));
        rule.map_or_else(
            || Audited {
                level: Level::None,
                omit_stages: self.omit_stages.clone(),
                omit_managed_fields: self.omit_managed_fields,
            },
            |rule| rule.audited.clone(),
        )
    }
}

impl RuleText {
    fn fits(&self, user: &User, request: &RequestInfo) -> bool {
        let verb = match request {
            RequestInfo::Resource(request) => request.verb,
            RequestInfo::Other { verb, .. } => verb,
        };
        let one_of = |list: &[String], text: &str| list.is_empty() || list.iter().any(|one| one == text);
        let in_group =
            self.user_groups.is_empty() || user.groups.iter().any(|one| self.user_groups.contains(one));
        if !one_of(&self.users, &user.name) || !in_group || !one_of(&self.verbs, verb) {
            return false;
        }
        let about_resources = !self.namespaces.is_empty() || !self.resources.is_empty();
        match request {
            RequestInfo::Resource(request) if about_resources => {
                one_of(&self.namespaces, &request.namespace)
                    && (self.resources.is_empty() || self.resources.iter().any(|one| one.fit(request)))
            }
            RequestInfo::Resource(_) => self.paths.is_empty(),
            RequestInfo::Other { .. } if about_resources => false,
            RequestInfo::Other { path, .. } => {
                self.paths.is_empty() || self.paths.iter().any(|pattern| path_fits(path, pattern))
            }
        }
    }
}

fn path_fits(path: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(path == pattern, |front| path.starts_with(front))
}

impl Resources {
    fn fit(&self, request: &ResourceRequest) -> bool {
        if self.group != "*" && *self.group != *request.resource.group {
            return false;
        }
        if self.resources.is_empty() {
            return true;
        }
        if !self.resource_names.is_empty() && !self.resource_names.contains(&request.name) {
            return false;
        }
        let (resource, below) = (&*request.resource.resource, request.subresource.as_str());
        self.resources.iter().any(|pattern| match pattern.split_once('/') {
            _ if pattern == "*" => true,
            None => below.is_empty() && pattern == resource,
            Some(("*", wanted)) => !below.is_empty() && wanted == below,
            Some((wanted, "*")) => wanted == resource,
            Some((first, second)) => first == resource && second == below,
        })
    }
}

fn read_level(text: &str, path: &FieldPath, errors: &mut Vec<FieldError>) -> Level {
    if let Some(level) = Level::ALL.into_iter().find(|level| level.name() == text) {
        return level;
    }
    errors.push(if text.is_empty() {
        FieldError::required(path, "")
    } else {
        FieldError::not_supported(path, text, &Level::ALL.map(Level::name))
    });
    Level::None
}

fn read_stages(texts: &[String], path: &FieldPath, errors: &mut Vec<FieldError>) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        match Stage::ALL.into_iter().find(|stage| stage.name() == text) {
            Some(stage) => stages.push(stage),
            None => {
                let why = format!("allowed stages are {}", Stage::ALL.map(Stage::name).join(","));
                errors.push(FieldError::invalid(&path.index(index), text.clone(), why));
            }
        }
    }
    stages
}

fn check_rule(rule: &RuleText, path: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let paths = path.child("nonResourceURLs");
    for (index, url) in rule.paths.iter().enumerate().filter(|(_, url)| *url != "*") {
        let path = paths.index(index);
        if !url.starts_with('/') {
            let why = "non-resource URL rules must begin with a '/' character";
            errors.push(FieldError::invalid(&path, url.clone(), why));
        }
        if url.strip_suffix('*').unwrap_or(url).contains('*') {
            let why = "non-resource URL wildcards '*' must be the final character of the rule";
            errors.push(FieldError::invalid(&path, url.clone(), why));
        }
    }
    for resources in &rule.resources {
        let path = path.child("resources");
        if !resources.group.is_empty() && resources.group != "*" {
            let wrong = names::dns_subdomain(&resources.group);
            if !wrong.is_empty() {
                let group = resources.group.clone();
                errors.push(FieldError::invalid(&path.child("group"), group, wrong.join(",")));
            }
        }
        if !resources.resource_names.is_empty() && resources.resources.is_empty() {
            let why = "using resourceNames requires at least one resource";
            errors.push(FieldError::invalid(
                &path.child("resourceNames"),
                json!(resources.resource_names),
                why,
            ));
        }
    }
    let about_resources = !rule.resources.is_empty() || !rule.namespaces.is_empty();
    if about_resources && !rule.paths.is_empty() {
        let why = "rules cannot apply to both regular resources and non-resource URLs";
        errors.push(FieldError::invalid(&paths, json!(rule.paths), why));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_info::{Query, request_info};

    fn policy(rules: &str) -> Policy {
        Policy::parse(&format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}")).unwrap()
    }

    fn level(policy: &Policy, method: &str, path: &str) -> Level {
        let user = User { name: "eva".into(), groups: vec!["staff".into()], ..User::default() };
        policy.audited(&user, &request_info(method, path, Query::default())).level
    }

    #[test]
    fn a_rule_fits_what_it_names() {
        let table = [
            ("users: [eva]", "/api/v1/pods", true),
            ("users: [adam]", "/api/v1/pods", false),
            ("userGroups: [staff]", "/api/v1/pods", true),
            ("userGroups: [other]", "/livez", false),
            ("verbs: [list]", "/api/v1/pods", true),
            ("verbs: [get]", "/api/v1/pods", false),
            ("namespaces: [x]", "/api/v1/namespaces/x/pods", true),
            ("namespaces: ['']", "/api/v1/nodes", true),
            ("namespaces: [x]", "/livez", false),
            ("resources: [{group: ''}]", "/api/v1/pods", true),
            ("resources: [{group: apps}]", "/api/v1/pods", false),
            ("resources: [{group: '*', resources: [pods]}]", "/api/v1/namespaces/x/pods/a", true),
            ("resources: [{resources: [pods]}]", "/api/v1/namespaces/x/pods/a/log", false),
            ("resources: [{resources: [pods/log]}]", "/api/v1/namespaces/x/pods/a/log", true),
            ("resources: [{resources: ['pods/*']}]", "/api/v1/namespaces/x/pods/a", true),
            ("resources: [{resources: ['*/log']}]", "/api/v1/namespaces/x/pods/a/log", true),
            ("resources: [{resources: ['*/log']}]", "/api/v1/namespaces/x/pods/a", false),
            ("resources: [{resources: [pods], resourceNames: [b]}]", "/api/v1/namespaces/x/pods/a", false),
            ("nonResourceURLs: ['/live*']", "/livez", true),
            ("nonResourceURLs: [/livez]", "/livez/etcd", false),
            ("nonResourceURLs: ['*']", "/api/v1/pods", false),
            ("omitStages: []", "/livez", true),
        ];
        for (rule, path, fits) in table {
            let policy = policy(&format!("- {{level: Metadata, {rule}}}"));
            assert_eq!(level(&policy, "GET", path) == Level::Metadata, fits, "{rule} {path}");
        }
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let policy = policy(
            "- {level: None, nonResourceURLs: ['/livez*']}\n\
             - {level: RequestResponse, verbs: [delete], omitStages: [Panic], omitManagedFields: false}\n\
             - {level: Request, resources: [{resources: [pods]}]}\n\
             omitStages: [RequestReceived]\nomitManagedFields: true",
        );
        assert_eq!(level(&policy, "GET", "/livez"), Level::None);
        assert_eq!(level(&policy, "GET", "/api/v1/pods"), Level::Request);
        assert_eq!(level(&policy, "GET", "/api/v1/nodes"), Level::None);
        let delete = request_info("DELETE", "/api/v1/namespaces/x/pods/a", Query::default());
        let expected = Audited {
            level: Level::RequestResponse,
            omit_stages: vec![Stage::RequestReceived, Stage::Panic],
            omit_managed_fields: false,
        };
        assert_eq!(policy.audited(&User::default(), &delete), expected);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let head = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";
        let table = [
            ("rules: []", "loaded illegal policy with 0 rules"),
            ("rules: [{}]", "rules[0].level: Required value"),
            (
                "rules: [{level: All}]",
                "rules[0].level: Unsupported value: \"All\": supported values: \"None\", \"Metadata\", \
                 \"Request\", \"RequestResponse\"",
            ),
            (
                "rules: [{level: None, nonResourceURLs: [livez], namespaces: [x]}]",
                "[rules[0].nonResourceURLs[0]: Invalid value: \"livez\": non-resource URL rules must begin with a \
                 '/' character, rules[0].nonResourceURLs: Invalid value: [\"livez\"]: rules cannot apply to both \
                 regular resources and non-resource URLs]",
            ),
            (
                "rules: [{level: None}]\nomitStages: [Late]",
                "omitStages[0]: Invalid value: \"Late\": allowed stages are \
                 RequestReceived,ResponseStarted,ResponseComplete,Panic",
            ),
        ];
        for (text, expected) in table {
            let error = Policy::parse(&format!("{head}{text}")).unwrap_err();
            assert_eq!(error.to_string(), expected, "{text}");
        }
        let error = Policy::parse("apiVersion: v1\nkind: Pod").unwrap_err();
        assert_eq!(error.to_string(), "unknown group version field v1, Kind=Pod in policy");
        assert!(matches!(Policy::parse("rules: 1"), Err(PolicyError::Decoding(_))));
    }
}
