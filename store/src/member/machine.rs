//! What a member takes from the machine that it runs on, behind one trait: a simulated machine runs the same member.
//!
//! Time that passes is tokio's. Identity and snapshot files are on the file system in any case.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::blocking::Blocking;
use crate::raft::dial::{Dial, Tcp};
use crate::records::RecordsError;
use crate::storage::restore::{self, OpenRecords};
use crate::tls::ClientTls;
use crate::wal::{Recovered, Wal, WalConfig, WalError};
use crate::wall_clock::WallClock;

/// Longer attempts to connect have failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A machine.
pub trait Machine: Send + Sync + 'static {
    /// Opens the log on this machine's disk. May block.
    ///
    /// # Errors
    /// See [`Wal::open`].
    fn open_log(&self, config: WalConfig) -> Result<(Wal, Recovered), WalError>;

    /// Opens the record store. May block.
    ///
    /// # Errors
    /// When not even an empty one can be made.
    fn open_records(&self, dir: &Path) -> Result<OpenRecords, RecordsError>;

    /// Makes connections to other members.
    fn dial(&self) -> Arc<dyn Dial>;

    /// Does work that blocks.
    fn blocking(&self) -> Blocking;

    /// The time of day.
    fn wall_clock(&self) -> WallClock;
}

/// The machine that this process runs on.
#[derive(Debug)]
pub struct ThisMachine {
    dial: Arc<Tcp>,
}

impl ThisMachine {
    /// `peer_tls` is for https peers.
    #[must_use]
    pub fn new(peer_tls: Option<Arc<ClientTls>>) -> Self {
        Self { dial: Arc::new(Tcp::new(peer_tls, CONNECT_TIMEOUT)) }
    }
}

impl Machine for ThisMachine {
    fn open_log(&self, config: WalConfig) -> Result<(Wal, Recovered), WalError> {
        Wal::open(config)
    }

    fn open_records(&self, dir: &Path) -> Result<OpenRecords, RecordsError> {
        restore::open_sled(dir)
    }

    fn dial(&self) -> Arc<dyn Dial> {
        Arc::clone(&self.dial) as _
    }

    fn blocking(&self) -> Blocking {
        Blocking::default()
    }

    fn wall_clock(&self) -> WallClock {
        WallClock::default()
    }
}
