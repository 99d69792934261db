//! How containers ended whose sandbox is gone, in a file for each pod, until the pod is forgotten: the pod's status is told from
//! it. Must never be the only thing that keeps an agent from going on.

use std::io;
use std::path::PathBuf;

use barque_containers::spec::{ContainerState, Exit, Phase};

/// Their directory.
#[derive(Debug)]
pub(super) struct Ended {
    directory: PathBuf,
}

impl Ended {
    /// Makes the directory.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::create_dir_all(&directory)?;
        Ok(Self { directory })
    }

    /// A uid is the name of a directory of volumes too, which has been checked.
    fn path(&self, uid: &str) -> PathBuf {
        self.directory.join(format!("{uid}.json"))
    }

    /// Those of a pod.
    pub(super) fn of(&self, uid: &str) -> Vec<ContainerState> {
        let Ok(text) = std::fs::read(self.path(uid)) else { return Vec::new() };
        serde_json::from_slice(&text).unwrap_or_else(|error| {
            tracing::warn!(uid, %error, "what is written of ended containers cannot be read");
            Vec::new()
        })
    }

    /// Writes down the newest two of each name. What still seems to run has ended now.
    pub(super) fn keep(&self, uid: &str, mut states: Vec<ContainerState>, now_ns: i64) -> io::Result<()> {
        states.sort_by(|one, other| {
            (&one.spec.name, other.spec.attempt).cmp(&(&other.spec.name, one.spec.attempt))
        });
        let mut kept: Vec<ContainerState> = Vec::new();
        for mut state in states {
            let of_name = kept.iter().filter(|kept| kept.spec.name == state.spec.name).count();
            if of_name < 2 {
                end(&mut state, now_ns);
                kept.push(state);
            }
        }
        let path = self.path(uid);
        let new = path.with_extension("new");
        std::fs::write(&new, serde_json::to_vec(&kept)?)?;
        std::fs::rename(new, path)
    }

    /// Of a pod that is gone.
    pub(super) fn forget(&self, uid: &str) {
        if let Err(error) = std::fs::remove_file(self.path(uid))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(uid, %error, "what was written of ended containers is not removed");
        }
    }
}

fn end(state: &mut ContainerState, now_ns: i64) {
    let started_ns = match state.phase {
        Phase::Exited(_) => return,
        Phase::Created => None,
        Phase::Running { started_ns } => Some(started_ns),
    };
    state.pid = None;
    state.phase = Phase::Exited(Exit {
        code: 137,
        signal: Some(9),
        oom_killed: false,
        started_ns,
        finished_ns: now_ns,
        message: String::new(),
    });
}

#[cfg(test)]
mod tests {
    use barque_containers::spec::ContainerSpec;

    use super::*;

    #[test]
    fn the_newest_two_of_each_name_are_kept_and_have_ended() {
        let directory = tempfile::tempdir().unwrap();
        let ended = Ended::open(directory.path().join("ended")).unwrap();
        assert_eq!(ended.of("u"), []);
        let state = |name: &str, attempt| ContainerState {
            spec: ContainerSpec { name: name.into(), attempt, ..ContainerSpec::default() },
            created_ns: 1,
            phase: Phase::Running { started_ns: 2 },
            pid: Some(7),
        };
        let all = vec![state("b", 0), state("a", 1), state("a", 3), state("a", 2)];
        ended.keep("u", all, 9).unwrap();
        let kept: Vec<_> = ended.of("u").into_iter().map(|it| (it.spec.name, it.spec.attempt)).collect();
        assert_eq!(kept, [("a".into(), 3), ("a".into(), 2), ("b".into(), 0)]);
        let Phase::Exited(exit) = &ended.of("u")[0].phase else { panic!("it runs") };
        assert_eq!((exit.code, exit.started_ns, exit.finished_ns), (137, Some(2), 9));
        ended.forget("u");
        assert_eq!(ended.of("u"), []);
        ended.forget("u");
    }
}
