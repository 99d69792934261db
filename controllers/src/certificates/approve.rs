//! Approves what kubelets ask for as clients, if who asks may have that: a node for itself, or a bootstrapper for any node.
//! Whether they may is the API's to say. A decision.

use std::sync::Arc;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::request::{self, Request};
use super::{KUBELET_CLIENT, certificate, has, rules};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::Key;
use crate::plan::{Action, ObjectId, Plan, difference};
use crate::question::{Answer, Answers, Question};

/// Where reviews are asked for.
const REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// The controller that approves.
pub(crate) struct Approval;

/// A request that nobody has decided about.
pub(crate) struct View {
    pub(super) csr: Arc<CertificateSigningRequest>,
    pub(super) answers: Answers,
}

/// What one may do who gets such a certificate, and what is said then.
const RIGHTS: [(&str, &str); 2] = [
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
];

/// Which rights would be enough, in order.
fn recognized(csr: &CertificateSigningRequest, request: &Request) -> Vec<(&'static str, &'static str)> {
    let spec = &csr.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    if spec.signer_name != KUBELET_CLIENT || rules::kubelet_client(request, usages).is_err() {
        return Vec::new();
    }
    let is_self = spec.username.as_deref().unwrap_or_default() == request.common_name;
    RIGHTS.into_iter().filter(|(right, _)| *right != "selfnodeclient" || is_self).collect()
}

fn review(csr: &CertificateSigningRequest, right: &str) -> Question {
    let spec = &csr.spec;
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": spec.username, "uid": spec.uid, "groups": spec.groups, "extra": spec.extra,
            "resourceAttributes": {
                "group": "certificates.k8s.io", "resource": "certificatesigningrequests", "verb": "create",
                "subresource": right, "version": "*",
            },
        },
    });
    Question::review(REVIEWS, body)
}

fn rights(csr: &CertificateSigningRequest) -> Vec<(&'static str, &'static str)> {
    request::parse(&csr.spec.request.0).map(|request| recognized(csr, &request)).unwrap_or_default()
}

impl Controller for Approval {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<CertificateSigningRequest>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let csr = caches.of::<CertificateSigningRequest>().get(key)?;
        let open = certificate(&csr).is_empty() && !has(&csr, "Approved") && !has(&csr, "Denied");
        open.then(|| View { csr, answers: Answers::default() })
    }

    fn questions(&self, view: &View) -> Vec<Question> {
        for (right, _) in rights(&view.csr) {
            let question = review(&view.csr, right);
            match view.answers.to(&question) {
                None => return vec![question],
                Some(Ok(answer)) if answer["status"]["allowed"] == true => break,
                Some(_) => {}
            }
        }
        Vec::new()
    }

    fn learn(&self, view: &mut View, question: Question, answer: Answer) {
        view.answers.learn(question, answer);
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        for (right, message) in rights(&view.csr) {
            match view.answers.to(&review(&view.csr, right)) {
                Some(Ok(answer)) if answer["status"]["allowed"] == true => {
                    plan.then(approve(&view.csr, message, now).because("who asks may have it"));
                    return plan;
                }
                _ => {
                    // The right may come later, and nothing tells when; upstream asks again and again, too.
                    plan.look_again_after(ASK_AGAIN);
                }
            }
        }
        plan
    }
}

/// How long until it is asked again whether somebody may have a certificate.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

fn approve(csr: &CertificateSigningRequest, message: &str, now: Timestamp) -> Action {
    let mut after = csr.clone();
    after.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: "Approved".to_owned(),
            status: "True".to_owned(),
            reason: Some("AutoApproved".to_owned()),
            message: Some(message.to_owned()),
            last_update_time: Some(Time(now)),
            last_transition_time: None,
        },
    );
    let json = |csr: &CertificateSigningRequest| {
        serde_json::to_value(&csr.status).expect("objects of the API can be written as JSON")
    };
    let patch = difference(&json(csr), &json(&after)).unwrap_or_default();
    Action::Update {
        object: ObjectId::of(csr),
        subresource: Some("approval"),
        patch: json!({"status": patch}),
    }
}
