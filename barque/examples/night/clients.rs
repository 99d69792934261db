//! Who works with the cluster all night: writes, reads, asks its service. Must never try a write again, as nobody knows whether one
//! that failed was taken.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::Client;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Mutex;
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::gaps::{Meter, Reader, begin};
use crate::{IMPATIENT, PATIENCE};

/// After a fault, so many writes and reads go on until the next thing happens.
const GOES_ON: u64 = 50;
/// How often each client asks: what is looked for are gaps, not what two cores can take.
const PACE: Duration = Duration::from_millis(10);

/// What clients do all night.
pub(crate) struct Clients {
    pub(crate) writes: Reader,
    pub(crate) reads: Reader,
    pub(crate) service: Option<Reader>,
    /// Names of objects whose writes were acknowledged.
    acknowledged: Arc<Mutex<BTreeSet<String>>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Clients {
    /// The address of the service, when there is one.
    pub(crate) fn start(client: &Client, service: Option<String>) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let acknowledged = Arc::default();
        let (meter, writes) = begin();
        let writing = write(client.clone(), meter, Arc::clone(&acknowledged));
        tasks.spawn(stop.clone().run_until_cancelled_owned(writing));
        let (meter, reads) = begin();
        tasks.spawn(stop.clone().run_until_cancelled_owned(read(client.clone(), meter)));
        let service = service.map(|address| {
            let (meter, service) = begin();
            tasks.spawn(stop.clone().run_until_cancelled_owned(ask(address, meter)));
            service
        });
        Self { writes, reads, service, acknowledged, tasks, stop }
    }

    /// Goes on until everybody had enough successes since something happened.
    pub(crate) async fn go_on(&self) -> anyhow::Result<()> {
        let (writes, reads) = (self.writes.more(GOES_ON), self.reads.more(GOES_ON));
        let both = async { tokio::join!(writes, reads) };
        tokio::time::timeout(PATIENCE, both).await.context("clients do not get through any more")?;
        Ok(())
    }

    /// Waits until the service has answered once more, if there is one.
    pub(crate) async fn served(&self) -> anyhow::Result<()> {
        let Some(service) = &self.service else { return Ok(()) };
        tokio::time::timeout(PATIENCE, service.more(1)).await.context("the service does not answer")
    }

    /// Gaps are counted anew from here.
    pub(crate) fn forget(&self) {
        for reader in [Some(&self.writes), Some(&self.reads), self.service.as_ref()].into_iter().flatten() {
            reader.forget();
        }
    }

    /// Names of objects whose writes were acknowledged so far.
    pub(crate) async fn acknowledged(&self) -> BTreeSet<String> {
        self.acknowledged.lock().await.clone()
    }

    /// The same when all clients have ended.
    pub(crate) async fn end(self) -> BTreeSet<String> {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.acknowledged.lock().await.clone()
    }
}

fn pace() -> Interval {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// Writes object after object.
async fn write(client: Client, meter: Meter, acknowledged: Arc<Mutex<BTreeSet<String>>>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut pace = pace();
    for number in 0_u64.. {
        pace.tick().await;
        let name = format!("night-{number}");
        let metadata = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
        let map = ConfigMap { metadata, ..ConfigMap::default() };
        match tokio::time::timeout(IMPATIENT, maps.create(&PostParams::default(), &map)).await {
            Ok(Ok(_)) => {
                acknowledged.lock().await.insert(name);
                meter.success();
            }
            Ok(Err(_)) | Err(_) => meter.failure(),
        }
    }
}

async fn read(client: Client, meter: Meter) {
    let namespaces: Api<Namespace> = Api::all(client);
    let mut pace = pace();
    loop {
        pace.tick().await;
        match tokio::time::timeout(IMPATIENT, namespaces.get("default")).await {
            Ok(Ok(_)) => meter.success(),
            Ok(Err(_)) | Err(_) => meter.failure(),
        }
    }
}

/// Asks for the page.
async fn ask(address: String, meter: Meter) {
    let mut pace = pace();
    loop {
        pace.tick().await;
        match tokio::time::timeout(IMPATIENT, page(&address)).await {
            Ok(Ok(_)) => meter.success(),
            Ok(Err(_)) | Err(_) => meter.failure(),
        }
    }
}

async fn page(address: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    ensure!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}
