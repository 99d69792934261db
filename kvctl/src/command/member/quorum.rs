//! What a change of membership does to the quorum. Pure: from members as they were seen to a forecast.

use std::fmt;

use serde::Serialize;

/// A member as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) id: u64,
    /// Empty until it was started for the first time.
    pub(super) name: String,
    pub(super) votes: bool,
    /// It answers, and has a leader.
    pub(super) answers: bool,
    pub(super) leads: bool,
    pub(super) applied_index: Option<u64>,
}

/// What is to be changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add { name: String, learner: bool },
    Remove(u64),
    Promote(u64),
    Update(u64),
}

/// The quorum before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Forecast {
    pub(super) change: String,
    pub(super) before: Quorum,
    pub(super) after: Quorum,
    /// Why it must not be done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) refusal: Option<String>,
    /// The member that is to be changed is none; a server says so in its own words.
    #[serde(skip)]
    pub(super) unknown: bool,
    /// What to know all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) notes: Vec<String>,
}

/// How many vote, must agree, and answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Quorum {
    pub(super) voters: usize,
    pub(super) quorum: usize,
    pub(super) answering: usize,
    /// So many more may fail.
    pub(super) may_fail: usize,
}

impl Quorum {
    fn of(voters: usize, answering: usize) -> Self {
        let quorum = voters / 2 + 1;
        Self { voters, quorum, answering, may_fail: answering.saturating_sub(quorum) }
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { voters, quorum, answering, may_fail } = self;
        write!(f, "{voters} voters, quorum {quorum}, {answering} answer, {may_fail} more may fail")
    }
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.change)?;
        writeln!(f, "  before: {}", self.before)?;
        writeln!(f, "  after:  {}", self.after)?;
        for note in &self.notes {
            writeln!(f, "  note:   {note}")?;
        }
        match &self.refusal {
            Some(why) => writeln!(f, "  refused: {why}"),
            None => writeln!(f, "  safe"),
        }
    }
}

/// What `change` would do to a cluster of `members`.
pub(super) fn forecast(members: &[Seen], change: &Change) -> Forecast {
    let count =
        |keep: &dyn Fn(&Seen) -> bool| members.iter().filter(|member| member.votes && keep(member)).count();
    let before = Quorum::of(count(&|_| true), count(&|member| member.answers));
    let mut forecast = Forecast {
        change: String::new(),
        before,
        after: before,
        refusal: None,
        unknown: false,
        notes: Vec::new(),
    };
    match change {
        Change::Add { name, learner: true } => {
            forecast.change = format!("add {name} as a learner");
            forecast.notes.push("a learner does not count for the quorum until it is promoted".into());
        }
        Change::Add { name, learner: false } => {
            forecast.change = format!("add {name} as a voter");
            forecast.after = Quorum::of(before.voters + 1, before.answering);
            refuse_if_lost(
                &mut forecast,
                "bring the members that do not answer back or remove them first, or add it with --learner",
            );
            if forecast.refusal.is_none() && forecast.after.answering < forecast.after.quorum {
                forecast.notes.push(
                    "etcd commits nothing from here on until the new member runs; --learner avoids that"
                        .into(),
                );
            }
        }
        Change::Remove(id) => match find(members, *id) {
            None => unknown(&mut forecast, "remove", *id),
            Some(member) => {
                forecast.change = format!("remove {}", name_of(member));
                if member.votes {
                    let answers = usize::from(member.answers);
                    forecast.after = Quorum::of(before.voters - 1, before.answering - answers);
                    if forecast.after.voters == 0 {
                        forecast.refusal =
                            Some(format!("{} is the only voter: add another one first", name_of(member)));
                    } else {
                        refuse_if_lost(&mut forecast, "bring the members that do not answer back first");
                    }
                }
                if member.leads {
                    forecast
                        .notes
                        .push("it leads: `kvctl move-leader` first makes the change smoother".into());
                }
            }
        },
        Change::Promote(id) => match find(members, *id) {
            None => unknown(&mut forecast, "promote", *id),
            Some(member) => {
                forecast.change = format!("promote {}", name_of(member));
                if member.votes {
                    forecast.refusal = Some(format!("{} votes already", name_of(member)));
                } else {
                    forecast.after =
                        Quorum::of(before.voters + 1, before.answering + usize::from(member.answers));
                    if !member.answers {
                        let why = format!(
                            "{} does not answer: start it and let it catch up first",
                            name_of(member)
                        );
                        forecast.refusal = Some(why);
                    } else {
                        refuse_if_lost(&mut forecast, "bring the members that do not answer back first");
                    }
                }
            }
        },
        Change::Update(id) => match find(members, *id) {
            None => unknown(&mut forecast, "update", *id),
            Some(member) => {
                forecast.change = format!("change the peer URLs of {}", name_of(member));
                let note = "until it listens at the new URLs the others do not reach it";
                forecast.notes.push(note.into());
                if member.votes && member.answers {
                    let left = Quorum::of(before.voters, before.answering - 1);
                    if left.answering < left.quorum {
                        forecast.notes.push(
                            "without it there is no quorum: do not restart anything else meanwhile".into(),
                        );
                    }
                }
            }
        },
    }
    forecast
}

