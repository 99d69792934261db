//! The screen of `kvctl top`, put together from what the members told. Pure.

use std::collections::BTreeMap;
use std::fmt;

use barque_proto::admin as pb;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::command::space::shown;
use crate::output::{grid, size};
use crate::range;

/// What happens each second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
struct Rates {
    reads: f64,
    read_bytes: f64,
    writes: f64,
    written_bytes: f64,
}

impl Rates {
    fn of(traffic: Option<&pb::Traffic>, interval_s: f64) -> Self {
        let traffic = traffic.copied().unwrap_or_default();
        Self {
            reads: traffic.reads as f64 / interval_s,
            read_bytes: traffic.read_bytes as f64 / interval_s,
            writes: traffic.writes as f64 / interval_s,
            written_bytes: traffic.written_bytes as f64 / interval_s,
        }
    }

    fn add(&mut self, other: Self) {
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.writes += other.writes;
        self.written_bytes += other.written_bytes;
    }

    fn operations(&self) -> f64 {
        self.reads + self.writes
    }

    fn cells(&self) -> [String; 4] {
        let bytes = |bytes: f64| size::humanize(bytes.round() as u64);
        [rate(self.reads), bytes(self.read_bytes), rate(self.writes), bytes(self.written_bytes)]
    }
}

fn rate(rate: f64) -> String {
    if rate < 10.0 && rate > 0.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

#[derive(Clone, Debug, Default)]
struct Watched {
    watches: u64,
    events: f64,
    revisions_behind: u64,
    slowest_client: String,
}

/// The first key of a range and its end.
type Range = (Vec<u8>, Vec<u8>);

/// All members' answers, added up.
#[derive(Debug, Default)]
pub(super) struct Screen {
    top: usize,
    total: Rates,
    watches: u64,
    members: Vec<Member>,
    prefixes: Vec<(Vec<u8>, Rates)>,
    by_prefix: BTreeMap<Vec<u8>, Rates>,
    clients: Vec<((String, String), Rates)>,
    by_client: BTreeMap<(String, String), Rates>,
    ranges: Vec<(Range, Watched)>,
    by_range: BTreeMap<Range, Watched>,
}

#[derive(Clone, Debug, Default, Serialize)]
struct Member {
    name: String,
    #[serde(flatten)]
    rates: Rates,
    watches: u64,
    /// Why it told nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// The first so many, by what `weight` says; of equals the first in order.
fn largest<K: Ord, V>(all: BTreeMap<K, V>, top: usize, weight: impl Fn(&V) -> f64) -> Vec<(K, V)> {
    let mut all: Vec<_> = all.into_iter().collect();
    all.sort_by(|(_, a), (_, b)| weight(b).total_cmp(&weight(a)));
    all.truncate(top);
    all
}

impl Screen {
    /// Will show `top` of each kind.
    pub(super) fn new(top: usize) -> Self {
        Self { top, ..Self::default() }
    }

    /// A member's answer.
    pub(super) fn add(&mut self, name: String, activity: &pb::ActivityResponse) {
        let interval_s = activity.interval_ms.max(1) as f64 / 1000.0;
        let rates = Rates::of(activity.total.as_ref(), interval_s);
        self.total.add(rates);
        self.watches += activity.watches_total;
        self.members.push(Member { name, rates, watches: activity.watches_total, error: None });
        for prefix in &activity.prefixes {
            let rates = Rates::of(prefix.traffic.as_ref(), interval_s);
            self.by_prefix.entry(prefix.prefix.to_vec()).or_default().add(rates);
        }
        for client in &activity.clients {
            let rates = Rates::of(client.traffic.as_ref(), interval_s);
            self.by_client.entry((client.address.clone(), client.user.clone())).or_default().add(rates);
        }
        for watch in &activity.watches {
            let range = (watch.key.to_vec(), watch.range_end.to_vec());
            let watched = self.by_range.entry(range).or_default();
            watched.watches += watch.watches;
            // Every member sees every event.
            watched.events = watched.events.max(watch.events as f64 / interval_s);
            if watch.revisions_behind > watched.revisions_behind {
                watched.revisions_behind = watch.revisions_behind;
                watched.slowest_client.clone_from(&watch.slowest_client);
            }
        }
    }

    /// A member that told nothing.
    pub(super) fn add_trouble(&mut self, name: String, error: String) {
        self.members.push(Member { name, error: Some(error), ..Member::default() });
    }

    /// To be called when all have answered.
    pub(super) fn sort(&mut self) {
        self.prefixes = largest(std::mem::take(&mut self.by_prefix), self.top, Rates::operations);
        self.clients = largest(std::mem::take(&mut self.by_client), self.top, Rates::operations);
        let weight = |watched: &Watched| watched.events.max(watched.revisions_behind as f64);
        self.ranges = largest(std::mem::take(&mut self.by_range), self.top, weight);
    }

    /// As it is printed.
    pub(super) fn shown(&self, hex: bool) -> Shown {
        let prefixes = self.prefixes.iter().map(|(prefix, rates)| Named {
            name: STANDARD.encode(prefix),
            rates: *rates,
            shown: shown(prefix, hex),
        });
        let clients = self.clients.iter().map(|((address, user), rates)| Client {
            address: address.clone(),
            user: user.clone(),
            rates: *rates,
        });
        let watches = self.ranges.iter().map(|((key, range_end), watched)| Watch {
            key: STANDARD.encode(key),
            range_end: STANDARD.encode(range_end),
            watches: watched.watches,
            events: watched.events,
            revisions_behind: watched.revisions_behind,
            slowest_client: watched.slowest_client.clone(),
            shown: shown_range(key, range_end, hex),
        });
        Shown {
            total: self.total,
            watches_total: self.watches,
            members: self.members.clone(),
            prefixes: prefixes.collect(),
            clients: clients.collect(),
            watches: watches.collect(),
        }
    }
}

/// A range for people: a key, a prefix with a star, or both ends.
fn shown_range(key: &[u8], range_end: &[u8], hex: bool) -> String {
    if range_end.is_empty() {
        shown(key, hex)
    } else if range_end == range::NO_END {
        if key.is_empty() || key == b"\0" {
            "everything".to_owned()
        } else {
            format!("from {}", shown(key, hex))
        }
    } else if range_end == range::prefix_end(key) {
        format!("{}*", shown(key, hex))
    } else {
        format!("{} to {}", shown(key, hex), shown(range_end, hex))
    }
}

/// The screen as it is printed; rates are per second, keys base64 in JSON.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    total: Rates,
    watches_total: u64,
    members: Vec<Member>,
    prefixes: Vec<Named>,
    clients: Vec<Client>,
    watches: Vec<Watch>,
}

#[derive(Debug, Serialize)]
struct Named {
    #[serde(rename = "prefix")]
    name: String,
    #[serde(flatten)]
    rates: Rates,
    #[serde(skip)]
    shown: String,
}

#[derive(Debug, Serialize)]
struct Client {
    address: String,
    user: String,
    #[serde(flatten)]
    rates: Rates,
}

#[derive(Debug, Serialize)]
struct Watch {
    key: String,
    range_end: String,
    watches: u64,
    events: f64,
    revisions_behind: u64,
    slowest_client: String,
    #[serde(skip)]
    shown: String,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [reads, read, writes, written] = self.total.cells();
        writeln!(
            f,
            "All members, each second: {reads} reads ({read}), {writes} writes ({written}); {} watches",
            self.watches_total
        )?;
        let row = |name: String, rates: &Rates| {
            let mut row = vec![name];
            row.extend(rates.cells());
            row
        };
        let header = |first| [first, "reads/s", "read/s", "writes/s", "written/s"];
        let members: Vec<_> = self
            .members
            .iter()
            .filter(|member| member.error.is_none())
            .map(|member| row(member.name.clone(), &member.rates))
            .collect();
        f.write_str(&grid::draw(&header("member"), &members))?;
        for member in &self.members {
            if let Some(error) = &member.error {
                writeln!(f, "{}: {error}", member.name)?;
            }
        }
        if !self.prefixes.is_empty() {
            let rows: Vec<_> =
                self.prefixes.iter().map(|prefix| row(prefix.shown.clone(), &prefix.rates)).collect();
            f.write_str(&grid::draw(&header("prefix"), &rows))?;
        }
        if !self.clients.is_empty() {
            let name = |client: &Client| {
                let address = if client.address.is_empty() { "unknown" } else { &client.address };
                if client.user.is_empty() { address.to_owned() } else { format!("{}@{address}", client.user) }
            };
            let rows: Vec<_> = self.clients.iter().map(|client| row(name(client), &client.rates)).collect();
            f.write_str(&grid::draw(&header("client"), &rows))?;
        }
        if !self.watches.is_empty() {
            let row = |watch: &Watch| {
                let behind = match watch.revisions_behind {
                    0 => String::new(),
                    behind if watch.slowest_client.is_empty() => behind.to_string(),
                    behind => format!("{behind} ({})", watch.slowest_client),
                };
                vec![watch.shown.clone(), watch.watches.to_string(), rate(watch.events), behind]
            };
            let rows: Vec<_> = self.watches.iter().map(row).collect();
            f.write_str(&grid::draw(&["watched", "watches", "events/s", "revisions behind"], &rows))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn activity(interval_ms: u64, writes: u64) -> pb::ActivityResponse {
        let traffic = pb::Traffic { writes, written_bytes: writes * 10, ..Default::default() };
        let watch = pb::WatchActivity {
            key: "/hot/".into(),
            range_end: "/hot0".into(),
            watches: 2,
            events: writes,
            revisions_behind: writes,
            slowest_client: format!("client{writes}"),
        };
        let prefix = |prefix: &'static str, traffic| pb::PrefixActivity {
            prefix: prefix.into(),
            traffic: Some(traffic),
            uncounted: 0,
        };
        let read = pb::Traffic { reads: 1, ..Default::default() };
        let client =
            pb::ClientActivity { address: "1.2.3.4:5".into(), traffic: Some(traffic), ..Default::default() };
        pb::ActivityResponse {
            interval_ms,
            total: Some(traffic),
            prefixes: vec![prefix("/cold/", read), prefix("/hot/", traffic)],
            clients: vec![client],
            watches: vec![watch],
            watches_total: 2,
            ..Default::default()
        }
    }

    #[test]
    fn members_are_added_up_as_rates() {
        let mut screen = Screen::new(5);
        screen.add("m1".into(), &activity(1000, 10));
        screen.add("m2".into(), &activity(2000, 60));
        screen.add_trouble("m3".into(), "nobody listens".into());
        screen.sort();
        let shown = screen.shown(false);
        assert_eq!((shown.total.writes, shown.total.written_bytes), (40.0, 400.0));
        assert_eq!(shown.prefixes[0].shown, "\"/hot/\"");
        assert_eq!(shown.prefixes[0].rates.writes, 40.0);
        assert_eq!(shown.watches[0].shown, "\"/hot/\"*");
        let watch = &shown.watches[0];
        assert_eq!((watch.watches, watch.events, watch.revisions_behind), (4, 30.0, 60));
        assert_eq!(watch.slowest_client, "client60");
        let text = shown.to_string();
        assert!(text.contains("m3: nobody listens") && text.contains("1.2.3.4:5"), "{text}");
        let json = serde_json::to_value(&shown).unwrap();
        assert_eq!(json["prefixes"][0]["writes"], 40.0);
        assert_eq!(json["members"][2]["error"], "nobody listens");
    }

    #[test]
    fn ranges_are_shown_as_what_they_mean() {
        for (key, end, text) in [
            (&b"a"[..], &b""[..], "\"a\""),
            (b"a", b"b", "\"a\"*"),
            (b"a", b"c", "\"a\" to \"c\""),
            (b"a", b"\0", "from \"a\""),
            (b"\0", b"\0", "everything"),
        ] {
            assert_eq!(shown_range(key, end, false), text);
        }
    }
}
