//! Tokens that are over are deleted. Must never delete another secret.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;

use super::{SELECTED, is_token, time_left};
use crate::cache::Caches;
use crate::controller::{Controller, Watches};
use crate::kind::{Key, Object as _};
use crate::plan::{Action, ObjectId, Plan, Propagation};

/// The controller that deletes them.
pub(crate) struct TokenCleaner;

impl Controller for TokenCleaner {
    type View = Arc<Secret>;

    fn watch(&self, watches: &mut Watches<'_>) {
        watches.mapped_of::<Secret>(SELECTED, |change, _| {
            change.new.iter().filter(|secret| is_token(secret)).map(|secret| secret.key()).collect()
        });
        watches.all(|caches| {
            let all = caches.of::<Secret>().all();
            all.iter().filter(|secret| is_token(secret)).map(|secret| secret.key()).collect()
        });
    }

    fn observe(&self, key: &Key, caches: &Caches) -> Option<Arc<Secret>> {
        caches.of::<Secret>().get(key).filter(|secret| is_token(secret))
    }

    fn plan(&self, secret: &Arc<Secret>, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        match time_left(secret, now).map(Duration::try_from) {
            None => {}
            Some(Ok(left)) if !left.is_zero() => plan.look_again_after(left),
            Some(_) => {
                let delete = Action::Delete {
                    object: ObjectId::of(&**secret),
                    propagation: Propagation::Default,
                    grace_seconds: None,
                    unchanged: false,
                };
                plan.then(delete.because("it is not good any more"));
            }
        }
        plan
    }
}

#[cfg(test)]
mod tests {
    use super::super::token;
    use super::*;

    #[test]
    fn tokens_go_when_they_are_over() {
        let check = |fields: &[(&str, &str)], wait: Option<u64>, deletes: bool| {
            let secret = Arc::new(token("bootstrap-token-abcdef", fields));
            let plan = TokenCleaner.plan(&secret, "2026-01-01T00:01:00Z".parse().unwrap());
            let waits = plan.requeue_after.map(|wait| wait.as_secs());
            assert_eq!((waits, plan.actions().count() == 1), (wait, deletes), "{fields:?}");
        };
        check(&[], None, false);
        check(&[("expiration", "2026-01-01T00:02:00Z")], Some(60), false);
        check(&[("expiration", "2026-01-01T01:02:00+01:00")], Some(60), false);
        check(&[("expiration", "2026-01-01T00:01:00Z")], None, true);
        check(&[("expiration", "soon")], None, true);
    }
}
