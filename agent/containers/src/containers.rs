//! The agent's view of its sandboxes and containers: what was there before is adopted, requests go to the shims, states
//! are read from the files that shims write. Restarts nothing and decides nothing.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cgroup::{Hierarchies, Stats};
use crate::error::{Error, chain};
use crate::exec::milliseconds;
use crate::shim_client::ShimClient;
use crate::spec::{ContainerSpec, ContainerState, Phase, Resources};
use crate::store::{self, SandboxRecord, Store};
use crate::teardown;
use crate::wire::{LogLimits, Request};

/// How containers are kept on this machine.
#[derive(Debug, Clone)]
pub struct Settings {
    /// States, sockets and mounts; gone with the machine's next start, such as `/run/barque/agent`.
    pub state_dir: PathBuf,
    /// What containers write; a directory that an overlay can write to.
    pub data_dir: PathBuf,
    /// The program that is executed as a shim, and the words that lead it to [`crate::shim::main`].
    pub shim: Vec<OsString>,
    /// A control group that all others are below; empty for the roots of the hierarchies.
    pub cgroup_root: String,
    /// Bytes of a log file before a new one is begun; 0 for no bound.
    pub log_file_bytes: u64,
    /// How many files of a log are kept, with the one that is written.
    pub log_files: u32,
}

/// Sandboxes and containers. Clones are the same.
#[derive(Debug, Clone)]
pub struct Containers {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) settings: Settings,
    pub(crate) store: Store,
    pub(crate) hierarchies: Hierarchies,
    pub(crate) known: Mutex<Known>,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancel: CancellationToken,
    /// Held by who changes the list of control groups above those of sandboxes.
    pub(crate) group_parents: Mutex<()>,
    /// Nobody else uses the directory while this is open.
    _lock: File,
}

/// What is there.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) sandboxes: BTreeMap<String, Sandbox>,
    /// Which sandbox a container belongs to.
    pub(crate) containers: BTreeMap<String, String>,
}

/// A sandbox that is there, or about to be.
#[derive(Debug, Clone)]
pub(crate) struct Sandbox {
    /// Counts what may have changed.
    pub(crate) changes: watch::Sender<u64>,
    /// Its shim is no longer listened to: the sandbox is being removed.
    pub(crate) leave: CancellationToken,
}

pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Io { action: action.into(), source }
}

/// Runs something that blocks elsewhere.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Io { action: "do it".to_owned(), source: std::io::Error::other(error) }),
    }
}

impl Containers {
    /// Finds what is there: sandboxes whose shims live are adopted with all that runs in them; containers whose shim has
    /// ended are told as ended; what was half made is removed.
    pub async fn open(settings: Settings) -> Result<Self, Error> {
        let (store, hierarchies, lock) = {
            let settings = settings.clone();
            blocking(move || prepare(&settings)).await?
        };
        let containers = Self {
            inner: Arc::new(Inner {
                settings,
                store,
                hierarchies,
                known: Mutex::default(),
                tasks: TaskTracker::new(),
                cancel: CancellationToken::new(),
                group_parents: Mutex::default(),
                _lock: lock,
            }),
        };
        let names = store::names(&containers.inner.store.sandboxes()).map_err(io("list the sandboxes"))?;
        for id in names {
            containers.adopt(&id).await?;
        }
        containers.forget_written()?;
        Ok(containers)
    }

