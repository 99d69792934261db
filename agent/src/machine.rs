//! What the machine says of itself. Must never fail: what cannot be read is not said.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use k8s_openapi::api::core::v1::NodeSystemInfo;

use crate::config::Machine;
use crate::node::identity::{VERSION, go_architecture};

/// Addresses that are for documentation: asking for the way to them finds the default route. Nothing is sent.
const FAR_AWAY: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

/// The machine that this process runs on, with this runtime.
#[must_use]
pub(crate) fn machine(runtime_version: String) -> Machine {
    let info = NodeSystemInfo {
        architecture: go_architecture(std::env::consts::ARCH).to_owned(),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
        container_runtime_version: runtime_version,
        kernel_version: line("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: VERSION.to_owned(),
        machine_id: line("/etc/machine-id"),
        operating_system: std::env::consts::OS.to_owned(),
        os_image: os_image(),
        running_in_user_namespace: None,
        swap: None,
        system_uuid: line("/sys/class/dmi/id/product_uuid"),
    };
    let address = FAR_AWAY.iter().find_map(|(from, to)| address(*from, *to));
    Machine {
        hostname: line("/proc/sys/kernel/hostname"),
        address: address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        info,
        resources: resources(),
    }
}

/// Processors and memory; where pods are kept is asked for apart.
fn resources() -> BTreeMap<String, i64> {
    let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
    let mut all = BTreeMap::new();
    all.insert("cpu".to_owned(), i64::try_from(processors).unwrap_or(i64::MAX).saturating_mul(1000));
    if let Some(bytes) = memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default()) {
        all.insert("memory".to_owned(), bytes);
    }
    all
}

/// What `MemTotal` says in the text of `/proc/meminfo`.
fn memory_bytes(text: &str) -> Option<i64> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: i64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The bytes of the file system that has this directory.
pub(crate) fn storage_bytes(directory: &Path) -> Option<i64> {
    let found = rustix::fs::statvfs(directory).ok()?;
    i64::try_from(found.f_blocks.checked_mul(found.f_frsize)?).ok()
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn os_image() -> String {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or_else(|| "Linux".to_owned(), |name| name.trim_matches('"').to_owned())
}

fn address(from: IpAddr, to: IpAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(SocketAddr::new(from, 0)).ok()?;
    socket.connect(SocketAddr::new(to, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_memory_counts() {
        let text = "MemTotal:       24576000 kB\nMemFree:  1 kB\n";
        assert_eq!(memory_bytes(text), Some(24_576_000 * 1024));
        assert_eq!(memory_bytes("MemFree: 1 kB\n"), None);
    }
}
