//! The kubeconfig that people use: that of the administrator, with the front as its server. Must never lose what else it says.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Why a kubeconfig is of no use.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KubeconfigError {
    /// Not a kubeconfig.
    #[error("it is no kubeconfig: {0}")]
    Text(String),
    /// It has no authority in it.
    #[error("its cluster has no certificate-authority-data")]
    Authority,
}

/// The same kubeconfig with another server, and the authority's certificate, PEM.
pub(crate) fn with_server(text: &str, server: &str) -> Result<(String, Vec<u8>), KubeconfigError> {
    let mut config: Value =
        serde_saphyr::from_str(text).map_err(|error| KubeconfigError::Text(error.to_string()))?;
    let clusters = config.get_mut("clusters").and_then(Value::as_array_mut);
    let clusters = clusters.ok_or_else(|| KubeconfigError::Text("it has no clusters".to_owned()))?;
    let mut authority = None;
    for cluster in clusters.iter_mut().filter_map(|cluster| cluster.get_mut("cluster")) {
        cluster["server"] = server.into();
        let data = cluster.get("certificate-authority-data").and_then(Value::as_str);
        authority = data.and_then(|data| STANDARD.decode(data).ok()).or(authority);
    }
    let authority = authority.ok_or(KubeconfigError::Authority)?;
    let text = serde_saphyr::to_string(&config).map_err(|error| KubeconfigError::Text(error.to_string()))?;
    Ok((text, authority))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_server_changes() {
        let authority = STANDARD.encode("pem ".repeat(500));
        let config = |server: &str| {
            json!({
                "apiVersion": "v1", "kind": "Config", "current-context": "barque",
                "clusters": [{"name": "barque", "cluster": {
                    "server": server, "certificate-authority-data": authority}}],
                "users": [{"name": "admin", "user": {"client-key-data": authority, "token": "1e3"}}],
                "contexts": [{"name": "barque", "context": {"cluster": "barque", "user": "admin"}}],
            })
        };
        let text = serde_saphyr::to_string(&config("https://127.0.0.1:6443")).unwrap();
        let (text, certificate) = with_server(&text, "https://127.0.0.1:7443").unwrap();
        let read: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, config("https://127.0.0.1:7443"));
        assert_eq!(certificate, "pem ".repeat(500).into_bytes());
    }

    #[test]
    fn what_is_no_kubeconfig_is_told() {
        assert!(with_server("[]", "x").unwrap_err().to_string().contains("no clusters"));
        let without = "clusters: [{name: a, cluster: {server: b}}]";
        assert_eq!(with_server(without, "x"), Err(KubeconfigError::Authority));
    }
}
