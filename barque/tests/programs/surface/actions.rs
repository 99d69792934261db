//! What is not created and listed: statuses of components, what nodes and pods use, reviews, bindings, evictions, tokens, and streams without a node to go to.

use std::collections::BTreeSet;

use barque_api::resources::{Builtin, Verb};
use http::Method;
use serde_json::{Value, json};

use super::{Api, NAMESPACE};

const JSON: &str = "application/json";

/// Creates and asks, and answers what was wrong.
pub(crate) async fn exercise(api: &Api, other: &Api) -> Vec<String> {
    let core = format!("/api/v1/namespaces/{NAMESPACE}");
    for name in ["bound", "bound-too", "evicted"] {
        let pod = json!({
            "metadata": {"name": name},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "nginx"}]},
        });
        api.json(Method::POST, &format!("{core}/pods"), JSON, &pod).await.unwrap();
    }
    let mut wrong = Vec::new();
    let mut asked = BTreeSet::new();
    for action in actions(&core) {
        asked.insert(action.resource.to_owned());
        let (code, answer) = api
            .send(action.method.clone(), &action.path, JSON, JSON, action.body.to_string().into_bytes())
            .await;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        let told = answer.pointer(action.told);
        if code != action.code || told != Some(&action.wanted) {
            wrong.push(format!("{} {}: {code} {answer}", action.method, action.path));
        }
    }
    // Where it went, the other server knows.
    for (name, node) in [("bound", "n1"), ("bound-too", "n2")] {
        let pod = other.json(Method::GET, &format!("{core}/pods/{name}"), JSON, &Value::Null).await.unwrap();
        if pod["spec"]["nodeName"] != node {
            wrong.push(format!("{name} is not on {node}: {pod}"));
        }
    }
    let evicted = other.json(Method::GET, &format!("{core}/pods/evicted"), JSON, &Value::Null).await;
    if !evicted.as_ref().is_err_and(|why| why.contains(" 404 ")) {
        wrong.push(format!("the evicted pod is still there: {evicted:?}"));
    }
    let rows: BTreeSet<String> = rows().collect();
    assert_eq!(rows, asked, "rows without collections, and what is asked of them");
    wrong
}

/// The rows that `exercise` has to ask.
fn rows() -> impl Iterator<Item = String> {
    Builtin::table().all().iter().flat_map(|resource| {
        let name = &resource.name.resource;
        let own = !(resource.can(Verb::Create) && resource.can(Verb::List));
        let own = own.then(|| name.to_string());
        let readable = |verbs: &[Verb]| verbs.contains(&Verb::Get) && verbs.contains(&Verb::Update);
        let below = resource.subresources.iter().filter(move |one| !readable(&one.verbs));
        own.into_iter().chain(below.map(move |one| format!("{name}/{}", one.name)))
    })
}

struct Action {
    resource: &'static str,
    method: Method,
    path: String,
    body: Value,
    code: u16,
    /// Where in the answer to look, and what must be there.
    told: &'static str,
    wanted: Value,
}

