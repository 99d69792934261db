//! Carries packets between hosts, and does to them what [`super::conditions`] decides.
//!
//! Each host's only device is a TUN whose other end is here, so that no packet can pass by. Must never decide anything of a
//! packet itself, other than to drop it where memory would grow without bound.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_tun::Tun;

use super::conditions::{Links, Rule};
use super::packet::header;

/// Packets on their way at most.
const ON_THE_WAY: usize = 20_000;
/// More than any device of ours carries in one packet.
const LARGEST: usize = 65_536;

/// What happened to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packets {
    /// All that were sent.
    pub sent: u64,
    /// Those that never arrived.
    pub lost: u64,
    /// Those that arrived twice.
    pub duplicated: u64,
    /// Those that others could overtake.
    pub overtaken: u64,
    /// Those that arrived later than they could have.
    pub late: u64,
}

#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    lost: AtomicU64,
    duplicated: AtomicU64,
    overtaken: AtomicU64,
    late: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

struct Shared {
    began: Instant,
    hosts: Mutex<HashMap<Ipv4Addr, Arc<Tun>>>,
    /// Rules, and the links that they are for.
    bad: Mutex<(Vec<Rule>, Links)>,
    counters: Counters,
}

/// A packet that is not due yet: when, a number that keeps the order, to whom, and what.
type Waiting = Reverse<(u64, u64, Ipv4Addr, Vec<u8>)>;

/// The router of one network. Dropping it ends its tasks, and with them every way between hosts.
pub(super) struct Router {
    shared: Arc<Shared>,
    late: mpsc::Sender<(u64, Ipv4Addr, Vec<u8>)>,
    tasks: Mutex<JoinSet<()>>,
}

impl std::fmt::Debug for Router {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing is left half done under these locks.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Router {
    /// A router without hosts; all chances follow from the seed.
    pub(super) fn new(seed: u64) -> Self {
        let shared = Arc::new(Shared {
            began: Instant::now(),
            hosts: Mutex::new(HashMap::new()),
            bad: Mutex::new((Vec::new(), Links::new(seed))),
            counters: Counters::default(),
        });
        let (late, receiver) = mpsc::channel(ON_THE_WAY);
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&shared).deliver_late(receiver));
        Self { shared, late, tasks: Mutex::new(tasks) }
    }

    /// Makes a device with this name, behind which the host with this address is; it may then be moved to its namespace.
    pub(super) fn add_host(&self, device: &str, address: Ipv4Addr) -> io::Result<()> {
        let made = Tun::builder().name(device).build().map_err(io::Error::other)?;
        let tun = Arc::new(made.into_iter().next().ok_or_else(|| io::Error::other("no device was made"))?);
        lock(&self.shared.hosts).insert(address, Arc::clone(&tun));
        lock(&self.tasks).spawn(Arc::clone(&self.shared).carry(tun, self.late.clone()));
        Ok(())
    }

    /// From now on these rules hold, and no others. What is on its way stays so.
    pub(super) fn set_rules(&self, rules: Vec<Rule>) {
        lock(&self.shared.bad).0 = rules;
    }

    /// What happened to packets so far.
    pub(super) fn packets(&self) -> Packets {
        let counters = &self.shared.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Packets {
            sent: read(&counters.sent),
            lost: read(&counters.lost),
            duplicated: read(&counters.duplicated),
            overtaken: read(&counters.overtaken),
            late: read(&counters.late),
        }
    }
}

impl Shared {
    fn now_us(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Takes what one host sends, until its device is gone.
    async fn carry(self: Arc<Self>, from: Arc<Tun>, late: mpsc::Sender<(u64, Ipv4Addr, Vec<u8>)>) {
        let mut buffer = vec![0; LARGEST];
        while let Ok(length) = from.recv(&mut buffer).await {
            let packet = &buffer[..length];
            // Questions for neighbours over IPv6 and the like are of no use here.
            let Some(header) = header(packet) else { continue };
            let counters = &self.counters;
            count(&counters.sent);
            let now_us = self.now_us();
            let fate = {
                let (rules, links) = &mut *lock(&self.bad);
                links.fate(rules, &header, length, now_us)
            };
            let Some(arrives_us) = fate.arrives_us else {
                count(&counters.lost);
                continue;
            };
            if fate.overtaken {
                count(&counters.overtaken);
            }
            if let Some(again_us) = fate.again_us {
                count(&counters.duplicated);
                // When too much is on its way, a copy is not missed.
                let _ = late.try_send((again_us, header.to, packet.to_vec()));
            }
            if arrives_us <= now_us {
                self.hand_over(header.to, packet);
                continue;
            }
            count(&counters.late);
            if late.try_send((arrives_us, header.to, packet.to_vec())).is_err() {
                count(&counters.lost);
            }
        }
    }

    fn hand_over(&self, to: Ipv4Addr, packet: &[u8]) {
        let host = lock(&self.hosts).get(&to).cloned();
        // A host that takes nothing, or that does not exist, loses it, as on any network.
        if host.is_none_or(|host| host.try_send(packet).is_err()) {
            count(&self.counters.lost);
        }
    }

    async fn deliver_late(self: Arc<Self>, mut late: mpsc::Receiver<(u64, Ipv4Addr, Vec<u8>)>) {
        let mut waiting: BinaryHeap<Waiting> = BinaryHeap::new();
        let mut number = 0;
        loop {
            let next = waiting.peek().map(|Reverse((at_us, ..))| self.began + Duration::from_micros(*at_us));
            tokio::select! {
                received = late.recv() => {
                    let Some((at_us, to, packet)) = received else { return };
                    if waiting.len() < ON_THE_WAY {
                        number += 1;
                        waiting.push(Reverse((at_us, number, to, packet)));
                    } else {
                        count(&self.counters.lost);
                    }
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    let now_us = self.now_us();
                    while waiting.peek().is_some_and(|Reverse((at_us, ..))| *at_us <= now_us) {
                        if let Some(Reverse((_, _, to, packet))) = waiting.pop() {
                            self.hand_over(to, &packet);
                        }
                    }
                }
            }
        }
    }
}
