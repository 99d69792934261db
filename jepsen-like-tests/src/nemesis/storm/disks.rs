//! Faults of disks: the power goes, the disk is sick, bits flip.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use tokio::time::{sleep, timeout};

use super::Storm;
use crate::cluster::ClusterError;
use crate::deadline::PATIENCE;
use crate::sick_disk::SickDisk;
use crate::sick_disk::loss::Loss;
use crate::sick_disk::sickness::Sickness;

/// What the log of a member says that refuses its damaged data (Barque's words, then etcd's).
const DAMAGE: [&str; 4] = ["damaged", "crc mismatch", "snap: ", "unexpected EOF"];

/// Revisions between two power cuts, and how long they are waited for.
const WORTH_LOSING: i64 = 50;
const WRITING: Duration = Duration::from_secs(3);

impl Storm<'_> {
    /// Nemeses that need disks are not run without them.
    fn disk(&self, index: usize) -> Result<Arc<SickDisk>, ClusterError> {
        self.cluster.disk(index).ok_or_else(|| self.cluster.blame(index, "has no disk of its own"))
    }

    fn any_loss(&mut self) -> Loss {
        Loss::ALL[self.rng.random_range(0..Loss::ALL.len())]
    }

    /// The power of these members goes at once, and comes back on disks that are well.
    fn cut_power(&mut self, victims: &[usize], loss: Loss) -> Result<(), ClusterError> {
        let disks = victims.iter().map(|&index| self.disk(index)).collect::<Result<Vec<_>, _>>()?;
        disks.iter().for_each(|disk| disk.power_off());
        for &index in victims {
            self.cluster.kill9(index)?;
        }
        for disk in disks {
            disk.set(Sickness::NONE);
            disk.power_on(loss, &mut self.rng);
        }
        Ok(())
    }

    pub(super) async fn power_cut(&mut self) -> Result<(), ClusterError> {
        let victims = self.victims(true).await?;
        let loss = self.any_loss();
        self.without_power(victims, loss).await
    }

    pub(super) async fn blackout(&mut self) -> Result<(), ClusterError> {
        self.without_power(self.members.clone(), Loss::Everything).await
    }

    async fn without_power(&mut self, victims: Vec<usize>, loss: Loss) -> Result<(), ClusterError> {
        let what = format!("power cut: {loss}");
        let fault = self.shared.recorder.fault_began(&what, self.names(&victims));
        self.cut_power(&victims, loss)?;
        sleep(self.between(50, 800)).await;
        self.cluster.restart_all(&victims).await?;
        self.shared.recorder.fault_ended(fault);
        self.writes_come().await;
        Ok(())
    }

    /// Lets clients write something that the next fault can lose; a slow workload not for long.
    async fn writes_come(&self) {
        let enough = *self.newest.borrow() + WORTH_LOSING;
        let mut newest = self.newest.clone();
        let _ = timeout(WRITING, newest.wait_for(|newest| *newest >= enough)).await;
    }

    pub(super) async fn sick_disk(&mut self) -> Result<(), ClusterError> {
        let victims = self.minority().await?;
        let sickness = Sickness::ALL[self.rng.random_range(0..Sickness::ALL.len())];
        let what = format!("sick disk: {sickness}");
        let fault = self.shared.recorder.fault_began(&what, self.names(&victims));
        for &index in &victims {
            self.disk(index)?.set(sickness);
        }
        if sickness.is_deadly() {
            for &index in &victims {
                self.stops_by_itself(index, sickness).await?;
            }
        } else {
            sleep(self.between(500, 3000)).await;
        }
        // What a failed sync did not write is gone only now.
        if self.rng.random() {
            let loss = self.any_loss();
            self.cut_power(&victims, loss)?;
        }
        for &index in &victims {
            self.disk(index)?.set(Sickness::NONE);
        }
        let running = self.cluster.running();
        let ended: Vec<usize> = victims.iter().copied().filter(|index| !running.contains(index)).collect();
        self.cluster.restart_all(&ended).await?;
        for index in victims {
            self.cluster.ready(index).await?;
        }
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }

    /// So few that the others can go on; half of the time the leader is among them.
    async fn minority(&mut self) -> Result<Vec<usize>, ClusterError> {
        let most = self.members.len().saturating_sub(1) / 2;
        let count = self.rng.random_range(1..=most.max(1));
        let mut victims: Vec<usize> = self.members.choose_multiple(&mut self.rng, count).copied().collect();
        if self.rng.random() {
            let leader = self.cluster.leader_among(&self.members).await?;
            if !victims.contains(&leader) {
                victims[0] = leader;
            }
        }
        Ok(victims)
    }

    /// A member that can keep nothing must end, and not as if all were well.
    async fn stops_by_itself(&mut self, index: usize, sickness: Sickness) -> Result<(), ClusterError> {
        let what = match self.cluster.ended(index, PATIENCE).await? {
            Some(status) if !status.success() => return Ok(()),
            Some(status) => format!("ended with {status} as if all were well, though: {sickness}"),
            None => format!("still runs after {PATIENCE:?}, though: {sickness}"),
        };
        Err(self.cluster.blame(index, what))
    }

    pub(super) async fn bit_flip(&mut self) -> Result<(), ClusterError> {
        let victim = self.members[self.rng.random_range(0..self.members.len())];
        let id = self.cluster.member_id(victim).await?;
        let parts = parts(self.cluster.flavor().is_barque());
        let part = parts[self.rng.random_range(0..parts.len())];
        let what = format!("bit flip in {part}");
        let fault = self.shared.recorder.fault_began(&what, self.names(&[victim]));
        // The last thing that a killed member wrote to its log cannot be told from what never came to the disk.
        if part.ends_with("wal") || self.rng.random() {
            self.cluster.terminate(victim).await?;
        } else {
            self.cluster.kill9(victim)?;
        }
        let damaged = flip_a_bit(&self.cluster.data_dir(victim).join(part), &mut self.rng)
            .map_err(|source| ClusterError::Io { what: format!("flipping a bit in {part}"), source })?;
        match self.cluster.restart(victim).await {
            // Nothing that counts was damaged, or it was made again from something that is not: the checkers tell.
            Ok(()) => {}
            Err(ClusterError::Ended { log, .. }) => {
                if !DAMAGE.iter().any(|word| log.contains(word)) {
                    let what =
                        format!("does not start, and does not say that its data is damaged ({damaged:?})");
                    return Err(self.cluster.blame(victim, what));
                }
                self.replace_with_new(victim, id).await?;
            }
            Err(other) => return Err(other),
        }
        self.shared.recorder.fault_ended(fault);
        Ok(())
    }
}

