//! Brings objects of `objects` into the API, and this master among the others. Must never change an object that is there but for
//! what it says of this master.

use barque_api::node_certificate::SERVER_NAMES;
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt as _};

use crate::discovery::told;
use crate::objects::{self, Desired};
use crate::rotation::objects as rotation;
use crate::settings::{MASTERS, NAMESPACE};

/// An object cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("{what} cannot be written: {}", told(error))]
pub struct KeepError {
    /// Which.
    what: String,
    /// What the API server said.
    error: Box<kube::Error>,
}

/// Makes those that are missing.
///
/// # Errors
/// When the API server refuses one, or cannot be reached.
pub async fn create(client: &Client, all: &[Desired]) -> Result<(), KeepError> {
    for desired in all {
        let failed = |error| KeepError {
            what: format!("{} {}", desired.object["kind"].as_str().unwrap_or_default(), desired.name()),
            error: Box::new(error),
        };
        let body = serde_json::to_vec(&desired.object).unwrap_or_default();
        let request = Request::post(format!("{}?fieldManager=barque", desired.collection))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|error| failed(kube::Error::HttpError(error)))?;
        match client.request::<serde_json::Value>(request).await {
            Ok(_) => tracing::debug!(kind = %desired.object["kind"], name = desired.name(), "made"),
            Err(kube::Error::Api(status)) if status.code == StatusCode::CONFLICT.as_u16() => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// What the master of this name sees to when it starts, whose API server has this URL, and is called what this
/// [entry](barque_api::node_certificate::Reserved::entry) says.
///
/// # Errors
/// When the API server refuses something, or cannot be reached.
pub async fn keep(client: &Client, master: &str, url: &str, names: &str) -> Result<(), KeepError> {
    create(client, &objects::always()).await?;
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let listed = roles.list_metadata(&ListParams::default()).await;
    let failed = |error| KeepError { what: "what controllers may do".to_owned(), error: Box::new(error) };
    let roles: Vec<String> = listed.map_err(failed)?.items.iter().map(|role| role.name_any()).collect();
    create(client, &objects::controller_bindings(&roles)).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    // A master that is known without its names would hold up certificates of nodes.
    for (name, own) in [(SERVER_NAMES, names), (MASTERS, url)] {
        let own = Patch::Merge(serde_json::json!({"data": {master: own}}));
        let told = maps.patch(name, &PatchParams::default(), &own).await;
        told.map_err(|error| KeepError { what: format!("ConfigMap {name}"), error: Box::new(error) })?;
    }
    Ok(())
}

/// Takes a master out of the list of masters.
///
/// # Errors
/// When the API server refuses, or cannot be reached.
pub async fn forget_master(client: &Client, master: &str) -> Result<(), KeepError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let own = serde_json::json!({"data": {master: null}});
    for name in [MASTERS, rotation::MASTERS, SERVER_NAMES] {
        let told = maps.patch(name, &PatchParams::default(), &Patch::Merge(&own)).await;
        told.map_err(|error| KeepError { what: format!("ConfigMap {name}"), error: Box::new(error) })?;
    }
    Ok(())
}
