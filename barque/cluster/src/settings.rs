//! What is the same on all masters and nodes of a cluster, as its first master was told: a ConfigMap that who joins reads. Must
//! never hold what is a secret.

use core::net::IpAddr;
use std::collections::BTreeMap;

use barque_api::node_certificate;
use serde::{Deserialize, Serialize};

/// The namespace of the map.
pub const NAMESPACE: &str = "kube-system";
/// The map's name.
pub const NAME: &str = "barque-cluster";
/// The map with the masters, in the same namespace: the URL of each one's API server by its name. Unlike the endpoints of the
/// cluster's own service it has those of the loopback, and those that are down.
pub const MASTERS: &str = node_certificate::MASTERS;
/// Where its settings stand, as JSON.
const KEY: &str = "settings.json";

/// What was told to the first master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSettings {
    /// The networks of all pods, with commas between.
    pub cluster_cidr: String,
    /// The networks of services, with commas between.
    pub service_cidr: String,
    /// What names of the cluster end with.
    pub cluster_domain: String,
    /// Where the cluster's resolver is.
    pub cluster_dns: IpAddr,
    /// The port of API servers.
    pub api_port: u16,
    /// The port at which members of the store serve clients.
    pub store_client_port: u16,
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// No network.
    #[error("--service-cluster-ip-range={0:?} does not begin with a network such as 10.96.0.0/16")]
    ServiceNetwork(String),
    /// The map is none of this release.
    #[error("the ConfigMap {NAMESPACE}/{NAME} cannot be understood: {0}")]
    Map(String),
}

impl ClusterSettings {
    /// As the map holds them.
    #[must_use]
    pub fn data(&self) -> BTreeMap<String, String> {
        let text = serde_json::to_string_pretty(self).expect("texts and numbers can be written as JSON");
        BTreeMap::from([(KEY.to_owned(), text)])
    }

    /// From what the map holds.
    ///
    /// # Errors
    /// When it holds something else.
    pub fn of(data: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let text = data.get(KEY).ok_or_else(|| SettingsError::Map(format!("{KEY} is missing")))?;
        serde_json::from_str(text).map_err(|error| SettingsError::Map(error.to_string()))
    }

    /// The address of the service by which the cluster's programs find the API: the first of the network.
    ///
    /// # Errors
    /// When there is no network.
    pub fn service_address(&self) -> Result<IpAddr, SettingsError> {
        nth_service_address(&self.service_cidr, 1)
    }
}

/// An address of the first network of services.
///
/// # Errors
/// When there is no network.
pub fn nth_service_address(networks: &str, nth: u32) -> Result<IpAddr, SettingsError> {
    let network = networks.split(',').next().unwrap_or_default().trim();
    let address = network.split_once('/').and_then(|(address, bits)| {
        bits.parse::<u8>().ok()?;
        address.parse::<IpAddr>().ok()
    });
    match address {
        Some(IpAddr::V4(address)) => Ok(IpAddr::from((u32::from(address).wrapping_add(nth)).to_be_bytes())),
        Some(IpAddr::V6(address)) => {
            Ok(IpAddr::from((u128::from(address).wrapping_add(u128::from(nth))).to_be_bytes()))
        }
        None => Err(SettingsError::ServiceNetwork(networks.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_as_they_were_written() {
        let settings = ClusterSettings {
            cluster_cidr: "10.244.0.0/16".to_owned(),
            service_cidr: "10.96.0.0/16,fd00::/112".to_owned(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            api_port: 6443,
            store_client_port: 2379,
        };
        assert_eq!(ClusterSettings::of(&settings.data()).unwrap(), settings);
        assert_eq!(settings.service_address().unwrap(), IpAddr::from([10, 96, 0, 1]));
        assert!(ClusterSettings::of(&BTreeMap::new()).is_err());
    }

    #[test]
    fn addresses_are_counted_from_the_networks_first() {
        assert_eq!(nth_service_address("fd00:1::/112", 10).unwrap(), "fd00:1::a".parse::<IpAddr>().unwrap());
        for wrong in ["", "10.0.0.0", "x/8", "10.0.0.0/x"] {
            assert!(nth_service_address(wrong, 1).is_err(), "{wrong}");
        }
    }
}
