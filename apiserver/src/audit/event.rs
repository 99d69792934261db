//! What is told of one request (`audit.k8s.io/v1` Event), grown while it is served, as one line of JSON at each stage. Must
//! never tell more than its level.

use barque_api::time::MicroTime;
use serde_json::{Map, Value, json};

use super::policy::{Audited, Level, Stage};
use crate::authorization::User;
use crate::http::request_info::RequestInfo;

/// Longer names of clients are cut.
const MAX_USER_AGENT: usize = 1024;
const CUT: &str = "...TRUNCATED";

/// A request as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Names the request in the log; the header `Audit-ID`, or a new UUID.
    pub audit_id: &'a str,
    /// Path and query.
    pub uri: &'a str,
    /// What it is about.
    pub info: &'a RequestInfo,
    /// Who asks, before impersonation.
    pub user: &'a User,
    /// Addresses of the client and of proxies.
    pub source_ips: &'a [String],
    /// The header `User-Agent`.
    pub user_agent: &'a str,
    /// When it came.
    pub at: MicroTime,
}

/// What is known so far about a request that is told.
#[derive(Clone, Debug)]
pub struct Record {
    audited: Audited,
    received: MicroTime,
    event: Map<String, Value>,
}

impl Record {
    /// Begins with what is known at once; nothing for a request that is not told.
    #[must_use]
    pub fn begin(audited: Audited, request: &Received<'_>) -> Option<Self> {
        if audited.level == Level::None {
            return None;
        }
        let mut event = Map::new();
        let mut put = |field: &str, value: Value| event.insert(field.to_owned(), value);
        put("kind", "Event".into());
        put("apiVersion", "audit.k8s.io/v1".into());
        put("level", audited.level.name().into());
        put("auditID", request.audit_id.into());
        put("requestURI", request.uri.into());
        put("user", user_info(request.user));
        put("requestReceivedTimestamp", request.at.to_string().into());
        if !request.source_ips.is_empty() {
            put("sourceIPs", json!(request.source_ips));
        }
        if !request.user_agent.is_empty() {
            put("userAgent", cut(request.user_agent).into());
        }
        match request.info {
            RequestInfo::Resource(resource) => {
                put("verb", resource.verb.into());
                let mut reference = Map::new();
                for (field, text) in [
                    ("resource", &*resource.resource.resource),
                    ("namespace", &resource.namespace),
                    ("name", &resource.name),
                    ("apiGroup", &*resource.resource.group),
                    ("apiVersion", &*resource.resource.version),
                    ("subresource", &resource.subresource),
                ] {
                    if !text.is_empty() {
                        reference.insert(field.to_owned(), text.into());
                    }
                }
                put("objectRef", reference.into());
            }
            RequestInfo::Other { verb, .. } => {
                put("verb", verb.clone().into());
            }
        }
        Some(Self { audited, received: request.at, event })
    }

    /// Whether bodies that were sent are wanted.
    #[must_use]
    pub fn wants_requests(&self) -> bool {
        self.audited.level >= Level::Request
    }

    /// Whether bodies that are answered are wanted.
    #[must_use]
    pub fn wants_responses(&self) -> bool {
        self.audited.level >= Level::RequestResponse
    }

    /// The request is done in the name of somebody else.
    pub fn impersonated(&mut self, user: &User) {
        self.event.insert("impersonatedUser".to_owned(), user_info(user));
    }

    /// The object that was sent. What the path did not say is taken from its metadata.
    pub fn request_object(&mut self, object: &Value) {
        if let Some(metadata) = object.get("metadata").and_then(Value::as_object)
            && let Some(reference) = self.event.get_mut("objectRef").and_then(Value::as_object_mut)
        {
            for field in ["namespace", "name", "uid", "resourceVersion"] {
                let text = metadata.get(field).and_then(Value::as_str).unwrap_or_default();
                if !text.is_empty() && !reference.contains_key(field) {
                    reference.insert(field.to_owned(), text.into());
                }
            }
        }
        if self.wants_requests() {
            let object = self.shown(object);
            self.event.insert("requestObject".to_owned(), object);
        }
    }

