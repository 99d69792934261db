//! Sandboxes and containers over CRI: those of the agent's pods. What is stopped from here is started again if its pod says so.

use std::time::{Duration, SystemTime};

use barque_containers::spec::{ContainerState, SandboxState};
use barque_cri::v1;
use barque_cri::v1::runtime_service_server::RuntimeService;
use barque_streams::process::Wanted;
use tonic::{Request, Response, Status};

use super::streams::Wish;
use super::{Service, refuse, tell};

type Answer<T> = Result<Response<T>, Status>;

/// Longer than anything runs.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

fn duration(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

impl Service {
    fn sandboxes(&self) -> Result<Vec<SandboxState>, Status> {
        self.runtime.containers.sandboxes().map_err(|error| refuse::of_containers(&error))
    }

    /// All containers, with their sandboxes.
    fn containers(&self) -> Result<Vec<(String, ContainerState)>, Status> {
        let mut all = Vec::new();
        for sandbox in self.sandboxes()? {
            match self.runtime.containers.containers(&sandbox.spec.id) {
                Ok(states) => all.extend(states.into_iter().map(|state| (sandbox.spec.id.clone(), state))),
                // It is being removed.
                Err(barque_containers::Error::NotFound(_)) => {}
                Err(error) => return Err(refuse::of_containers(&error)),
            }
        }
        Ok(all)
    }

    fn sandbox(&self, id: &str) -> Result<SandboxState, Status> {
        let mut all = self.sandboxes()?;
        let id = refuse::one(all.iter().map(|state| state.spec.id.as_str()), id, "sandbox")?;
        let found = all.iter().position(|state| state.spec.id == id).map(|at| all.swap_remove(at));
        found.ok_or_else(|| Status::not_found(format!("there is no sandbox {id:?}")))
    }

    fn container(&self, id: &str) -> Result<ContainerState, Status> {
        let mut all = self.containers()?;
        let id = refuse::one(all.iter().map(|(_, state)| state.spec.id.as_str()), id, "container")?;
        let found = all.iter().position(|(_, state)| state.spec.id == id).map(|at| all.swap_remove(at).1);
        found.ok_or_else(|| Status::not_found(format!("there is no container {id:?}")))
    }

    fn stats(&self, state: &ContainerState) -> Option<v1::ContainerStats> {
        let stats = self.runtime.containers.stats(&state.spec.id).ok().flatten()?;
        Some(tell::container_stats(state, &stats, now_ns()))
    }
}

#[tonic::async_trait]
impl RuntimeService for Service {
    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(v1::VersionResponse {
            // The kubelet's own version of the interface, which never changed.
            version: "0.1.0".to_owned(),
            runtime_name: "barque".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        let condition = |kind: &str, problem: Option<String>| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status: problem.is_none(),
            reason: problem.as_ref().map(|_| "NetworkPluginNotReady".to_owned()).unwrap_or_default(),
            message: problem.unwrap_or_default(),
        };
        let network = self.runtime.network.problem();
        let conditions = vec![condition("RuntimeReady", None), condition("NetworkReady", network)];
        let default = v1::RuntimeHandler {
            name: String::new(),
            features: Some(v1::RuntimeHandlerFeatures {
                recursive_read_only_mounts: true,
                user_namespaces: false,
            }),
        };
        Ok(Response::new(v1::StatusResponse {
            status: Some(v1::RuntimeStatus { conditions }),
            info: Default::default(),
            runtime_handlers: vec![default],
            features: Some(v1::RuntimeFeatures { supplemental_groups_policy: true }),
        }))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        let linux = v1::LinuxRuntimeConfiguration { cgroup_driver: v1::CgroupDriver::Cgroupfs.into() };
        Ok(Response::new(v1::RuntimeConfigResponse { linux: Some(linux) }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let wanted = |state: &SandboxState| {
            state.spec.id.starts_with(&filter.id)
                && filter.state.is_none_or(|wanted| wanted.state() == tell::sandbox_state(state))
                && tell::selects(&filter.label_selector, &state.spec.labels)
        };
        let all = self.sandboxes()?;
        let items = all.iter().filter(|state| wanted(state)).map(tell::sandbox).collect();
        Ok(Response::new(v1::ListPodSandboxResponse { items }))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let state = self.sandbox(&request.into_inner().pod_sandbox_id)?;
        let addresses = self.runtime.provisions.recall(&state.spec.id).addresses;
        Ok(Response::new(v1::PodSandboxStatusResponse {
            status: Some(tell::sandbox_status(&state, &addresses)),
            ..v1::PodSandboxStatusResponse::default()
        }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        match self.sandbox(&request.into_inner().pod_sandbox_id) {
            Ok(state) => {
                let stopped = self.runtime.containers.stop_sandbox(&state.spec.id).await;
                stopped.map_err(|error| refuse::of_containers(&error))?;
            }
            // One that is not there has stopped.
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(status),
        }
        Ok(Response::new(v1::StopPodSandboxResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let wanted = |sandbox: &str, state: &ContainerState| {
            state.spec.id.starts_with(&filter.id)
                && sandbox.starts_with(&filter.pod_sandbox_id)
                && filter.state.is_none_or(|wanted| wanted.state() == tell::container_state(state))
                && tell::selects(&filter.label_selector, &state.spec.labels)
        };
        let all = self.containers()?;
        let wanted = all.iter().filter(|(sandbox, state)| wanted(sandbox, state));
        let containers = wanted.map(|(sandbox, state)| tell::container(sandbox, state)).collect();
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let state = self.container(&request.into_inner().container_id)?;
        Ok(Response::new(v1::ContainerStatusResponse {
            status: Some(tell::container_status(&state)),
            ..v1::ContainerStatusResponse::default()
        }))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        match self.container(&request.container_id) {
            Ok(state) => {
                let stopped = self.runtime.containers.stop(&state.spec.id, duration(request.timeout)).await;
                stopped.map_err(|error| refuse::of_containers(&error))?;
            }
            Err(status) if status.code() == tonic::Code::NotFound => {}
            Err(status) => return Err(status),
        }
        Ok(Response::new(v1::StopContainerResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        let state = self.container(&request.into_inner().container_id)?;
        let reopened = self.runtime.containers.reopen_log(&state.spec.id).await;
        reopened.map_err(|error| refuse::of_containers(&error))?;
        Ok(Response::new(v1::ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let request = request.into_inner();
        let state = self.container(&request.container_id)?;
        let patience = if request.timeout > 0 { duration(request.timeout) } else { FOR_EVER };
        let said = self.runtime.containers.exec_sync(&state.spec.id, request.cmd, Some(patience)).await;
        let said = said.map_err(|error| refuse::of_containers(&error))?;
        Ok(Response::new(v1::ExecSyncResponse {
            stdout: said.stdout,
            stderr: said.stderr,
            exit_code: said.code,
        }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request.into_inner();
        let container = self.container(&container_id)?.spec.id;
        if cmd.is_empty() {
            return Err(Status::invalid_argument("cmd: names no program"));
        }
        let wanted = Wanted { stdin, stdout, stderr: stderr && !tty, tty };
        let url = self.streams.expect(Wish::Exec { container, command: cmd, wanted })?;
        Ok(Response::new(v1::ExecResponse { url }))
    }

    async fn attach(&self, request: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        let v1::AttachRequest { container_id, stdin, tty, stdout, stderr } = request.into_inner();
        let container = self.container(&container_id)?.spec.id;
        let wanted = Wanted { stdin, stdout, stderr: stderr && !tty, tty };
        let url = self.streams.expect(Wish::Attach { container, wanted })?;
        Ok(Response::new(v1::AttachResponse { url }))
    }

    async fn port_forward(
        &self,
        request: Request<v1::PortForwardRequest>,
    ) -> Answer<v1::PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.sandbox(&request.pod_sandbox_id)?.spec.id;
        let ports = request.port.into_iter().filter_map(|port| u16::try_from(port).ok()).collect();
        let url = self.streams.expect(Wish::Ports { sandbox, ports })?;
        Ok(Response::new(v1::PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        let state = self.container(&request.into_inner().container_id)?;
        Ok(Response::new(v1::ContainerStatsResponse { stats: self.stats(&state) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let wanted = |(sandbox, state): &(String, ContainerState)| {
            state.spec.id.starts_with(&filter.id)
                && sandbox.starts_with(&filter.pod_sandbox_id)
                && tell::selects(&filter.label_selector, &state.spec.labels)
        };
        let all = self.containers()?;
        let stats = all.iter().filter(|one| wanted(one)).filter_map(|(_, state)| self.stats(state)).collect();
        Ok(Response::new(v1::ListContainerStatsResponse { stats }))
    }
}
