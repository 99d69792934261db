//! Sandboxes are made, listened to, stopped and removed; those whose shim has ended are buried: what is left of their
//! containers is ended, and told as ended.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Component, Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use rustix::mount::MountFlags;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::containers::{Containers, Inner, Sandbox, blocking, io};
use crate::error::{Error, chain};
use crate::namespaces::{self, Wanted};
use crate::spec::{Exit, Phase, SandboxSpec, SandboxState, Share};
use crate::store::{self, SandboxDirectory, SandboxRecord};
use crate::wire::{self, Reply, Request};
use crate::{rootfs, shim, teardown};

/// How long a shim may take to get ready.
const READY: Duration = Duration::from_secs(30);

/// What the shared memory of a sandbox may hold; the runtimes' default.
const SHARED_MEMORY: &std::ffi::CStr = c"mode=1777,size=65536k";

impl Containers {
    /// Makes a sandbox: its control group, its namespaces, and the shim that makes its containers. What a failure leaves is
    /// removed again.
    pub async fn create_sandbox(&self, spec: SandboxSpec) -> Result<SandboxState, Error> {
        if !store::valid_id(&spec.id) {
            return Err(Error::Refused(format!("{:?} is no name for a sandbox", spec.id)));
        }
        let group = below(&self.inner.settings.cgroup_root, &spec.cgroup)?;
        let id = spec.id.clone();
        let sandbox = Sandbox { changes: watch::Sender::new(0), leave: CancellationToken::new() };
        {
            let mut known = self.inner.known.lock();
            if known.sandboxes.contains_key(&id) {
                return Err(Error::Exists(format!("sandbox {id}")));
            }
            known.sandboxes.insert(id.clone(), sandbox.clone());
        }
        match self.make_sandbox(spec, group, sandbox).await {
            Ok(state) => Ok(state),
            Err(error) => {
                // The first error is the one to tell; what is left is found again when the agent starts anew.
                if let Err(left) = self.take_away(&id).await {
                    tracing::warn!(sandbox = id, error = %chain(&left), "something of a sandbox is left");
                }
                Err(error)
            }
        }
    }

    async fn make_sandbox(
        &self,
        spec: SandboxSpec,
        group: PathBuf,
        sandbox: Sandbox,
    ) -> Result<SandboxState, Error> {
        let id = spec.id.clone();
        let inner = Arc::clone(&self.inner);
        let (mut record, socket) = blocking(move || lay_out(&inner, spec, group)).await?;
        self.start_shim(&id, socket)?;
        let shim = self.shim(&id)?;
        match tokio::time::timeout(READY, shim.request(&format!("sandbox {id}"), &Request::Hello)).await {
            Ok(answer) => answer.map_err(|error| self.what_the_shim_said(&id, error))?,
            Err(_) => return Err(Error::TimedOut(READY)),
        }
        record.complete = true;
        record.state.ready = true;
        let path = self.inner.store.sandbox(&id).record();
        store::write(&path, &record).map_err(io("write the sandbox's record"))?;
        self.listen(&id, sandbox).await?;
        Ok(record.state)
    }

    /// Executes this program again.
    fn start_shim(&self, id: &str, socket: UnixListener) -> Result<(), Error> {
        let Inner { settings, store, .. } = &*self.inner;
        let (Some(program), words) = (settings.shim.first(), settings.shim.get(1..).unwrap_or_default())
        else {
            return Err(Error::Refused("the program of the shim is missing in the settings".to_owned()));
        };
        let said =
            std::fs::File::create(store.sandbox(id).0.join("shim.log")).map_err(io("make the shim's log"))?;
        let child = tokio::process::Command::new(program)
            .args(words)
            .arg(shim::SERVE)
            .args([&store.state, &store.data])
            .arg(id)
            .env_clear()
            .stdin(Stdio::from(OwnedFd::from(socket)))
            .stdout(Stdio::null())
            .stderr(said)
            .spawn()
            .map_err(io(format!("start the shim {}", program.display())))?;
        // It outlives this process; when it ends before, the runtime reaps it.
        drop(child);
        Ok(())
    }

    /// A shim that ended at once has written why.
    fn what_the_shim_said(&self, id: &str, error: Error) -> Error {
        let said =
            std::fs::read_to_string(self.inner.store.sandbox(id).0.join("shim.log")).unwrap_or_default();
        match (error, said.trim()) {
            (Error::ShimGone(_), said) if !said.is_empty() => {
                Error::Refused(format!("the shim of the sandbox {id} ended: {said}"))
            }
            (error, _) => error,
        }
    }

