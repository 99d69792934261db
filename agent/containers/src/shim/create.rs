//! A container is made: its root is mounted, its document written, its streams laid, and libcontainer makes the rest. Then
//! it waits to be started. Everything here is done without waiting, in the only thread: nobody reaps meanwhile.

use std::cell::{Cell, RefCell};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use tokio::io::Interest;
use tokio::sync::watch;

use super::container::Container;
use super::cri_log::Source;
use super::executor::Run;
use super::log_file::LogFile;
use super::output::pump;
use super::serve::Shim;
use super::terminal::Console;
use super::{exec, now_ns};
use crate::handle::{Handle, handle};
use crate::oci::{self, Joined, PidNamespace, Surroundings};
use crate::spec::{ContainerSpec, ContainerState, Phase, PidShare, Share};
use crate::wire::{Failure, LogLimits};
use crate::{error, rootfs, seccomp, store, teardown};

/// How long output that somebody else holds open is waited for after the end.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Makes a container.
pub(super) fn create(shim: &Rc<Shim>, spec: ContainerSpec, log: LogLimits) -> Result<(), Failure> {
    if !store::valid_id(&spec.id) {
        return Err(Failure::Refused(format!("{:?} is no name for a container", spec.id)));
    }
    if shim.containers.borrow().contains_key(&spec.id) {
        return Err(Failure::Exists);
    }
    let id = spec.id.clone();
    let made = make(shim, spec, log);
    // libcontainer writes the container's into the process that calls it.
    shim.restore_oom_score();
    match made {
        Ok(container) => {
            shim.containers.borrow_mut().insert(id, container);
            shim.changed();
            Ok(())
        }
        Err(story) => {
            shim.reaper.reap();
            let group = &shim.record.cgroup;
            if let Err(left) =
                teardown::container(&shim.store, &shim.hierarchies, &shim.directory, group, &id)
            {
                eprintln!("something of {id} is left: {}", error::chain(&left));
            }
            Err(Failure::Refused(story))
        }
    }
}

/// Its ends of the container's streams.
struct Streams {
    console: Option<Console>,
    stdin: Option<OwnedFd>,
    outputs: Vec<(OwnedFd, Source)>,
}

