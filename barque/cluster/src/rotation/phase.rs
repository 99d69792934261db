//! Which phase of a rotation comes when, by what members say of themselves. A decision: must never read or wait.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::report::{Report, word};
use crate::leaf::Signer;

/// How far a rotation is; see the module's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Everybody comes to trust the new authorities too.
    Trust,
    /// Masters come to sign with the new ones, and to show leaves of theirs.
    Sign,
    /// Nodes come to show such leaves.
    Renew,
    /// Everybody comes to trust the new ones alone.
    Finished,
}

impl Phase {
    /// As it is written down.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Trust => "trust",
            Self::Sign => "sign",
            Self::Renew => "renew",
            Self::Finished => "finished",
        }
    }

    /// From what was written down.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Trust, Self::Sign, Self::Renew, Self::Finished].into_iter().find(|phase| phase.word() == text)
    }
}

/// Who has to do with authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// With all of them.
    Master,
    /// With the cluster's.
    Node,
    /// Trusts the cluster's: what its pods are given.
    Namespace,
}

/// A member, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Nothing when it says nothing.
    pub report: Option<Report>,
}

/// What a member lacks for the phase that there is to be over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Lack {
    /// It says nothing.
    Silent,
    /// It does not trust a new authority.
    Trust,
    /// It shows what the old one signed.
    Leaf,
    /// It trusts an old authority.
    Distrust,
}

impl Lack {
    /// For people.
    #[must_use]
    pub const fn told(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Self::Silent, Kind::Node) => {
                "says nothing: it is down, of an older release, or did not join by --join, and its certificates are yours to replace"
            }
            (Self::Silent, _) => "says nothing: it is down, or of an older release",
            (Self::Trust, _) => "does not trust the new authority yet",
            (Self::Leaf, _) => "shows certificates of the old authority",
            (Self::Distrust, _) => "trusts the old authority still",
        }
    }
}

/// The pins of the new authorities.
pub type New = BTreeMap<Signer, String>;

/// What a member lacks; nothing when it is ready for what follows.
#[must_use]
pub fn lack(phase: Phase, new: &New, member: &Member) -> Option<Lack> {
    let Some(report) = &member.report else { return Some(Lack::Silent) };
    let concerned: &[Signer] = match member.kind {
        Kind::Master => &[Signer::Cluster, Signer::Store, Signer::FrontProxy],
        Kind::Node | Kind::Namespace => &[Signer::Cluster],
    };
    let shows_new = match member.kind {
        Kind::Master => phase >= Phase::Sign,
        Kind::Node => phase >= Phase::Renew,
        Kind::Namespace => false,
    };
    concerned.iter().find_map(|signer| {
        let (Some(new), Some(seen)) = (new.get(signer), report.0.get(word(*signer))) else {
            return Some(Lack::Silent);
        };
        let only = BTreeSet::from([new.clone()]);
        match () {
            () if !seen.trusts.contains(new) => Some(Lack::Trust),
            () if shows_new && seen.shows != only => Some(Lack::Leaf),
            () if phase == Phase::Finished && seen.trusts != only => Some(Lack::Distrust),
            () => None,
        }
    })
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The next phase begins.
    To(Phase),
    /// Somebody is behind.
    Wait,
    /// All is ready for the end, which somebody has to ask for.
    AskForFinish,
    /// Nothing is left to do.
    Done,
}

