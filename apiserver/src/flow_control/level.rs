//! Priority levels: what part of the server's seats requests of one importance have, and what becomes of those for whom there
//! is no room. Must never know who asks.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

/// The most queues of one level; an object that wants more gets these. It bounds memory.
pub const MOST_QUEUES: u32 = 16_384;

/// A `PriorityLevelConfiguration`, as far as it decides something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: Arc<str>,
    /// Its uid, which answers name; empty for one that is not stored yet.
    pub uid: Arc<str>,
    /// Its part of all seats, in relation to those of the others.
    pub shares: u32,
    /// How much of its part others may use while it does not need it, 0 to 100.
    pub lendable_percent: u32,
    /// How much it may borrow beyond its part, in percent of that; nothing for no limit.
    pub borrowing_percent: Option<u32>,
    /// What is done when there is no room.
    pub response: Response,
}

/// What becomes of a request for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// There is always room.
    Exempt,
    /// It is sent away.
    Reject,
    /// It waits.
    Queue(Queuing),
}

/// How requests of a level wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Queuing {
    /// How many queues there are.
    pub queues: u32,
    /// To how many of them each flow is dealt.
    pub hand_size: u32,
    /// How many requests may wait in one.
    pub queue_length_limit: u32,
}

/// Kubernetes' defaults.
impl Default for Queuing {
    fn default() -> Self {
        Self { queues: 64, hand_size: 8, queue_length_limit: 50 }
    }
}

/// An object that is no level.
#[derive(Debug, thiserror::Error)]
#[error("the priority level cannot be read: {0}")]
pub struct LevelError(#[from] serde_json::Error);

#[derive(Deserialize)]
#[serde(tag = "type")]
enum Spec {
    Exempt {
        #[serde(default)]
        exempt: Exempt,
    },
    Limited {
        #[serde(default)]
        limited: Limited,
    },
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Exempt {
    nominal_concurrency_shares: u32,
    lendable_percent: u32,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Limited {
    nominal_concurrency_shares: Option<u32>,
    lendable_percent: u32,
    borrowing_limit_percent: Option<u32>,
    limit_response: LimitResponse,
}

impl Default for Limited {
    fn default() -> Self {
        Self {
            nominal_concurrency_shares: None,
            lendable_percent: 0,
            borrowing_limit_percent: None,
            limit_response: LimitResponse::Reject,
        }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type")]
enum LimitResponse {
    Queue {
        #[serde(default)]
        queuing: Queuing,
    },
    Reject,
}

impl Level {
    /// Reads an object.
    ///
    /// # Errors
    /// When it is no priority level; validation lets none such be stored.
    pub fn of(object: &Value) -> Result<Self, LevelError> {
        let text = |field: &str| Arc::from(object["metadata"][field].as_str().unwrap_or_default());
        let (name, uid) = (text("name"), text("uid"));
        Ok(match Spec::deserialize(&object["spec"])? {
            Spec::Exempt { exempt } => Self {
                name,
                uid,
                shares: exempt.nominal_concurrency_shares,
                lendable_percent: exempt.lendable_percent.min(100),
                borrowing_percent: None,
                response: Response::Exempt,
            },
            Spec::Limited { limited } => Self {
                name,
                uid,
                shares: limited.nominal_concurrency_shares.unwrap_or(30),
                lendable_percent: limited.lendable_percent.min(100),
                borrowing_percent: limited.borrowing_limit_percent,
                response: match limited.limit_response {
                    LimitResponse::Reject => Response::Reject,
                    LimitResponse::Queue { queuing } => Response::Queue(queuing.bounded()),
                },
            },
        })
    }
}

impl Queuing {
    fn bounded(self) -> Self {
        let queues = self.queues.clamp(1, MOST_QUEUES);
        Self {
            queues,
            hand_size: self.hand_size.clamp(1, queues.min(64)),
            queue_length_limit: self.queue_length_limit.max(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_level_does_not_say_is_as_in_kubernetes() {
        let read = |spec: Value| {
            let level = Level::of(&json!({"metadata": {"name": "a", "uid": "u"}, "spec": spec})).unwrap();
            (level.shares, level.lendable_percent, level.borrowing_percent, level.response)
        };
        let queue = |queues, hand_size, queue_length_limit| {
            Response::Queue(Queuing { queues, hand_size, queue_length_limit })
        };
        let table = [
            (json!({"type": "Exempt"}), (0, 0, None, Response::Exempt)),
            (json!({"type": "Limited", "limited": {}}), (30, 0, None, Response::Reject)),
            (
                json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 0, "lendablePercent": 50,
                    "borrowingLimitPercent": 10, "limitResponse": {"type": "Queue"}}}),
                (0, 50, Some(10), queue(64, 8, 50)),
            ),
            (
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {
                    "queues": 10_000_000, "handSize": 4, "queueLengthLimit": 7}}}}),
                (30, 0, None, queue(MOST_QUEUES, 4, 7)),
            ),
        ];
        for (spec, expected) in table {
            assert_eq!(read(spec.clone()), expected, "{spec}");
        }
        assert!(Level::of(&json!({"spec": {"type": "Other"}})).is_err());
    }
}
