//! Directories as members leave them, recovered; and recoveries that are interrupted after each step.

use std::collections::BTreeMap;
use std::fs;

use super::super::testing::{History, Living, living, quiet};
use super::*;
use crate::command::{Command, Put};
use crate::mvcc::builder::KeyspaceBuilder;
use crate::mvcc::keyspace::Config;
use crate::snapshot::SnapshotReader;
use crate::state::State;
use crate::state::batch::{self, BatchId};
use crate::stored::StateMeta;
use crate::wal::{LogEntry, Payload, Position, Wal, WalConfig};

const CLUSTER: ClusterId = ClusterId(11);

fn put(key: &str) -> Command {
    Command::Put(Put { key: key.to_owned().into(), value: "v".into(), ..Put::default() })
}

fn batch(term: u64, index: u64, command: Command) -> LogEntry {
    let id = BatchId { origin: MemberId(1), boot: 1, sequence: index };
    let payload = Payload::Batch(batch::encode(id, &[command], 100));
    LogEntry { position: Position { term, index }, payload }
}

fn members(index: u64) -> LogEntry {
    let ids = [1, 2, 3].map(|id| {
        (
            id,
            crate::raft::types::PeerNode {
                peer_urls: vec![format!("http://127.0.0.1:{id}")],
                vote_when_ready: false,
            },
        )
    });
    let voters = ids.iter().map(|(id, _)| *id).collect();
    let membership = crate::raft::types::Membership::new(vec![voters], BTreeMap::from(ids)).unwrap();
    let payload = Payload::Membership(crate::raft::codec::encode_membership(&membership).into());
    LogEntry { position: Position { term: 0, index }, payload }
}

/// A member's directory with these entries behind the membership.
async fn directory(dir: &Path, member: u64, entries: Vec<LogEntry>) {
    let data_dir = DataDir::open(dir).unwrap();
    data_dir.set_identity(CLUSTER, MemberId(member)).unwrap();
    fs::create_dir(data_dir.snapshots()).unwrap();
    fs::create_dir(data_dir.records()).unwrap();
    fs::write(data_dir.records().join("something"), "x").unwrap();
    let mut config = WalConfig::new(data_dir.wal(), CLUSTER, MemberId(member));
    config.segment_bytes = 64 << 10;
    let (wal, _) = Wal::open(config).unwrap();
    wal.append([vec![members(0)], entries].concat(), Box::new(|_| ())).await.unwrap();
    wal.close().await.unwrap();
}

/// The state with which the recovered member starts, and what comes with it.
fn started(dir: &Path) -> (State, StateMeta) {
    let data_dir = DataDir::open(dir).unwrap();
    let identity = data_dir.identity().unwrap().unwrap();
    let wal = crate::wal::Identity { cluster_id: identity.cluster, member_id: identity.member };
    assert!(crate::wal::read_only::read(&data_dir.wal(), wal).unwrap().entries.is_empty());
    assert!(!data_dir.records().exists());
    let files = crate::snapshot::directory::list(&data_dir.snapshots()).unwrap();
    let reader = SnapshotReader::open(&files[0]).unwrap().whole().unwrap();
    assert_eq!(reader.manifest().cluster, identity.cluster);
    let meta = reader.manifest().state.clone();
    let mut builder = KeyspaceBuilder::new(meta.revision, meta.compact_revision, Config::default(), None);
    reader.for_each(|version| builder.push(version.unwrap()));
    (State::restore(builder.finish(), &meta), meta)
}

fn keys(living: &Living) -> Vec<String> {
    living.keys().map(|key| String::from_utf8(key.clone()).unwrap()).collect()
}

fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn the_directory_that_knows_most_goes_on_with_all_of_its_entries() {
    let root = tempfile::tempdir().unwrap();
    let dirs: Vec<_> = ["m1", "m2"].iter().map(|name| root.path().join(name)).collect();
    directory(&dirs[0], 1, vec![batch(1, 1, put("a")), batch(1, 2, put("lost")), batch(1, 3, put("lost"))])
        .await;
    directory(&dirs[1], 2, vec![batch(1, 1, put("a")), batch(2, 2, put("b"))]).await;
    let before = tree(root.path());
    let looked = survey(&dirs, &mut quiet()).unwrap();
    assert_eq!(
        (looked.chosen, looked.interrupted),
        (1, false),
        "a higher term counts more than a longer log"
    );
    let found: Vec<_> = looked.examined.iter().map(|one| one.found.as_ref().unwrap()).collect();
    assert_eq!((found[0].last_term, found[0].last_index, found[0].revision), (1, 3, Revision(4)));
    assert_eq!((found[1].last_term, found[1].last_index, found[1].keys), (2, 2, 2));
    assert_eq!((found[1].applied_index, found[1].members.len()), (0, 3), "nothing says that it is committed");
    assert!(tree(root.path()) == before, "looking changes nothing");

    let recovered = looked.recover(None).unwrap();
    assert_eq!((recovered.member, recovered.revision), (MemberId(2), Revision(3)));
    assert_ne!(recovered.cluster, CLUSTER);
    let (state, meta) = started(&dirs[1]);
    assert_eq!(keys(&living(&state)), ["a", "b"]);
    assert_eq!(state.revision(), Revision(3));
    assert_eq!(state.members().removed().collect::<Vec<_>>(), [MemberId(1), MemberId(3)]);
    let membership = crate::raft::codec::decode_stored_membership(&meta.membership).unwrap();
    assert_eq!(membership.voter_ids().collect::<Vec<_>>(), [2]);
    assert!(
        recovered.moved_to.join("records/something").exists() && recovered.moved_to.join("identity").exists()
    );

    // Once more, after that.
    let again = survey(&dirs[1..], &mut quiet()).unwrap().recover(None).unwrap();
    assert!(again.moved_to.ends_with("before-recovery-2"));
    assert_eq!(keys(&living(&started(&dirs[1]).0)), ["a", "b"]);
}

#[tokio::test]
async fn entries_follow_a_snapshot_or_the_directory_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let mut history = History::new();
    history.put("old", "1", None);
    history.put("older", "1", None);
    let saved = history.save(root.path(), "snapshot", None);
    let with_snapshot = |dir: &Path| {
        fs::copy(&saved, crate::snapshot::directory::finished_path(&dir.join("snapshots"), 1, 2)).unwrap();
    };
    let whole = root.path().join("m5");
    directory(&whole, 5, vec![batch(1, 1, put("old")), batch(1, 2, put("older")), batch(1, 3, put("new"))])
        .await;
    with_snapshot(&whole);
    let looked = survey(std::slice::from_ref(&whole), &mut quiet()).unwrap();
    assert_eq!(looked.examined[0].found.as_ref().unwrap().revision, Revision(4));
    drop(looked);

    // A damaged one does not keep the others from being looked at.
    let newest = crate::snapshot::directory::list(&whole.join("snapshots")).unwrap().remove(0);
    let mut bytes = fs::read(&newest).unwrap();
    let at = bytes.len() - 80;
    bytes[at] ^= 1;
    fs::write(&newest, bytes).unwrap();
    let other = root.path().join("m2");
    directory(&other, 2, vec![batch(1, 1, put("a"))]).await;
    let looked = survey(&[whole.clone(), other.clone()], &mut quiet()).unwrap();
    assert_eq!(looked.chosen, 1);
    assert!(looked.examined[0].found.as_ref().unwrap_err().contains("damaged"));
    drop(looked);
    let error = survey(std::slice::from_ref(&whole), &mut quiet()).err().unwrap().to_string();
    assert!(error.contains("none of the directories can be used"), "{error}");
}

#[tokio::test]
async fn wrong_directories_are_refused() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("m1");
    directory(&dir, 1, vec![batch(1, 1, put("a"))]).await;
    let refused = |dirs: &[PathBuf]| survey(dirs, &mut quiet()).err().unwrap().to_string();
    assert!(refused(&[root.path().to_owned()]).contains("no data directory"));
    assert!(refused(&[dir.clone(), root.path().join("m1/../m1")]).contains("given twice"));
    let running = DataDir::open(&dir).unwrap();
    assert!(refused(std::slice::from_ref(&dir)).contains("another process is running"));
    drop(running);
    let wrong = survey(std::slice::from_ref(&dir), &mut quiet()).unwrap().recover(Some(&["x:1".into()]));
    assert!(wrong.unwrap_err().to_string().contains("--initial-advertise-peer-urls"));
    assert!(!dir.join("recovery").exists());
}

