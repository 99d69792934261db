//! What a master does about the files of its directory. A decision: must never read a file, or ask a server.
//!
//! Each Secret names the directories that have its file, with the checksum of what each has. So it can be told from the Secret and the
//! directory alone what has happened here, also while this master was down:
//!
//! * the directory had it and has it not any more: it was removed here. The file goes with the last directory that had it.
//! * it has another checksum than the directory was known to have: it was changed here, and the last change wins.
//! * the directory is not known to have it: it is new here. Put here while this master runs, it is a change as well; found when this
//!   master started, it may be older than what the cluster has, and does not replace that.
//! * what the cluster has is in no directory any more, since who had it removed it: what is here counts.
//!
//! Another directory of the same master (its disk was replaced) is another one: that it is empty takes nothing away. What the lost one
//! had goes on to count until somebody changes it, but does not hold the file up when the last one that is left removes it.

use std::collections::BTreeMap;

use crate::file::{Content, Entry, Listing};
use crate::published::{Holder, Holders, Published, name_of};

/// Files by the names of their Secrets.
pub(crate) type All = BTreeMap<String, Published>;

/// What is to be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step<'a> {
    /// A new Secret.
    Create { file: &'a str, content: &'a Content, holders: Holders },
    /// Other holders and, where it is given, another content.
    Hold { published: &'a Published, content: Option<&'a Content>, holders: Holders, story: Option<Story> },
    /// The Secret goes, and its objects with it.
    Delete { published: &'a Published },
}

/// What people should know of a file that differs between masters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Story {
    /// It was changed here, and what these masters have does not count any more.
    Replaces(Vec<String>),
    /// What was found here at the start does not count.
    Yields,
}

/// What was found in the directory when the master started, and has not changed since.
#[derive(Debug, Default)]
pub(crate) struct Found {
    directory: String,
    checksums: BTreeMap<String, String>,
}

impl Found {
    /// Sees what is there now.
    pub(crate) fn see(&mut self, listing: &Listing) {
        let checksum = |entry: &Entry| match entry {
            Entry::File(content) => Some(content.checksum.clone()),
            Entry::LeftAlone => None,
        };
        if self.directory != listing.directory {
            // The first look; or another directory has come into its place.
            let all = listing.entries.iter();
            self.checksums = all.filter_map(|(file, entry)| Some((file.clone(), checksum(entry)?))).collect();
            self.directory.clone_from(&listing.directory);
        } else {
            self.checksums
                .retain(|file, found| listing.entries.get(file).and_then(checksum).as_ref() == Some(found));
        }
    }

    fn has(&self, file: &str) -> bool {
        self.checksums.contains_key(file)
    }
}

/// What this master does.
pub(crate) fn plan<'a>(master: &str, listing: &'a Listing, found: &Found, all: &'a All) -> Vec<Step<'a>> {
    let files = listing.entries.iter().filter_map(|(file, entry)| match entry {
        Entry::File(content) => Some((file.as_str(), content)),
        Entry::LeftAlone => None,
    });
    let of_files = files.filter_map(|(file, content)| {
        let mine = Holder { master: master.to_owned(), checksum: content.checksum.clone(), is_lost: false };
        match all.get(&name_of(file)) {
            None => {
                let holders = BTreeMap::from([(listing.directory.clone(), mine)]);
                Some(Step::Create { file, content, holders })
            }
            // When it is gone, it is made again.
            Some(published) if published.is_going => None,
            Some(published) => held(listing, found, published, content, mine),
        }
    });
    let gone = all.values().filter(|published| !published.is_going);
    let gone = gone.filter(|published| !listing.entries.contains_key(&published.file));
    of_files.chain(gone.filter_map(|published| released(master, listing, published))).collect()
}

fn held<'a>(
    listing: &Listing,
    found: &Found,
    published: &'a Published,
    content: &'a Content,
    mine: Holder,
) -> Option<Step<'a>> {
    let (here, known) = (&listing.directory, published.holders.get(&listing.directory));
    let is_known = known == Some(&mine);
    let counts = published.checksum();
    let hold = |mut holders: Holders, content, story| {
        holders.insert(here.clone(), mine.clone());
        Some(Step::Hold { published, content, holders, story })
    };
    let mut holders = published.holders.clone();
    if counts == Some(&content.checksum) {
        holders.retain(|_, holder| holder.master != mine.master);
        return if is_known { None } else { hold(holders, None, None) };
    }
    let has = |holder: &&Holder| Some(holder.checksum.as_str()) == counts;
    let is_there = published.holders.values().any(|holder| has(&holder));
    if is_known && is_there {
        return None;
    }
    if known.is_none() && found.has(&published.file) {
        lose(&mut holders, here, &mine.master);
        return hold(holders, None, Some(Story::Yields));
    }
    holders.retain(|_, holder| holder.master != mine.master && !holder.is_lost);
    let others: Vec<_> = holders.values().filter(has).map(|holder| holder.master.clone()).collect();
    hold(holders, Some(content), (!others.is_empty()).then_some(Story::Replaces(others)))
}

/// What a master had in other directories than its own is lost; whether there was something.
fn lose(holders: &mut Holders, here: &str, master: &str) -> bool {
    let mut lost = false;
    for (directory, holder) in holders {
        if directory != here && holder.master == master && !holder.is_lost {
            holder.is_lost = true;
            lost = true;
        }
    }
    lost
}

fn released<'a>(master: &str, listing: &Listing, published: &'a Published) -> Option<Step<'a>> {
    let mut holders = published.holders.clone();
    let lost = lose(&mut holders, &listing.directory, master);
    let Some(mine) = holders.remove(&listing.directory) else {
        return lost.then_some(Step::Hold { published, content: None, holders, story: None });
    };
    let has = |holder: &Holder| Some(holder.checksum.as_str()) == published.checksum();
    // One that never counted may go without what counts instead of it.
    let is_last = holders.values().all(|holder| holder.is_lost && (has(&mine) || !has(holder)));
    Some(match is_last {
        true => Step::Delete { published },
        false => Step::Hold { published, content: None, holders, story: None },
    })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
