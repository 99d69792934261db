//! Where a request belongs: the first schema that it matches, that schema's level, and the flow in it. The two schemas that
//! every cluster has are there even before the store was read. Pure; must never decide whether there is room.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use super::level::{Level, Response};
use super::schema::{Distinguisher, Schema};
use crate::authorization::{MASTERS, User};
use crate::http::request_info::RequestInfo;

/// The name of the level and the schema that are never limited.
pub const EXEMPT: &str = "exempt";
/// The name of the level and the schema that take what nothing else takes.
pub const CATCH_ALL: &str = "catch-all";

/// All schemas and levels, as they are now. Never changes; a new one takes its place.
#[derive(Clone, Debug, Default)]
pub struct Configuration {
    /// In the order in which they are asked; those whose level is missing are left out.
    schemas: Vec<Arc<Schema>>,
    levels: BTreeMap<Arc<str>, Arc<Level>>,
}

/// Where a request belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classified {
    /// The schema.
    pub schema: Arc<str>,
    /// Its uid, for the header `X-Kubernetes-PF-FlowSchema-UID`.
    pub schema_uid: Arc<str>,
    /// The level.
    pub level: Arc<str>,
    /// Its uid, for the header `X-Kubernetes-PF-PriorityLevel-UID`.
    pub level_uid: Arc<str>,
    /// Which of the schema's flows; empty when they are all one.
    pub distinguisher: String,
}

impl Classified {
    /// Tells the client where its request belonged.
    pub fn write_headers(&self, headers: &mut HeaderMap) {
        for (name, uid) in [
            ("x-kubernetes-pf-flowschema-uid", &self.schema_uid),
            ("x-kubernetes-pf-prioritylevel-uid", &self.level_uid),
        ] {
            if let Ok(value) = HeaderValue::from_str(uid) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

impl Configuration {
    /// Of the objects that there are. The mandatory ones are added where they are missing.
    #[must_use]
    pub fn new(
        schemas: impl IntoIterator<Item = Arc<Schema>>,
        levels: impl IntoIterator<Item = Arc<Level>>,
    ) -> Self {
        let mut levels: BTreeMap<_, _> =
            levels.into_iter().map(|level| (Arc::clone(&level.name), level)).collect();
        for level in mandatory_levels() {
            levels.entry(Arc::clone(&level.name)).or_insert_with(|| Arc::new(level));
        }
        let mut schemas: Vec<_> =
            schemas.into_iter().filter(|schema| levels.contains_key(&schema.level)).collect();
        schemas.sort_by(|a, b| (a.precedence, &a.name).cmp(&(b.precedence, &b.name)));
        Self { schemas, levels }
    }

    /// The levels by name.
    pub fn levels(&self) -> impl Iterator<Item = &Arc<Level>> {
        self.levels.values()
    }

    /// Pairs of schemas and their levels, by name, the mandatory ones among them.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let stored = self.schemas.iter().map(|schema| (&*schema.name, &*schema.level));
        stored.chain([(EXEMPT, EXEMPT), (CATCH_ALL, CATCH_ALL)])
    }

    /// Where a request belongs.
    #[must_use]
    pub fn classify(&self, user: &User, info: &RequestInfo) -> Classified {
        // Before the store was read, administrators get through already.
        let is_master = user.groups.iter().any(|group| group == MASTERS);
        match self.schemas.iter().find(|schema| schema.matches(user, info)) {
            Some(schema) => self.classified(schema, user, info),
            None if is_master => self.unstored(EXEMPT, ""),
            None => self.unstored(CATCH_ALL, &user.name),
        }
    }

    fn classified(&self, schema: &Schema, user: &User, info: &RequestInfo) -> Classified {
        let distinguisher = match (schema.distinguisher, info) {
            (Some(Distinguisher::ByUser), _) => user.name.as_str(),
            (Some(Distinguisher::ByNamespace), RequestInfo::Resource(resource)) => &resource.namespace,
            (Some(Distinguisher::ByNamespace), RequestInfo::Other { .. }) | (None, _) => "",
        };
        Classified {
            schema: Arc::clone(&schema.name),
            schema_uid: Arc::clone(&schema.uid),
            level: Arc::clone(&schema.level),
            level_uid: self.level_uid(&schema.level),
            distinguisher: distinguisher.to_owned(),
        }
    }

    fn unstored(&self, name: &str, distinguisher: &str) -> Classified {
        Classified {
            schema: name.into(),
            schema_uid: Arc::from(""),
            level: name.into(),
            level_uid: self.level_uid(name),
            distinguisher: distinguisher.to_owned(),
        }
    }

    fn level_uid(&self, name: &str) -> Arc<str> {
        self.levels.get(name).map_or_else(|| Arc::from(""), |level| Arc::clone(&level.uid))
    }
}

/// As they are in every cluster.
fn mandatory_levels() -> [Level; 2] {
    let level = |name: &str, shares, response| Level {
        name: name.into(),
        uid: Arc::from(""),
        shares,
        lendable_percent: 0,
        borrowing_percent: None,
        response,
    };
    [level(EXEMPT, 0, Response::Exempt), level(CATCH_ALL, 5, Response::Reject)]
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::request_info::{Query, request_info};

    /// What every cluster has from its start.
    pub(in crate::flow_control) fn of_the_start() -> Configuration {
        let text = include_str!("../../data/bootstrap/flow-control.yaml");
        let tables: Value = serde_saphyr::from_str(text).unwrap();
        let specs = |kind: &str| {
            let of = |table: &str| tables[table][kind].as_object().cloned().unwrap_or_default();
            let all = of("mandatory").into_iter().chain(of("suggested"));
            let object = |(name, spec): (String, Value)| json!({"metadata": {"name": name, "uid": format!("of-{name}")}, "spec": spec});
            all.map(object).collect::<Vec<_>>()
        };
        let schemas = specs("FlowSchema");
        let schemas = schemas.iter().map(|object| Arc::new(Schema::of(object).unwrap()));
        let levels = specs("PriorityLevelConfiguration");
        let levels = levels.iter().map(|object| Arc::new(Level::of(object).unwrap()));
        Configuration::new(schemas, levels)
    }

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: name.into(), groups, ..User::default() }
    }