    /// Listens to a sandbox's shim for as long as it is there, and does not wait for one that is busy. One that has ended is
    /// found out at once, and its sandbox buried.
    pub(crate) async fn listen(&self, id: &str, sandbox: Sandbox) -> Result<(), Error> {
        let connection = match self.shim(id)?.connect().await {
            Ok(connection) => connection,
            Err(Error::ShimGone(_)) => return self.bury(id).await,
            Err(error) => return Err(error),
        };
        let (containers, id) = (self.clone(), id.to_owned());
        let cancel = self.inner.cancel.clone();
        self.inner.tasks.spawn(async move {
            // The first answer says that all changes from then on are told, and that there may have been some.
            let told = async {
                if wire::send(&connection, &Request::Subscribe, &[]).await.is_err() {
                    return;
                }
                while let Ok(Some((Reply::Changed, _))) = wire::receive::<Reply>(&connection).await {
                    sandbox.changes.send_modify(|number| *number += 1);
                }
            };
            tokio::select! {
                () = told => {}
                () = cancel.cancelled() => return,
                () = sandbox.leave.cancelled() => return,
            }
            if let Err(error) = containers.bury(&id).await {
                tracing::error!(sandbox = id, error = %chain(&error), "a sandbox without its shim could not be ended");
            }
        });
        Ok(())
    }

    /// Ends and tells what is left of a sandbox without a shim.
    pub(crate) async fn bury(&self, id: &str) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let owned = id.to_owned();
        blocking(move || bury(&inner, &owned)).await?;
        if let Some(sandbox) = self.inner.known.lock().sandboxes.get(id) {
            sandbox.changes.send_modify(|number| *number += 1);
        }
        Ok(())
    }

    /// What tells that something of a sandbox may have changed: its containers, or whether it is ready. The value means
    /// nothing but that.
    pub fn changes(&self, sandbox: &str) -> Result<watch::Receiver<u64>, Error> {
        let known = self.inner.known.lock();
        known
            .sandboxes
            .get(sandbox)
            .map(|sandbox| sandbox.changes.subscribe())
            .ok_or_else(|| Error::NotFound(format!("sandbox {sandbox}")))
    }

    /// All sandboxes, by id.
    pub fn sandboxes(&self) -> Result<Vec<SandboxState>, Error> {
        let ids: Vec<String> = self.inner.known.lock().sandboxes.keys().cloned().collect();
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            match self.inner.record(&id) {
                Ok(record) if record.complete => states.push(record.state),
                // It is being made, or removed.
                Ok(_) | Err(Error::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(states)
    }

    /// One sandbox.
    pub fn sandbox(&self, id: &str) -> Result<SandboxState, Error> {
        self.shim(id)?;
        Ok(self.inner.record(id)?.state)
    }

    /// Ends all containers of a sandbox at once; no other can be made in it. Its network namespace stays until it is
    /// removed. One that is not there has stopped.
    pub async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let shim = match self.shim(id) {
            Err(Error::NotFound(_)) => return Ok(()),
            shim => shim?,
        };
        match shim.request(&format!("sandbox {id}"), &Request::StopSandbox).await {
            Err(Error::ShimGone(_)) => return self.bury(id).await,
            other => other?,
        }
        let mut record = self.inner.record(id)?;
        record.state.ready = false;
        let path = self.inner.store.sandbox(id).record();
        store::write(&path, &record).map_err(io("write the sandbox's record"))?;
        if let Some(sandbox) = self.inner.known.lock().sandboxes.get(id) {
            sandbox.changes.send_modify(|number| *number += 1);
        }
        Ok(())
    }

    /// Removes a sandbox with its containers, its shim, its namespaces and its control group. One that is not there is
    /// removed. Logs stay.
    pub async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        if !self.inner.known.lock().sandboxes.contains_key(id) {
            return Ok(());
        }
        self.stop_sandbox(id).await?;
        if let Some(sandbox) = self.inner.known.lock().sandboxes.get(id) {
            sandbox.leave.cancel();
        }
        // Without an answer it is ended all the same.
        if let Err(error) = self.shim(id)?.request(&format!("sandbox {id}"), &Request::Quit).await {
            tracing::debug!(sandbox = id, error = %chain(&error), "the shim did not take its leave");
        }
        self.take_away(id).await
    }

    async fn take_away(&self, id: &str) -> Result<(), Error> {
        let inner = Arc::clone(&self.inner);
        let owned = id.to_owned();
        blocking(move || {
            teardown::sandbox(&inner.store, &inner.hierarchies, &owned)
                .map_err(|error| Error::Left(format!("the sandbox {owned}"), chain(&error)))
        })
        .await?;
        let mut known = self.inner.known.lock();
        known.sandboxes.remove(id);
        known.containers.retain(|_, sandbox| sandbox != id);
        Ok(())
    }
}

