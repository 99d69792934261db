//! Wrong clocks: steps, rates and both by turns; all wall clocks are right again afterwards.

use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::Storm;
use crate::checkers::clocks::{FAST, RATE_PPM};
use crate::cluster::ClusterError;

/// How clocks go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongClock {
    /// The wall clock jumps an hour to or fro, and back.
    Step,
    /// All clocks run 5 % too fast.
    Fast,
    /// All clocks run 5 % too slowly.
    Slow,
    /// The wall clock jumps many times a second.
    Strobe,
}

const HOUR_MS: i64 = 3_600_000;

impl Storm<'_> {
    pub(super) async fn wrong_clock(&mut self, wrong: WrongClock) -> Result<(), ClusterError> {
        // Where all clocks run alike, nobody's is wrong.
        let victims = self.victims(false).await?;
        let names = self.names(&victims);
        let Some(clocks) = self.cluster.clocks() else { return Ok(()) };
        let recorder = self.shared.recorder.clone();
        let set_wall = |offset_ms: i64| names.iter().try_for_each(|name| clocks.set_wall(name, offset_ms));
        let set_rate = |ppm: i64| names.iter().try_for_each(|name| clocks.set_rate(name, ppm));
        let began = |kind: &str| recorder.fault_began(kind, names.clone());
        let fault = match wrong {
            WrongClock::Step => {
                let offset_ms = if self.rng.random() { HOUR_MS } else { -HOUR_MS };
                let fault = began(&format!("wall clock off by {:+} h", offset_ms / HOUR_MS));
                set_wall(offset_ms)?;
                sleep(Duration::from_millis(self.rng.random_range(500..2500))).await;
                set_wall(0)?;
                fault
            }
            WrongClock::Fast | WrongClock::Slow => {
                let fast = wrong == WrongClock::Fast;
                let fault = began(if fast { FAST } else { "clocks run 5 % too slowly" });
                set_rate(if fast { RATE_PPM } else { -RATE_PPM })?;
                sleep(Duration::from_millis(self.rng.random_range(2000..5000))).await;
                set_rate(0)?;
                fault
            }
            WrongClock::Strobe => {
                let fault = began("wall clock jumps up to an hour, 50 times a second");
                for _ in 0..self.rng.random_range(25..100) {
                    set_wall(self.rng.random_range(-HOUR_MS..=HOUR_MS))?;
                    sleep(Duration::from_millis(20)).await;
                }
                set_wall(0)?;
                fault
            }
        };
        recorder.fault_ended(fault);
        Ok(())
    }
}
