//! Which parts of a master run: `--only` and `--without` of `barque server`. Pure; must never start one.

use std::fmt;

use clap::ValueEnum;

/// A part of a master.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// Its member of the store.
    Store,
    /// Its API server.
    Apiserver,
    /// Its controller manager.
    Controllers,
    /// Its scheduler.
    Scheduler,
    /// What brings manifests of its directory into the cluster.
    Manifests,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Store => "store",
            Self::Apiserver => "apiserver",
            Self::Controllers => "controllers",
            Self::Scheduler => "scheduler",
            Self::Manifests => "manifests",
        })
    }
}

/// What of a master runs besides store and API server, which every master has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    /// Whether its controllers do.
    pub(crate) controllers: bool,
    /// Whether its scheduler does.
    pub(crate) scheduler: bool,
    /// Whether its directory of manifests is looked at.
    pub(crate) manifests: bool,
}

/// Parts that make no master.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PartsError {
    #[error(
        "{0} leaves out the store, and a master's API server works over its own member of it; `barque apiserver --etcd-servers` works \
         over another store"
    )]
    NoStore(&'static str),
    #[error(
        "{0} leaves out the API server, which everything else of a master speaks to; `barque store`, `barque controller-manager` and \
         `barque scheduler` are parts by themselves"
    )]
    NoApiserver(&'static str),
    #[error("--only and --without both say which parts run; give one of them")]
    Both,
    #[error("{flag} is for the part {part}, which {by} leaves out")]
    Flag { flag: &'static str, part: Part, by: &'static str },
}

/// Decides by the flags; `further` are the parts that flags were given for.
pub(crate) fn choose(
    only: &[Part],
    without: &[Part],
    further: &[(Part, &'static str)],
) -> Result<Parts, PartsError> {
    let by = match (only, without) {
        ([], _) => "--without",
        (_, []) => "--only",
        _ => return Err(PartsError::Both),
    };
    let runs = |part: Part| if only.is_empty() { !without.contains(&part) } else { only.contains(&part) };
    if !runs(Part::Store) {
        return Err(PartsError::NoStore(by));
    }
    if !runs(Part::Apiserver) {
        return Err(PartsError::NoApiserver(by));
    }
    if let Some((part, flag)) = further.iter().copied().find(|(part, _)| !runs(*part)) {
        return Err(PartsError::Flag { flag, part, by });
    }
    let (controllers, scheduler) = (runs(Part::Controllers), runs(Part::Scheduler));
    Ok(Parts { controllers, scheduler, manifests: runs(Part::Manifests) })
}

#[cfg(test)]
mod tests {
    use super::Part::{Apiserver, Controllers, Manifests, Scheduler, Store};
    use super::*;

    #[test]
    fn parts_run_as_the_flags_say() {
        let run = |controllers, scheduler, manifests| Ok(Parts { controllers, scheduler, manifests });
        type Case = (&'static [Part], &'static [Part], Result<Parts, PartsError>);
        let table: [Case; 11] = [
            (&[], &[], run(true, true, true)),
            (&[], &[Scheduler], run(true, false, true)),
            (&[], &[Controllers], run(false, true, true)),
            (&[], &[Controllers, Scheduler], run(false, false, true)),
            (&[], &[Manifests], run(true, true, false)),
            (&[Store, Apiserver], &[], run(false, false, false)),
            (&[Store, Apiserver, Scheduler], &[], run(false, true, false)),
            (&[], &[Store], Err(PartsError::NoStore("--without"))),
            (&[Apiserver, Scheduler], &[], Err(PartsError::NoStore("--only"))),
            (&[Store], &[], Err(PartsError::NoApiserver("--only"))),
            (&[Store], &[Scheduler], Err(PartsError::Both)),
        ];
        for (only, without, expected) in table {
            assert_eq!(choose(only, without, &[]), expected, "{only:?} {without:?}");
        }
    }

    #[test]
    fn a_flag_for_a_part_that_does_not_run_is_a_mistake() {
        let further = [(Scheduler, "--scheduler-arg")];
        assert!(choose(&[], &[Controllers], &further).is_ok());
        let told = choose(&[], &[Scheduler], &further).unwrap_err().to_string();
        assert_eq!(told, "--scheduler-arg is for the part scheduler, which --without leaves out");
    }
}
