//! A new cluster from saved files: data directories with which its members start.
//!
//! Its members are new, and so are its id, which depends on flags and files, and the incarnations of the
//! directories; nothing of the old cluster's membership stays. Keys, users, leases (with their full time) and marks
//! of time do. The revision grows by a leap and everything before counts as compacted, unless that is not wanted:
//! clients that knew a later state of the old cluster must see that this is not its continuation.
//!
//! With a revision in the middle, keys are exactly those of that revision; leases, users and roles are those of the
//! first file that reaches it. A key whose lease ended meanwhile gets it back, with the time that an earlier file
//! knows, or else hangs on none any more.

use std::path::{Component, Path, PathBuf};

use super::chain::{self, Cut};
use super::cluster::{NewCluster, NewMember, origin};
use super::content::{self, Content};
use super::directory::{self, NewDirectory};
use super::error::OfflineError;
use super::file::SavedFile;
use super::{Progress, Step, rebase};
use crate::ids::{ClusterId, MemberId, Revision};
use crate::stored::StateMeta;

/// Which data directories to make.
#[derive(Clone, Debug)]
pub enum Target {
    /// That of one member.
    One {
        /// `--name`
        name: String,
        /// `--initial-advertise-peer-urls`
        peer_urls: Vec<String>,
        /// `--data-dir`
        data_dir: PathBuf,
    },
    /// Those of all members, each in a folder with its name.
    All(PathBuf),
}

/// What to restore.
#[derive(Clone, Debug)]
pub struct Request {
    /// A whole snapshot, then the increments after it.
    pub files: Vec<PathBuf>,
    /// `--initial-cluster`
    pub initial_cluster: String,
    /// `--initial-cluster-token`
    pub token: String,
    /// Where to.
    pub target: Target,
    /// `--to-revision`
    pub to_revision: Option<i64>,
    /// `--bump-revision`
    pub bump_revision: u64,
    /// `--mark-compacted`
    pub mark_compacted: bool,
    /// `--skip-hash-check`: the checksums of blocks are compared in any case.
    pub skip_hash_check: bool,
}

/// A member that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestoredMember {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: MemberId,
    /// Where its data is.
    pub data_dir: PathBuf,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster.
    pub cluster: ClusterId,
    /// The files that were needed.
    pub files: Vec<PathBuf>,
    /// The revision of the state in the files that was restored.
    pub restored_revision: Revision,
    /// The revision that the new cluster begins at.
    pub revision: Revision,
    /// The oldest revision that can be read there.
    pub compact_revision: Revision,
    /// Living keys.
    pub keys: u64,
    /// Bytes of living keys and their values.
    pub live_bytes: u64,
    /// Leases.
    pub leases: u64,
    /// Users.
    pub users: u64,
    /// Leases that had ended after the revision and were granted again.
    pub leases_revived: u64,
    /// Keys whose lease had ended, and nobody knows for how long it was granted: they hang on no lease now.
    pub keys_detached: u64,
    /// The members that were made.
    pub members: Vec<RestoredMember>,
}

/// Makes data directories from saved files.
///
/// # Errors
/// Before anything is written, when a flag or a file is wrong or a directory is there already; later, when
/// the disk fails. Then no directory has its name yet.
pub fn restore(request: &Request, progress: Progress<'_>) -> Result<Restored, OfflineError> {
    let opened = request.files.iter().map(|path| SavedFile::open(path, !request.skip_hash_check));
    let files = opened.collect::<Result<Vec<_>, _>>()?;
    let links: Vec<_> = files.iter().map(SavedFile::link).collect();
    let cut = chain::cut(&links, request.to_revision.map(Revision))?;
    let compact = links[cut.files - 1].compact_revision;
    let revisions = rebase::revisions(cut.revision, compact, request.bump_revision, request.mark_compacted)?;
    let used = files[..cut.files].iter().map(SavedFile::sha256);
    let origin = origin(used, [cut.revision, revisions.0, revisions.1].map(|revision| revision.0));
    let cluster = NewCluster::restored(&request.initial_cluster, &request.token, &origin)?;
    let plan = plan(&cluster, &request.target)?;

    let content = content::load(files, cut, revisions.0, revisions.1, progress)?;
    let named = content.named_leases();
    let leases = rebase::leases(&content.meta.leases, &named, &content.earlier_leases);
    let membership = cluster.membership();
    let meta = rebase::meta(&content.meta, cut.revision, revisions, &leases, membership, &origin);
    write(&cluster, &plan, &content, &meta, &leases, progress)?;

    let view = content.keyspace.state();
    let detached = view
        .iter()
        .filter(|record| record.fields().lease.is_some_and(|lease| leases.unknown.contains(&lease)));
    Ok(Restored {
        cluster: cluster.id,
        files: used_paths(request, cut),
        restored_revision: cut.revision,
        revision: revisions.0,
        compact_revision: revisions.1,
        keys: view.live_keys() as u64,
        live_bytes: view.live_bytes(),
        leases: meta.leases.len() as u64,
        users: meta.auth.users.len() as u64,
        leases_revived: leases.revived.len() as u64,
        keys_detached: detached.count() as u64,
        members: plan.members.iter().map(|planned| planned.restored()).collect(),
    })
}

