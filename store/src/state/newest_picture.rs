//! Reading the whole of the newest picture, though history that memory gave up may be compacted meanwhile: then
//! reading begins again with the then newest one. Never mixes two pictures.

use std::cell::Cell;

use super::published::{Picture, Published};
use crate::command::CommandError;
use crate::stored::StoredVersion;

/// Sees whether history was compacted while it was read.
#[derive(Default)]
pub struct Watched(Cell<bool>);

impl Watched {
    /// The same items.
    pub fn watch(
        &self,
        items: impl Iterator<Item = Result<StoredVersion, CommandError>>,
    ) -> impl Iterator<Item = Result<StoredVersion, CommandError>> {
        items.inspect(|item| {
            if matches!(item, Err(CommandError::Compacted)) {
                self.0.set(true);
            }
        })
    }
}

/// Has `write` write the newest picture; again from the then newest one when history that it read was compacted
/// meanwhile, at most `attempts` times in all.
///
/// # Errors
/// What `write` says.
pub fn from_newest_picture<T, E>(
    published: &Published,
    attempts: usize,
    write: impl Fn(&Picture, &Watched) -> Result<T, E>,
) -> Result<T, E> {
    let mut attempt = 1;
    loop {
        let watched = Watched::default();
        match write(&published.picture(), &watched) {
            Err(_) if watched.0.get() && attempt < attempts => attempt += 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::mvcc::builder::KeyspaceBuilder;
    use crate::mvcc::keyspace::Config;
    use crate::raft::state_machine::StateMachine;
    use crate::state::State;
    use crate::stored::StateMeta;

    /// Writes fail as `errors` says; how often there was a try, and the last answer.
    fn tried(attempts: usize, errors: &[Option<CommandError>]) -> (usize, Result<(), ()>) {
        let meta = StateMeta::default();
        let keyspace = KeyspaceBuilder::new(meta.revision, meta.compact_revision, Config::default(), None);
        let state = State::restore(keyspace.finish(), &meta);
        let published = Published::new(StateMachine::picture(&state, None, &Arc::from([]), None));
        let tries = Cell::new(0);
        let answer = from_newest_picture(&published, attempts, |_, watched| {
            let error = errors[tries.get()].clone();
            tries.set(tries.get() + 1);
            watched.watch(error.into_iter().map(Err)).try_for_each(|item| item.map(drop)).map_err(drop)
        });
        (tries.get(), answer)
    }

    #[test]
    fn only_a_compaction_is_a_reason_to_begin_again() {
        let compacted = || Some(CommandError::Compacted);
        let broken = || Some(CommandError::History("the disk".to_owned()));
        assert_eq!(tried(3, &[None]), (1, Ok(())));
        assert_eq!(tried(3, &[compacted(), compacted(), None]), (3, Ok(())));
        assert_eq!(tried(3, &[compacted(), compacted(), compacted(), None]), (3, Err(())));
        assert_eq!(tried(3, &[compacted(), broken(), None]), (2, Err(())));
        assert_eq!(
            tried(usize::MAX, &[compacted(), compacted(), compacted(), compacted(), None]),
            (5, Ok(()))
        );
    }
}