/// Where members keep what can be damaged.
fn parts(barque: bool) -> &'static [&'static str] {
    if barque { &["wal", "records", "snapshots"] } else { &["member/wal", "member/snap"] }
}

/// Files that are in use: Barque's and etcd's logs take space in advance under other names, and locks are empty.
fn is_worth_damage(path: &Path, content: &[u8]) -> bool {
    path.extension().is_none_or(|ending| ending != "tmp") && content.iter().any(|byte| *byte != 0)
}

/// All files below a directory, in the same order each time; none if there is no directory.
fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = match std::fs::read_dir(&directory) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                directories.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Flips one bit of what is written in one of the files below a directory; in which one, if there is any.
fn flip_a_bit(below: &Path, rng: &mut StdRng) -> io::Result<Option<PathBuf>> {
    let mut candidates = Vec::new();
    for path in files_below(below)? {
        let content = std::fs::read(&path)?;
        if is_worth_damage(&path, &content) {
            candidates.push((path, content));
        }
    }
    if candidates.is_empty() {
        return Ok(None);
    }
    let (path, mut content) = candidates.swap_remove(rng.random_range(0..candidates.len()));
    // Behind the last byte that is not zero is what was taken in advance.
    let end = content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    content[rng.random_range(0..end)] ^= 1 << rng.random_range(0..8);
    std::fs::write(&path, content)?;
    Ok(Some(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "in a test a failure is the message")]

    use rand::SeedableRng;

    use super::*;

    #[test]
    fn one_bit_of_what_is_written_flips() {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = StdRng::seed_from_u64(1);
        assert_eq!(flip_a_bit(&dir.path().join("missing"), &mut rng).unwrap(), None);
        let before: [(&str, &[u8]); 4] =
            [("a.wal", &[1, 0, 2, 0, 0, 0]), ("next.tmp", &[1]), ("LOCK", &[]), ("sub/b.wal", &[0, 7])];
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let mut flipped = std::collections::BTreeSet::new();
        for _ in 0..200 {
            for (name, content) in before {
                std::fs::write(dir.path().join(name), content).unwrap();
            }
            let damaged = flip_a_bit(dir.path(), &mut rng).unwrap().unwrap();
            for (name, content) in before {
                let path = dir.path().join(name);
                let after = std::fs::read(&path).unwrap();
                let bits = |(at, (one, other)): (usize, (&u8, &u8))| {
                    ((one ^ other) != 0).then_some((at, one ^ other))
                };
                let changed: Vec<_> = after.iter().zip(content).enumerate().filter_map(bits).collect();
                assert_eq!(changed.len(), usize::from(path == damaged), "{name}");
                flipped.extend(changed.iter().map(|(at, _)| (name, *at)));
                assert!(changed.iter().all(|(_, bits)| bits.count_ones() == 1));
            }
        }
        let expected = [("a.wal", 0), ("a.wal", 1), ("a.wal", 2), ("sub/b.wal", 0), ("sub/b.wal", 1)];
        assert_eq!(flipped.into_iter().collect::<Vec<_>>(), expected);
    }
}
