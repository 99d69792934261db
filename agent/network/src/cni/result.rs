//! The results of plugins. Must never guess: what a result does not say is not known.

use core::net::IpAddr;

use barque_api::ip::parse_cidr;
use serde::Deserialize;
use serde_json::Value;

use super::error::CniError;
use crate::model::PodAddresses;

#[derive(Debug, Deserialize)]
struct Success {
    #[serde(default)]
    interfaces: Vec<Interface>,
    #[serde(default)]
    ips: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Interface {
    name: String,
    #[serde(default)]
    sandbox: String,
    mtu: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Address {
    address: String,
    gateway: Option<IpAddr>,
    interface: Option<usize>,
}

/// What the pod got by this interface: its addresses with IPv4 and IPv6 in the plugins' order, one of each.
pub(super) fn addresses(result: &Value, interface: &str) -> Result<PodAddresses, CniError> {
    let none = || CniError::NoAddress { result: result.to_string() };
    let success = Success::deserialize(result).map_err(|_| none())?;
    let mut pod = PodAddresses {
        addresses: Vec::new(),
        gateways: Vec::new(),
        mtu: success
            .interfaces
            .iter()
            .find(|there| there.name == interface && !there.sandbox.is_empty())
            .and_then(|there| there.mtu),
        interface: interface.to_owned(),
    };
    for ip in &success.ips {
        let of_pod = ip
            .interface
            .and_then(|index| success.interfaces.get(index))
            .is_none_or(|there| there.name == interface && !there.sandbox.is_empty());
        let Some(cidr) = parse_cidr(&ip.address).filter(|_| of_pod) else { continue };
        if pod.addresses.iter().any(|there| there.is_ipv4() == cidr.address.is_ipv4()) {
            continue;
        }
        pod.addresses.push(cidr.address);
        pod.gateways.extend(ip.gateway);
    }
    if pod.addresses.is_empty() { Err(none()) } else { Ok(pod) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_addresses_of_the_pods_interface_count() {
        let result = json!({
            "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "/n", "mtu": 1400}, {"name": "net1", "sandbox": "/n"}],
            "ips": [
                {"address": "10.0.0.1/24", "interface": 0},
                {"address": "10.0.0.2/24", "gateway": "10.0.0.1", "interface": 1},
                {"address": "10.0.0.3/24", "interface": 1},
                {"address": "10.9.0.3/24", "interface": 2},
                {"address": "fd00::2/64", "interface": 1},
            ],
        });
        let pod = addresses(&result, "eth0").unwrap();
        assert_eq!(pod.addresses, ["10.0.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]);
        assert_eq!(pod.gateways, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(pod.mtu, Some(1400));
    }

    #[test]
    fn a_result_without_an_address_is_an_error_that_shows_it() {
        let old = addresses(&json!({"ips": [{"version": "4", "address": "10.0.0.2/24"}]}), "eth0").unwrap();
        assert_eq!(old.mtu, None);
        let error = addresses(&json!({"interfaces": []}), "eth0").unwrap_err().to_string();
        assert!(error.ends_with(r#"no address: {"interfaces":[]}"#), "{error}");
        addresses(&Value::Null, "eth0").unwrap_err();
    }
}
