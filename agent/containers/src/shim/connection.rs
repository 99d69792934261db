//! One connection of the agent: its request, and the answer.

use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixStream;

use super::attach::{self, Wanted};
use super::container::Container;
use super::serve::Shim;
use super::{create, exec, now_ns};
use crate::spec::Phase;
use crate::wire::{self, Failure, Reply, Request};
use crate::{error, store, teardown};

/// Serves it until it is done. Errors of the connection end it, and concern nobody else.
pub(super) async fn serve(shim: Rc<Shim>, connection: UnixStream) {
    let Ok(Some((request, _))) = wire::receive::<Request>(&connection).await else { return };
    // What cannot be answered was asked by an agent that is gone.
    let _ = match request {
        Request::Subscribe => subscribe(&shim, &connection).await,
        Request::Exec { id, process, stdin, timeout_ms } => match shim.container(&id) {
            Ok(container) => {
                let timeout = timeout_ms.map(Duration::from_millis);
                exec::exec(&shim, &container, &process, stdin, timeout, &connection).await
            }
            Err(failure) => wire::send(&connection, &Reply::Failed(failure), &[]).await,
        },
        Request::Attach { id, stdin, stdout, stderr } => match shim.container(&id) {
            Ok(container) => {
                attach::attach(&shim, &container, Wanted { stdin, stdout, stderr }, &connection).await
            }
            Err(failure) => wire::send(&connection, &Reply::Failed(failure), &[]).await,
        },
        other => {
            let quits = matches!(other, Request::Quit);
            let reply = match answer(&shim, other).await {
                Ok(()) => Reply::Done,
                Err(failure) => Reply::Failed(failure),
            };
            let quits = quits && matches!(reply, Reply::Done);
            let sent = wire::send(&connection, &reply, &[]).await;
            if quits {
                shim.quit.notify_one();
            }
            sent
        }
    };
}

/// Tells of changes until the other side leaves. Several changes may be told as one.
async fn subscribe(shim: &Rc<Shim>, connection: &UnixStream) -> std::io::Result<()> {
    let mut changes = shim.changes.subscribe();
    let told = async {
        loop {
            wire::send(connection, &Reply::Changed, &[]).await?;
            if changes.changed().await.is_err() {
                return Ok(());
            }
        }
    };
    tokio::select! {
        result = told => result,
        _ = wire::receive::<Request>(connection) => Ok(()),
    }
}

async fn answer(shim: &Rc<Shim>, request: Request) -> Result<(), Failure> {
    match request {
        Request::Hello => Ok(()),
        Request::Create { spec, log } => create::create(shim, *spec, log),
        Request::Start { id } => start(shim, &*shim.container(&id)?),
        Request::Kill { id, signal } => shim.container(&id)?.signal(signal),
        Request::Stop { id, grace_ms } => {
            shim.container(&id)?.stop(shim, Duration::from_millis(grace_ms)).await
        }
        Request::Remove { id } => remove(shim, &id),
        Request::Update { id, resources } => {
            let container = shim.container(&id)?;
            if container.pid().is_none() {
                return Err(Failure::State("the container has ended".to_owned()));
            }
            shim.hierarchies.bound(&container.group, &resources).map_err(refused)?;
            container.change(shim, |state| state.spec.resources = resources);
            Ok(())
        }
        Request::ReopenLog { id } => {
            let container = shim.container(&id)?;
            let reopened = container.log.borrow_mut().reopen();
            reopened.map_err(|error| Failure::Refused(format!("the log cannot be opened: {error}")))
        }
        Request::StopSandbox => {
            let containers: Vec<_> = shim.containers.borrow().values().cloned().collect();
            for container in &containers {
                container.kill(shim);
            }
            for container in &containers {
                container.stop(shim, Duration::ZERO).await?;
            }
            shim.end_pause();
            Ok(())
        }
        Request::Quit => {
            let runs = |container: &Rc<Container>| !*container.ended.borrow();
            if shim.containers.borrow().values().any(runs) {
                return Err(Failure::State("a container has not ended".to_owned()));
            }
            shim.end_pause();
            Ok(())
        }
        // These are handled before, or only within another request.
        Request::Subscribe | Request::Exec { .. } | Request::Attach { .. } | Request::Resize { .. } => {
            Err(Failure::Refused("this is no request by itself".to_owned()))
        }
    }
}

fn start(shim: &Shim, container: &Container) -> Result<(), Failure> {
    let phase = container.phase();
    if phase != Phase::Created {
        let is = if matches!(phase, Phase::Exited(_)) { "has ended" } else { "runs already" };
        return Err(Failure::State(format!("the container {is}")));
    }
    let id = container.state.borrow().spec.id.clone();
    let started_ns = now_ns();
    libcontainer::container::Container::load(shim.directory.runtime().join(id))
        .and_then(|mut container| container.start())
        .map_err(refused)?;
    container.change(shim, |state| state.phase = Phase::Running { started_ns });
    Ok(())
}

fn remove(shim: &Shim, id: &str) -> Result<(), Failure> {
    let container = match shim.container(id) {
        Ok(container) => container,
        // It was made by an earlier agent's shim, or never.
        Err(_) if store::valid_id(id) => {
            return teardown::container(
                &shim.store,
                &shim.hierarchies,
                &shim.directory,
                &shim.record.cgroup,
                id,
            )
            .map_err(refused);
        }
        Err(failure) => return Err(failure),
    };
    if !*container.ended.borrow() {
        return Err(Failure::State("the container has not ended; it is to be stopped before".to_owned()));
    }
    teardown::container(&shim.store, &shim.hierarchies, &shim.directory, &shim.record.cgroup, id)
        .map_err(refused)?;
    shim.containers.borrow_mut().remove(id);
    shim.changed();
    Ok(())
}

fn refused<E: std::error::Error>(failure: E) -> Failure {
    Failure::Refused(error::chain(&failure))
}
