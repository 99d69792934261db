//! What wrong clocks excuse: while clocks run too fast, a lease may end so much earlier, and not a moment more.
//!
//! Deadlines follow the monotonic clock of the leader, which no step of a wall clock moves. So only a rate excuses anything.

use crate::history::Fault;

/// A fault of this name makes clocks run faster by [`RATE_PPM`].
pub const FAST: &str = "clocks run 5 % too fast";
/// Millionths by which they are too fast.
pub const RATE_PPM: i64 = 50_000;

/// What is lost where a rate changes: clocks go forth a little then.
const CHANGE_NS: u64 = 1_000_000;
const MILLION: i128 = 1_000_000;

/// Until when a promise of `ttl_s` seconds that was given at some time surely holds.
pub(super) fn surely_until(faults: &[Fault], from_ns: u64, ttl_s: i64) -> u64 {
    let ttl_ns = u64::try_from(ttl_s).unwrap_or(0).saturating_mul(1_000_000_000);
    let until_ns = from_ns.saturating_add(ttl_ns);
    let during = |fault: &&Fault| {
        fault.kind == FAST && fault.began_ns < until_ns && fault.ended_ns.is_none_or(|ended| from_ns < ended)
    };
    if faults.iter().any(|fault| during(&fault)) {
        let counted_ns = i128::from(ttl_ns) * MILLION / (MILLION + i128::from(RATE_PPM));
        let counted_ns = u64::try_from(counted_ns).unwrap_or(u64::MAX);
        return from_ns.saturating_add(counted_ns).saturating_sub(CHANGE_NS);
    }
    until_ns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::FaultId;

    const SECOND_NS: u64 = 1_000_000_000;

    fn fault(kind: &str, began_s: u64, ended_s: Option<u64>) -> Fault {
        Fault {
            id: FaultId(1),
            kind: kind.to_owned(),
            members: Vec::new(),
            began_ns: began_s * SECOND_NS,
            ended_ns: ended_s.map(|ended_s| ended_s * SECOND_NS),
        }
    }

    #[test]
    fn only_fast_clocks_excuse_and_only_while_they_are_fast() {
        for (faults, excused) in [
            (vec![], false),
            (vec![fault(FAST, 0, Some(10))], false),
            (vec![fault(FAST, 12, Some(20))], false),
            (vec![fault("kill -9", 0, None)], false),
            (vec![fault("clocks run 5 % too slowly", 0, None)], false),
            (vec![fault("wall clock off by +1 h", 9, Some(13))], false),
            (vec![fault(FAST, 11, Some(20))], true),
            (vec![fault(FAST, 0, Some(11))], true),
            (vec![fault("kill -9", 0, None), fault(FAST, 0, None)], true),
        ] {
            let until_ns = surely_until(&faults, 10 * SECOND_NS, 2);
            let lost_ns = 12 * SECOND_NS - until_ns;
            // 2 s are 1.9048 s for a clock that is 5 % too fast.
            let expected = if excused { 95_000_000..97_000_000 } else { 0..1 };
            assert!(expected.contains(&lost_ns), "{faults:?}: {lost_ns}");
        }
    }

    #[test]
    fn a_promise_of_nothing_is_over_at_once() {
        assert_eq!(surely_until(&[], 7, 0), 7);
        assert_eq!(surely_until(&[], 7, -1), 7);
        assert_eq!(surely_until(&[], u64::MAX - 1, i64::MAX), u64::MAX);
    }
}