    /// Ends what this value does by itself. Containers run on, and the next one to open the directory finds them.
    pub async fn close(&self) {
        self.inner.cancel.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    async fn adopt(&self, id: &str) -> Result<(), Error> {
        let directory = self.inner.store.sandbox(id);
        let record: Option<SandboxRecord> = store::read(&directory.record()).ok().flatten();
        if !record.is_some_and(|record| record.complete) {
            let inner = Arc::clone(&self.inner);
            let id = id.to_owned();
            return blocking(move || {
                teardown::sandbox(&inner.store, &inner.hierarchies, &id)
                    .map_err(|error| Error::Left(format!("the unfinished sandbox {id}"), chain(&error)))
            })
            .await;
        }
        let sandbox = Sandbox { changes: watch::Sender::new(0), leave: CancellationToken::new() };
        let states = directory.states().map_err(io(format!("read the containers of {id}")))?;
        {
            let mut known = self.inner.known.lock();
            known.sandboxes.insert(id.to_owned(), sandbox.clone());
            for state in states {
                known.containers.insert(state.spec.id, id.to_owned());
            }
        }
        self.listen(id, sandbox).await
    }

    /// What containers wrote that are no longer there: of those before the machine's last start.
    fn forget_written(&self) -> Result<(), Error> {
        let written = self.inner.store.written();
        let known: Vec<String> = self.inner.known.lock().containers.keys().cloned().collect();
        for name in store::names(&written).map_err(io("list what containers wrote"))? {
            if !known.contains(&name) {
                store::remove(&written.join(&name)).map_err(io(format!("remove what {name} wrote")))?;
            }
        }
        Ok(())
    }

    /// A sandbox's shim.
    pub(crate) fn shim(&self, sandbox: &str) -> Result<ShimClient, Error> {
        if !self.inner.known.lock().sandboxes.contains_key(sandbox) {
            return Err(Error::NotFound(format!("sandbox {sandbox}")));
        }
        Ok(ShimClient::new(sandbox, self.inner.store.sandbox(sandbox)))
    }

    pub(crate) fn sandbox_of(&self, container: &str) -> Result<String, Error> {
        let known = self.inner.known.lock();
        known
            .containers
            .get(container)
            .cloned()
            .ok_or_else(|| Error::NotFound(format!("container {container}")))
    }

    pub(crate) fn shim_of(&self, container: &str) -> Result<ShimClient, Error> {
        self.shim(&self.sandbox_of(container)?)
    }

    pub(crate) fn shim_and_state(&self, container: &str) -> Result<(ShimClient, ContainerState), Error> {
        let sandbox = self.sandbox_of(container)?;
        let path = self.inner.store.sandbox(&sandbox).container(container).state();
        let state = store::read(&path)
            .map_err(io(format!("read the state of {container}")))?
            .ok_or_else(|| Error::NotFound(format!("container {container}")))?;
        Ok((self.shim(&sandbox)?, state))
    }

    async fn ask(&self, container: &str, request: Request) -> Result<(), Error> {
        self.shim_of(container)?.request(&format!("container {container}"), &request).await
    }

    /// Makes a container; nothing of it runs yet. A program that is not there is an error here, in runc's words.
    pub async fn create(&self, sandbox: &str, spec: ContainerSpec) -> Result<(), Error> {
        let shim = self.shim(sandbox)?;
        let id = spec.id.clone();
        {
            let mut known = self.inner.known.lock();
            if known.containers.contains_key(&id) {
                return Err(Error::Exists(format!("container {id}")));
            }
            known.containers.insert(id.clone(), sandbox.to_owned());
        }
        let log = LogLimits {
            file_bytes: self.inner.settings.log_file_bytes,
            files: self.inner.settings.log_files.max(1),
        };
        let request = Request::Create { spec: Box::new(spec), log };
        let made = shim.request(&format!("container {id}"), &request).await;
        if made.is_err() {
            self.inner.known.lock().containers.remove(&id);
        }
        made
    }

    /// Runs what was made.
    pub async fn start(&self, container: &str) -> Result<(), Error> {
        self.ask(container, Request::Start { id: container.to_owned() }).await
    }

    /// Sends a signal, by number, to a container's first process.
    pub async fn kill(&self, container: &str, signal: i32) -> Result<(), Error> {
        self.ask(container, Request::Kill { id: container.to_owned(), signal }).await
    }

    /// Asks a container to stop by its signal, and ends it when the grace is over, which holds even if this process ends
    /// meanwhile. Returns when it has ended. Asking again with less grace shortens it. One that is not there has stopped.
    pub async fn stop(&self, container: &str, grace: Duration) -> Result<(), Error> {
        let request = Request::Stop { id: container.to_owned(), grace_ms: milliseconds(grace) };
        match self.ask(container, request).await {
            Err(Error::NotFound(_)) => Ok(()),
            // All of the sandbox's containers are being ended, and told so.
            Err(Error::ShimGone(sandbox)) => self.bury(&sandbox).await,
            other => other,
        }
    }

    /// Removes a container that has ended, with what it wrote. Its log stays. One that is not there is removed.
    pub async fn remove(&self, container: &str) -> Result<(), Error> {
        let sandbox = match self.sandbox_of(container) {
            Err(Error::NotFound(_)) => return Ok(()),
            sandbox => sandbox?,
        };
        match self.ask(container, Request::Remove { id: container.to_owned() }).await {
            Err(Error::ShimGone(_)) => {
                self.bury(&sandbox).await?;
                let inner = Arc::clone(&self.inner);
                let (sandbox, id) = (sandbox.clone(), container.to_owned());
                blocking(move || {
                    let group = inner.group(&sandbox)?;
                    let directory = inner.store.sandbox(&sandbox);
                    teardown::container(&inner.store, &inner.hierarchies, &directory, &group, &id)
                        .map_err(|error| Error::Left(format!("the container {id}"), chain(&error)))
                })
                .await?;
            }
            other => other?,
        }
        self.inner.known.lock().containers.remove(container);
        Ok(())
    }

    /// The containers of a sandbox, by id, as their shim last told.
    pub fn containers(&self, sandbox: &str) -> Result<Vec<ContainerState>, Error> {
        self.shim(sandbox)?;
        self.inner.store.sandbox(sandbox).states().map_err(io(format!("read the containers of {sandbox}")))
    }

    /// Changes what a container may use, at once and for those who ask.
    pub async fn update_resources(&self, container: &str, resources: Resources) -> Result<(), Error> {
        self.ask(container, Request::Update { id: container.to_owned(), resources }).await
    }

    /// Changes what the containers of a sandbox may use together, at once and for those who ask.
    pub async fn update_sandbox(&self, sandbox: &str, resources: Resources) -> Result<(), Error> {
        self.shim(sandbox)?;
        let inner = Arc::clone(&self.inner);
        let id = sandbox.to_owned();
        blocking(move || {
            let mut record = inner.record(&id)?;
            inner.hierarchies.bound(&record.cgroup, &resources).map_err(Error::Cgroup)?;
            record.state.spec.resources = resources;
            store::write(&inner.store.sandbox(&id).record(), &record)
                .map_err(io("write the sandbox's record"))
        })
        .await?;
        if let Some(sandbox) = self.inner.known.lock().sandboxes.get(sandbox) {
            sandbox.changes.send_modify(|number| *number += 1);
        }
        Ok(())
    }

    /// Begins a new file of a container's log: somebody has renamed the old one.
    pub async fn reopen_log(&self, container: &str) -> Result<(), Error> {
        self.ask(container, Request::ReopenLog { id: container.to_owned() }).await
    }

    /// What a container wrote into its root lies there.
    #[must_use]
    pub fn written_by(&self, container: &str) -> PathBuf {
        self.inner.store.written_by(container).join("upper")
    }

    /// What a container used so far; nothing if it does not run.
    pub fn stats(&self, container: &str) -> Result<Option<Stats>, Error> {
        let sandbox = self.sandbox_of(container)?;
        let group = self.inner.group(&sandbox)?;
        let (_, state) = self.shim_and_state(container)?;
        if matches!(state.phase, Phase::Exited(_)) {
            return Ok(None);
        }
        Ok(self.inner.hierarchies.stats(&group.join(container)))
    }

    /// What all containers of a sandbox used so far.
    pub fn sandbox_stats(&self, sandbox: &str) -> Result<Option<Stats>, Error> {
        self.shim(sandbox)?;
        Ok(self.inner.hierarchies.stats(&self.inner.group(sandbox)?))
    }
}

impl Inner {
    /// What is kept of a sandbox.
    pub(crate) fn record(&self, sandbox: &str) -> Result<SandboxRecord, Error> {
        store::read(&self.store.sandbox(sandbox).record())
            .map_err(io(format!("read the record of {sandbox}")))?
            .ok_or_else(|| Error::NotFound(format!("sandbox {sandbox}")))
    }

