//! One candidate: asks, writes and waits as [`super::plan`] says, and runs the work of a leader. Must never let the work go on
//! when another can have the lease.

use std::future::Future;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::leases::{LeaseError, Leases};
use super::office::Office;
use super::plan::{Election, Record, Seen, Settings, SettingsError, Step};

/// A candidate.
pub struct Elector<L> {
    leases: L,
    election: Election,
    identity: String,
    /// How long one request may take.
    patience: Duration,
    stop: CancellationToken,
    start: Instant,
    told: Option<String>,
}

/// Why a candidate ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended<T> {
    /// The work ended by itself; the lease was given away.
    Finished(T),
    /// The lease could not be renewed in time, or was taken away. The work was told to end, then cut off.
    Lost,
    /// It was told to stop; if it led, the lease was given away after the work had ended.
    Stopped,
}

impl<L: Leases> Elector<L> {
    /// A candidate with this identity, which no other may have: the name of its machine and something drawn, for example.
    ///
    /// # Errors
    /// When the settings do not fit together, or the identity is empty.
    pub fn new(
        leases: L,
        identity: &str,
        settings: Settings,
        stop: CancellationToken,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        if identity.is_empty() {
            return Err(SettingsError::Identity);
        }
        Ok(Self {
            leases,
            election: Election::new(identity, settings),
            identity: identity.to_owned(),
            patience: settings.renew_deadline / 2,
            stop,
            start: Instant::now(),
            told: None,
        })
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// When work is cut off, by what was renewed until now.
    fn work_ends(&self) -> Instant {
        self.start + self.election.work_ends().unwrap_or_default()
    }

    /// Does one step, or waits until there is one.
    async fn advance(&mut self) {
        match self.election.step(self.now(), Timestamp::now()) {
            Step::Wait(until) => sleep_until(self.start + until).await,
            Step::Read => match timeout(self.patience, self.leases.get()).await {
                Ok(Ok(lease)) => {
                    let now = self.now();
                    self.election.read(now, lease, rand::random());
                    self.tell();
                }
                Ok(Err(error)) => self.failed(&error),
                Err(_) => self.silent(),
            },
            Step::Create(record) => {
                let sent = self.now();
                let outcome = timeout(self.patience, self.leases.create(record)).await.ok();
                self.written(sent, outcome);
            }
            Step::Replace(record, version) => {
                let sent = self.now();
                let outcome = timeout(self.patience, self.leases.replace(record, version)).await.ok();
                self.written(sent, outcome);
            }
        }
    }

    fn written(&mut self, sent: Duration, outcome: Option<Result<Seen, LeaseError>>) {
        let now = self.now();
        match outcome {
            Some(Ok(lease)) => {
                self.election.written(sent, now, lease);
                self.tell();
            }
            Some(Err(LeaseError::Conflict)) => self.election.conflict(now, rand::random()),
            Some(Err(error)) => self.failed(&error),
            None => self.silent(),
        }
    }

    fn failed(&mut self, error: &LeaseError) {
        tracing::warn!(identity = self.identity, %error, "the lease was not read or written");
        let now = self.now();
        self.election.failed(now, rand::random());
    }

    fn silent(&mut self) {
        tracing::warn!(identity = self.identity, "nobody answered about the lease in time");
        let now = self.now();
        self.election.failed(now, rand::random());
    }

    fn tell(&mut self) {
        let holder = self.election.holder();
        if holder != self.told.as_deref() {
            self.told = holder.map(str::to_owned);
            tracing::info!(identity = self.identity, holder = self.told, "the lease has another holder");
        }
    }

    /// Whether somebody else is seen to have the lease.
    fn taken(&self) -> bool {
        self.election.holder() != Some(&self.identity)
    }

    async fn release(&mut self) {
        // The second time over what was read, when somebody wrote in between.
        for _ in 0..2 {
            let Some((record, version)) = self.election.release(Timestamp::now()) else { return };
            match timeout(self.patience, self.replace_and_keep(record, version)).await {
                Ok(Err(LeaseError::Conflict)) => match timeout(self.patience, self.leases.get()).await {
                    Ok(Ok(lease)) => {
                        let now = self.now();
                        self.election.read(now, lease, 0.0);
                    }
                    _ => return,
                },
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    tracing::warn!(identity = self.identity, %error, "the lease ends by itself");
                    return;
                }
                Err(_) => return,
            }
        }
    }

    async fn replace_and_keep(&self, record: Record, version: String) -> Result<(), LeaseError> {
        self.leases.replace(record, version).await.map(|_| ())
    }
}

/// Waits to become the leader, then does the work.
///
/// The office's token is cancelled when the candidate is told to stop, and when it could not renew for the renew deadline. Work that
/// has not ended a while later, yet before another can get the lease, is dropped where it waits.
pub async fn run<L, F, W>(mut elector: Elector<L>, lead: F) -> Ended<W::Output>
where
    L: Leases,
    F: FnOnce(Office) -> W,
    W: Future,
{
    let stop = elector.stop.clone();
    while !elector.election.leads(elector.now()) {
        let stopped = stop.run_until_cancelled(elector.advance()).await.is_none();
        if stopped {
            return Ended::Stopped;
        }
    }
    tracing::info!(identity = elector.identity, "leads");
    let token = CancellationToken::new();
    // Cancelled also when this future is dropped, so that what the work started hears of it.
    let _guard = token.clone().drop_guard();
    let office = Office::until(token.clone(), elector.work_ends());
    let mut work = Box::pin(lead(office.clone()));
    let stopped = loop {
        office.move_on(elector.work_ends());
        let until = elector.start + elector.election.leads_until().unwrap_or_default();
        tokio::select! {
            biased;
            () = sleep_until(until) => break false,
            () = stop.cancelled() => break true,
            output = &mut work => {
                drop(work);
                elector.release().await;
                return Ended::Finished(output);
            }
            () = elector.advance() => {}
        }
        if elector.taken() {
            break false;
        }
    };
    token.cancel();
    tokio::select! {
        biased;
        () = sleep_until(elector.work_ends()) => tracing::error!(identity = elector.identity, "the leader's work is cut off"),
        _ = &mut work => {}
    }
    drop(work);
    if stopped {
        elector.release().await;
        return Ended::Stopped;
    }
    tracing::warn!(identity = elector.identity, "does not lead any more");
    Ended::Lost
}

#[cfg(test)]
mod tests;
