//! Crashes at every step, and damage at every byte, against a model of the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;

use super::format::{LogEntry, Payload, Position, Record, SEGMENT_HEADER_BYTES, SavedVote, Standing};
use super::index::LogIndex;
use super::journal::Journal;
use super::sim_disk::{Fault, SimDisk};
use super::writer::{State, read_stored};
use super::{Segments, WalConfig, WalError, open_journal};
use crate::ids::{ClusterId, MemberId};

fn config() -> WalConfig {
    let mut config = WalConfig::new("/wal".into(), ClusterId(7), MemberId(1));
    config.segment_bytes = 8 << 10;
    config.batch_bytes = 2 << 10;
    config.cache_bytes = 1 << 10;
    config
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Model {
    standing: Standing,
    entries: BTreeMap<u64, LogEntry>,
}

impl Model {
    fn append(&mut self, entry: &LogEntry) {
        self.standing.apply(&entry.record());
        self.entries.insert(entry.position.index, entry.clone());
    }

    fn apply(&mut self, record: &Record<'_>) {
        self.standing.apply(record);
        match record {
            Record::Truncate { last } => self.entries.retain(|i, _| Some(*i) <= last.map(|last| last.index)),
            Record::Purged(upto) => self.entries.retain(|i, _| *i > upto.index),
            _ => {}
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Append { sizes: Vec<usize> },
    Vote,
    Truncate { back: u64 },
    Purge { ahead: u64 },
    Committed,
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(prop_oneof![9 => 0_usize..700, 1 => 3000_usize..12_000], 1..4)
            .prop_map(|sizes| Step::Append { sizes }),
        1 => Just(Step::Vote),
        1 => (0_u64..6).prop_map(|back| Step::Truncate { back }),
        1 => (0_u64..8).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Committed),
        4 => Just(Step::Commit),
    ]
}

/// A log under test, and every state that a crash may leave: the one after the last commit, or a later one.
struct Run {
    journal: Journal,
    model: Model,
    allowed: Vec<Model>,
    term: u64,
}

fn opened(disk: &SimDisk) -> Result<(Journal, LogIndex, Standing), WalError> {
    let size = Arc::new(AtomicU64::new(0));
    let (journal, index, _) = open_journal(Arc::new(disk.clone()), &config(), &size, Segments::InOrder)?;
    let standing = *journal.standing();
    Ok((journal, index, standing))
}

/// What a restart reads.
fn recovered(disk: &SimDisk) -> Result<(Journal, Model), WalError> {
    let (journal, index, standing) = opened(disk)?;
    let state = State::new(&journal, index, standing.committed);
    let (stored, cached) = state.find(0..u64::MAX, u64::MAX).unwrap();
    let entries = read_stored(&stored).unwrap().into_iter().chain(cached);
    let entries = entries.map(|entry| (entry.position.index, entry)).collect();
    Ok((journal, Model { standing, entries }))
}

impl Run {
    fn new(journal: Journal, model: Model, term: u64) -> Self {
        Self { journal, allowed: vec![model.clone()], model, term }
    }

    fn push(&mut self, record: &Record<'_>) -> std::io::Result<()> {
        self.model.apply(record);
        self.allowed.push(self.model.clone());
        self.journal.push(record)
    }

    fn step(&mut self, step: &Step) -> std::io::Result<()> {
        let standing = self.model.standing;
        match step {
            Step::Append { sizes } => {
                for (at, size) in sizes.iter().enumerate() {
                    let index = self.model.standing.next_index().unwrap_or(0);
                    let payload = Payload::Batch(vec![(index + at as u64) as u8; *size].into());
                    let entry = LogEntry { position: Position { term: self.term, index }, payload };
                    self.model.append(&entry);
                    self.allowed.push(self.model.clone());
                    self.journal.push_entry(&entry, index as u32)?;
                }
                Ok(())
            }
            Step::Vote => {
                self.term += 1;
                let vote =
                    SavedVote { term: self.term, voted_for: 1, committed: self.term.is_multiple_of(2) };
                self.push(&Record::Vote(vote))
            }
            Step::Truncate { back } if !standing.is_empty() => {
                let last = standing.last.unwrap().index.saturating_sub(*back);
                let last = self.model.entries.get(&last).map(|e| e.position).or(standing.purged);
                self.term += 1;
                self.push(&Record::Truncate { last })
            }
            Step::Purge { ahead } => {
                let index = standing.first_index + ahead;
                let term = self.model.entries.get(&index).map_or(self.term, |entry| entry.position.term);
                if standing.purged.is_some_and(|purged| purged.index >= index) {
                    return Ok(());
                }
                self.push(&Record::Purged(Position { term, index }))
            }
            Step::Committed => standing.last.map_or(Ok(()), |last| self.push(&Record::Committed(last))),
            Step::Commit => {
                self.journal.commit()?;
                self.allowed = vec![self.model.clone()];
                self.journal.release_purged();
                Ok(())
            }
            Step::Truncate { .. } => Ok(()),
        }
    }

    fn steps(&mut self, steps: &[Step]) {
        for step in steps {
            if self.step(step).is_err() {
                return;
            }
        }
    }
}

/// Runs the steps with a crash at one of the disk's steps, restarts, and compares. Then goes on with `more` and
/// crashes again.
fn crash_at(steps: &[Step], more: &[Step], at: u64, seed: u64, honest: bool) -> Result<(), String> {
    let disk = SimDisk::default();
    if !honest {
        disk.make_syncs_do_nothing();
    }
    disk.fail_after(at, Fault::Crash);
    let (allowed, term) = match opened(&disk) {
        Err(_) => (vec![Model::default()], 1),
        Ok((journal, _, _)) => {
            let mut run = Run::new(journal, Model::default(), 1);
            run.steps(steps);
            (run.allowed, run.term)
        }
    };
    let disk = disk.restart(seed);
    // The second crash may hit the recovery of the first.
    disk.fail_after(1 + at % 23, Fault::Crash);
    let (allowed, disk) = match recovered(&disk) {
        Err(WalError::Io { .. }) => (allowed, disk.restart(seed.wrapping_mul(31).wrapping_add(1))),
        Err(error) => return Err(format!("crash at {at}, seed {seed}: {error}")),
        Ok((journal, found)) => {
            check(&allowed, &found).map_err(|why| format!("crash at {at}, seed {seed}: {why}"))?;
            let mut run = Run::new(journal, found, term + 1);
            run.steps(more);
            (run.allowed, disk.restart(seed.wrapping_mul(31).wrapping_add(1)))
        }
    };
    let (_, found) = recovered(&disk).map_err(|error| format!("second crash, {at}, seed {seed}: {error}"))?;
    check(&allowed, &found).map_err(|why| format!("second crash, {at}, seed {seed}: {why}"))
}

fn check(allowed: &[Model], found: &Model) -> Result<(), String> {
    if allowed.contains(found) {
        return Ok(());
    }
    let states: Vec<_> = allowed.iter().map(|model| model.standing).collect();
    let indexes: Vec<_> = found.entries.keys().collect();
    Err(format!("found {:?} with entries {indexes:?}, allowed is one of {states:?}", found.standing))
}

fn steps_needed(steps: &[Step]) -> u64 {
    let disk = SimDisk::default();
    let (journal, _, _) = opened(&disk).unwrap();
    Run::new(journal, Model::default(), 1).steps(steps);
    disk.steps()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn a_crash_at_any_step_loses_nothing_acknowledged_and_brings_nothing_back(
        steps in proptest::collection::vec(step(), 1..40),
        more in proptest::collection::vec(step(), 1..12),
        seed in 2_u64..u64::MAX,
    ) {
        for at in 1..=steps_needed(&steps) + 1 {
            for seed in [0, 1, seed, seed.wrapping_add(at)] {
                if let Err(why) = crash_at(&steps, &more, at, seed, true) {
                    prop_assert!(false, "{}", why);
                }
            }
        }
    }

    #[test]
    fn a_failed_write_or_sync_stops_the_log_and_a_restart_is_sound(
        steps in proptest::collection::vec(step(), 1..30),
        seed in 2_u64..u64::MAX,
    ) {
        for at in 1..=steps_needed(&steps) {
            let disk = SimDisk::default();
            disk.fail_after(at, Fault::Error);
            let Ok((journal, _, _)) = opened(&disk) else { continue };
            let mut run = Run::new(journal, Model::default(), 1);
            for step in &steps {
                // Whoever does not stop at an error must not be told later that all is well.
                let _ = run.step(step);
            }
            for seed in [0, 1, seed] {
                let (_, found) = recovered(&disk.restart(seed)).unwrap();
                if let Err(why) = check(&run.allowed, &found) {
                    prop_assert!(false, "error at {}, seed {}: {}", at, seed, why);
                }
            }
        }
    }
}

/// Appends and commits, several segments long.
fn long_log() -> (SimDisk, Run) {
    let disk = SimDisk::default();
    let (journal, _, _) = opened(&disk).unwrap();
    let mut run = Run::new(journal, Model::default(), 1);
    for round in 0..12 {
        run.steps(&[Step::Append { sizes: vec![100, 900, 0] }, Step::Committed]);
        if round % 3 == 0 {
            run.steps(&[Step::Vote, Step::Truncate { back: 1 }]);
        }
        run.steps(&[Step::Commit]);
    }
    (disk, run)
}

#[test]
fn the_crash_test_notices_a_disk_that_does_not_sync() {
    let steps = [Step::Append { sizes: vec![100, 200] }, Step::Commit, Step::Vote, Step::Commit];
    let needed = steps_needed(&steps);
    let noticed = (1..=needed).any(|at| crash_at(&steps, &[], at, 1, false).is_err());
    assert!(noticed);
    assert!((1..=needed).all(|at| crash_at(&steps, &[], at, 1, true).is_ok()));
}

#[test]
fn damage_in_what_was_synced_is_refused_with_a_sentence() {
    let (disk, mut run) = long_log();
    let end_before = end_of_records(&disk);
    run.steps(&[Step::Vote, Step::Commit]);
    let names = disk.segment_names();
    assert!(names.len() > 3, "{names:?}");
    let mut flips = 0;
    for (at, name) in names.iter().enumerate() {
        let end = if at + 1 == names.len() { end_before } else { records_end(&disk, name) };
        for byte in 0..end {
            // All of the records' bytes, and a part of the long zeros of the headers.
            if byte < SEGMENT_HEADER_BYTES as usize && byte > 200 && byte % 97 != 0 {
                continue;
            }
            let disk = disk.restart(0);
            disk.corrupt(name, byte, 1 << (byte % 8));
            let Err(error) = opened(&disk) else { panic!("{name}: a flip at {byte} was not noticed") };
            match &error {
                WalError::Damaged { path, .. } => {
                    let text = error.to_string();
                    assert!(path.ends_with(name) || at + 1 < names.len(), "{text}");
                    assert!(text.contains("remove this member from the cluster"), "{text}");
                }
                WalError::Version { .. } if byte < 12 => {}
                other => panic!("{name}, {byte}: {other}"),
            }
            flips += 1;
        }
    }
    assert!(flips > 10_000, "{flips}");
}

/// End of the last segment's records.
fn end_of_records(disk: &SimDisk) -> usize {
    records_end(disk, disk.segment_names().last().unwrap())
}

fn records_end(disk: &SimDisk, name: &str) -> usize {
    let content = disk.content(name);
    let header = super::format::SegmentHeader::decode(&content).unwrap().0;
    let mut offset = SEGMENT_HEADER_BYTES;
    while let Some(found) = super::format::decode_record(
        content.get(offset as usize..).unwrap_or_default(),
        super::format::RecordPlace { nonce: header.nonce, offset },
    ) {
        offset += found.encoded_bytes as u32;
    }
    offset as usize
}

#[test]
fn damage_in_the_last_batch_is_taken_for_torn() {
    let (disk, mut run) = long_log();
    while end_of_records(&disk) > SEGMENT_HEADER_BYTES as usize + 2000 {
        run.steps(&[Step::Append { sizes: vec![300] }, Step::Commit]);
    }
    let before = run.model.clone();
    let start = end_of_records(&disk);
    run.steps(&[Step::Append { sizes: vec![10, 600, 10] }, Step::Commit]);
    let name = disk.segment_names().last().unwrap().clone();
    let end = end_of_records(&disk);
    assert!(end > start, "it went into the same segment");
    let mut allowed = vec![before.clone()];
    let mut growing = before;
    for entry in run.model.entries.values().rev().take(3).rev() {
        growing.append(entry);
        allowed.push(growing.clone());
    }
    for byte in start..disk.content(&name).len() {
        let disk = disk.restart(0);
        disk.corrupt(&name, byte, 1 << (byte % 8));
        let (journal, found) = recovered(&disk).unwrap();
        check(&allowed, &found).unwrap();
        assert_eq!(found == run.model, byte >= end, "byte {byte}");
        // What was cut must not come back behind something new of the same size.
        let mut again = Run::new(journal, found, 9);
        again.steps(&[Step::Append { sizes: vec![10] }, Step::Commit]);
        drop(again.journal);
        let (_, found) = recovered(&disk.restart(1)).unwrap();
        assert_eq!(found, again.model);
    }
}

#[test]
fn a_missing_segment_is_refused() {
    let (disk, _run) = long_log();
    let names = disk.segment_names();
    for name in &names[..names.len() - 1] {
        let disk = disk.restart(0);
        disk.lose(name);
        let error = opened(&disk).err().expect("it is missing");
        assert!(error.to_string().contains("segment is missing"), "{error}");
    }
}

#[test]
fn segments_that_were_purged_are_given_back() {
    let (disk, mut run) = long_log();
    let before = disk.segment_names();
    let last = run.model.standing.last.unwrap().index;
    run.steps(&[Step::Purge { ahead: last - 2 }, Step::Commit]);
    let after = disk.segment_names();
    assert!(after.len() < before.len() && before.ends_with(&after), "{before:?} {after:?}");
    let (_, found) = recovered(&disk.restart(1)).unwrap();
    assert_eq!(found, run.model);
}

/// After a sync that failed, the system's memory holds what the disk has not, and takes it for written: a process that is
/// started again reads it, tells the leader that it has it, and must not lose it with the power.
#[test]
fn what_a_failed_sync_left_in_memory_is_written_again_at_the_next_start() {
    let disk = SimDisk::default();
    let (mut journal, ..) = opened(&disk).unwrap();
    let entry = |index| LogEntry {
        position: Position { term: 1, index },
        payload: Payload::Batch(vec![index as u8; 100].into()),
    };
    journal.push_entry(&entry(0), 0).unwrap();
    journal.commit().unwrap();
    // The write succeeds, its sync does not.
    disk.fail_after(2, Fault::Error);
    journal.push_entry(&entry(1), 1).unwrap();
    assert!(journal.commit().is_err());
    drop(journal);
    let killed = disk.restart(0);
    let (journal, _, standing) = opened(&killed).unwrap();
    assert_eq!(standing.last, Some(Position { term: 1, index: 1 }));
    drop(journal);
    let (_, _, standing) = opened(&killed.restart(1)).unwrap();
    assert_eq!(
        standing.last,
        Some(Position { term: 1, index: 1 }),
        "it had been read, so it may have been told"
    );
}
