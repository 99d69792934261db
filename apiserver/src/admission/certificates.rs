//! CertificateApproval, CertificateSigning and CertificateSubjectRestriction: who approves and signs must be allowed to for the
//! signer, and nobody gets a certificate of the group that may do everything. Must never read the network.

use barque_api::field_selector::FieldSelector;
use barque_api::status::Status;
use serde_json::Value;

use super::pod::{given, text};
use super::signing_request::subject;
use super::{Admission, Attributes, Operation};
use crate::authorization::{Action, Decision, MASTERS};
use crate::storage::Storage;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
/// Whose certificates clients of the API server use.
const CLIENTS: &str = "kubernetes.io/kube-apiserver-client";

impl<S: Storage> Admission<S> {
    /// Whether somebody who approves may do so for the signer. The old object counts, so that nobody changes the name to one
    /// that suits.
    pub(super) fn check_approval(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else { return Ok(()) };
        if attributes.is_about(GROUP, REQUESTS) && attributes.subresource == "approval" {
            self.check_signer(attributes, "approve", text(old, "/spec/signerName"))?;
        }
        Ok(())
    }

    /// Whether somebody who writes a certificate may do so for the signer.
    pub(super) fn check_signing(&self, attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let (Operation::Update, Some(old)) = (attributes.operation, attributes.old) else { return Ok(()) };
        if attributes.is_about(GROUP, REQUESTS)
            && attributes.subresource == "status"
            && (differs(object, old, "/status/certificate") || differs(object, old, "/status/conditions"))
        {
            self.check_signer(attributes, "sign", text(old, "/spec/signerName"))?;
        }
        Ok(())
    }

    fn check_signer(&self, attributes: &Attributes<'_>, verb: &str, signer: &str) -> Result<(), Status> {
        let may = |name: &str| {
            let action = Action::Resource {
                verb: verb.to_owned(),
                group: GROUP.to_owned(),
                resource: "signers".to_owned(),
                namespace: String::new(),
                name: name.to_owned(),
            };
            matches!(
                (self.authorize)(attributes.user, &action, &FieldSelector::default()),
                Decision::Allow(_)
            )
        };
        let domain = signer.split('/').next().unwrap_or_default();
        if may(signer) || may(&format!("{domain}/*")) {
            return Ok(());
        }
        Err(attributes.forbidden(format!("user not permitted to {verb} requests with signerName {signer:?}")))
    }
}

fn differs(object: &Value, old: &Value, pointer: &str) -> bool {
    let is_empty = |value: &&Value| value.as_array().is_some_and(Vec::is_empty) || **value == "";
    let read = |object| given(object, pointer).filter(|value| !is_empty(value));
    read(object) != read(old)
}

/// Whether a new request asks for less than everything.
pub(super) fn check_subject(attributes: &Attributes<'_>, object: &Value) -> Result<(), Status> {
    if attributes.operation != Operation::Create
        || !attributes.is_plainly(GROUP, REQUESTS)
        || text(object, "/spec/signerName") != CLIENTS
    {
        return Ok(());
    }
    let subject =
        subject(object).map_err(|error| attributes.forbidden(format!("failed to parse CSR: {error}")))?;
    if subject.organizations.iter().any(|group| group == MASTERS) {
        return Err(
            attributes.forbidden(format!("use of {CLIENTS} signer with {MASTERS} group is not allowed"))
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::admission::signing_request::sample;
    use crate::admission::test_cluster::{Asked, Cluster};

    fn requests() -> Asked {
        Asked::create(GROUP, REQUESTS, "CertificateSigningRequest").named("r")
    }

    #[tokio::test]
    async fn signers_are_guarded() {
        let cluster = Cluster::with(&[]).await;
        let old = json!({"spec": {"signerName": "x.io/s"}, "status": {}});
        let new = json!({"spec": {"signerName": "x.io/mine"}, "status": {"certificate": "Yg=="}});
        let exact = ["approve signers.certificates.k8s.io x.io/s", "sign signers.certificates.k8s.io x.io/s"];
        let domain =
            ["approve signers.certificates.k8s.io x.io/*", "sign signers.certificates.k8s.io x.io/*"];
        let other =
            ["approve signers.certificates.k8s.io x.io/mine", "sign signers.certificates.k8s.io y.io/*"];
        for (rights, allowed) in [(&exact, true), (&domain, true), (&other, false)] {
            let asked = requests().over(old.clone()).by("eva", rights);
            let approval = asked.clone().below("approval");
            let signing = asked.clone().below("status");
            for (answer, verb) in [
                (cluster.admission.check_approval(&approval.attributes()), "approve"),
                (cluster.admission.check_signing(&signing.attributes(), &new), "sign"),
            ] {
                let expected = format!(
                    "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: user not permitted to {verb} \
                     requests with signerName \"x.io/s\""
                );
                assert_eq!(answer.is_ok(), allowed, "{rights:?}");
                assert!(answer.err().is_none_or(|status| status.message == expected));
            }
            // What is not about certificates is for everybody who may write it.
            assert_eq!(cluster.admission.check_signing(&signing.attributes(), &old), Ok(()));
            assert_eq!(cluster.admission.check_approval(&asked.attributes()), Ok(()));
        }
    }

    #[test]
    fn nobody_gets_the_group_that_may_do_everything() {
        let check =
            |object: &Value| check_subject(&requests().attributes(), object).map_err(|status| status.message);
        assert_eq!(check(&sample(CLIENTS, "eva", "team")), Ok(()));
        assert_eq!(check(&sample("x.io/s", "eva", MASTERS)), Ok(()));
        let about = "certificatesigningrequests.certificates.k8s.io \"r\" is forbidden: ";
        assert_eq!(
            check(&sample(CLIENTS, "eva", MASTERS)),
            Err(format!(
                "{about}use of kubernetes.io/kube-apiserver-client signer with system:masters group is not allowed"
            ))
        );
        assert_eq!(
            check(&json!({"spec": {"signerName": CLIENTS, "request": "eA=="}})),
            Err(format!("{about}failed to parse CSR: PEM block type must be CERTIFICATE REQUEST"))
        );
    }
}
