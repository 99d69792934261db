//! How long a Job waits before it replaces pods that failed. A decision; time is handed in.
//!
//! Where upstream remembers failures in the process, this reads them off the pods that are still there, so that another leader
//! waits as long.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;

use super::pod;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(10 * 60);

/// How long no pod is made because of those that failed after the last success; nothing when one may be made now.
pub(super) fn remaining(pods: &[Arc<Pod>], replaces_failed_only: bool, now: Timestamp) -> Option<Duration> {
    let success = pods.iter().filter(|pod| pod::succeeded(pod)).filter_map(|pod| pod::ended_at(pod)).max();
    let failed = pods.iter().filter(|pod| pod::failed(pod, replaces_failed_only));
    let later: Vec<_> =
        failed.filter_map(|pod| pod::ended_at(pod)).filter(|end| Some(*end) > success).collect();
    after(later.len(), later.iter().max().copied()?, now)
}

/// How long no pod of an index is made whose last pod failed.
pub(super) fn remaining_of_index(last: &Pod, now: Timestamp) -> Option<Duration> {
    let before = pod::failures_before(last).saturating_add(pod::ignored_failures_before(last));
    after(usize::try_from(before).unwrap_or_default() + 1, pod::ended_at(last)?, now)
}

/// So many failures, the last of them then.
fn after(failures: usize, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    let wait = (FIRST * 2u32.pow(doublings)).min(LONGEST);
    // In the future: a clock differs. It waits from now on.
    let passed = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    Some(wait.saturating_sub(passed)).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_doubles_up_to_ten_minutes() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let seconds = |failures| after(failures, at(1000), at(1000)).unwrap().as_secs();
        let waits: Vec<_> = (1..=9).map(seconds).collect();
        assert_eq!(waits, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert_eq!(after(1, at(1000), at(1004)), Some(Duration::from_secs(6)));
        assert_eq!(after(1, at(1000), at(1010)), None);
        assert_eq!(after(1, at(2000), at(1000)), Some(FIRST), "a clock that is ahead");
    }
}