    /// The control group of a sandbox.
    pub(crate) fn group(&self, sandbox: &str) -> Result<PathBuf, Error> {
        Ok(self.record(sandbox)?.cgroup)
    }
}

fn prepare(settings: &Settings) -> Result<(Store, Hierarchies, File), Error> {
    if settings.shim.is_empty() {
        return Err(Error::Refused("the program of the shim is missing in the settings".to_owned()));
    }
    let store = Store { state: settings.state_dir.clone(), data: settings.data_dir.clone() };
    for directory in [&store.sandboxes(), &store.written()] {
        std::fs::create_dir_all(directory).map_err(io(format!("make {}", directory.display())))?;
    }
    let lock = lock(&store.state)?;
    let hierarchies = Hierarchies::find().map_err(Error::Cgroup)?;
    // Mounts are looked up by their real paths.
    let real = |path: &Path| std::fs::canonicalize(path).map_err(io(format!("find {}", path.display())));
    let store = Store { state: real(&store.state)?, data: real(&store.data)? };
    Ok((store, hierarchies, lock))
}

/// Whether a process uses this state directory. One that is not there is used by nobody.
#[must_use]
pub fn is_used(state: &Path) -> bool {
    // Opened without making it: who only asks leaves nothing.
    File::open(state.join("lock")).is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Makes sure that nobody else uses the directory; the lock holds while the file is open.
pub(crate) fn lock(state: &Path) -> Result<File, Error> {
    let path = state.join("lock");
    let file = File::create(&path).map_err(io(format!("make {}", path.display())))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Refused(format!(
            "another agent uses {}; give this one a state directory of its own",
            state.display()
        ))),
        Err(TryLockError::Error(source)) => {
            Err(Error::Io { action: format!("lock {}", path.display()), source })
        }
    }
}
