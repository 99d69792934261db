//! Asks API servers, each by itself.

use http::Request;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};

use super::super::judge::NodeSeen;
use crate::discovery::told;
use crate::status::{PATIENCE, ready, trouble};

/// The version of an API server, if it is ready.
pub(crate) async fn server(client: Option<Client>) -> Result<String, String> {
    ready(client.clone()).await?;
    let client = client.ok_or_else(|| "it cannot be asked".to_owned())?;
    let request = Request::get("/version").body(Vec::new()).map_err(|error| error.to_string())?;
    let asking = client.request::<serde_json::Value>(request);
    let version = tokio::time::timeout(PATIENCE, asking)
        .await
        .map_err(|_| "it does not tell its version".to_owned())?;
    let version = version.map_err(|error| told(&error))?;
    Ok(version["gitVersion"].as_str().unwrap_or("unknown").to_owned())
}

/// All nodes, from an API server that is ready.
pub(crate) async fn nodes(client: Option<Client>) -> Result<Vec<NodeSeen>, String> {
    let client = client.ok_or_else(|| "no API server is ready".to_owned())?;
    let api: Api<Node> = Api::all(client);
    let all = ListParams::default();
    let listing = tokio::time::timeout(PATIENCE, api.list(&all)).await;
    let listed = listing.map_err(|_| format!("nodes were not listed within {} s", PATIENCE.as_secs()))?;
    let nodes = listed.map_err(|error| told(&error))?.items;
    let seen = nodes.iter().map(|node| {
        let (is_ready, trouble) = trouble(node);
        let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
        let mut internal = addresses.filter(|address| address.type_ == "InternalIP");
        let address = internal.find_map(|address| address.address.parse().ok());
        NodeSeen { name: node.name_any(), address, is_ready, trouble }
    });
    Ok(seen.collect())
}