/// What follows, when so many are behind that nobody leaves behind.
#[must_use]
pub const fn step(phase: Phase, behind: usize, finish: bool) -> Step {
    match (phase, behind) {
        (Phase::Finished, 0) => Step::Done,
        (_, 1..) => Step::Wait,
        (Phase::Trust, 0) => Step::To(Phase::Sign),
        (Phase::Sign, 0) => Step::To(Phase::Renew),
        (Phase::Renew, 0) if finish => Step::To(Phase::Finished),
        (Phase::Renew, 0) => Step::AskForFinish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::report::Seen;

    const ALL: [Signer; 3] = [Signer::Cluster, Signer::Store, Signer::FrontProxy];

    fn new() -> New {
        ALL.map(|signer| (signer, "new".to_owned())).into()
    }

    fn seen(trusts: &[&str], shows: &[&str]) -> Seen {
        let set = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Seen { trusts: set(trusts), shows: set(shows) }
    }

    fn member(kind: Kind, trusts: &[&str], shows: &[&str]) -> Member {
        let signers = if kind == Kind::Master { &ALL[..] } else { &ALL[..1] };
        let all = signers.iter().map(|signer| (word(*signer).to_owned(), seen(trusts, shows)));
        Member { kind, name: "a".to_owned(), report: Some(Report(all.collect())) }
    }

    #[test]
    fn who_is_ready_for_what() {
        use Kind::{Master, Namespace, Node};
        use Lack::{Distrust, Leaf, Trust};
        let (both, old, only) = (&["new", "old"][..], &["old"][..], &["new"][..]);
        // Whom it trusts, whose leaf it shows; what it lacks in each phase.
        let table = [
            (Master, old, old, [Some(Trust), Some(Trust), Some(Trust), Some(Trust)]),
            (Master, both, old, [None, Some(Leaf), Some(Leaf), Some(Leaf)]),
            (Master, both, both, [None, Some(Leaf), Some(Leaf), Some(Leaf)]),
            (Master, both, only, [None, None, None, Some(Distrust)]),
            (Master, only, only, [None, None, None, None]),
            (Node, old, old, [Some(Trust), Some(Trust), Some(Trust), Some(Trust)]),
            (Node, both, old, [None, None, Some(Leaf), Some(Leaf)]),
            (Node, both, only, [None, None, None, Some(Distrust)]),
            (Node, only, only, [None, None, None, None]),
            (Namespace, old, &[], [Some(Trust), Some(Trust), Some(Trust), Some(Trust)]),
            (Namespace, both, &[], [None, None, None, Some(Distrust)]),
            (Namespace, only, &[], [None, None, None, None]),
        ];
        let phases = [Phase::Trust, Phase::Sign, Phase::Renew, Phase::Finished];
        for (kind, trusts, shows, expected) in table {
            let member = member(kind, trusts, shows);
            let lacks = phases.map(|phase| lack(phase, &new(), &member));
            assert_eq!(lacks, expected, "{kind:?} {trusts:?} {shows:?}");
        }
    }

    #[test]
    fn a_master_must_be_ready_with_every_authority_and_say_so() {
        for signer in ALL {
            let mut behind = member(Kind::Master, &["new", "old"], &["new"]);
            let report = behind.report.as_mut().unwrap();
            report.0.insert(word(signer).to_owned(), seen(&["old"], &["old"]));
            assert_eq!(lack(Phase::Trust, &new(), &behind), Some(Lack::Trust), "{signer:?}");
            behind.report.as_mut().unwrap().0.remove(word(signer));
            assert_eq!(lack(Phase::Trust, &new(), &behind), Some(Lack::Silent), "{signer:?}");
        }
        for kind in [Kind::Master, Kind::Node, Kind::Namespace] {
            let silent = Member { kind, name: "a".to_owned(), report: None };
            assert_eq!(lack(Phase::Trust, &new(), &silent), Some(Lack::Silent));
        }
    }

    #[test]
    fn a_phase_follows_when_nobody_is_behind_and_the_last_when_it_is_asked_for() {
        let table = [
            (Phase::Trust, 1, true, Step::Wait),
            (Phase::Trust, 0, false, Step::To(Phase::Sign)),
            (Phase::Trust, 0, true, Step::To(Phase::Sign)),
            (Phase::Sign, 2, true, Step::Wait),
            (Phase::Sign, 0, false, Step::To(Phase::Renew)),
            (Phase::Renew, 1, true, Step::Wait),
            (Phase::Renew, 0, false, Step::AskForFinish),
            (Phase::Renew, 0, true, Step::To(Phase::Finished)),
            (Phase::Finished, 1, false, Step::Wait),
            (Phase::Finished, 0, false, Step::Done),
        ];
        for (phase, behind, finish, expected) in table {
            assert_eq!(step(phase, behind, finish), expected, "{phase:?} {behind} {finish}");
        }
    }

    #[test]
    fn phases_are_read_as_they_are_written() {
        for phase in [Phase::Trust, Phase::Sign, Phase::Renew, Phase::Finished] {
            assert_eq!(Phase::parse(phase.word()), Some(phase));
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.word());
        }
        assert_eq!(Phase::parse("later"), None);
    }
}
