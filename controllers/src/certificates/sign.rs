//! Signs what was approved, for the signers of kubernetes.io that have an authority. The decision is in the rules; here is what is
//! written of it.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::authority::{Authorities, Authority};
use super::{certificate, conditions, has, issue, request, rules};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, Plan};

/// A request that cannot be signed now is looked at again after this time: the authority may have been replaced.
const AGAIN: Duration = Duration::from_secs(60);

/// The controller that signs.
pub(crate) struct Signing(Authorities);

/// A request that was approved.
pub(crate) struct View {
    pub(super) csr: Arc<CertificateSigningRequest>,
    pub(super) authority: Arc<Authority>,
    pub(super) longest: Duration,
    /// Drawn, so that no two certificates have the same.
    pub(super) serial: [u8; 16],
}

impl Signing {
    /// With these authorities.
    pub(crate) fn new(authorities: Authorities) -> Self {
        Self(authorities)
    }
}

impl Controller for Signing {
    type View = View;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<CertificateSigningRequest>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<View> {
        let csr = caches.of::<CertificateSigningRequest>().get(key)?;
        let failed = conditions(&csr).iter().any(|it| it.type_ == "Failed" && it.status == "True");
        if !certificate(&csr).is_empty() || !has(&csr, "Approved") || has(&csr, "Denied") || failed {
            return None;
        }
        let authority = self.0.of(&csr.spec.signer_name)?;
        Some(View { csr, authority, longest: self.0.duration, serial: rand::random() })
    }

    fn plan(&self, view: &View, now: Timestamp) -> Plan {
        plan(view, now).unwrap_or_else(|error| {
            tracing::warn!(request = %view.csr.key(), error, "a request for a certificate cannot be signed");
            let mut plan = Plan::nothing();
            plan.look_again_after(AGAIN);
            plan
        })
    }
}

/// The certificate, or that the signer will never sign this; else why it cannot now.
pub(super) fn plan(view: &View, now: Timestamp) -> Result<Plan, String> {
    let spec = &view.csr.spec;
    let request = request::parse(&spec.request.0)?;
    let usages = spec.usages.as_deref().unwrap_or_default();
    let mut after = (*view.csr).clone();
    let status = after.status.get_or_insert_default();
    let why = match rules::check(&spec.signer_name, &request, usages) {
        Err(message) => {
            status.conditions.get_or_insert_default().push(CertificateSigningRequestCondition {
                type_: "Failed".to_owned(),
                status: "True".to_owned(),
                reason: Some("SignerValidationFailure".to_owned()),
                message: Some(message),
                last_update_time: Some(Time(now)),
                last_transition_time: None,
            });
            "the signer does not sign such requests"
        }
        Ok(()) => {
            let life = issue::lifetime(spec.expiration_seconds, view.longest);
            let der = issue::issue(&view.authority, &request, usages, life, view.serial, now)?;
            status.certificate = Some(ByteString(pem(&der).into_bytes()));
            "it was approved"
        }
    };
    let mut plan = Plan::nothing();
    if let Some(update) = Action::update_status(&*view.csr, &after) {
        plan.then(update.because(why));
    }
    Ok(plan)
}

fn pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let lines: Vec<_> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
