//! How far the clocks of masters are apart. Decisions.

use super::super::Finding;
use super::listed;

/// etcd complains from here on, in milliseconds.
const APART_MS: i64 = 1000;
/// Certificates, tokens and what people read of times are wrong by so much, in milliseconds.
const FAR_MS: i64 = 30_000;

/// Another master's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClockSeen {
    pub(crate) name: String,
    /// What it showed; why that is not known otherwise.
    pub(crate) reading: Result<Reading, String>,
}

/// A clock that was read over the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What it showed, milliseconds since 1970.
    pub(crate) theirs_ms: i64,
    /// What ours showed before it was asked, and when the answer was there.
    pub(crate) asked_ms: i64,
    pub(crate) answered_ms: i64,
}

impl Reading {
    /// How far it is ahead of ours, and by how much that may be wrong: it was read some time between question and answer, and
    /// clocks are told in whole milliseconds.
    fn ahead(self) -> (i64, i64) {
        let ahead = self.theirs_ms - (self.asked_ms + self.answered_ms) / 2;
        (ahead, (self.answered_ms - self.asked_ms + 1) / 2 + 1)
    }
}

/// Compares them with the clock of this machine.
pub(crate) fn clocks(clocks: &Result<Vec<ClockSeen>, String>) -> Finding {
    const CHECK: &str = "clocks";
    let clocks = match clocks {
        Ok(clocks) if clocks.is_empty() => {
            return Finding::skipped(CHECK, "there is no other master to compare with");
        }
        Ok(clocks) => clocks,
        Err(why) => return Finding::skipped(CHECK, format!("the other masters are not known: {why}")),
    };
    let read: Vec<(&str, i64, i64)> = clocks
        .iter()
        .filter_map(|clock| {
            let (ahead, error) = clock.reading.as_ref().ok()?.ahead();
            Some((clock.name.as_str(), ahead, error))
        })
        .collect();
    let unread: Vec<String> = clocks
        .iter()
        .filter_map(|clock| Some(format!("{}: {}", clock.name, clock.reading.as_ref().err()?)))
        .collect();
    let unread = listed(unread.iter().map(String::as_str));
    if read.is_empty() {
        return Finding::skipped(CHECK, unread);
    }
    let told: Vec<String> = read
        .iter()
        .map(|(name, ahead, error)| {
            let side = if *ahead < 0 { "behind" } else { "ahead" };
            format!("{name} is {} ms {side} (+-{error} ms)", ahead.abs())
        })
        .collect();
    let mut found = listed(told.iter().map(String::as_str));
    if !unread.is_empty() {
        found = format!("{found}; not read: {unread}");
    }
    // The least that they are apart for certain.
    let worst = read.iter().map(|(_, ahead, error)| ahead.abs() - error).max().unwrap_or_default();
    let advice = "set the clocks by NTP on all machines (`timedatectl` shows whether that is done): new certificates and tokens are \
                  refused where the clock is behind";
    match worst {
        ..APART_MS => Finding::ok(CHECK, found),
        APART_MS..FAR_MS => Finding::warning(CHECK, found, advice),
        _ => Finding::failed(CHECK, found, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn clock(theirs_ms: i64, round_trip_ms: i64) -> ClockSeen {
        let reading = Reading { theirs_ms, asked_ms: 1_000_000, answered_ms: 1_000_000 + round_trip_ms };
        ClockSeen { name: "m2".to_owned(), reading: Ok(reading) }
    }

    #[test]
    fn clocks_are_apart_only_as_far_as_is_certain() {
        let cases = [
            (clock(1_000_001, 2), Level::Ok, "m2 is 0 ms ahead (+-2 ms)"),
            (clock(999_000, 10), Level::Ok, "m2 is 1005 ms behind (+-6 ms)"),
            (clock(998_000, 10), Level::Warning, "m2 is 2005 ms behind"),
            // Far apart, but the answer took as long.
            (clock(1_004_000, 8_000), Level::Ok, "m2 is 0 ms ahead (+-4001 ms)"),
            (clock(1_100_000, 2), Level::Failed, "m2 is 99999 ms ahead"),
        ];
        for (clock, level, text) in cases {
            let finding = clocks(&Ok(vec![clock]));
            assert_eq!(finding.result, level, "{finding:?}");
            assert!(finding.found.contains(text), "{finding:?}");
        }
    }

    #[test]
    fn clocks_that_cannot_be_read_are_told() {
        let silent = ClockSeen { name: "m3".to_owned(), reading: Err("no answer".to_owned()) };
        assert_eq!(clocks(&Ok(vec![silent.clone()])), Finding::skipped("clocks", "m3: no answer"));
        let both = clocks(&Ok(vec![clock(1_000_001, 2), silent]));
        assert!(both.found.ends_with("; not read: m3: no answer"), "{both:?}");
        assert_eq!(clocks(&Ok(Vec::new())).result, Level::Skipped);
        assert_eq!(clocks(&Err("gone".to_owned())).result, Level::Skipped);
    }
}
