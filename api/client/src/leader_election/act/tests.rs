//! Candidates over a lease in memory, on tokio's paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::*;

/// A lease in memory, which may be out of reach.
#[derive(Clone, Default)]
struct Memory {
    lease: Arc<Mutex<Option<Seen>>>,
    silent: Arc<AtomicBool>,
}

impl Memory {
    async fn reached(&self) {
        sleep(Duration::from_millis(20)).await;
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }

    fn write(&self, record: Record, over: Option<&str>) -> Result<Seen, LeaseError> {
        let mut lease = self.lease.lock();
        if lease.as_ref().map(|lease| lease.version.as_str()) != over {
            return Err(LeaseError::Conflict);
        }
        let version = over.map_or(1, |version| version.parse::<u64>().unwrap() + 1).to_string();
        *lease = Some(Seen { record, version });
        Ok(lease.clone().unwrap())
    }

    fn holder(&self) -> String {
        self.lease.lock().as_ref().map(|lease| lease.record.holder.clone()).unwrap_or_default()
    }
}

impl Leases for Memory {
    async fn get(&self) -> Result<Option<Seen>, LeaseError> {
        self.reached().await;
        Ok(self.lease.lock().clone())
    }

    async fn create(&self, record: Record) -> Result<Seen, LeaseError> {
        self.reached().await;
        self.write(record, None)
    }

    async fn replace(&self, record: Record, version: String) -> Result<Seen, LeaseError> {
        self.reached().await;
        self.write(record, Some(&version))
    }
}

fn elector(leases: &Memory, identity: &str, stop: &CancellationToken) -> Elector<Memory> {
    Elector::new(leases.clone(), identity, Settings::default(), stop.clone()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn work_that_ends_gives_the_lease_away() {
    let leases = Memory::default();
    let stop = CancellationToken::new();
    let ended = run(elector(&leases, "a", &stop), |_| async { 7 }).await;
    assert_eq!(ended, Ended::Finished(7));
    assert_eq!(leases.holder(), "");
    let lease = leases.lease.lock().clone().unwrap();
    assert_eq!((lease.record.duration_seconds, lease.record.transitions), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stops_is_followed_at_once_and_only_when_its_work_has_ended() {
    let leases = Memory::default();
    let (stop_a, stop_b) = (CancellationToken::new(), CancellationToken::new());
    let running = Arc::new(AtomicUsize::new(0));
    let work = |running: Arc<AtomicUsize>, end: Duration| {
        move |office: Office| async move {
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two lead");
            office.token().cancelled().await;
            sleep(end).await;
            running.fetch_sub(1, Ordering::SeqCst);
        }
    };
    let a = tokio::spawn(run(elector(&leases, "a", &stop_a), work(running.clone(), Duration::from_secs(3))));
    sleep(Duration::from_secs(1)).await;
    let b = tokio::spawn(run(elector(&leases, "b", &stop_b), work(running.clone(), Duration::ZERO)));
    sleep(Duration::from_secs(60)).await;
    assert_eq!(leases.holder(), "a", "it renews");
    stop_a.cancel();
    sleep(Duration::from_secs(2)).await;
    assert_eq!(leases.holder(), "a", "its work has not ended");
    assert_eq!(a.await.unwrap(), Ended::Stopped);
    // The longest wait of a candidate is 2.2 times the period.
    sleep(Duration::from_secs(5)).await;
    assert_eq!(leases.holder(), "b");
    assert_eq!(running.load(Ordering::SeqCst), 1);
    stop_b.cancel();
    assert_eq!(b.await.unwrap(), Ended::Stopped);
    assert_eq!(leases.holder(), "");
}

#[tokio::test(start_paused = true)]
async fn a_leader_without_answers_ends_before_its_lease() {
    let leases = Memory::default();
    let stop = CancellationToken::new();
    let told = Arc::new(Mutex::new(None));
    let seen = told.clone();
    let begun = Instant::now();
    let deaf = run(elector(&leases, "a", &stop), move |office| async move {
        office.token().cancelled().await;
        *seen.lock() = Some(begun.elapsed());
        // Does not listen, and is cut off.
        std::future::pending::<()>().await;
    });
    let silence = leases.silent.clone();
    let silencer = async move {
        sleep(Duration::from_secs(1)).await;
        silence.store(true, Ordering::SeqCst);
    };
    let (ended, ()) = tokio::join!(deaf, silencer);
    assert_eq!(ended, Ended::Lost);
    let told = told.lock().unwrap();
    assert!(told >= Duration::from_secs(10) && told < Duration::from_millis(10_100), "{told:?}");
    let cut = begun.elapsed();
    assert!(cut >= Duration::from_secs(14) && cut < Duration::from_secs(15), "{cut:?}");
    assert_eq!(leases.holder(), "a", "what is lost is not given away");
}

#[tokio::test(start_paused = true)]
async fn a_candidate_that_waits_can_be_stopped() {
    let leases = Memory::default();
    let (stop_a, stop_b) = (CancellationToken::new(), CancellationToken::new());
    let a = tokio::spawn(run(elector(&leases, "a", &stop_a), |office| async move {
        office.token().cancelled().await;
    }));
    sleep(Duration::from_secs(1)).await;
    let b = tokio::spawn(run(elector(&leases, "b", &stop_b), |_| async { panic!("b never leads") }));
    sleep(Duration::from_secs(9)).await;
    stop_b.cancel();
    assert_eq!(b.await.unwrap(), Ended::Stopped);
    stop_a.cancel();
    assert_eq!(a.await.unwrap(), Ended::Stopped);
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_needed() {
    let stop = CancellationToken::new();
    let nameless = Elector::new(Memory::default(), "", Settings::default(), stop).err();
    assert_eq!(nameless, Some(SettingsError::Identity));
}