    #[test]
    fn requests_belong_where_kubernetes_puts_them() {
        let configuration = of_the_start();
        let known = "system:authenticated";
        let lease = "PUT /apis/coordination.k8s.io/v1/namespaces/kube-system/leases/a";
        let node = user("system:node:a", &["system:nodes", known]);
        let manager = user("system:kube-controller-manager", &[known]);
        let account = user("system:serviceaccount:x:y", &["system:serviceaccounts", known]);
        let table = [
            (user("root", &["system:masters"]), "GET /api/v1/pods", "exempt exempt "),
            (user("system:anonymous", &["system:unauthenticated"]), "GET /livez/etcd", "probes exempt "),
            (manager.clone(), lease, "system-leader-election leader-election system:kube-controller-manager"),
            (manager, "GET /api/v1/namespaces/n/pods", "kube-controller-manager workload-high n"),
            (node.clone(), "PATCH /api/v1/nodes/a/status", "system-node-high node-high system:node:a"),
            (node, "GET /api/v1/namespaces/n/pods/b", "system-nodes system system:node:a"),
            (account, "GET /api/v1/pods", "service-accounts workload-low system:serviceaccount:x:y"),
            (user("eva", &[known]), "GET /api/v1/pods", "global-default global-default eva"),
            (user("eva", &[]), "GET /api/v1/pods", "catch-all catch-all eva"),
        ];
        for (user, line, expected) in table {
            let (method, path) = line.split_once(' ').unwrap();
            let found = configuration.classify(&user, &request_info(method, path, Query::default()));
            let told = format!("{} {} {}", found.schema, found.level, found.distinguisher);
            assert_eq!(told, expected, "{} {line}", user.name);
        }
    }

    #[test]
    fn answers_name_schema_and_level() {
        let info = request_info("GET", "/api/v1/pods", Query::default());
        let mut headers = HeaderMap::new();
        of_the_start().classify(&user("eva", &["system:authenticated"]), &info).write_headers(&mut headers);
        assert_eq!(headers["X-Kubernetes-PF-FlowSchema-UID"], "of-global-default");
        assert_eq!(headers["X-Kubernetes-PF-PriorityLevel-UID"], "of-global-default");
    }

    #[test]
    fn mandatory_levels_are_there_without_a_store() {
        let empty = Configuration::new([], []);
        let info = request_info("GET", "/api/v1/pods", Query::default());
        assert_eq!(&*empty.classify(&user("root", &[MASTERS]), &info).level, EXEMPT);
        assert_eq!(&*empty.classify(&user("eva", &[]), &info).level, CATCH_ALL);
        assert_eq!(empty.levels().count(), 2);
    }

    #[test]
    fn a_schema_without_its_level_is_passed_over() {
        let schema = json!({"metadata": {"name": "a"}, "spec": {
            "priorityLevelConfiguration": {"name": "gone"}, "matchingPrecedence": 1,
            "rules": [{"subjects": [{"kind": "Group", "group": {"name": "*"}}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}],
        }});
        let configuration = Configuration::new([Arc::new(Schema::of(&schema).unwrap())], []);
        let info = request_info("GET", "/livez", Query::default());
        assert_eq!(&*configuration.classify(&user("eva", &[]), &info).schema, CATCH_ALL);
    }
}
