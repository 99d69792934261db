//! Faults of masters, one after another by a seeded schedule, each written down and undone by whoever began it: a run ends with all
//! masters well. Must never touch a process that the run did not start.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use rand::{Rng as _, SeedableRng as _};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::processes::{MASTERS, Masters};
use super::recorder::Recorder;
use super::workload::leases::{CONTROLLERS, Newest};
use crate::cluster::barque_binary;
use crate::deadline::PATIENCE;
use crate::nemesis::Shape;
use crate::nemesis::cuts::cuts;
use crate::sick_disk::loss::Loss;
use crate::sick_disk::sickness::Sickness;

/// How long it may take to be told who leads the store.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// Clocks are an hour off.
const HOUR_MS: i64 = 3_600_000;
/// Clocks run 5 % too fast or too slowly.
const RATE_PPM: i64 = 50_000;

/// What is done to masters during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum MasterNemesis {
    /// Nothing
    None,
    /// kill -9 of one, the store's leader, the controllers' leader, two or all
    Kill,
    /// A new release: each is stopped with SIGTERM and started from another file, one after another
    Upgrade,
    /// SIGSTOP of the same but all, for shorter or longer than a Lease lasts
    Pause,
    /// Masters that do not hear each other: one and two, one way (needs root)
    Partition,
    /// Clocks that jump by an hour, run too fast or too slowly (needs cc)
    Clock,
    /// The disk of one is slow, hangs, fails or is full, or its power goes (needs root, FUSE)
    Disk,
}

impl fmt::Display for MasterNemesis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = clap::ValueEnum::to_possible_value(self);
        f.pad(value.as_ref().map_or("", |value| value.get_name()))
    }
}

impl MasterNemesis {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::None, Self::Kill, Self::Upgrade, Self::Pause, Self::Partition, Self::Clock, Self::Disk];
}

/// Whom a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whom {
    Any,
    StoreLeader,
    ControllersLeader,
    Two,
    All,
}

/// A storm over all masters.
pub(crate) struct Storm<'a> {
    masters: &'a mut Masters,
    recorder: Arc<Recorder>,
    leases: watch::Receiver<Newest>,
    rng: StdRng,
    strikes: usize,
}

impl<'a> Storm<'a> {
    pub(crate) fn over(
        masters: &'a mut Masters,
        recorder: Arc<Recorder>,
        leases: watch::Receiver<Newest>,
        seed: u64,
    ) -> Self {
        Self { masters, recorder, leases, rng: StdRng::seed_from_u64(seed.wrapping_mul(31)), strikes: 0 }
    }

    /// Strikes until then; all masters are well afterwards. How often it struck.
    pub(crate) async fn rage(mut self, nemesis: MasterNemesis, until: Instant) -> anyhow::Result<usize> {
        // The first one comes soon, so that a short run has one.
        let mut pause = self.between(300, 1200);
        loop {
            sleep(pause.min(until.saturating_duration_since(Instant::now()))).await;
            if Instant::now() >= until {
                return Ok(self.strikes);
            }
            match nemesis {
                MasterNemesis::None => {}
                MasterNemesis::Kill => self.kill().await?,
                MasterNemesis::Upgrade => self.upgrade().await?,
                MasterNemesis::Pause => self.pause().await?,
                MasterNemesis::Partition => self.partition().await?,
                MasterNemesis::Clock => self.wrong_clock().await?,
                MasterNemesis::Disk => self.sick_disk().await?,
            }
            self.strikes += usize::from(nemesis != MasterNemesis::None);
            pause = self.between(500, 4000);
        }
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(self.rng.random_range(from_ms..to_ms))
    }

    fn names(&self, masters: &[usize]) -> Vec<String> {
        masters.iter().map(|&index| self.masters.name(index).to_owned()).collect()
    }

