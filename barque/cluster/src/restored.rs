//! A cluster that began with a snapshot of another one: what that one kept of its masters and of who may join is put right. Must
//! never touch an object of users.

use std::collections::BTreeMap;

use barque_api::node_certificate::SERVER_NAMES;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Map, Value, json};

use crate::discovery::told;
use crate::objects::{AUTHORITIES, CLUSTER_INFO};
use crate::pki::Authorities;
use crate::rotation::objects as rotation;
use crate::settings::{self, ClusterSettings, MASTERS, NAMESPACE, SettingsError};

/// Why the cluster cannot go on with what the snapshot has.
#[derive(Debug, thiserror::Error)]
pub enum RestoredError {
    /// The API server.
    #[error("{what}: {}", told(error))]
    Asked {
        /// What was tried.
        what: &'static str,
        /// What the API server said.
        error: Box<kube::Error>,
    },
    /// What the snapshot says of its cluster.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Objects of the snapshot have addresses or names that this cluster has not.
    #[error(
        "the snapshot is of a cluster with {flag}={theirs}, and this one was begun with {ours}: remove the data directory and begin \
         with {flag}={theirs}"
    )]
    Differs {
        /// Which setting.
        flag: &'static str,
        /// That of the snapshot.
        theirs: String,
        /// That of this cluster.
        ours: String,
    },
}

impl RestoredError {
    /// Whether another attempt may go well.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Asked { .. })
    }
}

fn asked(what: &'static str) -> impl FnOnce(kube::Error) -> RestoredError {
    move |error| RestoredError::Asked { what, error: Box::new(error) }
}

/// The first setting that objects depend on and that is another one.
fn difference(theirs: &ClusterSettings, ours: &ClusterSettings) -> Result<(), RestoredError> {
    let dns = |of: &ClusterSettings| of.cluster_dns.to_string();
    let all = [
        ("--cluster-cidr", theirs.cluster_cidr.clone(), ours.cluster_cidr.clone()),
        ("--service-cluster-ip-range", theirs.service_cidr.clone(), ours.service_cidr.clone()),
        ("--cluster-domain", theirs.cluster_domain.clone(), ours.cluster_domain.clone()),
        ("--cluster-dns", dns(theirs), dns(ours)),
    ];
    match all.into_iter().find(|(_, theirs, ours)| theirs != ours) {
        Some((flag, theirs, ours)) => Err(RestoredError::Differs { flag, theirs, ours }),
        None => Ok(()),
    }
}

/// What takes all masters but one out of the map of them.
fn only(master: &str, known: &BTreeMap<String, String>) -> Value {
    let others = known.keys().filter(|name| *name != master);
    json!({"data": others.map(|name| (name.clone(), Value::Null)).collect::<Map<_, _>>()})
}

/// Takes away what the other cluster said of itself: its masters, its settings, and, unless the authorities are the same ones, its
/// tokens. What is written at a cluster's birth follows.
///
/// # Errors
/// When the snapshot does not fit to the settings, or the API server refuses something.
pub async fn put_right(
    client: &Client,
    master: &str,
    settings: &ClusterSettings,
    authorities: &Authorities,
) -> Result<(), RestoredError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let public: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-public");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    let reading = "what the snapshot says of its cluster cannot be read";
    if let Some(theirs) = maps.get_opt(settings::NAME).await.map_err(asked(reading))? {
        difference(&ClusterSettings::of(&theirs.data.unwrap_or_default())?, settings)?;
    }
    // A rotation that the snapshot knows of is over for who begins with it: whom masters trust is in their files.
    gone(&secrets, rotation::ROTATION).await?;
    gone(&maps, rotation::TRUST).await?;
    for name in [MASTERS, SERVER_NAMES, rotation::MASTERS] {
        let Some(known) = maps.get_opt(name).await.map_err(asked(reading))? else { continue };
        let others = Patch::Merge(only(master, &known.data.unwrap_or_default()));
        let patched = maps.patch(name, &PatchParams::default(), &others).await;
        patched.map_err(asked("the masters of before cannot be forgotten"))?;
    }
    let info = public.get_opt(CLUSTER_INFO).await.map_err(asked(reading))?;
    let own = STANDARD.encode(&authorities.cluster.certificate);
    let is_same = info.is_some_and(|info| {
        info.data.unwrap_or_default().values().any(|kubeconfig| kubeconfig.contains(&own))
    });
    if !is_same {
        let of_type = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
        let tokens = secrets.list_metadata(&of_type).await.map_err(asked(reading))?;
        let names = tokens.items.iter().map(|token| token.name_any());
        for name in names.chain([AUTHORITIES.to_owned()]) {
            gone(&secrets, &name).await?;
        }
        // The last one: with it, it is known that the others are gone.
        gone(&public, CLUSTER_INFO).await?;
    }
    gone(&maps, settings::NAME).await
}

async fn gone<K>(api: &Api<K>, name: &str) -> Result<(), RestoredError>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(asked("what the cluster of before was joined by cannot be taken away")(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> ClusterSettings {
        ClusterSettings {
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            api_port: 6443,
            store_client_port: 2379,
        }
    }

    #[test]
    fn what_objects_depend_on_must_be_the_same_and_ports_need_not() {
        let (theirs, mut ours) = (settings(), settings());
        ours.api_port = 7443;
        difference(&theirs, &ours).unwrap();
        ours.service_cidr = "10.97.0.0/16".to_owned();
        let told = difference(&theirs, &ours).unwrap_err();
        assert!(!told.may_pass());
        assert!(told.to_string().contains("begin with --service-cluster-ip-range=10.96.0.0/16"), "{told}");
    }

    #[test]
    fn masters_of_before_are_none_any_more() {
        let url = || "https://10.0.0.1:6443".to_owned();
        let known = BTreeMap::from([("a".to_owned(), url()), ("b".to_owned(), url())]);
        assert_eq!(only("b", &known), json!({"data": {"a": null}}));
        assert_eq!(only("c", &BTreeMap::new()), json!({"data": {}}));
    }
}
