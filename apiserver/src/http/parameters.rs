//! What stands behind the question mark: the options of requests, decoded and held to their types. Pure; must never decide
//! what an option means for a verb.

use barque_api::field::{FieldError, FieldPath};
use barque_api::kind::GroupVersionKind;
use barque_api::status::Status;
use serde_json::{Map, Value, json};

use super::request_info;
use crate::registry::decode::FieldValidation;
use crate::registry::deletion::{DeleteOptions, Propagation};
use crate::table::IncludeObject;
use crate::watch_cache::query::{ListQuery, WatchQuery};

/// Names and values, decoded, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Of the query of an address.
    #[must_use]
    pub fn of(query: &str) -> Self {
        Self(form_urlencoded::parse(query.as_bytes()).into_owned().collect())
    }

    /// The first value of this name; empty where there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(named, _)| named == name).map_or("", |(_, value)| value)
    }

    /// All values of this name.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(named, _)| named == name).map(|(_, value)| &**value)
    }

    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(named, _)| named == name)
    }

    /// Everything, in its order.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// A flag: nothing but `false` and `0` in a value is yes, as in Kubernetes.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.text(name).to_ascii_lowercase().as_str(), "false" | "0")
    }

    /// A number; nothing where there is none.
    ///
    /// # Errors
    /// 400 for what is no number.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Status> {
        let text = self.text(name);
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| {
            Status::bad_request(format!(
                "the query parameter {name} is no number: strconv.ParseInt: parsing {text:?}: invalid syntax"
            ))
        })
    }

    /// What matters for the verb of a request.
    #[must_use]
    pub fn of_verb(&self) -> request_info::Query<'_> {
        let name = self.text("fieldSelector").split(',').find_map(|term| {
            let value = term.trim().strip_prefix("metadata.name=")?;
            Some(value.strip_prefix('=').unwrap_or(value))
        });
        request_info::Query { watch: self.flag("watch"), name: name.filter(|name| !name.is_empty()) }
    }

    /// Options of a list.
    ///
    /// # Errors
    /// 400 for a limit that is none.
    pub fn list(&self) -> Result<ListQuery, Status> {
        let limit = self.number("limit")?.unwrap_or_default().max(0);
        Ok(ListQuery {
            resource_version: self.text("resourceVersion").to_owned(),
            resource_version_match: self.text("resourceVersionMatch").to_owned(),
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            continue_token: self.text("continue").to_owned(),
            send_initial_events: self.has("sendInitialEvents"),
        })
    }

    /// Options of a watch.
    #[must_use]
    pub fn watch(&self) -> WatchQuery {
        let initial = self.has("sendInitialEvents").then(|| self.flag("sendInitialEvents"));
        WatchQuery {
            resource_version: self.text("resourceVersion").to_owned(),
            resource_version_match: self.text("resourceVersionMatch").to_owned(),
            send_initial_events: initial,
            bookmarks: self.flag("allowWatchBookmarks"),
            continue_token: self.text("continue").to_owned(),
        }
    }

    /// How much of each object stands in its row.
    ///
    /// # Errors
    /// 400 for a word that is not known.
    pub fn include_object(&self) -> Result<IncludeObject, Status> {
        match self.text("includeObject") {
            "" | "Metadata" => Ok(IncludeObject::Metadata),
            "None" => Ok(IncludeObject::None),
            "Object" => Ok(IncludeObject::Object),
            other => Err(Status::bad_request(format!(
                "unrecognized includeObject value: {other:?}; known are None, Metadata and Object"
            ))),
        }
    }

    /// Whether nothing is to be stored. `options` names the kind of options in errors.
    ///
    /// # Errors
    /// 422 for anything but `All`.
    pub fn dry_run(&self, options: &str) -> Result<bool, Status> {
        let wrong: Vec<FieldError> = self
            .all("dryRun")
            .filter(|value| !value.is_empty() && *value != "All")
            .map(|value| FieldError::not_supported(&FieldPath::of("dryRun"), value, &["All"]))
            .collect();
        if !wrong.is_empty() {
            return Err(invalid(options, &wrong));
        }
        Ok(self.all("dryRun").any(|value| value == "All"))
    }

    /// What becomes of unknown fields.
    ///
    /// # Errors
    /// 422 for a word that is not known.
    pub fn field_validation(&self, options: &str) -> Result<FieldValidation, Status> {
        match self.text("fieldValidation") {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Ignore" => Ok(FieldValidation::Ignore),
            "Strict" => Ok(FieldValidation::Strict),
            other => {
                let path = FieldPath::of("fieldValidation");
                let known = ["", "Ignore", "Strict", "Warn"];
                Err(invalid(options, &[FieldError::not_supported(&path, other, &known)]))
            }
        }
    }

    /// The options of a write as an object, as admission sees them.
    #[must_use]
    pub fn options(&self, kind: &str) -> Value {
        let mut fields = Map::new();
        fields.insert("kind".to_owned(), kind.into());
        fields.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
        for name in ["fieldManager", "fieldValidation"] {
            let text = self.text(name);
            if !text.is_empty() {
                fields.insert(name.to_owned(), text.into());
            }
        }
        let dry: Vec<&str> = self.all("dryRun").collect();
        if !dry.is_empty() {
            fields.insert("dryRun".to_owned(), json!(dry));
        }
        if self.has("force") {
            fields.insert("force".to_owned(), self.flag("force").into());
        }
        Value::Object(fields)
    }

    /// Options of a deletion; a body says them all, without one the query does.
    ///
    /// # Errors
    /// 422 for options that contradict each other.
    pub fn deletion(&self, body: Option<&Value>) -> Result<(DeleteOptions, bool), Status> {
        let from_query;
        let options = if let Some(body) = body {
            body
        } else {
            from_query = self.deletion_object()?;
            &from_query
        };
        let mut errors = Vec::new();
        let propagation = match options.get("propagationPolicy").and_then(Value::as_str) {
            None => None,
            Some("Orphan") => Some(Propagation::Orphan),
            Some("Background") => Some(Propagation::Background),
            Some("Foreground") => Some(Propagation::Foreground),
            Some(other) => {
                let known = ["Foreground", "Background", "Orphan", "nil"];
                let path = FieldPath::of("propagationPolicy");
                errors.push(FieldError::not_supported(&path, other, &known));
                None
            }
        };
        let orphan = options.get("orphanDependents").and_then(Value::as_bool);
        if propagation.is_some() && orphan.is_some() {
            let path = FieldPath::of("propagationPolicy");
            let value = options["propagationPolicy"].as_str().unwrap_or_default();
            let why = "orphanDependents and deletionPropagation cannot be both set";
            errors.push(FieldError::invalid(&path, value, why));
        }
        let dry: Vec<&str> =
            options["dryRun"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for value in dry.iter().filter(|value| **value != "All") {
            errors.push(FieldError::not_supported(&FieldPath::of("dryRun"), *value, &["All"]));
        }
        if !errors.is_empty() {
            return Err(invalid("DeleteOptions", &errors));
        }
        let text = |pointer: &str| options.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        let deletion = DeleteOptions {
            grace_period_seconds: options.get("gracePeriodSeconds").and_then(Value::as_i64),
            propagation: propagation.or_else(|| {
                orphan.map(|orphan| if orphan { Propagation::Orphan } else { Propagation::Background })
            }),
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
        };
        Ok((deletion, !dry.is_empty() || self.dry_run("DeleteOptions")?))
    }

    fn deletion_object(&self) -> Result<Value, Status> {
        let mut options = self.options("DeleteOptions");
        if let Some(seconds) = self.number("gracePeriodSeconds")? {
            options["gracePeriodSeconds"] = seconds.into();
        }
        if self.has("orphanDependents") {
            options["orphanDependents"] = self.flag("orphanDependents").into();
        }
        let policy = self.text("propagationPolicy");
        if !policy.is_empty() {
            options["propagationPolicy"] = policy.into();
        }
        Ok(options)
    }
}

