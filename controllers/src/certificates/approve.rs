//! Approves what kubelets ask for, if who asks may have that: as clients, a node for itself or a bootstrapper for any node; as
//! servers, a node for itself and for nothing that is somebody else's, which is refused. Whether they may is the API's to say. A
//! decision.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::sync::Arc;

use barque_api::node_certificate::user;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;

use super::request::{self, Request};
use super::serving::{self, Verdict};
use super::{KUBELET_CLIENT, KUBELET_SERVING, certificate, has, rules};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
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
    /// Which other nodes have the addresses that it is for.
    pub(super) holders: BTreeMap<IpAddr, String>,
}

/// What one may do who gets such a certificate, and what is said then.
const RIGHTS: [(&str, &str); 2] = [
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview."),
    ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview."),
];
/// The same for servers.
const SERVING_RIGHTS: [(&str, &str); 1] = [(
    "selfnodeserving",
    "Auto approving self kubelet serving certificate after SubjectAccessReview and a look at its names.",
)];

/// Which rights would be enough, in order.
fn recognized(csr: &CertificateSigningRequest, request: &Request) -> Vec<(&'static str, &'static str)> {
    let spec = &csr.spec;
    let usages = spec.usages.as_deref().unwrap_or_default();
    let is_self = spec.username.as_deref().unwrap_or_default() == request.common_name;
    if rules::check(&spec.signer_name, request, usages).is_err() {
        return Vec::new();
    }
    match spec.signer_name.as_str() {
        KUBELET_CLIENT => {
            RIGHTS.into_iter().filter(|(right, _)| *right != "selfnodeclient" || is_self).collect()
        }
        KUBELET_SERVING if is_self => SERVING_RIGHTS.to_vec(),
        _ => Vec::new(),
    }
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

/// What can be said about a request.
enum Decision {
    /// This must be asked first.
    Ask(Question),
    /// It is approved with this message.
    Approve(&'static str),
    /// It is refused with this one.
    Deny(String),
    /// Not yet, or it is not for this controller.
    Nothing {
        /// Something may come that nothing tells of.
        later: bool,
    },
}

fn decide(view: &View) -> Decision {
    let Ok(request) = request::parse(&view.csr.spec.request.0) else {
        return Decision::Nothing { later: false };
    };
    let rights = recognized(&view.csr, &request);
    let mut allowed = None;
    for (right, message) in &rights {
        let question = review(&view.csr, right);
        match view.answers.to(&question) {
            None => return Decision::Ask(question),
            Some(Ok(answer)) if answer["status"]["allowed"] == true => {
                allowed = Some(*message);
                break;
            }
            Some(_) => {}
        }
    }
    match allowed {
        // The right may come later; upstream asks again and again, too.
        None => Decision::Nothing { later: !rights.is_empty() },
        Some(message) if view.csr.spec.signer_name == KUBELET_SERVING => serving(view, &request, message),
        Some(message) => Decision::Approve(message),
    }
}

/// About one as a server, which may have one.
fn serving(view: &View, request: &Request, message: &'static str) -> Decision {
    let Some(node) = request.common_name.strip_prefix(&user("")) else {
        return Decision::Nothing { later: false };
    };
    let mut known = Vec::new();
    for question in serving::questions(node) {
        match view.answers.to(&question) {
            None => return Decision::Ask(question),
            Some(Ok(answer)) => known.push(answer),
            Some(Err(failure)) => {
                tracing::debug!(
                    node,
                    why = failure.message,
                    "it is not known yet what the node may be called"
                );
                return Decision::Nothing { later: true };
            }
        }
    }
    let Ok(known) = <[_; 3]>::try_from(known) else { return Decision::Nothing { later: true } };
    match serving::verdict(request, node, known, &view.holders) {
        Verdict::May => Decision::Approve(message),
        Verdict::MayNot(refusal) => Decision::Deny(refusal.to_string()),
        Verdict::Unclear(why) => {
            tracing::warn!(request = %view.csr.key(), why, "a node's certificate as a server is not approved yet");
            Decision::Nothing { later: true }
        }
    }
}

impl Controller for Approval {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<CertificateSigningRequest>();
        watches.read::<Node>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let csr = caches.of::<CertificateSigningRequest>().get(key)?;
        let open = certificate(&csr).is_empty() && !has(&csr, "Approved") && !has(&csr, "Denied");
        if !open {
            return None;
        }
        let request = (csr.spec.signer_name == KUBELET_SERVING).then(|| request::parse(&csr.spec.request.0));
        let holders = match request {
            Some(Ok(request)) => {
                let node = request.common_name.strip_prefix(&user("")).unwrap_or_default();
                serving::holders(&request, node, &caches.of::<Node>().all())
            }
            _ => BTreeMap::new(),
        };
        Some(View { csr, answers: Answers::default(), holders })
    }

    fn questions(&self, view: &View) -> Vec<Question> {
        match decide(view) {
            Decision::Ask(question) => vec![question],
            _ => Vec::new(),
        }
    }

    fn learn(&self, view: &mut View, question: Question, answer: Answer) {
        view.answers.learn(question, answer);
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        match decide(view) {
            Decision::Approve(message) => {
                let approved = said(&view.csr, "Approved", "AutoApproved", message, now);
                plan.then(approved.because("who asks may have it"));
            }
            Decision::Deny(message) => {
                let denied = said(&view.csr, "Denied", "NotItsOwn", &message, now);
                plan.then(denied.because("it asks for what is not its own"));
            }
            Decision::Nothing { later: false } => {}
            Decision::Nothing { later: true } | Decision::Ask(_) => plan.look_again_after(ASK_AGAIN),
        }
        plan
    }
}

/// How long until it is asked again whether somebody may have a certificate.
const ASK_AGAIN: std::time::Duration = std::time::Duration::from_secs(10);

/// The request with this condition.
fn said(csr: &CertificateSigningRequest, what: &str, reason: &str, message: &str, now: Timestamp) -> Action {
    let mut after = csr.clone();
    after.status.get_or_insert_default().conditions.get_or_insert_default().push(
        CertificateSigningRequestCondition {
            type_: what.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
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
