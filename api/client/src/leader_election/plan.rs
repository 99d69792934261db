//! What a candidate does next. A decision; time is handed in, and must never come from the lease.
//!
//! Why never two lead: a holder counts from the moment at which it **sent** the write that succeeded, so its office ends at
//! most `renew_deadline` after that write took effect. Another candidate saw that write at the earliest when it took effect,
//! waits for its full duration, and replaces only the version that it saw.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

/// How long things take. The default is Kubernetes'.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// For how long a lease is left to a holder that does not renew it; written in whole seconds.
    pub lease_duration: Duration,
    /// How long a leader leads without having renewed.
    pub renew_deadline: Duration,
    /// How long it takes from one attempt to the next; candidates wait up to 2.2 times as long.
    pub retry_period: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Settings that cannot hold what they promise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// As in client-go.
    #[error("leaseDuration must be greater than renewDeadline")]
    Lease,
    /// As in client-go.
    #[error("renewDeadline must be greater than retryPeriod*JitterFactor")]
    Deadline,
    /// Leases count whole seconds.
    #[error("leaseDuration must be whole seconds, at least one")]
    Seconds,
    /// As in client-go.
    #[error("Lock identity is empty")]
    Identity,
}

impl Settings {
    /// Checks that they fit together.
    ///
    /// # Errors
    /// When a leader could not renew in time, or could lead longer than its lease.
    pub fn check(&self) -> Result<(), SettingsError> {
        if self.lease_duration.as_secs() == 0 || self.lease_duration.subsec_nanos() != 0 {
            return Err(SettingsError::Seconds);
        }
        if self.lease_duration <= self.renew_deadline {
            return Err(SettingsError::Lease);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err(SettingsError::Deadline);
        }
        Ok(())
    }
}

/// By which part of itself, at most, a candidate's wait is longer.
const JITTER: f64 = 1.2;

/// What a lease says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who has it; empty is nobody.
    pub holder: String,
    /// For how many seconds after a renewal it is left to its holder.
    pub duration_seconds: i32,
    /// When the holder got it.
    pub acquired: Timestamp,
    /// When the holder last renewed it.
    pub renewed: Timestamp,
    /// How often it passed from one to another.
    pub transitions: i32,
}

/// A record and its version in the API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it says.
    pub record: Record,
    /// Its resource version.
    pub version: String,
}

/// What is done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until this time.
    Wait(Duration),
    /// The lease is read; [`Election::read`] or [`Election::failed`] tells how that went.
    Read,
    /// It is created; [`Election::written`], [`Election::conflict`] or [`Election::failed`] tells.
    Create(Record),
    /// It is replaced, if it has this version; told as a creation.
    Replace(Record, String),
}

/// What a candidate knows. Times count from any fixed moment of its own clock.
#[derive(Debug)]
pub struct Election {
    settings: Settings,
    identity: String,
    /// The lease as last seen and when it was first seen so; `None` before it was read.
    seen: Option<(Option<Seen>, Duration)>,
    /// Whether what was seen may be out of date, so that it is read before it is written.
    stale: bool,
    /// When the last write that made or kept this candidate the leader was sent.
    sent: Option<Duration>,
    next: Duration,
}

impl Election {
    /// A candidate that knows nothing.
    pub fn new(identity: &str, settings: Settings) -> Self {
        let identity = identity.to_owned();
        Self { settings, identity, seen: None, stale: true, sent: None, next: Duration::ZERO }
    }

    /// Until when this candidate leads, if it does or did.
    pub fn leads_until(&self) -> Option<Duration> {
        self.sent.map(|sent| sent + self.settings.renew_deadline)
    }

    /// Before when another cannot have got the lease.
    pub fn held_until(&self) -> Option<Duration> {
        self.sent.map(|sent| sent + self.settings.lease_duration)
    }

    /// When work that has not ended by itself is cut off: after [`Self::leads_until`], and before [`Self::held_until`].
    pub fn work_ends(&self) -> Option<Duration> {
        let spare = self.settings.lease_duration.saturating_sub(self.settings.renew_deadline);
        self.leads_until().map(|until| until + spare.mul_f64(0.8))
    }