    /// The patch that was sent.
    pub fn request_patch(&mut self, patch: &Value) {
        if self.wants_requests() {
            self.event.insert("requestObject".to_owned(), patch.clone());
        }
    }

    /// How it ended, as a number of HTTP.
    pub fn response_code(&mut self, code: u16) {
        let status = self.event.entry("responseStatus").or_insert_with(|| json!({"metadata": {}}));
        status["code"] = code.into();
    }

    /// How it ended, as a `Status`.
    pub fn response_status(&mut self, status: &Value) {
        let mut told = json!({"metadata": {}});
        for field in ["status", "message", "reason", "details", "code"] {
            if let Some(value) = status.get(field).filter(|value| !value.is_null()) {
                told[field] = value.clone();
            }
        }
        self.event.insert("responseStatus".to_owned(), told);
    }

    /// The object that is answered.
    pub fn response_object(&mut self, object: &Value) {
        if self.wants_responses() {
            let object = self.shown(object);
            self.event.insert("responseObject".to_owned(), object);
        }
    }

    /// Something that authorization or admission has to say; what was said first stays.
    pub fn annotate(&mut self, key: &str, value: &str) {
        let annotations = self.event.entry("annotations").or_insert_with(|| json!({}));
        if annotations.get(key).is_none() {
            annotations[key] = value.into();
        }
    }

    /// The line for a stage, its end included; nothing for a stage that is not told.
    #[must_use]
    pub fn line(&self, stage: Stage, now: MicroTime) -> Option<Vec<u8>> {
        if self.audited.omit_stages.contains(&stage) {
            return None;
        }
        let at = if stage == Stage::RequestReceived { self.received } else { now };
        let mut event = self.event.clone();
        event.insert("stage".to_owned(), stage.name().into());
        event.insert("stageTimestamp".to_owned(), at.to_string().into());
        let mut line = Value::Object(event).to_string().into_bytes();
        line.push(b'\n');
        Some(line)
    }

    /// An object without what is to be left out, also within lists and tables.
    fn shown(&self, object: &Value) -> Value {
        let mut object = object.clone();
        if self.audited.omit_managed_fields {
            forget_managed_fields(&mut object);
            for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
                forget_managed_fields(item);
            }
            for row in object.get_mut("rows").and_then(Value::as_array_mut).into_iter().flatten() {
                if let Some(object) = row.get_mut("object") {
                    forget_managed_fields(object);
                }
            }
        }
        object
    }
}

fn forget_managed_fields(object: &mut Value) {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
}

fn user_info(user: &User) -> Value {
    let mut info = json!({"username": user.name});
    if !user.uid.is_empty() {
        info["uid"] = user.uid.clone().into();
    }
    if !user.groups.is_empty() {
        info["groups"] = json!(user.groups);
    }
    if !user.extra.is_empty() {
        info["extra"] = json!(user.extra);
    }
    info
}

