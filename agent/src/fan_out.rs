//! One watch for several who follow it. Must never leave an event out for any of them: who is slow holds up the others.

use std::pin::Pin;

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{Event, Result};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// So many events wait for a follower; then the watch waits too.
const WAITING: usize = 64;

/// What a follower sees.
pub type Events<K> = Pin<Box<dyn Stream<Item = Result<Event<K>>> + Send>>;

/// A watch that is not followed yet.
pub struct FanOut<K> {
    followers: Vec<mpsc::Sender<Event<K>>>,
}

impl<K> Default for FanOut<K> {
    fn default() -> Self {
        Self { followers: Vec::new() }
    }
}

impl<K: Clone + Send + 'static> FanOut<K> {
    /// Another follower.
    pub fn follower(&mut self) -> Events<K> {
        let (sender, receiver) = mpsc::channel(WAITING);
        self.followers.push(sender);
        let next = |mut receiver: mpsc::Receiver<Event<K>>| async move {
            receiver.recv().await.map(|event| (Ok(event), receiver))
        };
        stream::unfold(receiver, next).boxed()
    }

    /// Tells everybody until the token is cancelled. What breaks off is told in the log once, and the watch begins again by
    /// itself.
    pub async fn run(
        mut self,
        mut events: impl Stream<Item = Result<Event<K>>> + Unpin,
        stop: CancellationToken,
    ) {
        while let Some(Some(event)) = stop.run_until_cancelled(events.next()).await {
            match event {
                Ok(event) => self.tell(event).await,
                Err(error) => {
                    let kind = std::any::type_name::<K>().rsplit("::").next().unwrap_or_default();
                    tracing::warn!(kind, %error, "a watch broke off");
                }
            }
        }
    }

    async fn tell(&mut self, event: Event<K>) {
        let mut gone = Vec::new();
        for (index, follower) in self.followers.iter().enumerate() {
            if follower.send(event.clone()).await.is_err() {
                gone.push(index);
            }
        }
        for index in gone.into_iter().rev() {
            self.followers.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_sees_everything_in_its_order_and_who_leaves_holds_nobody_up() {
        let events: Vec<Result<Event<u32>>> = (0..1000).map(|number| Ok(Event::Apply(number))).collect();
        let mut fan_out = FanOut::default();
        let (first, second, left) = (fan_out.follower(), fan_out.follower(), fan_out.follower());
        drop(left);
        let run = fan_out.run(stream::iter(events), CancellationToken::new());
        let numbers = |follower: Events<u32>| async move {
            let number = |event: Result<Event<u32>>| match event.unwrap() {
                Event::Apply(number) => number,
                other => panic!("{other:?}"),
            };
            follower.map(number).collect::<Vec<_>>().await
        };
        let ((), one, two) = tokio::join!(run, numbers(first), numbers(second));
        let expected: Vec<u32> = (0..1000).collect();
        assert_eq!((&one, &two), (&expected, &expected));
    }
}
