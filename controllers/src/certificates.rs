//! CertificateSigningRequests: those of nodes are approved or refused, approved ones are signed, old ones are cleaned up. Must never
//! sign what nobody approved.

mod approve;
mod authority;
mod clean;
mod der;
mod issue;
mod request;
mod rules;
mod serving;
mod sign;
#[cfg(test)]
mod tests;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};

pub(crate) use approve::Approval;
pub(crate) use authority::Authorities;
pub use authority::AuthorityError;
pub(crate) use clean::Cleaning;
pub(crate) use sign::Signing;

/// Certificates of kubelets, as clients of the API server.
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Certificates of kubelets, as servers.
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
/// Certificates of clients of the API server.
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
/// Certificates that nobody says what they are for.
const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

fn conditions(csr: &CertificateSigningRequest) -> &[CertificateSigningRequestCondition] {
    csr.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

/// Whether somebody said this of it, whatever the condition's status is.
fn has(csr: &CertificateSigningRequest, condition: &str) -> bool {
    conditions(csr).iter().any(|it| it.type_ == condition)
}

/// Its certificate; empty when there is none.
fn certificate(csr: &CertificateSigningRequest) -> &[u8] {
    let status = csr.status.as_ref();
    status.and_then(|status| status.certificate.as_ref()).map_or(&[], |bytes| bytes.0.as_slice())
}
