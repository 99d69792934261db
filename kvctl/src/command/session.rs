//! A lease that lives as long as this program holds something, and the signals that end the holding.

use std::time::Duration;

use barque_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::connection::Connection;
use crate::error::Failure;

/// A lease kept alive.
pub(super) struct Session {
    connection: Connection,
    /// Its id.
    pub(super) lease: i64,
    ttl: Duration,
}

impl Session {
    /// Grants the lease.
    pub(super) async fn start(connection: &Connection, ttl_s: i64) -> Result<Self, Failure> {
        let granted = connection.lease_grant(LeaseGrantRequest { id: 0, ttl: ttl_s }).await?;
        let ttl = Duration::from_secs(granted.ttl.max(1).unsigned_abs());
        Ok(Self { connection: connection.clone(), lease: granted.id, ttl })
    }

    /// Renews the lease until it is lost, and then returns.
    pub(super) async fn lost(&self) {
        let mut renewed = Instant::now();
        loop {
            tokio::time::sleep(self.ttl / 3).await;
            match self.connection.lease_keep_alive_once(self.lease).await {
                Ok(answer) if answer.ttl > 0 => renewed = Instant::now(),
                Ok(_) => return,
                Err(_) if renewed.elapsed() < self.ttl => {}
                Err(_) => return,
            }
        }
    }

    /// Gives up whatever is held under the lease.
    pub(super) async fn end(self) -> Result<(), Failure> {
        self.connection.lease_revoke(LeaseRevokeRequest { id: self.lease }).await.map(drop)
    }
}

/// SIGINT and SIGTERM, which no longer end the program by themselves.
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    pub(super) fn new() -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(Failure::io("listening for signals"));
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for the next of them.
    pub(super) async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
