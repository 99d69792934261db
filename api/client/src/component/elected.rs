//! Work that one of several processes does, again and again as it is elected. Must never let the work go on once the lease may be
//! another's.

use std::future::Future;

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::LeaseConfig;
use crate::leader_election::plan::SettingsError;
use crate::leader_election::{ApiLeases, Elector, Ended, Office, run};

/// A name that no other process has: the machine's, and something drawn, as upstream's.
#[must_use]
pub fn identity() -> String {
    let system = rustix::system::uname();
    format!("{}_{:016x}", system.nodename().to_string_lossy(), rand::random::<u64>())
}

/// Does the work whenever this process is elected, until the work ends by itself or the process is told to stop; without a
/// lease at once. What the work writes goes by [`Office::client`]. `leads` hears whether it leads. Nothing is returned when it was told to stop while it did not work.
///
/// # Errors
/// When the lease's settings do not fit together.
pub async fn elected<W: Future>(
    client: &Client,
    lease: Option<&LeaseConfig>,
    identity: &str,
    stop: &CancellationToken,
    leads: impl Fn(bool),
    lead: impl Fn(Office) -> W,
) -> Result<Option<W::Output>, SettingsError> {
    let Some(LeaseConfig { namespace, name, times }) = lease else {
        return Ok(Some(lead(Office::without_lease(stop.child_token())).await));
    };
    loop {
        leads(false);
        let leases = ApiLeases::new(client.clone(), namespace, name);
        let elector = Elector::new(leases, identity, *times, stop.clone())?;
        let work = |office| {
            leads(true);
            lead(office)
        };
        match run(elector, work).await {
            Ended::Finished(output) => return Ok(Some(output)),
            Ended::Stopped => return Ok(None),
            // A candidate like the others.
            Ended::Lost => {}
        }
    }
}
