//! `barque uninstall`: what Barque has on this machine is taken away: units, what a node left, directories. Must never take a
//! master away that its cluster still counts on, unless that was said.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use barque_cluster::membership::Members;
use clap::Args;

use crate::agent_args::CleanupArgs;
use crate::agent_leave::told;
use crate::cluster_args::PlaceArgs;
use crate::cluster_command::{Master, print};
use crate::service_command;
use crate::service_unit::Service;

/// There in a master's directory when it has left its cluster.
pub(crate) const LEFT: &str = "left";

/// What is taken away.
#[derive(Debug, Args)]
pub(crate) struct UninstallArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Does not ask.
    #[arg(long, short)]
    yes: bool,
    /// Also when this master is still part of a cluster: the others have a dead member then, or the cluster is gone.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    cleanup: CleanupArgs,
}

/// What is known of the master of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Membership {
    /// There is none, or it has left.
    None,
    /// The store has so many members, and this one is among them.
    Member(usize),
    /// Nobody answers.
    Unknown(String),
}

/// Why it is not taken away; nothing when it may be.
fn refusal(membership: &Membership, force: bool) -> Option<String> {
    let say = "--force takes it away nevertheless";
    match membership {
        _ if force => None,
        Membership::None => None,
        Membership::Member(1) => Some(format!(
            "this is the only master of its cluster, and the cluster would be gone with all that it holds; {say}"
        )),
        Membership::Member(all) => Some(format!(
            "this master is one of the {all} of its cluster: `barque server leave` takes it out of it first; {say}"
        )),
        Membership::Unknown(why) => Some(format!(
            "nobody says whether this master is still part of a cluster ({why}): start it and `barque server leave`; {say}"
        )),
    }
}

async fn membership(place: &PlaceArgs) -> anyhow::Result<Membership> {
    let there = place.data_dir.join("cluster.json").try_exists();
    if !there.with_context(|| place.data_dir.display().to_string())? || place.data_dir.join(LEFT).exists() {
        return Ok(Membership::None);
    }
    let asking = async {
        let master = Master::open(place)?;
        let name = master.own()?.common_name;
        let at = std::net::SocketAddr::new(master.address()?, master.settings.store_client_port);
        let members = Members::connect(&[format!("https://{at}")], &master.store_tls()).await?.list().await?;
        let own = members.iter().any(|member| member.name == name);
        Ok::<_, anyhow::Error>(if own { Membership::Member(members.len()) } else { Membership::None })
    };
    Ok(asking.await.unwrap_or_else(|error| Membership::Unknown(format!("{error:#}"))))
}

/// Takes everything away.
pub(crate) async fn uninstall(args: UninstallArgs) -> anyhow::Result<()> {
    let config = args.cleanup.into_config()?;
    let units: Vec<Service> =
        Service::ALL.into_iter().filter(|it| service_command::is_installed(*it)).collect();
    let directories = [&args.place.data_dir, &config.root_dir, &config.run_dir];
    let directories: Vec<PathBuf> = directories.into_iter().filter(|it| it.exists()).cloned().collect();
    if units.is_empty() && directories.is_empty() {
        print("there is nothing of Barque on this machine\n");
        return Ok(());
    }
    if let Some(why) = refusal(&membership(&args.place).await?, args.force) {
        anyhow::bail!(why);
    }
    let mut plan = String::new();
    for unit in &units {
        plan += &format!("stops {} and removes {}\n", unit.unit(), unit.unit_path());
    }
    let was_node = config.root_dir.exists();
    if was_node {
        plan += "takes away what a node left: containers, links, rules, volumes\n";
    }
    for directory in &directories {
        plan += &format!("removes {}\n", directory.display());
    }
    print(&plan);
    if !args.yes && !agreed()? {
        print("nothing was done\n");
        return Ok(());
    }
    for unit in &units {
        service_command::stop(*unit)?;
    }
    if was_node && !told(&barque_agent::cleanup::cleanup(&config).await) {
        anyhow::bail!(
            "not all that the node left is taken away: stop its agent if it runs, and do this again"
        );
    }
    if used(&args.place.data_dir) {
        anyhow::bail!("the master runs: stop it, and do this again");
    }
    for unit in Service::ALL {
        for path in service_command::take_away(unit)? {
            print(&format!("{path} is removed\n"));
        }
    }
    for directory in &directories {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
        print(&format!("{} is removed\n", directory.display()));
    }
    if was_node {
        print(
            "its Node object stays until `kubectl delete node NAME`; logs of containers stay in --pod-logs-dir\n",
        );
    }
    Ok(())
}

/// Whether a process holds the store's directory.
fn used(data_dir: &Path) -> bool {
    let Ok(lock) = std::fs::File::open(data_dir.join("store/lock")) else { return false };
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).is_err()
}

fn agreed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        anyhow::bail!("nobody can be asked here: --yes agrees");
    }
    print("type yes to do this: ");
    std::io::stdout().flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_master_that_is_counted_on_is_not_taken_away() {
        let cases = [
            (Membership::None, None),
            (Membership::Member(1), Some("the only master")),
            (Membership::Member(3), Some("one of the 3")),
            (Membership::Unknown("refused".to_owned()), Some("nobody says")),
        ];
        for (membership, expected) in cases {
            let why = refusal(&membership, false);
            assert_eq!(why.is_some(), expected.is_some(), "{membership:?}");
            assert!(expected.is_none_or(|text| why.as_ref().unwrap().contains(text)), "{why:?}");
            assert_eq!(refusal(&membership, true), None);
        }
    }
}
