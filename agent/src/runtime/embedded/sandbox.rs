//! A pod's sandbox from its volumes to its network, and back. Every step can be repeated; what is half made is taken away whole.

use k8s_openapi::api::core::v1::Pod;

use super::super::provisions::failed;
use super::super::{RuntimeError, SandboxError};
use super::EmbeddedRuntime;
use crate::containers::sandbox_spec;
use crate::error_story::story;
use crate::pods::spec;

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
        let changes = *self.network_changed.borrow();
        self.provisions.remember(spec::uid(pod), |memory| memory.network_tried = Some(changes));
        if let Some(problem) = self.network.problem().filter(|_| !in_host) {
            return Err(SandboxError::NetworkNotReady(problem));
        }
        let node = &self.provisions.supplies.node;
        let sandbox = sandbox_spec(pod, node).map_err(|error| not_made(&error))?;

        // 1. What is left of one that cannot be used.
        self.take_sandbox_away(pod).await.map_err(|error| SandboxError::Failed(error.0))?;
        self.provisions.remember(spec::uid(pod), |memory| memory.is_left = true);

        // 2. Volumes.
        self.provisions.volumes(pod).await?;
        let layout =
            self.provisions.supplies.volumes.layout(spec::uid(pod)).map_err(|error| not_made(&error))?;

        // 3. The sandbox.
        let state = self.containers.create_sandbox(sandbox).await.map_err(|error| not_made(&error))?;

        // 4. Its network.
        let addresses = match &state.network_namespace {
            Some(path) => self.network.attach(pod, path).await.map_err(|error| not_made(&error))?,
            None => Vec::new(),
        };

        // 5. The files that follow from it.
        let told = if in_host { &node.host_ips } else { &addresses };
        self.provisions.write_files(pod, &layout, told).map_err(|error| not_made(&error))?;
        self.provisions.remember(spec::uid(pod), |memory| {
            (memory.addresses, memory.is_whole) = (addresses, true);
        });
        Ok(())
    }

    /// Takes away the sandbox with its network and its containers, of which is kept how they ended.
    pub(super) async fn take_sandbox_away(&self, pod: &Pod) -> Result<(), RuntimeError> {
        let uid = spec::uid(pod);
        if self.containers.sandbox(uid).is_ok() {
            // Nothing of it runs any more when its end is told.
            self.containers.stop_sandbox(uid).await.map_err(|error| failed(&error))?;
            let states = self.states(pod);
            let ids: Vec<String> = states.iter().map(|state| state.spec.id.clone()).collect();
            self.provisions.keep_ended(uid, states)?;
            self.network.detach(uid).await.map_err(|error| failed(&error))?;
            self.containers.remove_sandbox(uid).await.map_err(|error| failed(&error))?;
            self.images.release(ids).await;
        } else {
            self.network.detach(uid).await.map_err(|error| failed(&error))?;
        }
        self.provisions.remember(spec::uid(pod), |memory| {
            memory.is_whole = false;
            memory.addresses.clear();
        });
        Ok(())
    }
}
