//! What stays in memory of every event: its place, and how to get from it to the key's events before.
//!
//! Most events in a row either create keys or change them; those that create have nothing behind them, and cost
//! no memory for it. Never knows what an event wrote.

use crate::ids::{Revision, SubRevision};

/// An event, as a step on the way through its key's past.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) at: SubRevision,
    pub(super) tombstone: bool,
    pub(super) before: Before,
    pub(super) behind: Behind,
}

/// What the event superseded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    Nothing,
    Tombstone,
    Version,
}

/// The key's past before an event. All zero when there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// Where the version before was written, if it was a version.
    pub(super) previous_main: Revision,
    pub(super) previous_sub: u32,
    /// How many events back the key's event before stands; 0 when it is not in the log.
    pub(super) previous_back: u32,
    /// How many events back the jump leads; 0 for none.
    pub(super) jump_back: u32,
    /// How many events of the key are behind this one in its chain.
    pub(super) depth: u32,
}

impl Link {
    /// Where the version that this event superseded was written.
    pub(super) fn previous_at(&self) -> Option<SubRevision> {
        (self.before == Before::Version)
            .then_some(SubRevision { main: self.behind.previous_main, sub: self.behind.previous_sub })
    }

    /// Whether no event of the key stands between `since` and this one, which is event `seq`.
    pub(super) fn is_first_since(&self, since: u64, seq: u64) -> bool {
        self.behind.previous_back == 0 || seq - u64::from(self.behind.previous_back) < since
    }

    /// By how much the event changed the number of keys.
    pub(super) fn growth(&self) -> isize {
        match (self.tombstone, self.before) {
            (true, _) => -1,
            (false, Before::Version) => 0,
            (false, _) => 1,
        }
    }
}

/// At most so many links in one [`Links`].
pub(super) const MAX_LINKS: usize = 255;

#[derive(Clone, Copy)]
struct Mark {
    main: Revision,
    sub: u32,
    tombstone: bool,
    before: Before,
    /// Which of the pasts is this event's, counted from 1; 0 for none.
    behind: u8,
}

/// Links in a row.
#[derive(Clone, Default)]
pub(super) struct Links {
    marks: Vec<Mark>,
    behind: Vec<Behind>,
}

impl Links {
    /// What a link costs at most.
    pub(super) const LINK_BYTES: usize = size_of::<Mark>() + size_of::<Behind>();

    pub(super) fn push(&mut self, link: Link) {
        debug_assert!(self.marks.len() < MAX_LINKS, "a past is counted in a byte");
        let Link { at, tombstone, before, behind } = link;
        if behind != Behind::default() {
            self.behind.push(behind);
        }
        let behind = if behind == Behind::default() { 0 } else { self.behind.len() as u8 };
        self.marks.push(Mark { main: at.main, sub: at.sub, tombstone, before, behind });
    }

    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    pub(super) fn get(&self, at: usize) -> Option<Link> {
        self.marks.get(at).map(|mark| self.link(mark))
    }

    pub(super) fn first(&self) -> Option<Link> {
        self.get(0)
    }

    pub(super) fn last(&self) -> Option<Link> {
        self.marks.last().map(|mark| self.link(mark))
    }

    /// How many of them stand before a place.
    pub(super) fn before(&self, at: SubRevision) -> usize {
        self.marks.partition_point(|mark| (mark.main, mark.sub) < (at.main, at.sub))
    }

    /// All of them from a number on.
    pub(super) fn run(&self, from: usize) -> Run<'_> {
        Run { links: self, marks: &self.marks[from..] }
    }

    /// Gives back what was allocated ahead.
    pub(super) fn shrink_to_fit(&mut self) {
        self.marks.shrink_to_fit();
        self.behind.shrink_to_fit();
    }

    fn link(&self, mark: &Mark) -> Link {
        let behind = usize::from(mark.behind).checked_sub(1).and_then(|at| self.behind.get(at));
        Link {
            at: SubRevision { main: mark.main, sub: mark.sub },
            tombstone: mark.tombstone,
            before: mark.before,
            behind: behind.copied().unwrap_or_default(),
        }
    }
}

/// Some links in a row.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    links: &'a Links,
    marks: &'a [Mark],
}

impl<'a> Run<'a> {
    pub(super) fn len(&self) -> usize {
        self.marks.len()
    }

    pub(super) fn first(&self) -> Option<Link> {
        self.marks.first().map(|mark| self.links.link(mark))
    }

    /// The first `count` of them.
    pub(super) fn truncated(self, count: usize) -> Self {
        Self { marks: &self.marks[..count.min(self.marks.len())], ..self }
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Link> + 'a {
        self.marks.iter().map(move |mark| self.links.link(mark))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_come_back_and_only_a_past_costs_memory_for_it() {
        let at = |main| SubRevision { main: Revision(main), sub: main as u32 % 3 };
        let link = |main: i64| {
            let behind = Behind { previous_main: Revision(main - 1), previous_back: 1, ..Behind::default() };
            let changes = main % 2 == 0;
            Link {
                at: at(main),
                tombstone: main % 4 == 0,
                before: if changes { Before::Version } else { Before::Nothing },
                behind: if changes { behind } else { Behind::default() },
            }
        };
        let mut links = Links::default();
        (1..=MAX_LINKS as i64).for_each(|main| links.push(link(main)));
        for main in 1..=MAX_LINKS as i64 {
            assert_eq!(links.get(main as usize - 1), Some(link(main)));
            assert_eq!(links.before(at(main)), main as usize - 1);
        }
        assert_eq!(links.get(MAX_LINKS), None);
        assert_eq!((links.first(), links.last()), (Some(link(1)), Some(link(MAX_LINKS as i64))));
        assert_eq!(links.behind.len(), MAX_LINKS / 2);
        assert!(links.run(3).truncated(2).iter().eq([link(4), link(5)]));
        assert_eq!(size_of::<Mark>(), 16);
    }
}
