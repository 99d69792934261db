//! What a member finds when it runs on a simulated machine: the simulated disk under its log, the simulated network, its
//! machine's clock, and no threads.
//!
//! The files of identity and snapshots are on the real file system; what they lose with the power is simulated
//! ([`super::files`]). The record store is empty at each start, as after an end that left it in doubt; the log and the
//! snapshots bring all back.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use barque_store::blocking::Blocking;
use barque_store::member::machine::Machine;
use barque_store::raft::dial::Dial;
use barque_store::records::RecordsError;
use barque_store::records::memory::MemoryRecords;
use barque_store::storage::restore::OpenRecords;
use barque_store::wal::{Recovered, Segments, Wal, WalConfig, WalError, Writer, WriterHost};
use barque_store::wall_clock::WallClock;
use tokio::task::JoinSet;

use super::disk::SimDisk;
use super::network::SimDial;

/// Small, so that logs roll and purges delete.
const SEGMENT_BYTES: u32 = 32 << 10;
/// Small, so that entries are read back from the disk.
const CACHE_BYTES: u64 = 8 << 10;

/// What a process does beside its member; ended with it.
pub type Tasks = Arc<Mutex<JoinSet<()>>>;

/// The machine under one process.
pub struct SimMachine {
    /// Owns what is started for the process.
    pub tasks: Tasks,
    /// Under the log.
    pub disk: SimDisk,
    /// To the others.
    pub dial: SimDial,
    /// The time of day.
    pub wall_clock: WallClock,
}

/// Runs the log's writer as a task that waits, in simulated time, as long as the disk takes.
pub struct WriterTask {
    /// Which says how long it takes.
    pub disk: SimDisk,
    /// Owns the task.
    pub tasks: Tasks,
}

impl WriterHost for WriterTask {
    fn start(&self, mut writer: Writer) -> std::io::Result<Option<JoinHandle<()>>> {
        let disk = self.disk.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(async move {
            while let Some(round) = writer.next().await {
                let takes = disk.draw_sync_time();
                if !takes.is_zero() {
                    tokio::time::sleep(takes).await;
                }
                writer.complete(round);
            }
            writer.stop();
        });
        Ok(None)
    }
}

impl Machine for SimMachine {
    fn open_log(&self, mut config: WalConfig) -> Result<(Wal, Recovered), WalError> {
        config.segment_bytes = SEGMENT_BYTES;
        config.cache_bytes = CACHE_BYTES;
        let host = WriterTask { disk: self.disk.clone(), tasks: Arc::clone(&self.tasks) };
        Wal::open_on(Arc::new(self.disk.clone()), &config, &host, Segments::InOrder)
    }

    fn open_records(&self, _: &Path) -> Result<OpenRecords, RecordsError> {
        let store = Box::new(MemoryRecords::default());
        Ok(OpenRecords { store, versions: Vec::new(), found: "empty".to_owned() })
    }

    fn dial(&self) -> Arc<dyn Dial> {
        Arc::new(self.dial.clone())
    }

    fn blocking(&self) -> Blocking {
        Blocking::on(|work| work())
    }

    fn wall_clock(&self) -> WallClock {
        self.wall_clock.clone()
    }
}
