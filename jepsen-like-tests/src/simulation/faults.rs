//! Makes faults happen, and undoes those that last, as chance has it. At most one bit-flipped disk in a cluster: what is
//! damaged must be whole somewhere else, or nobody could mend it.

use std::collections::BTreeMap;

use barque_store::command::Command;
use barque_store::command::auth::{AuthCommand, Password, PasswordHash, TokenKey};
use barque_store::rpc::backend::Backend as _;
use rand::Rng as _;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

use super::admin;
use super::cluster::Cluster;
use super::network::{LinkQuality, Place};
use super::operation::{USER, propose};
use super::plan::{DRIFT, Fault};

/// The longest that a fault lasts.
const LONGEST_MS: u64 = 3000;

/// What ends a fault.
#[derive(Clone, Debug)]
enum Undo {
    Links,
    Disk(Place),
    GoOn(Place),
}

/// Faults of one run.
#[derive(Debug)]
pub struct Faults {
    next_ms: u64,
    undo: Vec<(u64, Undo)>,
    rotten: Option<Place>,
    happened: BTreeMap<Fault, u64>,
}

impl Faults {
    /// None yet; the first ones after the cluster had time to form.
    #[must_use]
    pub fn new() -> Self {
        Self { next_ms: 1500, undo: Vec::new(), rotten: None, happened: BTreeMap::new() }
    }

    /// How often each kind happened.
    #[must_use]
    pub fn happened(&self) -> &BTreeMap<Fault, u64> {
        &self.happened
    }

    /// Lets happen what is due.
    pub fn go_on(&mut self, cluster: &mut Cluster) {
        let now_ms = cluster.now_ms;
        let (due, later) = std::mem::take(&mut self.undo).into_iter().partition(|(at, _)| *at <= now_ms);
        self.undo = later;
        for (_, undo) in due {
            let undo: Undo = undo;
            match undo {
                Undo::Links => cluster.network.heal(),
                Undo::Disk(place) => {
                    cluster.hosts[place].disk.set_room(None);
                    cluster.hosts[place].disk.set_sync_ms(0..2);
                }
                Undo::GoOn(place) => cluster.hosts[place].set_paused(false),
            }
        }
        if now_ms < self.next_ms {
            return;
        }
        let calm_ms = cluster.plan.calm_ms;
        self.next_ms = now_ms + cluster.chance().random_range(20..calm_ms);
        let kinds: Vec<Fault> = cluster.plan.faults.iter().copied().collect();
        if let Some(fault) = kinds.choose(cluster.chance()).copied()
            && self.happens(cluster, fault)
        {
            *self.happened.entry(fault).or_default() += 1;
            cluster.trace.note(now_ms, format_args!("fault: {fault:?}"));
        }
    }

