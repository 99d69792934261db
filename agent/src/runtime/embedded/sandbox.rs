//! A pod's sandbox from its volumes to its network, and back. Every step can be repeated; what is half made is taken away whole.

use core::net::IpAddr;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use super::super::{RuntimeError, SandboxError};
use super::{EmbeddedRuntime, failed, story};
use crate::containers::files::{Resolver, hosts, resolv_conf};
use crate::containers::hostname::names;
use crate::containers::{name, namespace, sandbox_spec};
use crate::pods::spec;
use crate::volumes::layout::PodLayout;

/// Who may read what containers share.
const READABLE: u32 = 0o644;

fn not_made(error: &dyn std::error::Error) -> SandboxError {
    SandboxError::Failed(story(error))
}

impl EmbeddedRuntime {
    pub(super) async fn make_sandbox(&self, pod: &Pod) -> Result<(), SandboxError> {
        let known = self.known(pod);
        if known.is_whole && known.state.is_some_and(|state| state.ready) {
            return Ok(());
        }
        let in_host = spec::uses_host_network(pod);
        // Before it is asked how the network is, so that no change is missed.
        let changes = *self.parts.network_changed.borrow();
        self.remember(pod, |memory| memory.network_tried = Some(changes));
        if let Some(problem) = self.parts.network.problem().filter(|_| !in_host) {
            return Err(SandboxError::NetworkNotReady(problem));
        }
        let node = &self.parts.node;
        let sandbox = sandbox_spec(pod, node).map_err(|error| not_made(&error))?;

        // 1. What is left of one that cannot be used.
        self.take_sandbox_away(pod).await.map_err(|error| SandboxError::Failed(error.0))?;
        self.remember(pod, |memory| memory.is_left = true);

        // 2. Volumes.
        let volumes = self.parts.volumes.ready(pod, node).await;
        volumes.map_err(|error| SandboxError::Volumes(story(&error)))?;
        let layout = self.parts.volumes.layout(spec::uid(pod)).map_err(|error| not_made(&error))?;

        // 3. The sandbox.
        let state = self.parts.containers.create_sandbox(sandbox).await.map_err(|error| not_made(&error))?;

        // 4. Its network.
        let addresses = match &state.network_namespace {
            Some(path) => self.parts.network.attach(pod, path).await.map_err(|error| not_made(&error))?,
            None => Vec::new(),
        };

        // 5. The files that follow from it.
        let told = if in_host { &node.host_ips } else { &addresses };
        self.write_files(pod, &layout, told).map_err(|error| not_made(&error))?;
        self.remember(pod, |memory| {
            (memory.addresses, memory.is_whole) = (addresses, true);
        });
        Ok(())
    }

    /// Files that the pod's containers share.
    fn write_files(&self, pod: &Pod, layout: &PodLayout, addresses: &[IpAddr]) -> io::Result<()> {
        let node = &self.parts.node;
        let names = names(pod, node).map_err(io::Error::other)?;
        let resolver = Resolver {
            servers: self.parts.cluster_dns.clone(),
            domain: node.cluster_domain.clone(),
            of_machine: std::fs::read_to_string(&self.parts.resolv_conf).unwrap_or_default(),
        };
        let of_machine = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        write(&layout.hosts(), &hosts(pod, &names, addresses, &of_machine))?;
        write(&layout.resolv_conf(), &resolv_conf(pod, &resolver))?;
        write(&layout.hostname(), &format!("{}\n", names.hostname))
    }

    /// Takes away the sandbox with its network and its containers, of which is kept how they ended.
    pub(super) async fn take_sandbox_away(&self, pod: &Pod) -> Result<(), RuntimeError> {
        let uid = spec::uid(pod);
        if self.parts.containers.sandbox(uid).is_ok() {
            // Nothing of it runs any more when its end is told.
            self.parts.containers.stop_sandbox(uid).await.map_err(|error| failed(&error))?;
            let states = self.states(pod);
            let ids: Vec<String> = states.iter().map(|state| state.spec.id.clone()).collect();
            let now = i64::try_from(self.parts.clock.now().as_nanosecond()).unwrap_or(i64::MAX);
            self.ended.keep(uid, states, now).map_err(|error| failed(&error))?;
            self.parts.network.detach(uid).await.map_err(|error| failed(&error))?;
            self.parts.containers.remove_sandbox(uid).await.map_err(|error| failed(&error))?;
            self.images.release(ids).await;
        } else {
            self.parts.network.detach(uid).await.map_err(|error| failed(&error))?;
        }
        self.remember(pod, |memory| {
            memory.is_whole = false;
            memory.addresses.clear();
        });
        Ok(())
    }

    pub(super) fn log_directory(&self, pod: &Pod) -> PathBuf {
        let title = format!("{}_{}_{}", namespace(pod), name(pod), spec::uid(pod));
        self.parts.node.logs.join(title)
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