fn actions(core: &str) -> Vec<Action> {
    let post = |resource, path: String, body, told, wanted| Action {
        resource,
        method: Method::POST,
        path,
        body,
        code: 201,
        told,
        wanted,
    };
    let stream = |resource, path: &str, code, wanted: &str| Action {
        resource,
        method: Method::GET,
        path: format!("{core}/{path}"),
        body: Value::Null,
        code,
        told: "/message",
        wanted: wanted.into(),
    };
    let binding =
        |pod: &str, node: &str| json!({"metadata": {"name": pod}, "target": {"kind": "Node", "name": node}});
    let (authentication, authorization) = ("/apis/authentication.k8s.io/v1", "/apis/authorization.k8s.io/v1");
    let reading = json!({"namespace": NAMESPACE, "verb": "get", "resource": "pods"});
    let stranger = json!({"spec": {"user": "nobody", "resourceAttributes": reading}});
    let local = format!("{authorization}/namespaces/{NAMESPACE}/localsubjectaccessreviews");
    let read = |resource, path: &str, code, told, wanted| Action {
        resource,
        method: Method::GET,
        path: path.to_owned(),
        body: Value::Null,
        code,
        told,
        wanted,
    };
    let usage = "/apis/metrics.k8s.io/v1beta1";
    let components = "/api/v1/componentstatuses";
    let unplaced = "pod evicted does not have a host assigned";
    vec![
        read("componentstatuses", components, 200, "/items/0/conditions/0/status", "True".into()),
        read("componentstatuses", &format!("{components}/etcd-0"), 200, "/kind", "ComponentStatus".into()),
        read("componentstatuses", &format!("{components}/none"), 404, "/reason", "NotFound".into()),
        // Nobody tells when a component's state changes, in Kubernetes neither.
        read(
            "componentstatuses",
            &format!("{components}?watch=true"),
            405,
            "/reason",
            "MethodNotAllowed".into(),
        ),
        read("nodes", &format!("{usage}/nodes"), 200, "/kind", "NodeMetricsList".into()),
        read("pods", &format!("{usage}/namespaces/{NAMESPACE}/pods"), 200, "/kind", "PodMetricsList".into()),
        stream("pods/attach", "pods/evicted/attach", 400, unplaced),
        stream("pods/exec", "pods/evicted/exec?command=true&stdout=true", 400, unplaced),
        stream("pods/portforward", "pods/evicted/portforward?ports=80", 400, unplaced),
        stream("pods/proxy", "pods/evicted/proxy/", 400, "address not allowed"),
        stream("pods/log", "pods/nobody/log", 404, "pods \"nobody\" not found"),
        stream("services/proxy", "services/nobody/proxy/", 404, "services \"nobody\" not found"),
        Action {
            resource: "nodes/proxy",
            method: Method::GET,
            path: "/api/v1/nodes/nobody/proxy/".to_owned(),
            body: Value::Null,
            code: 404,
            told: "/message",
            wanted: "nodes \"nobody\" not found".into(),
        },
        post("bindings", format!("{core}/bindings"), binding("bound", "n1"), "/status", "Success".into()),
        post(
            "pods/binding",
            format!("{core}/pods/bound-too/binding"),
            binding("bound-too", "n2"),
            "/status",
            "Success".into(),
        ),
        post(
            "pods/eviction",
            format!("{core}/pods/evicted/eviction"),
            json!({"metadata": {"name": "evicted"}}),
            "/status",
            "Success".into(),
        ),
        post(
            "serviceaccounts/token",
            format!("{core}/serviceaccounts/default/token"),
            json!({"spec": {"expirationSeconds": 600}}),
            "/spec/expirationSeconds",
            600.into(),
        ),
        Action {
            resource: "namespaces/finalize",
            method: Method::PUT,
            path: format!("{core}/finalize"),
            body: json!({"metadata": {"name": NAMESPACE}, "spec": {"finalizers": ["kubernetes"]}}),
            code: 200,
            told: "/spec/finalizers",
            wanted: json!(["kubernetes"]),
        },
        post(
            "selfsubjectreviews",
            format!("{authentication}/selfsubjectreviews"),
            json!({}),
            "/status/userInfo/username",
            "admin".into(),
        ),
        post(
            "tokenreviews",
            format!("{authentication}/tokenreviews"),
            json!({"spec": {"token": "not.a.token"}}),
            "/spec/token",
            "not.a.token".into(),
        ),
        post(
            "subjectaccessreviews",
            format!("{authorization}/subjectaccessreviews"),
            stranger.clone(),
            "/status/allowed",
            false.into(),
        ),
        post("localsubjectaccessreviews", local, stranger, "/status/allowed", false.into()),
        post(
            "selfsubjectaccessreviews",
            format!("{authorization}/selfsubjectaccessreviews"),
            json!({"spec": {"resourceAttributes": reading}}),
            "/status/allowed",
            true.into(),
        ),
        post(
            "selfsubjectrulesreviews",
            format!("{authorization}/selfsubjectrulesreviews"),
            json!({"spec": {"namespace": NAMESPACE}}),
            "/status/incomplete",
            false.into(),
        ),
    ]
}
