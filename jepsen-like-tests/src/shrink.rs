//! The smallest part of a failing history that still fails, so that people see the fault and not the run.
//!
//! Delta debugging: halves, quarters and so on are left out as long as what remains still fails. Bounded by a
//! number of trials and by time; what it returns always fails.

use std::time::{Duration, Instant};

/// How hard to try.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// At most so many trials.
    pub trials: usize,
    /// At most so long.
    pub time: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self { trials: 2000, time: Duration::from_secs(20) }
    }
}

/// The smallest part of `items` found that `fails`. All of `items` must fail.
pub fn smallest<T: Clone>(items: &[T], budget: Budget, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let deadline = Instant::now() + budget.time;
    let mut trials = 0;
    let mut kept = items.to_vec();
    let mut piece = kept.len().div_ceil(2);
    while piece > 0 {
        let mut at = 0;
        let before = kept.len();
        while at < kept.len() {
            if trials >= budget.trials || Instant::now() >= deadline {
                return kept;
            }
            trials += 1;
            let end = (at + piece).min(kept.len());
            let rest: Vec<T> = kept[..at].iter().chain(&kept[end..]).cloned().collect();
            if fails(&rest) {
                kept = rest;
            } else {
                at = end;
            }
        }
        // Single ones are tried until none can go.
        if piece > 1 || kept.len() == before {
            piece /= 2;
        }
    }
    kept
}

/// As [`smallest`], for items that make no sense without others: whoever `depends` on one that is left out goes too.
pub fn smallest_closed<T: Clone>(
    items: &[T],
    budget: Budget,
    depends: impl Fn(&T, &T) -> bool,
    mut fails: impl FnMut(&[T]) -> bool,
) -> Vec<T> {
    let dependents: Vec<Vec<usize>> = items
        .iter()
        .map(|item| (0..items.len()).filter(|&other| depends(&items[other], item)).collect())
        .collect();
    let closed = |kept: &[usize]| -> Vec<usize> {
        let mut stays = vec![false; items.len()];
        kept.iter().for_each(|&index| stays[index] = true);
        let mut gone: Vec<usize> = (0..items.len()).filter(|&index| !stays[index]).collect();
        while let Some(index) = gone.pop() {
            for &dependent in &dependents[index] {
                if std::mem::replace(&mut stays[dependent], false) {
                    gone.push(dependent);
                }
            }
        }
        (0..items.len()).filter(|&index| stays[index]).collect()
    };
    let pick = |kept: &[usize]| -> Vec<T> { kept.iter().map(|&index| items[index].clone()).collect() };
    let all: Vec<usize> = (0..items.len()).collect();
    let kept = smallest(&all, budget, |kept| fails(&pick(&closed(kept))));
    pick(&closed(&kept))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_matter_goes() {
        let items: Vec<u32> = (0..1000).collect();
        for needed in [vec![], vec![0], vec![999], vec![3, 500], vec![1, 2, 3, 700, 998]] {
            let fails = |some: &[u32]| needed.iter().all(|item| some.contains(item));
            assert_eq!(smallest(&items, Budget::default(), fails), needed);
        }
    }

    #[test]
    fn when_the_budget_is_spent_the_rest_still_fails() {
        let items: Vec<u32> = (0..1000).collect();
        let fails = |some: &[u32]| [17, 600, 601].iter().all(|item| some.contains(item));
        for trials in 0..20 {
            let kept = smallest(&items, Budget { trials, time: Duration::from_secs(60) }, fails);
            assert!(fails(&kept), "{trials} trials");
        }
    }

    #[test]
    fn dependents_go_with_what_they_depend_on() {
        // Each odd number needs the even one before it.
        let items: Vec<u32> = (0..100).collect();
        let depends = |item: &u32, on: &u32| item % 2 == 1 && *on == item - 1;
        let kept = smallest_closed(&items, Budget::default(), depends, |some| some.contains(&41));
        assert_eq!(kept, [40, 41]);
    }
}