    /// Whether it could happen.
    fn happens(&mut self, cluster: &mut Cluster, fault: Fault) -> bool {
        let hosts = cluster.hosts.len();
        let place = cluster.chance().random_range(0..hosts);
        let now_ms = cluster.now_ms;
        let until_ms = now_ms + cluster.chance().random_range(50..LONGEST_MS);
        match fault {
            Fault::Kill => cluster.kill(place),
            Fault::PowerLoss => cluster.lose_power(place),
            Fault::PowerLossInAWrite => {
                let steps = cluster.chance().random_range(1..12);
                cluster.hosts[place].disk.fail_power_after(steps);
            }
            Fault::Blackout => (0..hosts).for_each(|place| cluster.lose_power(place)),
            Fault::FailedSync => {
                let syncs = cluster.chance().random_range(1..8);
                cluster.hosts[place].disk.fail_sync_after(syncs);
            }
            Fault::SlowDisk => {
                let worst = [20, 200, 1500][cluster.chance().random_range(0..3)];
                cluster.hosts[place].disk.set_sync_ms(worst / 4..worst);
                self.undo.push((until_ms, Undo::Disk(place)));
            }
            Fault::FullDisk => {
                let room = cluster.chance().random_range(0..40_000);
                cluster.hosts[place].disk.set_room(Some(room));
                self.undo.push((until_ms, Undo::Disk(place)));
            }
            Fault::BitFlip => {
                // While the one is replaced, the others are needed.
                let rotten = *self.rotten.get_or_insert(place);
                if cluster.admin.works_on(rotten) || !cluster.expected().contains(&rotten) {
                    return false;
                }
                let in_files = cluster.chance().random_bool(0.3);
                let host = &cluster.hosts[rotten];
                return if in_files { host.files.flip_a_bit() } else { host.disk.flip_a_bit() };
            }
            Fault::Partition => {
                let mut places: Vec<Place> = (0..hosts).collect();
                places.shuffle(cluster.chance());
                let size = cluster.chance().random_range(1..hosts.max(2));
                let (one, other) = places.split_at(size);
                for &a in one {
                    for &b in other {
                        cut(cluster, a, b);
                        cut(cluster, b, a);
                    }
                }
                self.undo.push((until_ms, Undo::Links));
            }
            Fault::OneWayPartition => {
                let is_heard = cluster.chance().random_bool(0.5);
                for other in (0..hosts).filter(|other| *other != place) {
                    let (from, to) = if is_heard { (other, place) } else { (place, other) };
                    cut(cluster, from, to);
                }
                self.undo.push((until_ms, Undo::Links));
            }
            Fault::PartialPartition => {
                for from in 0..hosts {
                    for to in 0..hosts {
                        if from != to && cluster.chance().random_bool(0.3) {
                            cut(cluster, from, to);
                        }
                    }
                }
                self.undo.push((until_ms, Undo::Links));
            }
            Fault::BadLinks => {
                for from in 0..hosts {
                    for to in (0..hosts).filter(|to| *to != from) {
                        let quality = LinkQuality {
                            delay_ms: cluster.chance().random_range(2..60),
                            jitter_ms: cluster.chance().random_range(1..120),
                            loss: cluster.chance().random_range(0.0..0.2),
                            cut: cluster.network.link(from, to).cut,
                        };
                        cluster.network.set_link(from, to, quality);
                    }
                }
                self.undo.push((until_ms, Undo::Links));
            }
            Fault::BrokenConnections => {
                let other = (place + cluster.chance().random_range(1..hosts.max(2))) % hosts;
                cluster.network.break_connections(place, other);
            }
            Fault::Pause => {
                cluster.hosts[place].set_paused(true);
                self.undo.push((until_ms, Undo::GoOn(place)));
            }
            Fault::Drift => {
                let rate = 1.0 + cluster.chance().random_range(-DRIFT..DRIFT);
                cluster.hosts[place].set_rate(rate);
            }
            Fault::ClockStep => {
                let by_ms = cluster.chance().random_range(-3_600_000..3_600_000);
                cluster.hosts[place].step_wall_clock(by_ms);
            }
            Fault::LeaderTransfer => return hand_over(cluster, place),
            Fault::Isolation => {
                for other in (0..hosts).filter(|other| *other != place) {
                    cut(cluster, place, other);
                    cut(cluster, other, place);
                }
                self.undo.push((now_ms + LONGEST_MS, Undo::Links));
            }
            Fault::Auth => return change_users(cluster, place),
            Fault::AddMember
            | Fault::AddLearner
            | Fault::RemoveMember
            | Fault::RemoveLeader
            | Fault::ReplaceMember
            | Fault::WipedMember => return admin::begin(cluster, fault, place),
        }
        true
    }
}

impl Default for Faults {
    fn default() -> Self {
        Self::new()
    }
}

fn cut(cluster: &Cluster, from: Place, to: Place) {
    let quality = cluster.network.link(from, to);
    cluster.network.set_link(from, to, LinkQuality { cut: true, ..quality });
}

/// Has rights asked for, or not any more, or adds a user meanwhile; whether somebody was asked.
fn change_users(cluster: &mut Cluster, place: Place) -> bool {
    let Some((member, _)) = cluster.hosts[place].member() else { return false };
    let name = format!("u{}", cluster.chance().random_range(0..5));
    let hash = PasswordHash::new(format!("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2ltdWxhdGVk{name}"));
    let token_key = TokenKey(cluster.chance().random());
    let (user, role) = (USER.to_owned(), "root".to_owned());
    let enable = vec![
        AuthCommand::UserAdd { name: user.clone(), password: Password::Unset },
        AuthCommand::RoleAdd { name: role.clone() },
        AuthCommand::UserGrantRole { user, role },
        AuthCommand::Enable { token_key },
    ];
    let add = vec![
        AuthCommand::UserAdd { name: name.clone(), password: Password::Hash(hash) },
        AuthCommand::RoleAdd { name: name.clone() },
        AuthCommand::UserGrantRole { user: name.clone(), role: name },
    ];
    let is_enabled = member.auth_enabled();
    let commands = match (is_enabled, cluster.chance().random_bool(0.5)) {
        (_, true) => add,
        (false, _) => enable,
        (true, _) => vec![AuthCommand::Disable],
    };
    cluster.hosts[place].spawn(|_| async move {
        for command in commands {
            // What exists already is refused, and what is lost is lost.
            let _ = propose(&member, Command::Auth(command)).await;
        }
    })
}

/// Asks the leader to hand over to the member at a place.
fn hand_over(cluster: &Cluster, to: Place) -> bool {
    let Some((place, leader)) = cluster.leader() else { return false };
    let to = cluster.id_of(to);
    if leader.identity().member == to {
        return false;
    }
    cluster.hosts[place].spawn(|_| async move {
        // It may be refused, or be lost with the leader.
        let _ = leader.transfer_leadership(to).await;
    })
}
