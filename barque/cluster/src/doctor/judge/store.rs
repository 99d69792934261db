//! How the store is: who answers, whether they can write, alarms and space. Decisions.

use core::net::IpAddr;

use super::super::Finding;
use super::{listed, size};

/// A member of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberSeen {
    /// Empty until it has started for the first time.
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) votes: bool,
    /// Where it serves clients.
    pub(crate) url: String,
    /// What it says, or why it says nothing.
    pub(crate) answer: Result<Answer, String>,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// 0 for none.
    pub(crate) leader: u64,
    pub(crate) size_bytes: u64,
    /// 0 when it does not say.
    pub(crate) quota_bytes: u64,
    pub(crate) version: String,
    /// Texts about alarms and other trouble.
    pub(crate) errors: Vec<String>,
}

impl MemberSeen {
    /// Where it is.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        let url: http::Uri = self.url.parse().ok()?;
        url.host()?.trim_start_matches('[').trim_end_matches(']').parse().ok()
    }

    /// For people.
    pub(crate) fn called(&self) -> String {
        if self.name.is_empty() { format!("member {:x}", self.id) } else { self.name.clone() }
    }

    #[cfg(test)]
    pub(crate) fn silent(name: &str, address: &str) -> Self {
        Self {
            name: name.to_owned(),
            id: 0,
            votes: true,
            url: format!("https://{address}:2379"),
            answer: Err("connection refused".to_owned()),
        }
    }
}

/// Whether the store can write, and how many of its members may still fail.
pub(crate) fn quorum(members: &Result<Vec<MemberSeen>, String>) -> Finding {
    const CHECK: &str = "quorum";
    let members = match members {
        Ok(members) => members,
        Err(why) => {
            return Finding::failed(
                CHECK,
                format!("the store's member on this machine does not answer: {why}"),
                "start `barque server` here, or see in its log why it does not run; `barque doctor` on another master tells \
                 of the others",
            );
        }
    };
    let voters: Vec<&MemberSeen> = members.iter().filter(|member| member.votes).collect();
    let (all, needed) = (voters.len(), voters.len() / 2 + 1);
    let answering = voters.iter().filter(|member| member.answer.is_ok()).count();
    let silent: Vec<String> = voters
        .iter()
        .filter_map(|member| Some(format!("{} ({})", member.called(), member.answer.as_ref().err()?)))
        .collect();
    let missing = match silent.as_slice() {
        [] => String::new(),
        silent => format!("; no answer from {}", listed(silent.iter().map(String::as_str))),
    };
    let answers = format!("{answering} of {all} members answer{}", if answering == 1 { "s" } else { "" });
    if answering < needed {
        return Finding::failed(
            CHECK,
            format!("{answers}, and {needed} are needed to write{missing}"),
            "bring back enough of them to be a majority, and nothing else needs to be done; if they are gone for good, `kvctl \
             recover` makes a store of what this member has",
        );
    }
    let leaders = voters.iter().filter_map(|member| member.answer.as_ref().ok()).map(|answer| answer.leader);
    let leader = leaders.filter(|leader| *leader != 0).max_by_key(|leader| {
        voters.iter().filter(|member| member.answer.as_ref().is_ok_and(|it| it.leader == *leader)).count()
    });
    let Some(leader) = leader else {
        return Finding::failed(
            CHECK,
            format!("{answers}, and none of them knows a leader{missing}"),
            "look whether members reach each other at the port of --store-peer-port, and at the sync times of their disks",
        );
    };
    let leader = members.iter().find(|member| member.id == leader);
    let leader = leader.map_or_else(|| "somebody unknown".to_owned(), MemberSeen::called);
    let may_fail = match answering - needed {
        0 => "none may fail".to_owned(),
        1 => "1 may fail".to_owned(),
        more => format!("{more} may fail"),
    };
    let found = format!("{answers}, {leader} leads, {may_fail}{missing}");
    if answering < all {
        return Finding::warning(
            CHECK,
            found,
            "bring the missing ones back, or put machines in their place: `barque server --join URL` with the name of the one \
             that is gone",
        );
    }
    if all == 2 {
        return Finding::warning(
            CHECK,
            found,
            "two masters stop writing when either is gone; a third one lets any one fail",
        );
    }
    Finding::ok(CHECK, found)
}

/// Alarms that members have raised; one finding that there are none.
pub(crate) fn alarms(members: &Result<Vec<MemberSeen>, String>) -> Vec<Finding> {
    const CHECK: &str = "store alarms";
    let Ok(members) = members else { return vec![Finding::skipped(CHECK, "no member tells of them")] };
    let mut raised: Vec<(&str, u64)> = Vec::new();
    for answer in members.iter().filter_map(|member| member.answer.as_ref().ok()) {
        raised.extend(answer.errors.iter().filter_map(|text| alarm(text)));
    }
    raised.sort_unstable();
    raised.dedup();
    let called = |id: u64| {
        members
            .iter()
            .find(|member| member.id == id)
            .map_or_else(|| format!("member {id:x}"), MemberSeen::called)
    };
    let told = raised.into_iter().map(|(kind, id)| {
        let advice = match kind {
            "NOSPACE" => {
                "the store refuses writes: see `kvctl space` for what fills it, make room or raise \
                 --store-arg=quota-backend-bytes=BYTES, then `kvctl alarm disarm`"
            }
            "CORRUPT" => {
                "its data differs from that of the majority: `barque server leave` there, remove its directory, and let it join \
                 again"
            }
            _ => "see its log",
        };
        Finding::failed(CHECK, format!("{kind}, raised by {}", called(id)), advice)
    });
    let told: Vec<Finding> = told.collect();
    if told.is_empty() { vec![Finding::ok(CHECK, "none")] } else { told }
}