fn cut(agent: &str) -> String {
    if agent.len() <= MAX_USER_AGENT {
        return agent.to_owned();
    }
    let end = (0..=MAX_USER_AGENT).rev().find(|end| agent.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{CUT}", &agent[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request_info::{Query, request_info};

    fn record(level: Level, omit_managed_fields: bool) -> Option<Record> {
        let audited = Audited { level, omit_stages: vec![Stage::Panic], omit_managed_fields };
        let info = request_info("POST", "/api/v1/namespaces/x/pods", Query::default());
        let user = User { name: "eva".into(), groups: vec!["staff".into()], ..User::default() };
        let request = Received {
            audit_id: "id",
            uri: "/api/v1/namespaces/x/pods?dryRun=All",
            info: &info,
            user: &user,
            source_ips: &["10.0.0.1".to_owned()],
            user_agent: "kubectl",
            at: MicroTime::of_unix_micros(1_500_000),
        };
        Record::begin(audited, &request)
    }

    fn told(record: &Record, stage: Stage) -> Value {
        serde_json::from_slice(&record.line(stage, MicroTime::of_unix_micros(2_000_000)).unwrap()).unwrap()
    }

    #[test]
    fn a_request_is_told_as_in_kubernetes() {
        let record = record(Level::Metadata, false).unwrap();
        let expected = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "level": "Metadata",
            "auditID": "id",
            "stage": "RequestReceived",
            "requestURI": "/api/v1/namespaces/x/pods?dryRun=All",
            "verb": "create",
            "user": {"username": "eva", "groups": ["staff"]},
            "sourceIPs": ["10.0.0.1"],
            "userAgent": "kubectl",
            "objectRef": {"resource": "pods", "namespace": "x", "apiVersion": "v1"},
            "requestReceivedTimestamp": "1970-01-01T00:00:01.500000Z",
            "stageTimestamp": "1970-01-01T00:00:01.500000Z",
        });
        assert_eq!(told(&record, Stage::RequestReceived), expected);
        let complete = told(&record, Stage::ResponseComplete);
        assert_eq!(complete["stageTimestamp"], "1970-01-01T00:00:02.000000Z");
        let line = record.line(Stage::ResponseComplete, MicroTime::of_unix_micros(0)).unwrap();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        assert_eq!(record.line(Stage::Panic, MicroTime::of_unix_micros(0)), None);
    }

    #[test]
    fn bodies_are_told_by_level() {
        let object = json!({"metadata": {"name": "web", "uid": "u", "managedFields": [1]}, "spec": {}});
        let bare = json!({"metadata": {"name": "web", "uid": "u"}, "spec": {}});
        let table = [
            (Level::Metadata, false, None, None),
            (Level::Request, true, Some(&bare), None),
            (Level::RequestResponse, true, Some(&bare), Some(json!({"items": [bare]}))),
            (Level::RequestResponse, false, Some(&object), Some(json!({"items": [object]}))),
        ];
        for (level, omit, request, response) in table {
            let mut record = record(level, omit).unwrap();
            record.request_object(&object);
            record.response_object(&json!({"items": [object]}));
            let event = told(&record, Stage::ResponseComplete);
            assert_eq!(
                (event.get("requestObject"), event.get("responseObject")),
                (request, response.as_ref())
            );
            assert_eq!(
                (&event["objectRef"]["name"], &event["objectRef"]["uid"]),
                (&json!("web"), &json!("u"))
            );
        }
        assert!(record(Level::None, false).is_none());
    }

    #[test]
    fn how_it_ended_and_what_was_said_is_told() {
        let mut record = record(Level::Metadata, false).unwrap();
        record.annotate("authorization.k8s.io/decision", "allow");
        record.annotate("authorization.k8s.io/decision", "forbid");
        record.response_code(201);
        let event = told(&record, Stage::ResponseComplete);
        assert_eq!(event["annotations"], json!({"authorization.k8s.io/decision": "allow"}));
        assert_eq!(event["responseStatus"], json!({"metadata": {}, "code": 201}));
        record.response_status(
            &json!({"kind": "Status", "status": "Failure", "reason": "Conflict", "code": 409}),
        );
        let expected = json!({"metadata": {}, "status": "Failure", "reason": "Conflict", "code": 409});
        assert_eq!(told(&record, Stage::ResponseComplete)["responseStatus"], expected);
        record.impersonated(&User { name: "adam".into(), ..User::default() });
        assert_eq!(told(&record, Stage::ResponseComplete)["impersonatedUser"], json!({"username": "adam"}));
    }

    #[test]
    fn long_names_of_clients_are_cut_between_characters() {
        assert_eq!(cut(&"a".repeat(1024)).len(), 1024);
        let long = format!("{}ä{}", "a".repeat(1023), "b".repeat(10));
        assert_eq!(cut(&long), format!("{}{CUT}", "a".repeat(1023)));
    }
}