    /// Whom a fault strikes, and as what.
    async fn victims(&mut self, among: &[Whom]) -> (Vec<usize>, &'static str) {
        let any = self.rng.random_range(0..MASTERS);
        match *among.choose(&mut self.rng).unwrap_or(&Whom::Any) {
            Whom::Any => (vec![any], "one"),
            // Without a leader, nobody is it.
            Whom::StoreLeader => (vec![self.store_leader().await.unwrap_or(any)], "the store's leader"),
            Whom::ControllersLeader => {
                (vec![self.controllers_leader().unwrap_or(any)], "the controllers' leader")
            }
            Whom::Two => (vec![any, (any + 1) % MASTERS], "two"),
            Whom::All => ((0..MASTERS).collect(), "all"),
        }
    }

    /// As any master tells its administrator.
    async fn store_leader(&self) -> Option<usize> {
        for index in 0..MASTERS {
            let mut status = Command::new(barque_binary());
            status.args(["status", "-o=json", "--data-dir"]).arg(self.masters.data(index)).kill_on_drop(true);
            let Ok(Ok(output)) = timeout(STATUS_PATIENCE, status.output()).await else { continue };
            let Ok(status) = serde_json::from_slice::<serde_json::Value>(&output.stdout) else { continue };
            let leads = |name: &str| status["masters"][name]["store"]["role"] == "leader";
            if let Some(leader) = (0..MASTERS).find(|&index| leads(self.masters.name(index))) {
                return Some(leader);
            }
        }
        None
    }

    /// Processes say in their logs under which name they ask for Leases.
    fn controllers_leader(&self) -> Option<usize> {
        let holder = self.leases.borrow().get(CONTROLLERS)?.holder.clone();
        (0..MASTERS).find(|&index| !holder.is_empty() && names_itself(&self.masters.log(index), &holder))
    }

    async fn kill(&mut self) -> anyhow::Result<()> {
        let among = [Whom::Any, Whom::StoreLeader, Whom::ControllersLeader, Whom::Two, Whom::All];
        let (victims, whom) = self.victims(&among).await;
        let fault = self.recorder.fault_began(&format!("kill -9: {whom}"), self.names(&victims));
        for &index in &victims {
            self.masters.kill(index)?;
        }
        // A Lease runs out or not.
        let time =
            if self.rng.random_range(0..3) == 0 { self.between(6500, 9000) } else { self.between(100, 2500) };
        sleep(time).await;
        self.masters.restart(&victims).await?;
        self.recorder.fault_ended(fault);
        Ok(())
    }

    /// As the README says: followers first, each ready before the next one goes.
    async fn upgrade(&mut self) -> anyhow::Result<()> {
        let leader = self.store_leader().await;
        let mut order: Vec<usize> = (0..MASTERS).collect();
        order.shuffle(&mut self.rng);
        order.sort_by_key(|&index| leader == Some(index));
        self.masters.renew_program()?;
        for index in order {
            let name = self.masters.name(index).to_owned();
            let fault = self.recorder.fault_began("upgrade", vec![name.clone()]);
            self.masters.terminate(index)?;
            let ended = self.masters.ended(index, PATIENCE).await?;
            let status = ended.with_context(|| format!("{name} runs on {PATIENCE:?} after SIGTERM"))?;
            anyhow::ensure!(status.success(), "{name} ended with {status} after SIGTERM");
            self.masters.restart(&[index]).await?;
            self.recorder.fault_ended(fault);
        }
        Ok(())
    }

    async fn pause(&mut self) -> anyhow::Result<()> {
        let among = [Whom::Any, Whom::StoreLeader, Whom::ControllersLeader, Whom::Two];
        let (victims, whom) = self.victims(&among).await;
        let fault = self.recorder.fault_began(&format!("pause: {whom}"), self.names(&victims));
        for &index in &victims {
            self.masters.pause(index)?;
        }
        let time = if self.rng.random() { self.between(6500, 9500) } else { self.between(200, 3000) };
        sleep(time).await;
        for &index in &victims {
            self.masters.resume(index)?;
        }
        self.recorder.fault_ended(fault);
        Ok(())
    }