    /// Whether this candidate leads.
    pub fn leads(&self, now: Duration) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// Who has the lease, as far as was seen.
    pub fn holder(&self) -> Option<&str> {
        let seen = self.seen.as_ref()?.0.as_ref()?;
        Some(&seen.record.holder)
    }

    /// What is done now. `clock` is the time of day, for people.
    pub fn step(&self, now: Duration, clock: Timestamp) -> Step {
        if now < self.next {
            return Step::Wait(self.next);
        }
        let Some((seen, since)) = self.seen.as_ref().filter(|_| !self.stale) else { return Step::Read };
        let Some(seen) = seen else { return Step::Create(self.record(clock, clock, 0)) };
        let old = &seen.record;
        let record = if old.holder == self.identity {
            self.record(old.acquired, clock, old.transitions)
        } else if old.holder.is_empty() || now >= *since + left(old) {
            self.record(clock, clock, old.transitions.saturating_add(1))
        } else {
            // It is looked at again when it is read.
            return Step::Read;
        };
        Step::Replace(record, seen.version.clone())
    }

    /// The lease was read. `chance`, from 0 to 1, spreads candidates.
    pub fn read(&mut self, now: Duration, lease: Option<Seen>, chance: f64) {
        // Any new version begins the wait again: that a renewal reads as the one before would not show that it was none.
        let same = self.seen.as_ref().is_some_and(|(old, _)| *old == lease);
        let since = self.seen.as_ref().filter(|_| same).map_or(now, |(_, since)| *since);
        let free = match &lease {
            None => true,
            Some(seen) => {
                let record = &seen.record;
                record.holder == self.identity || record.holder.is_empty() || now >= since + left(record)
            }
        };
        self.seen = Some((lease, since));
        self.stale = !free;
        if !free {
            self.next = self.later(now, chance);
        }
    }

    /// The lease was written as this candidate wanted it. `sent` is when that was asked for.
    pub fn written(&mut self, sent: Duration, now: Duration, lease: Seen) {
        self.seen = Some((Some(lease), now));
        self.stale = false;
        self.sent = Some(sent);
        self.next = now + self.settings.retry_period;
    }

    /// Another one was faster, or the lease is gone. A leader looks at once what happened.
    pub fn conflict(&mut self, now: Duration, chance: f64) {
        self.next = if self.leads(now) && !self.stale { now } else { self.later(now, chance) };
        self.stale = true;
    }

    /// Nobody knows how it went.
    pub fn failed(&mut self, now: Duration, chance: f64) {
        self.stale = true;
        self.next = if self.leads(now) { now + self.settings.retry_period } else { self.later(now, chance) };
    }

    /// What is written when this candidate gives the lease away, and over which version; nothing when it is not its own.
    pub fn release(&self, clock: Timestamp) -> Option<(Record, String)> {
        let seen = self.seen.as_ref()?.0.as_ref()?;
        (seen.record.holder == self.identity).then(|| {
            let record = Record {
                holder: String::new(),
                duration_seconds: 1,
                acquired: clock,
                renewed: clock,
                transitions: seen.record.transitions,
            };
            (record, seen.version.clone())
        })
    }

    fn record(&self, acquired: Timestamp, renewed: Timestamp, transitions: i32) -> Record {
        let seconds = i32::try_from(self.settings.lease_duration.as_secs()).unwrap_or(i32::MAX);
        let holder = self.identity.clone();
        Record { holder, duration_seconds: seconds, acquired, renewed, transitions }
    }

    fn later(&self, now: Duration, chance: f64) -> Duration {
        now + self.settings.retry_period.mul_f64(1.0 + JITTER * chance.clamp(0.0, 1.0))
    }
}

/// For how long a record is left to its holder, from when it was first seen.
fn left(record: &Record) -> Duration {
    Duration::from_secs(u64::try_from(record.duration_seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests;
