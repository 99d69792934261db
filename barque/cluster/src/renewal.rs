//! Certificates are made anew when two thirds of their life are over; whoever shows them reads them again by itself. Must never
//! end because one attempt failed.

use std::time::{Duration, SystemTime};

use tokio_util::sync::CancellationToken;

use crate::leaf::{self, Due, Leaf};
use crate::pki::{Pki, PkiError};

/// How long until it is tried again when it failed.
const AGAIN: Duration = Duration::from_secs(60);
/// A clock that is set shows up no later than this.
const LOOK_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Until `stop`, by the authorities that are there at each time.
pub async fn run(pki: Pki, leaves: Vec<Leaf>, stop: CancellationToken) {
    loop {
        let now = SystemTime::now();
        let wait = match issue(&pki, &leaves, now) {
            Ok(made) => {
                for (name, why) in made {
                    tracing::info!(certificate = name, ?why, "made anew");
                }
                until_next(&pki, &leaves, now)
            }
            Err(error) => {
                tracing::error!(%error, "certificates cannot be made anew");
                AGAIN
            }
        };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

fn issue(pki: &Pki, leaves: &[Leaf], now: SystemTime) -> Result<Vec<(&'static str, Due)>, PkiError> {
    let Some(authorities) = pki.authorities()? else {
        return Err(PkiError::Missing(pki.directory().to_owned()));
    };
    pki.issue(&authorities, leaves, now)
}

fn until_next(pki: &Pki, leaves: &[Leaf], now: SystemTime) -> Duration {
    let next = leaves
        .iter()
        .filter_map(|leaf| pki.facts(leaf.name).ok().flatten())
        .map(|facts| leaf::renewal(&facts));
    let wait = next.min().map_or(LOOK_EVERY, |next| next.duration_since(now).unwrap_or_default());
    wait.clamp(Duration::from_secs(1), LOOK_EVERY)
}