fn used_paths(request: &Request, cut: Cut) -> Vec<PathBuf> {
    request.files[..cut.files].to_vec()
}

/// Which directories will be made.
struct Plan<'a> {
    /// Gets its name when all of it is complete.
    place: PathBuf,
    members: Vec<PlannedMember<'a>>,
}

struct PlannedMember<'a> {
    member: &'a NewMember,
    /// Below `Plan::place`; empty for the place itself.
    folder: &'a str,
    data_dir: PathBuf,
}

impl PlannedMember<'_> {
    fn restored(&self) -> RestoredMember {
        RestoredMember { name: self.member.name.clone(), id: self.member.id, data_dir: self.data_dir.clone() }
    }
}

fn plan<'a>(cluster: &'a NewCluster, target: &Target) -> Result<Plan<'a>, OfflineError> {
    let plan = match target {
        Target::One { name, peer_urls, data_dir } => {
            let member = cluster.member(name, peer_urls)?;
            let only = PlannedMember { member, folder: "", data_dir: data_dir.clone() };
            Plan { place: data_dir.clone(), members: vec![only] }
        }
        Target::All(dir) => {
            let planned = |member: &'a NewMember| {
                if !is_folder_name(&member.name) {
                    return Err(OfflineError::FolderName(member.name.clone()));
                }
                Ok(PlannedMember { member, folder: &member.name, data_dir: dir.join(&member.name) })
            };
            let members = cluster.members.iter().map(planned).collect::<Result<_, _>>()?;
            Plan { place: dir.clone(), members }
        }
    };
    NewDirectory::check(&plan.place)?;
    Ok(plan)
}

fn is_folder_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(one)), None) if one == name)
}

