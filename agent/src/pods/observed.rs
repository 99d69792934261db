//! What a runtime tells of one pod. Vocabulary: must never say what should be.

use core::net::IpAddr;
use std::collections::BTreeMap;
use std::time::Duration;

use barque_containers::spec::Resources;
use k8s_openapi::jiff::Timestamp;

/// A container that ran for so long has not crashed again and again.
pub const HEALTHY_RUN: Duration = Duration::from_secs(600);

/// One pod as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Where its containers run; nothing before anything of it was made and after all of it was removed.
    pub sandbox: Option<Sandbox>,
    /// Of each container that was ever created, by name.
    pub containers: BTreeMap<String, Container>,
}

/// The pod's sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Since when it is there.
    pub created: Timestamp,
    /// The pod's addresses, the preferred one first; none in the network of the host.
    pub addresses: Vec<IpAddr>,
    /// Containers can run in it. One that was made in part, or broke, cannot be used; it is only taken away.
    pub ready: bool,
    /// What its containers may use together; nothing where nobody knows.
    pub bounds: Option<Resources>,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The instance that was created last.
    pub newest: Instance,
    /// The one before it.
    pub before: Option<Instance>,
    /// How often it has ended since it last ran for [`HEALTHY_RUN`].
    pub crashes: u32,
}

/// One run of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The runtime's name for it, as `hollow://...`.
    pub id: String,
    /// The image that it was created from, as the pod named it.
    pub image: String,
    /// What that image is.
    pub image_id: String,
    /// How many came before it.
    pub attempt: u32,
    /// When it was created.
    pub created: Timestamp,
    /// Where it is in its life.
    pub state: State,
    /// It was asked to stop, and is killed at this moment.
    pub killed_at: Option<Timestamp>,
    /// What it may use, or might when it ended; nothing where nobody knows.
    pub bounds: Option<Resources>,
}

/// Where an instance is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It does not run yet.
    Created,
    /// It runs.
    Running {
        /// Since then.
        since: Timestamp,
    },
    /// It has ended.
    Exited(Exit),
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 and more for those that a signal ended.
    pub code: i32,
    /// Why, in one word such as `Completed`, `Error` or `OOMKilled`.
    pub reason: String,
    /// What it left to say.
    pub message: Option<String>,
    /// When it began to run.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl Instance {
    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            State::Created | State::Running { .. } => None,
        }
    }

    /// Since when it runs, if it does.
    #[must_use]
    pub fn running_since(&self) -> Option<Timestamp> {
        match self.state {
            State::Running { since } => Some(since),
            State::Created | State::Exited(_) => None,
        }
    }
}

impl Observed {
    /// The sandbox, if containers can run in it.
    #[must_use]
    pub fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandbox.as_ref().filter(|sandbox| sandbox.ready)
    }

    /// The container's newest instance.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<&Instance> {
        self.containers.get(name).map(|container| &container.newest)
    }

    /// Whether something of the container is there that has not ended.
    #[must_use]
    pub fn is_alive(&self, name: &str) -> bool {
        self.newest(name).is_some_and(|newest| newest.exit().is_none())
    }
}