/// What etcd's text of an alarm says: its kind, and who raised it.
fn alarm(text: &str) -> Option<(&str, u64)> {
    let (id, kind) = text.trim().strip_prefix("memberID:")?.split_once(" alarm:")?;
    Some((kind, id.parse().ok()?))
}

/// How much of what it may use the store uses.
pub(crate) fn quota(members: &Result<Vec<MemberSeen>, String>) -> Finding {
    const CHECK: &str = "store size";
    let answers = members.iter().flatten().filter_map(|it| Some((it.called(), it.answer.as_ref().ok()?)));
    let fullest = answers
        .filter(|(_, it)| it.quota_bytes > 0)
        .max_by_key(|(_, it)| u128::from(it.size_bytes) * 1_000_000 / u128::from(it.quota_bytes));
    let Some((name, answer)) = fullest else { return Finding::skipped(CHECK, "no member tells of it") };
    let percent = u128::from(answer.size_bytes) * 100 / u128::from(answer.quota_bytes);
    let found =
        format!("{} of {} are used ({percent} %, {name})", size(answer.size_bytes), size(answer.quota_bytes));
    let advice = "at 100 % the store refuses writes: see `kvctl space` for what fills it, or raise \
                  --store-arg=quota-backend-bytes=BYTES on all masters";
    match percent {
        ..80 => Finding::ok(CHECK, found),
        80..100 => Finding::warning(CHECK, found, advice),
        _ => Finding::failed(CHECK, found, advice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Level;

    fn member(id: u64, answer: Option<u64>) -> MemberSeen {
        let answer = answer
            .map(|leader| Answer { leader, ..Answer::default() })
            .ok_or_else(|| "connection refused".to_owned());
        MemberSeen { id, answer, ..MemberSeen::silent(&format!("m{id}"), "10.0.0.1") }
    }

    #[test]
    fn a_quorum_is_there_or_not() {
        let learner = MemberSeen { votes: false, ..member(9, None) };
        let cases: [(&[MemberSeen], Level, &str); 9] = [
            (&[member(1, Some(1))], Level::Ok, "1 of 1 members answers, m1 leads, none may fail"),
            (&[member(1, Some(2)), member(2, Some(2))], Level::Warning, "none may fail"),
            (
                &[member(1, Some(2)), member(2, Some(2)), member(3, Some(2))],
                Level::Ok,
                "3 of 3 members answer, m2 leads, 1 may fail",
            ),
            (
                &[member(1, Some(2)), member(2, Some(2)), member(3, None)],
                Level::Warning,
                "2 of 3 members answer, m2 leads, none may fail; no answer from m3 (connection refused)",
            ),
            (
                &[member(1, Some(0)), member(2, None), member(3, None)],
                Level::Failed,
                "1 of 3 members answers, and 2 are needed to write; no answer from m2 (connection refused), m3",
            ),
            (&[member(1, Some(0)), member(2, Some(0))], Level::Failed, "none of them knows a leader"),
            // One that is behind still names the one before.
            (&[member(1, Some(3)), member(2, Some(2)), member(3, Some(2))], Level::Ok, "m2 leads"),
            (&[member(1, Some(1)), learner], Level::Ok, "1 of 1 members answers"),
            (
                &[member(1, Some(7)), member(2, Some(7)), member(3, Some(7))],
                Level::Ok,
                "somebody unknown leads",
            ),
        ];
        for (members, level, text) in cases {
            let finding = quorum(&Ok(members.to_vec()));
            assert_eq!(finding.result, level, "{finding:?}");
            assert!(finding.found.contains(text), "{finding:?}");
            assert_eq!(finding.advice.is_some(), level != Level::Ok);
        }
        let finding = quorum(&Err("refused".to_owned()));
        assert_eq!(finding.result, Level::Failed);
    }

    fn answering(answer: Answer) -> Result<Vec<MemberSeen>, String> {
        Ok(vec![MemberSeen { id: 255, answer: Ok(answer), ..MemberSeen::silent("m1", "10.0.0.1") }])
    }

    #[test]
    fn alarms_are_told_once_with_who_raised_them() {
        let errors = |texts: &[&str]| {
            let errors = texts.iter().map(|it| (*it).to_owned()).collect();
            alarms(&answering(Answer { errors, ..Answer::default() }))
        };
        assert_eq!(errors(&["etcdserver: no leader"]), [Finding::ok("store alarms", "none")]);
        let raised = errors(&[
            "memberID:255 alarm:NOSPACE ",
            "memberID:255 alarm:NOSPACE ",
            "memberID:7 alarm:CORRUPT ",
        ]);
        assert_eq!(raised.len(), 2);
        assert_eq!(raised[0].found, "CORRUPT, raised by member 7");
        assert_eq!(raised[1].found, "NOSPACE, raised by m1");
        assert!(raised.iter().all(|it| it.result == Level::Failed));
        assert_eq!(alarms(&Err(String::new()))[0].result, Level::Skipped);
    }

    #[test]
    fn a_store_that_gets_full_is_told() {
        for (used, level) in
            [(79, Level::Ok), (80, Level::Warning), (99, Level::Warning), (100, Level::Failed)]
        {
            let answer = Answer { size_bytes: used << 20, quota_bytes: 100 << 20, ..Answer::default() };
            assert_eq!(quota(&answering(answer)).result, level, "{used}");
        }
        assert_eq!(quota(&answering(Answer::default())).result, Level::Skipped);
    }
}
