//! Which steps of membership are safe: pure arithmetic over who is a member and who has started.
//!
//! The rules are etcd's strict reconfiguration check: a step must leave a quorum of members that have
//! started at least once and are heard of now. In place of etcd's direct step to a voter, a new voter is a
//! learner until it has caught up, so adding never endangers the quorum by itself.

use crate::ids::MemberId;

/// A member as these rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Which.
    pub id: MemberId,
    /// Has a vote.
    pub voter: bool,
    /// Has told its name once.
    pub started: bool,
    /// Is heard of now.
    pub healthy: bool,
    /// Where others reach it.
    pub peer_urls: Vec<String>,
}

/// Why a step is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsafe {
    /// A peer URL belongs to a member already.
    PeerUrlExists,
    /// One learner at a time.
    TooManyLearners,
    /// Too few of the voters have ever started.
    NotEnoughStarted,
    /// Too few of the voters are heard of.
    Unhealthy,
    /// There is no such member.
    NotFound,
    /// It has a vote already.
    NotLearner,
    /// It has not caught up.
    NotReady,
}

/// Learners at a time (etcd: `--max-learners`).
const MAX_LEARNERS: usize = 1;

fn voters(members: &[Standing]) -> impl Iterator<Item = &Standing> {
    members.iter().filter(|member| member.voter)
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// Whether a member may be added.
///
/// # Errors
/// Why not.
pub fn may_add(members: &[Standing], peer_urls: &[String], learner: bool) -> Result<(), Unsafe> {
    if members.iter().any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url))) {
        return Err(Unsafe::PeerUrlExists);
    }
    if learner && members.iter().filter(|member| !member.voter).count() >= MAX_LEARNERS {
        return Err(Unsafe::TooManyLearners);
    }
    if !learner {
        let after = voters(members).count() + members.iter().filter(|member| !member.voter).count() + 1;
        let started = voters(members).filter(|member| member.started).count();
        // A second member may be added to a single one, though it has not started.
        if !(started == 1 && after == 2) && started < quorum(after) {
            return Err(Unsafe::NotEnoughStarted);
        }
        let healthy = voters(members).filter(|member| member.healthy).count();
        if healthy < voters(members).count() && healthy < quorum(after) {
            return Err(Unsafe::Unhealthy);
        }
    }
    Ok(())
}

/// Whether a member may be removed.
///
/// # Errors
/// Why not.
pub fn may_remove(members: &[Standing], id: MemberId) -> Result<(), Unsafe> {
    let member = members.iter().find(|member| member.id == id).ok_or(Unsafe::NotFound)?;
    if !member.voter {
        return Ok(());
    }
    let rest: Vec<_> = voters(members).filter(|member| member.id != id).collect();
    if rest.iter().filter(|member| member.started).count() < quorum(rest.len()) {
        return Err(Unsafe::NotEnoughStarted);
    }
    if rest.iter().filter(|member| member.healthy).count() < quorum(rest.len()) {
        return Err(Unsafe::Unhealthy);
    }
    Ok(())
}

/// Whether a learner may get a vote; `caught_up` says whether its log is close to the leader's.
///
/// # Errors
/// Why not.
pub fn may_promote(members: &[Standing], id: MemberId, caught_up: bool) -> Result<(), Unsafe> {
    let member = members.iter().find(|member| member.id == id).ok_or(Unsafe::NotFound)?;
    if member.voter {
        return Err(Unsafe::NotLearner);
    }
    if !caught_up {
        return Err(Unsafe::NotReady);
    }
    let after = voters(members).count() + 1;
    if voters(members).filter(|member| member.started).count() + usize::from(member.started) < quorum(after) {
        return Err(Unsafe::NotEnoughStarted);
    }
    Ok(())
}

/// Whether new addresses may be given to a member.
///
/// # Errors
/// Why not.
pub fn may_update(members: &[Standing], id: MemberId, peer_urls: &[String]) -> Result<(), Unsafe> {
    if !members.iter().any(|member| member.id == id) {
        return Err(Unsafe::NotFound);
    }
    let taken = members
        .iter()
        .filter(|member| member.id != id)
        .any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url)));
    if taken { Err(Unsafe::PeerUrlExists) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One letter a member: V a healthy voter, d a dead one, n one that never started, L a learner.
    fn cluster(letters: &str) -> Vec<Standing> {
        letters
            .chars()
            .zip(1..)
            .map(|(letter, id)| Standing {
                id: MemberId(id),
                voter: letter != 'L',
                started: letter != 'n',
                healthy: matches!(letter, 'V' | 'L'),
                peer_urls: vec![format!("http://m{id}")],
            })
            .collect()
    }

    fn url(text: &str) -> Vec<String> {
        vec![text.to_owned()]
    }

    #[test]
    fn adding() {
        for (members, learner, expected) in [
            ("V", false, Ok(())),
            ("VV", false, Ok(())),
            ("VVV", false, Ok(())),
            ("Vn", false, Err(Unsafe::NotEnoughStarted)),
            ("VVn", false, Err(Unsafe::NotEnoughStarted)),
            ("VVd", false, Err(Unsafe::Unhealthy)),
            ("VVd", true, Ok(())),
            ("VVVL", true, Err(Unsafe::TooManyLearners)),
        ] {
            assert_eq!(may_add(&cluster(members), &url("http://new"), learner), expected, "{members}");
        }
        assert_eq!(may_add(&cluster("VV"), &url("http://m2"), false), Err(Unsafe::PeerUrlExists));
    }

    #[test]
    fn removing() {
        for (members, id, expected) in [
            ("VVV", 3, Ok(())),
            ("VVd", 3, Ok(())),
            ("VVd", 2, Err(Unsafe::Unhealthy)),
            ("VVn", 2, Err(Unsafe::NotEnoughStarted)),
            ("V", 1, Err(Unsafe::NotEnoughStarted)),
            ("VVL", 3, Ok(())),
            ("VVV", 9, Err(Unsafe::NotFound)),
        ] {
            assert_eq!(may_remove(&cluster(members), MemberId(id)), expected, "{members} {id}");
        }
    }

    #[test]
    fn promoting_and_updating() {
        assert_eq!(may_promote(&cluster("VVL"), MemberId(3), true), Ok(()));
        assert_eq!(may_promote(&cluster("VVL"), MemberId(3), false), Err(Unsafe::NotReady));
        assert_eq!(may_promote(&cluster("VVL"), MemberId(2), true), Err(Unsafe::NotLearner));
        assert_eq!(may_update(&cluster("VV"), MemberId(1), &url("http://m2")), Err(Unsafe::PeerUrlExists));
        assert_eq!(may_update(&cluster("VV"), MemberId(1), &url("http://m1")), Ok(()));
        assert_eq!(may_update(&cluster("VV"), MemberId(9), &url("http://m9")), Err(Unsafe::NotFound));
    }
}