fn invalid(options: &str, errors: &[FieldError]) -> Status {
    Status::invalid(&GroupVersionKind::new("meta.k8s.io", "v1", options), "", errors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_held_to_their_types() {
        let parameters =
            Parameters::of("labelSelector=app%3Dweb%2Ctier+in+%28a%29&limit=5&watch=1&pretty&dryRun=All");
        assert_eq!(parameters.text("labelSelector"), "app=web,tier in (a)");
        assert_eq!(parameters.list().map(|list| list.limit), Ok(5));
        assert!(parameters.of_verb().watch && parameters.flag("pretty"));
        assert_eq!(parameters.dry_run("CreateOptions"), Ok(true));
        let wrong = Parameters::of("limit=x&dryRun=Some&fieldValidation=Loud&includeObject=All&watch=false");
        assert_eq!(wrong.list().map_err(|status| status.reason.code()), Err(400));
        assert_eq!(wrong.dry_run("CreateOptions").map_err(|status| status.reason.code()), Err(422));
        assert_eq!(wrong.field_validation("CreateOptions").map_err(|one| one.reason.code()), Err(422));
        assert_eq!(wrong.include_object().map_err(|status| status.reason.code()), Err(400));
        assert!(!wrong.of_verb().watch);
    }

    #[test]
    fn one_object_is_recognized_in_its_selector() {
        let name = |query: &str| Parameters::of(query).of_verb().name.map(str::to_owned);
        assert_eq!(name("fieldSelector=metadata.name%3Da"), Some("a".to_owned()));
        assert_eq!(name("fieldSelector=x%3Dy,metadata.name%3D%3Da"), Some("a".to_owned()));
        assert_eq!(name("fieldSelector=metadata.name%21%3Da"), None);
    }

    #[test]
    fn deletions_are_told_by_the_body_or_else_by_the_query() {
        let parameters = Parameters::of("gracePeriodSeconds=5&propagationPolicy=Foreground");
        let (options, dry) = parameters.deletion(None).unwrap();
        assert_eq!(
            (options.grace_period_seconds, options.propagation),
            (Some(5), Some(Propagation::Foreground))
        );
        assert!(!dry);
        let body = json!({"preconditions": {"uid": "u"}, "dryRun": ["All"], "orphanDependents": true});
        let (options, dry) = parameters.deletion(Some(&body)).unwrap();
        assert_eq!((options.grace_period_seconds, options.uid.as_deref()), (None, Some("u")));
        assert_eq!((options.propagation, dry), (Some(Propagation::Orphan), true));
        let both = json!({"orphanDependents": true, "propagationPolicy": "Orphan"});
        assert_eq!(parameters.deletion(Some(&both)).unwrap_err().reason.code(), 422);
    }
}
