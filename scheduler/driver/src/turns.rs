//! Writes of one pod's status come one after the other, in the order in which they were decided: otherwise what was decided
//! first could be what stays. Must never make one pod wait for another.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::oneshot::{Receiver, Sender, channel};

/// The last turn of each pod that is being written, by uid. Its channel closes when the turn ends.
#[derive(Debug, Default)]
pub(crate) struct Turns(HashMap<Arc<str>, Receiver<()>>);

/// A place behind all earlier ones of the same pod; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    before: Option<Receiver<()>>,
    _ends: Sender<()>,
}

impl Turns {
    /// The next turn of a pod.
    pub(crate) fn next(&mut self, uid: &Arc<str>) -> Turn {
        let (ends, end) = channel();
        Turn { before: self.0.insert(uid.clone(), end), _ends: ends }
    }

    /// Whether something of a pod is still to be written. One that is not is forgotten.
    pub(crate) fn busy(&mut self, uid: &str) -> bool {
        let busy = self.0.get_mut(uid).is_some_and(|end| end.try_recv() == Err(TryRecvError::Empty));
        if !busy {
            self.0.remove(uid);
        }
        busy
    }
}

impl Turn {
    /// Waits until all earlier ones have ended.
    pub(crate) async fn comes(&mut self) {
        if let Some(before) = self.before.take() {
            // Nothing is ever sent: it closes.
            let _ = before.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn turns_of_a_pod_come_in_order_and_are_forgotten() {
        let mut turns = Turns::default();
        let (pod, other): (Arc<str>, Arc<str>) = ("u".into(), "v".into());
        let (mut first, mut second, mut third) = (turns.next(&pod), turns.next(&pod), turns.next(&pod));
        assert!(turns.next(&other).comes().now_or_never().is_some(), "another pod does not wait");
        assert!(first.comes().now_or_never().is_some());
        let mut waits = Box::pin(second.comes());
        assert!(waits.as_mut().now_or_never().is_none());
        drop(first);
        assert!(waits.now_or_never().is_some());
        assert!(third.comes().now_or_never().is_none());
        assert!(turns.busy(&pod));
        drop((second, third));
        assert!(!turns.busy(&pod) && !turns.busy(&other));
        assert!(turns.0.is_empty());
    }
}