/// Errors are sentences.
fn make(shim: &Rc<Shim>, spec: ContainerSpec, limits: LogLimits) -> Result<Rc<Container>, String> {
    let tell = |what: &'static str| move |error: std::io::Error| format!("{what}: {error}");
    let directory = shim.directory.container(&spec.id);
    std::fs::create_dir_all(&directory.0).map_err(tell("the container's directory cannot be made"))?;
    let written = shim.store.written_by(&spec.id);
    let root = directory.root();
    rootfs::mount(&spec.layers, &written.join("upper"), &written.join("work"), &root)
        .map_err(|failure| error::chain(&failure))?;
    make_working_directory(&root, &spec).map_err(|failure| error::chain(&failure))?;
    let filter = seccomp::program(&spec.seccomp, &spec.process.capabilities)
        .map_err(|failure| error::chain(&failure))?
        .filter(|_| !spec.privileged)
        .map(Rc::new);
    let group = shim.record.cgroup.join(&spec.id);
    let mut devices = oci::chosen(&spec.devices)?;
    if spec.privileged {
        devices.extend(oci::all_of_the_machine());
    }
    let around = Surroundings {
        root: &root,
        joined: shim.joined(),
        shared_memory: Some(&shim.shared_memory()),
        cgroup: &group,
        cgroup_version: shim.hierarchies.version(),
        devices: &devices,
        filtered: filter.is_some(),
        least_oom_score: shim.least_oom_score(),
    };
    std::fs::write(directory.document(), oci::document(&spec, &around).to_string())
        .map_err(tell("the container's document cannot be written"))?;
    let log = LogFile::open(&spec.log_path, limits).map_err(tell("the log cannot be opened"))?;

    let run = Run { filter: filter.clone() };
    let mut builder = ContainerBuilder::new(spec.id.clone(), SyscallType::default())
        .with_executor(run)
        .with_root_path(shim.directory.runtime())
        .map_err(|failure| error::chain(&failure))?;
    let mut streams = Streams { console: None, stdin: None, outputs: Vec::new() };
    if spec.process.terminal {
        let console = Console::open(directory.0.join("console.sock")).map_err(tell("no terminal"))?;
        builder = builder.with_console_socket(Some(console.path()));
        streams.console = Some(console);
    } else {
        let pipe = || std::io::pipe().map_err(tell("no pipe"));
        let (out_reader, out_writer) = pipe()?;
        let (err_reader, err_writer) = pipe()?;
        streams.outputs.push((out_reader.into(), Source::Stdout));
        streams.outputs.push((err_reader.into(), Source::Stderr));
        let stdin: OwnedFd = if spec.stdin {
            let (reader, writer) = pipe()?;
            streams.stdin = Some(writer.into());
            reader.into()
        } else {
            exec::nothing().map_err(tell("/dev/null cannot be opened"))?
        };
        builder = builder.with_stdin(stdin).with_stdout(out_writer).with_stderr(err_writer);
    }
    let made = builder.as_init(&directory.0).with_systemd(false).with_detach(true).build();
    let made = made.map_err(|failure| exec::story(&failure))?;
    let pid = made.pid().map_or(0, |pid| pid.as_raw());
    let ended = shim.reaper.expect(pid);
    shim.hierarchies.end_together(&group).map_err(|failure| error::chain(&failure))?;

    let mut terminal = None;
    let mut outputs: Vec<(Rc<Handle>, Source)> = Vec::new();
    let mut stdin = None;
    if let Some(console) = streams.console {
        let master = console.take().map_err(tell("the terminal did not come"))?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let master = Rc::new(handle(master, both).map_err(tell("the terminal cannot be used"))?);
        outputs.push((Rc::clone(&master), Source::Stdout));
        stdin = spec.stdin.then(|| Rc::clone(&master));
        terminal = Some(master);
    }
    for (output, source) in streams.outputs {
        let output = handle(output, Interest::READABLE).map_err(tell("a pipe cannot be used"))?;
        outputs.push((Rc::new(output), source));
    }
    if let Some(input) = streams.stdin {
        stdin = Some(Rc::new(handle(input, Interest::WRITABLE).map_err(tell("a pipe cannot be used"))?));
    }
    let container = Rc::new(Container {
        directory,
        group,
        state: RefCell::new(ContainerState {
            spec,
            created_ns: now_ns(),
            phase: Phase::Created,
            pid: u32::try_from(pid).ok(),
        }),
        filter,
        terminal,
        stdin: RefCell::new(stdin),
        log: RefCell::new(log),
        clients: RefCell::default(),
        next_client: Cell::new(0),
        ended: watch::Sender::new(false),
    });
    store::write(&container.directory.state(), &*container.state.borrow())
        .map_err(tell("the container's state cannot be written"))?;
    let pumps: Vec<_> = outputs
        .into_iter()
        .map(|(output, source)| {
            shim.tasks.spawn_local(pump(Rc::clone(&container), Rc::clone(&shim.scratch), output, source))
        })
        .collect();
    let (shim, watched) = (Rc::clone(shim), Rc::clone(&container));
    let tracker = shim.tasks.clone();
    tracker.spawn_local(async move {
        // The sender is dropped only with the shim.
        let Ok(ended) = ended.await else { return };
        // With process ids of its own, the kernel has ended all others with the first.
        shim.hierarchies.signal(&watched.group, rustix::process::Signal::KILL);
        let deadline = tokio::time::Instant::now() + LAST_OUTPUT;
        for mut pump in pumps {
            if tokio::time::timeout_at(deadline, &mut pump).await.is_err() {
                pump.abort();
            }
        }
        watched.conclude(&shim, ended);
    });
    Ok(container)
}

/// Makes the directory that the process begins in, where it will be seen: in the root, or in what is mounted over it.
fn make_working_directory(root: &Path, spec: &ContainerSpec) -> Result<(), rootfs::RootError> {
    let directory = &spec.process.cwd;
    match oci::covering(&spec.mounts, directory) {
        None => rootfs::make_directory(root, directory),
        Some(mount) if mount.kind == "bind" && Path::new(&mount.source).is_dir() => {
            let rest = directory.strip_prefix(&mount.destination).unwrap_or(directory);
            rootfs::make_directory(Path::new(&mount.source), rest)
        }
        // It is made with the container, and what is in it comes from elsewhere.
        Some(_) => Ok(()),
    }
}

impl Shim {
    /// What containers of this sandbox join.
    pub(super) fn joined(&self) -> Joined {
        let spec = &self.record.state.spec;
        let namespace = |share: Share, name: &str| match share {
            Share::Pod => Some(self.directory.namespaces().join(name)),
            Share::Host => None,
        };
        Joined {
            network: namespace(spec.network, "net"),
            ipc: namespace(spec.ipc, "ipc"),
            // Who has the machine's network has its name, too.
            uts: namespace(spec.network, "uts"),
            pid: match (spec.pid, self.pause) {
                (PidShare::Container, _) => PidNamespace::Own,
                (PidShare::Pod, Some(pid)) => PidNamespace::Joined(format!("/proc/{pid}/ns/pid").into()),
                (PidShare::Host | PidShare::Pod, _) => PidNamespace::Host,
            },
        }
    }

    /// The shared memory of the sandbox's containers.
    pub(super) fn shared_memory(&self) -> std::path::PathBuf {
        match self.record.state.spec.ipc {
            Share::Pod => self.directory.shared_memory(),
            Share::Host => "/dev/shm".into(),
        }
    }
}