    async fn partition(&mut self) -> anyhow::Result<()> {
        let network = self.masters.stage().network.clone().context("masters are no hosts of their own")?;
        let (first, whom) = self.victims(&[Whom::Any, Whom::StoreLeader, Whom::ControllersLeader]).await;
        let mut order: Vec<usize> = (0..MASTERS).collect();
        order.shuffle(&mut self.rng);
        // The first one is the smaller side.
        order.sort_by_key(|index| !first.contains(index));
        let shape = [Shape::Symmetric, Shape::Symmetric, Shape::OneWay][self.rng.random_range(0..3)];
        let kind = format!("partition: {shape:?}, {whom}").to_lowercase();
        let fault = self.recorder.fault_began(&kind, self.names(&first));
        for (from, to) in cuts(shape, &order) {
            network.cut(self.masters.name(from), self.masters.name(to))?;
        }
        let time = if self.rng.random() { self.between(6500, 10_000) } else { self.between(1000, 4000) };
        sleep(time).await;
        network.heal()?;
        self.recorder.fault_ended(fault);
        Ok(())
    }

    async fn wrong_clock(&mut self) -> anyhow::Result<()> {
        let clocks = self.masters.stage().clocks.clone().context("the clocks of masters are their own")?;
        let among = [Whom::Any, Whom::StoreLeader, Whom::ControllersLeader, Whom::Two];
        let (victims, whom) = self.victims(&among).await;
        let names = self.names(&victims);
        let (what, wall_ms, ppm) = match self.rng.random_range(0..4) {
            0 => ("wall clock off by +1 h", HOUR_MS, 0),
            1 => ("wall clock off by -1 h", -HOUR_MS, 0),
            2 => ("clock runs 5 % too fast", 0, RATE_PPM),
            _ => ("clock runs 5 % too slowly", 0, -RATE_PPM),
        };
        let fault = self.recorder.fault_began(&format!("{what}: {whom}"), names.clone());
        for name in &names {
            clocks.set_wall(name, wall_ms)?;
            clocks.set_rate(name, ppm)?;
        }
        sleep(self.between(1000, 7000)).await;
        for name in &names {
            clocks.set_wall(name, 0)?;
            clocks.set_rate(name, 0)?;
        }
        self.recorder.fault_ended(fault);
        Ok(())
    }

    async fn sick_disk(&mut self) -> anyhow::Result<()> {
        let (victims, whom) = self.victims(&[Whom::Any, Whom::StoreLeader, Whom::ControllersLeader]).await;
        let index = victims[0];
        let disk = self.masters.disk(index).context("masters have no disks of their own")?;
        let power = self.rng.random_range(0..4) == 0;
        let sickness = if power {
            Sickness::NONE
        } else {
            *Sickness::ALL.choose(&mut self.rng).expect("there are some")
        };
        let what = if power { "power cut".to_owned() } else { format!("sick disk: {sickness}") };
        let fault = self.recorder.fault_began(&format!("{what}: {whom}"), self.names(&victims));
        disk.set(sickness);
        let mut down = power;
        if sickness.is_deadly() {
            let name = self.masters.name(index);
            let blame = format!("{name}, though: {sickness}");
            let ended = self.masters.ended(index, PATIENCE).await?;
            let status = ended.with_context(|| format!("still runs after {PATIENCE:?}: {blame}"))?;
            anyhow::ensure!(!status.success(), "ended with {status} as if all were well: {blame}");
            down = true;
        } else if !power {
            sleep(self.between(500, 5000)).await;
        }
        // What a failed sync did not write is gone only now.
        if power || self.rng.random() {
            disk.power_off();
            self.masters.kill(index)?;
            let loss = *Loss::ALL.choose(&mut self.rng).expect("there are some");
            disk.set(Sickness::NONE);
            disk.power_on(loss, &mut self.rng);
            down = true;
        }
        disk.set(Sickness::NONE);
        if !down {
            // Failed reads may have ended it as well.
            down = self.masters.ended(index, Duration::from_millis(1)).await?.is_some();
        }
        if down {
            self.masters.restart(&[index]).await?;
        }
        self.recorder.fault_ended(fault);
        Ok(())
    }
}

/// Whether the log of a master says that this is the name of one of its parts.
fn names_itself(log: &Path, holder: &str) -> bool {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.lines().any(|line| line.contains("serving health and metrics") && line.contains(holder))
}