/// Refuses what leaves fewer answering voters than the quorum needs. A cluster whose voters all answer may grow
/// all the same: that is how one member becomes two.
fn refuse_if_lost(forecast: &mut Forecast, remedy: &str) {
    let Forecast { before, after, .. } = *forecast;
    let all_answer = before.answering == before.voters && after.voters > before.voters;
    if after.answering < after.quorum && !all_answer {
        forecast.refusal = Some(format!(
            "{} of {} voters would answer, and the quorum is {}: {remedy}",
            after.answering, after.voters, after.quorum
        ));
    }
}

fn unknown(forecast: &mut Forecast, what: &str, id: u64) {
    forecast.change = format!("{what} {id:x}");
    forecast.unknown = true;
    forecast.refusal = Some(format!("no member has the id {id:x}: see `kvctl member list`"));
}

fn find(members: &[Seen], id: u64) -> Option<&Seen> {
    members.iter().find(|member| member.id == id)
}

/// Name and id.
pub(super) fn name_of(member: &Seen) -> String {
    if member.name.is_empty() {
        format!("{:x} (never started)", member.id)
    } else {
        format!("{} ({:x})", member.name, member.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Members by letters: v(oter), l(earner); upper case answers. Ids count from 1.
    fn cluster(letters: &str) -> Vec<Seen> {
        let seen = |(place, letter): (usize, char)| Seen {
            id: place as u64 + 1,
            name: format!("m{}", place + 1),
            votes: letter.eq_ignore_ascii_case(&'v'),
            answers: letter.is_ascii_uppercase(),
            leads: false,
            applied_index: None,
        };
        letters.chars().enumerate().map(seen).collect()
    }

    #[test]
    fn changes_that_cost_the_quorum_are_refused() {
        let voter = || Change::Add { name: "new".into(), learner: false };
        let learner = || Change::Add { name: "new".into(), learner: true };
        let table = [
            // A dead one of three goes, a living one then does not.
            ("VVv", Change::Remove(3), true),
            ("VVv", Change::Remove(1), false),
            ("VVV", Change::Remove(1), true),
            ("VV", Change::Remove(1), true),
            ("V", Change::Remove(1), false),
            ("VVvvV", Change::Remove(1), false),
            ("VVvvV", Change::Remove(4), true),
            ("VVl", Change::Remove(3), true),
            ("VVV", Change::Remove(9), false),
            // One becomes two; but a cluster with a dead one does not grow by voters.
            ("V", voter(), true),
            ("VVV", voter(), true),
            ("VVv", voter(), false),
            ("VVVVv", voter(), true),
            ("VVv", learner(), true),
            // A learner is promoted when it answers.
            ("VVVL", Change::Promote(4), true),
            ("VVVl", Change::Promote(4), false),
            ("VVvL", Change::Promote(4), true),
            ("VvvL", Change::Promote(4), false),
            ("VVV", Change::Promote(1), false),
            ("VVV", Change::Update(1), true),
            ("VVV", Change::Update(7), false),
        ];
        for (letters, change, safe) in table {
            let forecast = forecast(&cluster(letters), &change);
            assert_eq!(forecast.refusal.is_none(), safe, "{letters} {change:?}: {forecast}");
        }
    }

    #[test]
    fn a_forecast_says_which_quorum_is_left() {
        let forecast = forecast(&cluster("VVv"), &Change::Remove(3));
        assert_eq!(
            forecast.to_string(),
            "remove m3 (3)\n  before: 3 voters, quorum 2, 2 answer, 0 more may fail\n  \
             after:  2 voters, quorum 2, 2 answer, 0 more may fail\n  safe\n"
        );
    }
}
