//! A master with an empty disk in the place of one that was lost: whom it joins, and what is removed for it. Must never touch what
//! belongs to another member.

use std::io;
use std::path::Path;

use crate::fault::FaultError;
use crate::plan::{Member, Role};
use crate::state::State;

/// Flags by which a master begins or joins a cluster.
const BEGINNINGS: [&str; 3] = ["--join=", "--token-file=", "--restore="];
/// What a member said stays: it tells why it was lost.
const LOG: &str = "log";

/// What a new master is started with: it joins one that runs.
///
/// # Errors
/// When the member is none, or nobody else runs.
pub(crate) fn words(state: &State, lost: &Member) -> Result<Vec<String>, FaultError> {
    if lost.role != Role::Master {
        return Err(FaultError::NoMaster(lost.name.clone()));
    }
    let others = state.plan.of_role(Role::Master).filter(|master| master.name != lost.name);
    let other = others.into_iter().find(|master| state.process(&master.name).is_some());
    let other = other.ok_or_else(|| FaultError::Alone(lost.name.clone()))?;
    let token = state.plan.directory_of(&other.name).join("token");
    Ok(joining(&lost.words, other, &token))
}

/// The same words, but for whom it joins.
fn joining(words: &[String], other: &Member, token: &Path) -> Vec<String> {
    let kept = words.iter().filter(|word| !BEGINNINGS.iter().any(|flag| word.starts_with(flag)));
    kept.cloned().chain([other.url_to_join(), format!("--token-file={}", token.display())]).collect()
}

/// Removes what a member had.
pub(crate) fn empty(directory: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false if entry.file_name() != LOG => std::fs::remove_file(entry.path())?,
            false => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::plan::{Plan, Wanted};

    #[test]
    fn the_first_one_joins_another_one_and_keeps_its_name_and_address() {
        let wanted = Wanted {
            name: "barque".to_owned(),
            masters: 2,
            nodes: 0,
            subnet: None,
            listen: "127.0.0.1:6443".parse().unwrap(),
            restore: Some("/saved".into()),
            directory: "/there".into(),
            run_directory: "/run/there".into(),
            is_privileged: true,
        };
        let plan = Plan::of(&wanted).unwrap();
        let (first, second) = (plan.member("m1").unwrap(), plan.member("m2").unwrap());
        assert!(first.words.contains(&"--restore=/saved".to_owned()));
        let words = joining(&first.words, second, Path::new("/there/m2/token"));
        assert!(
            words.contains(&"--name=m1".to_owned())
                && words.contains(&"--advertise-address=10.77.0.11".to_owned())
        );
        assert_eq!(
            &words[words.len() - 2..],
            ["--join=https://10.77.0.12:6443", "--token-file=/there/m2/token"]
        );
        assert!(!words.iter().any(|word| word.starts_with("--restore")));
        // And the second one again, which had joined.
        let again = joining(&joining(&second.words, first, Path::new("/a")), first, Path::new("/b"));
        assert_eq!(again.iter().filter(|word| word.starts_with("--join")).count(), 1);
    }

    #[test]
    fn what_it_said_stays_and_the_rest_goes() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("store/wal")).unwrap();
        for name in ["log", "token"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        empty(directory.path()).unwrap();
        let left: Vec<_> =
            std::fs::read_dir(directory.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["log"]);
    }
}
