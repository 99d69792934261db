//! How soon a watch may begin again. Watchers of kube's begin anew at once when a watch ends without an error, so a server, or
//! something before it, that ends every watch would be asked without a pause. A decision; must never read a clock.

use std::collections::HashMap;
use std::time::Duration;

use http::{Method, Uri};

/// So many times at once, ...
const BURST: u32 = 10;
/// ... and then one each time that so much has passed.
const PERIOD: Duration = Duration::from_secs(1);

/// When which watches may begin. Times count from any fixed moment.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When all that has begun would have, had it begun once in a period.
    even: HashMap<String, Duration>,
}

impl Pace {
    /// A request is to begin: how long it waits.
    pub(super) fn begin(&mut self, method: &Method, uri: &Uri, now: Duration) -> Duration {
        match watched(method, uri) {
            Some(what) => self.reserve(what, now),
            None => Duration::ZERO,
        }
    }

    fn reserve(&mut self, what: String, now: Duration) -> Duration {
        // Those that begin seldom are like new ones.
        self.even.retain(|_, even| *even > now);
        let even = self.even.entry(what).or_insert(now);
        *even += PERIOD;
        even.saturating_sub(now + PERIOD * BURST)
    }
}

/// What a watch watches, whatever version it begins with; nothing for what is no watch.
fn watched(method: &Method, uri: &Uri) -> Option<String> {
    let query = uri.query().filter(|_| method == Method::GET)?;
    let parts = || query.split('&');
    parts().any(|part| matches!(part, "watch=true" | "watch=1")).then(|| {
        let named: Vec<_> = parts().filter(|part| !part.starts_with("resourceVersion=")).collect();
        format!("{}?{}", uri.path(), named.join("&"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(pace: &mut Pace, uri: &str, now: Duration) -> Duration {
        pace.begin(&Method::GET, &uri.parse().unwrap(), now)
    }

    #[test]
    fn watches_that_begin_all_the_time_begin_once_in_a_period() {
        let mut pace = Pace::default();
        let mut now = Duration::from_secs(100);
        for _ in 0..BURST {
            assert_eq!(begin(&mut pace, "/a?watch=true", now), Duration::ZERO);
        }
        for _ in 0..10 {
            begin(&mut pace, "/a?limit=1", now); // no watch
            let wait = begin(&mut pace, "/a?watch=true", now);
            assert_eq!(wait, PERIOD);
            now += wait;
        }
        assert_eq!(begin(&mut pace, "/b?watch=true", now), Duration::ZERO, "it is another one");
        assert_eq!(begin(&mut pace, "/a?watch=true&resourceVersion=7", now), PERIOD, "it is the same");
        now += PERIOD;
        // Several that wait together come one after the other.
        assert_eq!(
            [begin(&mut pace, "/a?watch=true", now), begin(&mut pace, "/a?watch=true", now)],
            [PERIOD, PERIOD * 2]
        );
        now += PERIOD * (BURST + 2);
        for _ in 0..BURST {
            assert_eq!(
                begin(&mut pace, "/a?watch=true", now),
                Duration::ZERO,
                "it was quiet for long enough"
            );
        }
        assert_eq!(pace.even.len(), 1, "others are forgotten");
    }
}