fn write(
    cluster: &NewCluster,
    plan: &Plan<'_>,
    content: &Content,
    meta: &StateMeta,
    leases: &rebase::Leases,
    progress: Progress<'_>,
) -> Result<(), OfflineError> {
    let directory = NewDirectory::begin(&plan.place)?;
    let total = plan.members.len() as u64;
    for (done, PlannedMember { member, folder, .. }) in plan.members.iter().enumerate() {
        progress(Step { what: "writing", done: done as u64, total });
        let freed = |version| rebase::without_unknown_lease(version, &leases.unknown);
        let versions = content.keyspace.state().items().map(|version| version.map(freed));
        let dir = directory.path().join(folder);
        directory::write_member(&dir, (cluster.id, member.id), meta, versions)?;
    }
    directory.publish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{History, Living, living, quiet};
    use super::*;
    use crate::command::{Command, DeleteRange, KeyRange, Put};
    use crate::ids::LeaseId;
    use crate::mvcc::builder::KeyspaceBuilder;
    use crate::mvcc::keyspace::Config;
    use crate::snapshot::SnapshotReader;
    use crate::state::State;
    use crate::storage::data_dir::DataDir;

    fn request(files: Vec<PathBuf>, target: Target) -> Request {
        Request {
            files,
            initial_cluster: "a=http://127.0.0.1:1,b=http://127.0.0.1:2".to_owned(),
            token: "t".to_owned(),
            target,
            to_revision: None,
            bump_revision: 1000,
            mark_compacted: true,
            skip_hash_check: false,
        }
    }

    /// The state with which a member starts on a directory.
    fn started(dir: &Path) -> State {
        let data_dir = DataDir::open_existing(dir).unwrap();
        let files = crate::snapshot::directory::list(&data_dir.snapshots()).unwrap();
        assert_eq!(files.len(), 1);
        let reader = SnapshotReader::open(&files[0]).unwrap().whole().unwrap();
        let manifest = reader.manifest().clone();
        assert_eq!(data_dir.identity().unwrap().unwrap().member, manifest.member);
        let state = manifest.state;
        let mut builder =
            KeyspaceBuilder::new(state.revision, state.compact_revision, Config::default(), None);
        reader.for_each(|version| builder.push(version.unwrap()));
        State::restore(builder.finish(), &state)
    }

    #[test]
    fn all_members_begin_with_the_same() {
        let root = tempfile::tempdir().unwrap();
        let mut history = History::new();
        history.grant(7, 60);
        history.put("a", "1", Some(7));
        history.put("b", "2", None);
        history.delete("b");
        let file = history.save(root.path(), "full", None);
        History::pad(&file);
        let all = root.path().join("all");
        let restored = restore(&request(vec![file.clone()], Target::All(all.clone())), &mut quiet()).unwrap();
        assert_eq!((restored.revision, restored.compact_revision), (Revision(1004), Revision(1004)));
        assert_eq!((restored.keys, restored.leases, restored.members.len()), (1, 1, 2));
        let alone = Target::One {
            name: "b".to_owned(),
            peer_urls: vec!["http://127.0.0.1:2".to_owned()],
            data_dir: root.path().join("alone"),
        };
        let apart = restore(&request(vec![file], alone), &mut quiet()).unwrap();
        assert_eq!(apart.cluster, restored.cluster);
        assert_eq!(apart.members[0].id, restored.members[1].id);
        for dir in [all.join("a"), all.join("b"), root.path().join("alone")] {
            let state = started(&dir);
            assert_eq!(living(&state), living(history.state()));
            assert_eq!(state.revision(), Revision(1004));
            assert_eq!(state.leases().keys(LeaseId(7)).collect::<Vec<_>>(), [b"a"]);
        }
        let incarnation =
            |dir: PathBuf| DataDir::open_existing(&dir).unwrap().identity().unwrap().unwrap().incarnation;
        assert_ne!(incarnation(all.join("b")), incarnation(root.path().join("alone")));
    }

    #[test]
    fn nothing_is_written_when_anything_is_wrong() {
        let root = tempfile::tempdir().unwrap();
        let mut history = History::new();
        history.put("a", "1", None);
        let whole = history.save(root.path(), "full", None);
        history.put("a", "2", None);
        let increment = history.save(root.path(), "more", Some(2));
        let mut bytes = std::fs::read(&whole).unwrap();
        let middle = bytes.len() - 70;
        bytes[middle] ^= 1;
        let damaged = root.path().join("damaged");
        std::fs::write(&damaged, bytes).unwrap();
        let before = std::fs::read_dir(root.path()).unwrap().count();
        let target = || Target::All(root.path().join("all"));
        for (wrong, text) in [
            (request(vec![], target()), "no file"),
            (request(vec![increment.clone()], target()), "name the whole snapshot"),
            (request(vec![damaged], target()), "is damaged"),
            (request(vec![root.path().join("absent")], target()), "cannot open"),
            (
                Request { to_revision: Some(9), ..request(vec![whole.clone(), increment], target()) },
                "--to-revision",
            ),
            (
                Request { bump_revision: u64::MAX, ..request(vec![whole.clone()], target()) },
                "--bump-revision",
            ),
            (
                Request { initial_cluster: "a".into(), ..request(vec![whole.clone()], target()) },
                "--initial-cluster",
            ),
            (
                Request { initial_cluster: "..=http://h:1".into(), ..request(vec![whole.clone()], target()) },
                "cannot be that of a folder",
            ),
            (request(vec![whole], Target::All(root.path().to_owned())), "is not empty"),
        ] {
            let error = restore(&wrong, &mut quiet()).unwrap_err().to_string();
            assert!(error.contains(text), "{error}");
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), before, "{error}");
        }
    }

    #[test]
    fn a_key_gets_the_lease_back_that_ended_later() {
        let root = tempfile::tempdir().unwrap();
        let mut history = History::new();
        history.grant(7, 60);
        let whole = history.save(root.path(), "full", None);
        history.put("known", "1", Some(7));
        history.grant(8, 60);
        history.put("unknown", "1", Some(8));
        let wanted = history.revision();
        history.revoke(7);
        history.revoke(8);
        let more = history.save(root.path(), "more", Some(1));
        let request = Request {
            to_revision: Some(wanted),
            ..request(vec![whole, more], Target::All(root.path().join("all")))
        };
        let restored = restore(&request, &mut quiet()).unwrap();
        assert_eq!((restored.leases_revived, restored.keys_detached, restored.keys), (1, 1, 2));
        let state = started(&root.path().join("all/a"));
        assert_eq!(state.leases().keys(LeaseId(7)).collect::<Vec<_>>(), [b"known"]);
        assert!(!state.leases().exists(LeaseId(8)));
        assert_eq!(living(&state)[&b"unknown"[..]].fields().lease, None);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8),
        Delete(u8),
        Compact(i64),
        /// An increment since the save before, or since an earlier one.
        Save(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0u8..5).prop_map(Step::Put),
            3 => (0u8..5).prop_map(Step::Delete),
            1 => (0i64..6).prop_map(Step::Compact),
            2 => (0usize..3).prop_map(Step::Save),
        ]
    }

    fn without_lease(living: &Living) -> Vec<Vec<u8>> {
        living.values().map(|record| record.encoded().to_vec()).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Whatever was written, deleted and compacted between saves: a chain gives each revision exactly as it
        /// was, or says why it cannot.
        #[test]
        fn every_revision_comes_back_as_it_was(
            steps in prop::collection::vec(step(), 1..60),
            to: prop::sample::Index,
            bump in 0u64..3,
            mark_compacted: bool,
        ) {
            let root = tempfile::tempdir().unwrap();
            let mut history = History::new();
            let mut files = vec![history.save(root.path(), "0", None)];
            let mut saved = vec![(history.revision(), -1)];
            let mut compacted = -1;
            for step in steps.into_iter().chain([Step::Save(0)]) {
                match step {
                    Step::Put(key) => {
                        let put = Put { key: vec![key].into(), value: vec![1; 9].into(), ..Put::default() };
                        history.apply(&Command::Put(put));
                    }
                    Step::Delete(key) => {
                        let range = KeyRange { key: vec![key].into(), ..KeyRange::default() };
                        history.apply(&Command::DeleteRange(DeleteRange { range, prev_kv: false }));
                    }
                    Step::Compact(back) => {
                        let revision = history.revision() - back;
                        if history.apply(&Command::Compact { revision: Revision(revision) }) {
                            compacted = revision;
                        }
                    }
                    Step::Save(back) => {
                        let (since, _) = saved[(saved.len() - 1).saturating_sub(back)];
                        files.push(history.save(root.path(), &files.len().to_string(), Some(since)));
                        saved.push((history.revision(), compacted));
                    }
                }
            }
            let to = 1 + to.index(history.revision() as usize) as i64;
            let request = Request {
                to_revision: Some(to),
                bump_revision: bump,
                mark_compacted,
                ..request(files, Target::All(root.path().join("all")))
            };
            let holes = saved.windows(2).any(|pair| pair[1].1 > pair[0].0 + 1);
            let (_, compact) = *saved.iter().find(|(revision, _)| *revision >= to).unwrap();
            match restore(&request, &mut quiet()) {
                Ok(restored) => {
                    prop_assert!(!holes && to >= compact);
                    prop_assert_eq!(restored.restored_revision, Revision(to));
                    let state = started(&root.path().join("all/b"));
                    prop_assert_eq!(without_lease(&living(&state)), without_lease(history.at(to)));
                    prop_assert_eq!(state.revision(), Revision(to + bump as i64));
                    // What was before can be read as far as it was kept.
                    let range = |revision| crate::command::Range {
                        range: KeyRange { key: vec![0].into(), range_end: vec![0].into() },
                        revision: Revision(revision),
                        ..Default::default()
                    };
                    for revision in 1..=to {
                        let read = state.view().range(&range(revision));
                        let readable = if mark_compacted { revision >= to + bump as i64 } else { revision >= compact };
                        prop_assert_eq!(read.is_ok(), readable, "{}", revision);
                        if let Ok(read) = read {
                            let read: Vec<_> = read.records.iter().map(|r| r.encoded().to_vec()).collect();
                            prop_assert_eq!(read, without_lease(history.at(revision)), "{}", revision);
                        }
                    }
                }
                Err(error) => prop_assert!(holes || to < compact, "{}", error),
            }
        }
    }
}
