//! The members of the store as the status page shows them: who leads, and how far the others are behind. A decision; must never
//! ask anybody.

use serde_json::{Value, json};

use crate::storage::members::{MemberReport, StoreMember};

/// What `/ui/masters` answers: `members`, by name, each with `state` (`leader`, `follower`, `learner`, `silent`), and unless it is
/// silent with `term`, `revision`, `revisionsBehind`, `appliedIndex`, `entriesBehind`, `sizeBytes`, `version`, `complaints`; one
/// that is silent with `why`. Behind is told against the leader, or without one against whoever is the farthest.
#[must_use]
pub fn document(members: &[StoreMember]) -> Value {
    let reports = || members.iter().filter_map(|member| Some((member.id, member.report.as_ref().ok()?)));
    // One that was cut off may still believe that it leads an earlier term.
    let claims = reports().filter(|(id, report)| report.leader == *id);
    let leader = claims.max_by_key(|(_, report)| report.term);
    let farthest = |of: fn(&MemberReport) -> u64| match leader {
        Some((_, report)) => of(report),
        None => reports().map(|(_, report)| of(report)).max().unwrap_or(0),
    };
    let (revision, committed) =
        (farthest(|report| report.revision.0), farthest(|report| report.committed_index));
    let mut told: Vec<Value> = members
        .iter()
        .map(|member| {
            let mut told = json!({
                "id": format!("{:x}", member.id),
                "name": member.name,
                "clientURLs": member.client_urls,
            });
            let more = match &member.report {
                Ok(report) => json!({
                    "state": match () {
                        () if member.is_learner => "learner",
                        () if leader.is_some_and(|(id, _)| id == member.id) => "leader",
                        () => "follower",
                    },
                    "term": report.term,
                    "revision": report.revision.0,
                    "revisionsBehind": revision.saturating_sub(report.revision.0),
                    "appliedIndex": report.applied_index,
                    "entriesBehind": committed.saturating_sub(report.applied_index),
                    "sizeBytes": report.size_bytes,
                    "version": report.version,
                    "complaints": report.errors,
                }),
                Err(why) => json!({"state": "silent", "why": why}),
            };
            if let (Some(told), Value::Object(more)) = (told.as_object_mut(), more) {
                told.extend(more);
            }
            told
        })
        .collect();
    told.sort_by_cached_key(|member| (member["name"].to_string(), member["id"].to_string()));
    json!({"members": told})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Revision;

    fn member(id: u64, report: Result<MemberReport, String>) -> StoreMember {
        let client_urls = vec![format!("https://10.0.0.{id}:2379")];
        StoreMember { id, name: format!("m{id}"), client_urls, is_learner: false, report }
    }

    fn report(leader: u64, term: u64, index: u64) -> Result<MemberReport, String> {
        Ok(MemberReport {
            leader,
            term,
            revision: Revision(index * 2),
            committed_index: index,
            applied_index: index,
            ..MemberReport::default()
        })
    }

    fn told(members: &[StoreMember]) -> Vec<String> {
        let document = document(members);
        let one = |member: &Value| {
            let behind = format!("{}/{}", member["revisionsBehind"], member["entriesBehind"]);
            format!("{} {} {behind}", member["name"].as_str().unwrap(), member["state"].as_str().unwrap())
        };
        document["members"].as_array().unwrap().iter().map(one).collect()
    }

    #[test]
    fn members_are_behind_their_leader() {
        let mut members = [
            member(3, report(1, 5, 90)),
            member(2, Err("silent for 3 s".into())),
            member(1, report(1, 5, 100)),
            // Its answer came later, so it seems to be ahead.
            member(4, report(1, 5, 101)),
        ];
        members[3].is_learner = true;
        assert_eq!(
            told(&members),
            ["m1 leader 0/0", "m2 silent null/null", "m3 follower 20/10", "m4 learner 0/0"]
        );
        assert_eq!(document(&members)["members"][1]["why"], "silent for 3 s");
    }

    #[test]
    fn one_that_was_cut_off_leads_nobody_any_more() {
        let members =
            [member(1, report(1, 5, 90)), member(2, report(2, 6, 100)), member(3, report(2, 6, 99))];
        assert_eq!(told(&members), ["m1 follower 20/10", "m2 leader 0/0", "m3 follower 2/1"]);
    }

    #[test]
    fn without_a_leader_the_farthest_is_the_measure() {
        assert_eq!(
            told(&[member(1, report(0, 7, 10)), member(2, report(0, 7, 12))]),
            ["m1 follower 4/2", "m2 follower 0/0"]
        );
        assert_eq!(document(&[]), json!({"members": []}));
    }
}
