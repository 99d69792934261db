//! Deletes requests that nobody needs any more: those that were decided about an hour ago, those that waited for a day, and those
//! whose certificate is not good any more. A decision; time is handed in.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{certificate, conditions, has};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::Key;
use crate::plan::{Action, ObjectId, Plan, Propagation};

/// Requests that were signed, denied or failed stay for so long.
const DECIDED: Duration = Duration::from_secs(3600);
/// Requests that wait, for approval or for a certificate, stay for so long.
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// The controller that cleans up.
pub(crate) struct Cleaning;

/// When a request goes, and why; the first of all reasons.
pub(super) fn deadline(csr: &CertificateSigningRequest) -> Option<(Timestamp, &'static str)> {
    let after = |time: &Option<Time>, delay: Duration| time.as_ref()?.0.checked_add(delay).ok();
    let issued = !certificate(csr).is_empty();
    let mut ends = Vec::new();
    if conditions(csr).is_empty() {
        ends.push((after(&csr.metadata.creation_timestamp, PENDING), "nobody decided about it"));
    }
    for condition in conditions(csr) {
        let (delay, why) = match condition.type_.as_str() {
            "Denied" => (DECIDED, "it was denied long ago"),
            "Failed" => (DECIDED, "it failed long ago"),
            "Approved" if issued => (DECIDED, "it was signed long ago"),
            "Approved" => (PENDING, "nobody signed it"),
            _ => continue,
        };
        ends.push((after(&condition.last_update_time, delay), why));
    }
    if has(csr, "Approved") && issued {
        ends.push((not_after(certificate(csr)), "its certificate is not good any more"));
    }
    ends.into_iter().filter_map(|(at, why)| Some((at?, why))).min_by_key(|(at, _)| *at)
}

/// Until when the first certificate is good.
fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let der = CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

impl Controller for Cleaning {
    type View = Arc<CertificateSigningRequest>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.objects::<CertificateSigningRequest>();
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<Self::View> {
        caches.of::<CertificateSigningRequest>().get(key)
    }

    fn plan(&self, csr: &Self::View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some((at, why)) = deadline(csr) else { return plan };
        if now > at {
            let delete = Action::Delete {
                object: ObjectId::of(&**csr),
                propagation: Propagation::Default,
                grace_seconds: None,
                unchanged: false,
            };
            plan.then(delete.because(why));
        } else {
            // The moment itself is not too late yet.
            let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
            plan.look_again_after(left + Duration::from_millis(1));
        }
        plan
    }
}