/// All of a sandbox but its shim; returns where the shim will listen. The record is written first, so that whatever is made
/// is found again.
fn lay_out(inner: &Inner, spec: SandboxSpec, group: PathBuf) -> Result<(SandboxRecord, UnixListener), Error> {
    let directory = inner.store.sandbox(&spec.id);
    std::fs::create_dir_all(&directory.0).map_err(io("make the sandbox's directory"))?;
    let wanted = Wanted {
        network: spec.network == Share::Pod,
        ipc: spec.ipc == Share::Pod,
        uts: spec.network == Share::Pod,
        hostname: spec.hostname.clone(),
        parameters: spec.sysctls.clone(),
    };
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let record = SandboxRecord {
        state: SandboxState {
            network_namespace: wanted.network.then(|| directory.namespaces().join("net")),
            created_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            ready: false,
            spec,
        },
        cgroup: group,
        complete: false,
    };
    store::write(&directory.record(), &record).map_err(io("write the sandbox's record"))?;
    make_group(inner, &record)?;
    namespaces::pin(&directory.namespaces(), &wanted).map_err(Error::Namespace)?;
    if record.state.spec.ipc == Share::Pod {
        mount_shared_memory(&directory)?;
    }
    let (_directory, path) =
        wire::short_path(&directory.socket()).map_err(io("find the sandbox's directory"))?;
    let socket = UnixListener::bind(path).map_err(io("make the shim's socket"))?;
    Ok((record, socket))
}

/// Makes the control group, and keeps which directories above it were not there before: they stay for the next sandbox,
/// and only a cleanup removes them.
fn make_group(inner: &Inner, record: &SandboxRecord) -> Result<(), Error> {
    let _one_at_a_time = inner.group_parents.lock();
    let made =
        inner.hierarchies.create(&record.cgroup, &record.state.spec.resources).map_err(Error::Cgroup)?;
    if made.is_empty() {
        return Ok(());
    }
    let path = inner.store.group_parents();
    let mut parents: Vec<PathBuf> =
        store::read(&path).map_err(io("read which control groups were made"))?.unwrap_or_default();
    parents.extend(made);
    store::write(&path, &parents).map_err(io("write which control groups were made"))
}

fn mount_shared_memory(directory: &SandboxDirectory) -> Result<(), Error> {
    let path = directory.shared_memory();
    std::fs::create_dir_all(&path).map_err(io("make the directory of the shared memory"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("shm", &path, "tmpfs", flags, Some(SHARED_MEMORY))
        .map_err(|error| io("mount the shared memory")(error.into()))
}

/// The control group of a sandbox. It is below the root, and not the root itself.
fn below(root: &str, group: &str) -> Result<PathBuf, Error> {
    let path = Path::new(root.trim_matches('/')).join(group.trim_matches('/'));
    let plain = path.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || group.trim_matches('/').is_empty() {
        return Err(Error::Refused(format!(
            "the control group {group:?} is not one; it is a path such as kubepods/burstable/pod1"
        )));
    }
    Ok(path)
}

fn bury(inner: &Inner, id: &str) -> Result<(), Error> {
    let directory = inner.store.sandbox(id);
    let left = |error: teardown::TeardownError| Error::Left(format!("what runs in {id}"), chain(&error));
    teardown::end_shim(&directory).map_err(left)?;
    let mut record = inner.record(id)?;
    for mut state in directory.states().map_err(io(format!("read the containers of {id}")))? {
        let started_ns = match state.phase {
            Phase::Exited(_) => continue,
            Phase::Running { started_ns } => Some(started_ns),
            Phase::Created => None,
        };
        let group = record.cgroup.join(&state.spec.id);
        let oom_killed = inner.hierarchies.oom_kills(&group) > 0;
        teardown::end_processes(&inner.hierarchies, &group).map_err(left)?;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        state.pid = None;
        state.phase = Phase::Exited(Exit {
            code: 137,
            signal: Some(9),
            oom_killed,
            started_ns,
            finished_ns: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX),
            message: "the shim of its sandbox has ended, and it was ended as well".to_owned(),
        });
        let path = directory.container(&state.spec.id).state();
        store::write(&path, &state).map_err(io(format!("write the state of {}", state.spec.id)))?;
        rootfs::unmount(&directory.container(&state.spec.id).root()).map_err(io("unmount a root"))?;
    }
    teardown::end_processes(&inner.hierarchies, &record.cgroup).map_err(left)?;
    if record.state.ready {
        record.state.ready = false;
        store::write(&directory.record(), &record).map_err(io("write the sandbox's record"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_is_below_the_root() {
        assert_eq!(below("", "kubepods/pod1").unwrap(), Path::new("kubepods/pod1"));
        assert_eq!(below("/barque/", "/kubepods/pod1").unwrap(), Path::new("barque/kubepods/pod1"));
        for group in ["", "/", "../x", "a/../../b"] {
            assert!(below("barque", group).is_err(), "{group:?}");
        }
    }
}
