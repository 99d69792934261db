//! The files that the containers of a pod share, written where they are mounted from. What stands in them is decided elsewhere.

use core::net::IpAddr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::Provisions;
use crate::containers::files::{Resolver, hosts, resolv_conf};
use crate::containers::hostname::names;
use crate::volumes::layout::PodLayout;

/// Who may read what containers share.
const READABLE: u32 = 0o644;

impl Provisions {
    /// Who answers the pods' questions about names.
    pub(in super::super) fn resolver(&self) -> Resolver {
        Resolver {
            servers: self.supplies.cluster_dns.clone(),
            domain: self.supplies.node.cluster_domain.clone(),
            of_machine: std::fs::read_to_string(&self.supplies.resolv_conf).unwrap_or_default(),
        }
    }

    /// The names that a pod knows.
    pub(in super::super) fn write_hosts(
        &self,
        pod: &Pod,
        layout: &PodLayout,
        addresses: &[IpAddr],
    ) -> io::Result<()> {
        let names = names(pod, &self.supplies.node).map_err(io::Error::other)?;
        let of_machine = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        write(&layout.hosts(), &hosts(pod, &names, addresses, &of_machine))
    }

    /// Everything that a pod's containers share.
    pub(in super::super) fn write_files(
        &self,
        pod: &Pod,
        layout: &PodLayout,
        addresses: &[IpAddr],
    ) -> io::Result<()> {
        let names = names(pod, &self.supplies.node).map_err(io::Error::other)?;
        self.write_hosts(pod, layout, addresses)?;
        write(&layout.resolv_conf(), &resolv_conf(pod, &self.resolver()))?;
        write(&layout.hostname(), &format!("{}\n", names.hostname))
    }
}

/// In place: containers have it mounted.
fn write(path: &Path, text: &str) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(READABLE))
}
