//! Deployments with Services that clients create, scale, roll and delete, on hollow nodes. What fails may have been done; what there
//! is in the end is asked, not remembered.

use serde_json::{Value, json};

use super::Session;
use crate::masters::client::outcome;
use crate::masters::entry::Request;

/// Where Deployments are.
pub(crate) const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
/// Where Services are.
pub(crate) const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Deployments of one client at most.
const NAMES: u32 = 2;
/// Pods of one at most.
const REPLICAS: u32 = 3;
/// Nobody pulls it.
const IMAGE: &str = "i";

/// Goes on until the run ends.
pub(super) async fn run(mut session: Session) {
    while session.goes_on() {
        let number = session.below(NAMES);
        let name = format!("d{}-{number}", session.id.0);
        match session.below(10) {
            0 | 1 => remove(&mut session, &name).await,
            2..=4 => scale(&mut session, &name).await,
            5..=7 => roll(&mut session, &name).await,
            _ => create(&mut session, &name).await,
        }
        // Ten times as slow as those who only write.
        for _ in 0..10 {
            session.pause().await;
        }
    }
}

/// Sends a request; it is written down with the name of what it is about at its end.
async fn ask(session: &mut Session, method: &str, uri: &str, body: Option<Value>) {
    let server = session.any_server();
    let name = body.as_ref().filter(|_| method == "POST").and_then(|body| body["metadata"]["name"].as_str());
    let what = name.map_or_else(|| format!("{method} {uri}"), |name| format!("{method} {uri}/{name}"));
    let request = Request::Other { what };
    let operation = session.shared.recorder.invoked(session.id, &server.name, request.clone());
    let answer = server.ask(method, uri, body).await;
    session.shared.recorder.completed(operation, outcome(&request, answer));
}

async fn create(session: &mut Session, name: &str) {
    let labels = json!({"app": name});
    let round = session.unique();
    let deployment = json!({
        "metadata": {"name": name, "annotations": {"round": round}},
        "spec": {
            "replicas": 1 + session.below(REPLICAS),
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"round": round}},
                "spec": {"containers": [{"name": "c", "image": IMAGE}], "terminationGracePeriodSeconds": 1},
            },
        },
    });
    ask(session, "POST", DEPLOYMENTS, Some(deployment)).await;
    let kind = if session.below(2) == 0 { "NodePort" } else { "ClusterIP" };
    let service = json!({
        "metadata": {"name": name},
        "spec": {"type": kind, "selector": labels, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81}]},
    });
    ask(session, "POST", SERVICES, Some(service)).await;
}

async fn scale(session: &mut Session, name: &str) {
    let change = json!({"spec": {"replicas": session.below(REPLICAS + 1)}});
    ask(session, "PATCH", &format!("{DEPLOYMENTS}/{name}"), Some(change)).await;
}

async fn roll(session: &mut Session, name: &str) {
    let round = json!({"annotations": {"round": session.unique()}});
    let change = json!({"metadata": round, "spec": {"template": {"metadata": round}}});
    ask(session, "PATCH", &format!("{DEPLOYMENTS}/{name}"), Some(change)).await;
}

async fn remove(session: &mut Session, name: &str) {
    ask(session, "DELETE", &format!("{DEPLOYMENTS}/{name}"), None).await;
    ask(session, "DELETE", &format!("{SERVICES}/{name}"), None).await;
}