#[tokio::test]
async fn what_a_snapshot_superseded_and_wrong_data_do_not_count() {
    let root = tempfile::tempdir().unwrap();
    let mut history = History::new();
    history.put("new", "1", None);
    let saved = history.save(root.path(), "snapshot", None);
    // Entries of a term before the snapshot's; its installation was interrupted before they were cut off.
    let dir = root.path().join("m5");
    directory(&dir, 5, vec![]).await;
    let stale: Vec<_> = (1..4).map(|index| batch(0, index, put("stale"))).collect();
    let mut config = WalConfig::new(dir.join("wal"), CLUSTER, MemberId(5));
    config.segment_bytes = 64 << 10;
    let (wal, _) = Wal::open(config).unwrap();
    wal.append(stale, Box::new(|_| ())).await.unwrap();
    wal.close().await.unwrap();
    drop(wal);
    fs::copy(&saved, crate::snapshot::directory::finished_path(&dir.join("snapshots"), 1, 1)).unwrap();
    let looked = survey(std::slice::from_ref(&dir), &mut quiet()).unwrap();
    let found = looked.examined[0].found.as_ref().unwrap();
    assert_eq!((found.last_term, found.last_index, found.keys), (1, 1, 1));
    drop(looked);

    let alarm = Command::Alarm { raise: true, member: MemberId(1), kind: crate::command::AlarmKind::Corrupt };
    let dirs: Vec<_> = ["m1", "m2"].iter().map(|name| root.path().join(name)).collect();
    directory(&dirs[0], 1, vec![batch(1, 1, put("a")), batch(1, 2, alarm)]).await;
    directory(&dirs[1], 2, vec![batch(1, 1, put("a"))]).await;
    let looked = survey(&dirs, &mut quiet()).unwrap();
    assert_eq!(looked.chosen, 1);
    assert!(looked.examined[0].found.as_ref().unwrap().corrupt);
}

/// Every state that the steps pass through: the same command finishes them, and nobody starts in between.
#[tokio::test]
async fn an_interrupted_recovery_is_finished() {
    const MOVES: usize = 8;
    for done in 0..=MOVES {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("m1");
        directory(&dir, 1, vec![batch(1, 1, put("a"))]).await;
        let reference = root.path().join("reference");
        fs::create_dir(&reference).unwrap();
        for name in ["identity", "lock"] {
            fs::copy(dir.join(name), reference.join(name)).unwrap();
        }
        let Survey { best, dirs, .. } = survey(std::slice::from_ref(&dir), &mut quiet()).unwrap();
        let Rebuilt { state, found, .. } = best.unwrap();
        let membership = cluster::membership([(found.member, found.peer_urls.clone())]);
        let meta = StateMachine::picture(&state, Some(&log_id(0, 1)), &membership.into(), None).meta();
        let plan = replace::Plan {
            before: replace::next_before(&dir).unwrap(),
            cluster: ClusterId(77),
            member: found.member,
            peer_urls: found.peer_urls,
            revision: found.revision,
        };
        // One that stopped before anything counted gives way.
        fs::create_dir(dir.join("recovery.part")).unwrap();
        fs::write(dir.join("recovery.part/half"), "x").unwrap();
        replace::prepare(&dirs[0], &plan, &meta, state.view().items()).unwrap();
        drop(dirs);
        let aside = dir.join("before-recovery-1");
        let moves: Vec<(PathBuf, PathBuf)> = ["identity", "wal", "snapshots", "records"]
            .map(|name| (dir.join(name), aside.join(name)))
            .into_iter()
            .chain(
                ["identity", "wal", "snapshots"]
                    .map(|name| (dir.join("recovery").join(name), dir.join(name))),
            )
            .collect();
        if done > 0 {
            fs::create_dir(&aside).unwrap();
            for (from, to) in &moves[..done - 1] {
                fs::rename(from, to).unwrap();
            }
        }
        assert!(DataDir::open(&dir).unwrap_err().to_string().contains("run the same `kvctl recover` again"));
        let looked = survey(std::slice::from_ref(&dir), &mut quiet()).unwrap();
        assert!(looked.interrupted);
        let recovered = looked.recover(None).unwrap();
        assert_eq!((recovered.cluster, recovered.moved_to), (ClusterId(77), aside.clone()));
        assert_eq!(keys(&living(&started(&dir).0)), ["a"], "after {done} moves");
        assert_eq!(fs::read(aside.join("identity")).unwrap(), fs::read(reference.join("identity")).unwrap());
        assert!(aside.join("records/something").exists());
        assert!(!dir.join("recovery").exists() && !dir.join("recovery.part").exists());
    }
}
