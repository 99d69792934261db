//! What every namespace has from its start: a service account, and the certificates that its pods trust API servers by. Must
//! never make anything in a namespace that goes.

mod root_ca;
mod service_account;

use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;

use crate::cache::Caches;
use crate::controller::Watches;
use crate::kind::{Key, Object as _};

pub(crate) use root_ca::RootCertificates;
pub(crate) use service_account::ServiceAccounts;

/// Keys are the namespaces.
fn watch_namespaces(watches: &mut Watches<'_>) {
    watches.mapped::<Namespace>(|change, _| change.new.iter().map(|namespace| namespace.key()).collect());
    watches.all(|caches| caches.of::<Namespace>().all().iter().map(|namespace| namespace.key()).collect());
}

/// A namespace in which things may be made.
fn active(key: &Key, caches: &Caches) -> Option<Arc<Namespace>> {
    let phase = |namespace: &Namespace| namespace.status.as_ref().and_then(|status| status.phase.clone());
    caches.of::<Namespace>().get(key).filter(|namespace| phase(namespace).as_deref() == Some("Active"))
}
