//! Bugs on purpose: each one is put in by wrapping a seam, and an invariant must find it. The store is never changed.

use barque_store::command::Command;
use barque_store::error::StoreError;
use barque_store::member::Member;
use barque_store::rpc::backend::Applied;
use futures::future::BoxFuture;

use super::operation::{Access, Direct};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Planted {
    /// Disks say that they synced, and did not.
    LyingDisk,
    /// Reads do not ask whether they are fresh.
    StaleRead,
    /// Writes are proposed twice.
    DoubleApply,
    /// Some answers of watches get lost.
    LostEvent,
    /// Clocks run faster than they may.
    EarlyLease,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LyingDisk, Self::StaleRead, Self::DoubleApply, Self::LostEvent, Self::EarlyLease];
}

/// Reads at once.
#[derive(Clone, Copy, Debug)]
pub struct StaleReads;

impl Access for StaleReads {
    fn write(&self, member: Member, command: Command) -> BoxFuture<'static, Result<Applied, StoreError>> {
        Direct.write(member, command)
    }

    fn read_barrier(&self, _: Member) -> BoxFuture<'static, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Proposes again what was answered already, now and then.
#[derive(Clone, Copy, Debug)]
pub struct DoubleWrites;

impl Access for DoubleWrites {
    fn write(&self, member: Member, command: Command) -> BoxFuture<'static, Result<Applied, StoreError>> {
        Box::pin(async move {
            Direct.write(member.clone(), command.clone()).await?;
            Direct.write(member, command).await
        })
    }

    fn read_barrier(&self, member: Member) -> BoxFuture<'static, Result<(), StoreError>> {
        Direct.read_barrier(member)
    }
}
