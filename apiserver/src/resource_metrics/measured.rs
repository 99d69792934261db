//! What agents told, kept so that the next question has something to compare with. A node that nobody asks about is never
//! asked. Must never hold up one node's question for another's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::exposition::Totals;

/// An answer is as good as new for so long.
const FRESH: Duration = Duration::from_secs(10);
/// What is older is no good for comparing: a peak would be lost in it.
const OLD: Duration = Duration::from_secs(90);
/// Between two measurements when there is nothing to compare with.
const PAUSE: Duration = Duration::from_secs(1);

/// Two moments of a node.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    /// The earlier one.
    pub(super) before: Arc<Totals>,
    /// The later one.
    pub(super) after: Arc<Totals>,
    taken: Instant,
}

/// What has to be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    /// Nothing: what is there will do.
    Nothing,
    /// What is used now, to compare with what is there.
    Once,
    /// The same twice, with a pause.
    Twice,
}

fn plan(age: Option<Duration>) -> Plan {
    match age {
        Some(age) if age < FRESH => Plan::Nothing,
        Some(age) if age < OLD => Plan::Once,
        _ => Plan::Twice,
    }
}

type Slot = Arc<tokio::sync::Mutex<Option<Pair>>>;

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Measured(Mutex<HashMap<String, Slot>>);

impl Measured {
    /// Two moments of a node, of which the later one is new; `ask` asks its agent. Who asks at the same time waits for the same
    /// answer.
    ///
    /// # Errors
    /// When the agent does not answer.
    pub(super) async fn pair<E, F>(&self, node: &str, ask: impl Fn() -> F) -> Result<Pair, E>
    where
        F: Future<Output = Result<Totals, E>>,
    {
        let slot = Arc::clone(self.0.lock().entry(node.to_owned()).or_default());
        let mut slot = slot.lock().await;
        let before = match (plan(slot.as_ref().map(|pair| pair.taken.elapsed())), &*slot) {
            (Plan::Nothing, Some(pair)) => return Ok(pair.clone()),
            (Plan::Once, Some(pair)) => Arc::clone(&pair.after),
            _ => {
                let before = Arc::new(ask().await?);
                tokio::time::sleep(PAUSE).await;
                before
            }
        };
        let pair = Pair { before, after: Arc::new(ask().await?), taken: Instant::now() };
        *slot = Some(pair.clone());
        Ok(pair)
    }

    /// Forgets nodes that nobody has asked about for long.
    pub(super) fn forget_old(&self) {
        let is_young = |pair: &Pair| pair.taken.elapsed() < OLD;
        // One that is being asked is locked.
        self.0
            .lock()
            .retain(|_, slot| slot.try_lock().map_or(true, |pair| pair.as_ref().is_some_and(is_young)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::super::exposition::Total;
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_is_asked_as_often_as_is_needed() {
        let measured = Measured::default();
        let asked = AtomicI64::new(0);
        let ask = || async {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            let node = Total { cpu: Some((1.0, number)), ..Total::default() };
            Ok::<_, String>(Totals { node, ..Totals::default() })
        };
        let moments = async || {
            let pair = measured.pair("n", ask).await.unwrap();
            (pair.before.node.cpu.unwrap().1, pair.after.node.cpu.unwrap().1)
        };
        assert_eq!(moments().await, (0, 1), "at first twice");
        assert_eq!(moments().await, (0, 1), "then it is fresh");
        tokio::time::advance(FRESH).await;
        assert_eq!(moments().await, (1, 2), "compared with what was told before");
        tokio::time::advance(OLD).await;
        assert_eq!(moments().await, (3, 4), "and not with what is long ago");
        measured.forget_old();
        assert_eq!(measured.0.lock().len(), 1);
        tokio::time::advance(OLD).await;
        measured.forget_old();
        assert_eq!(measured.0.lock().len(), 0, "nobody asked for long");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_agent_is_asked_again() {
        let measured = Measured::default();
        let failed = measured.pair("n", || async { Err::<Totals, _>("silent") }).await;
        assert_eq!(failed.map(|_| ()), Err("silent"));
        assert!(measured.pair("n", || async { Ok::<_, &str>(Totals::default()) }).await.is_ok());
    }
}
