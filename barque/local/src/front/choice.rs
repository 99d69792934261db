//! Which server a new connection goes to, by what probes and connections have told. Must never ask a server itself.

/// A server is left out when so many probes in a row have failed.
const FAILURES: u32 = 2;

/// What became of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Nothing that matters.
    None,
    /// It gets connections from now on.
    In,
    /// It gets none any more, and those that it has are cut.
    Out,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Server {
    is_in: bool,
    failures: u32,
    connections: usize,
    /// The last failure.
    why: String,
}

/// The servers, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pool(Vec<Server>);

impl Pool {
    /// So many servers, of which nothing is known yet.
    pub(super) fn new(count: usize) -> Self {
        let unknown =
            Server { is_in: false, failures: 0, connections: 0, why: "was not probed yet".to_owned() };
        Self(vec![unknown; count])
    }

    /// A server has answered a probe, or has not, with the reason.
    pub(super) fn probed(&mut self, number: usize, outcome: Result<(), String>) -> Change {
        let server = &mut self.0[number];
        match outcome {
            Ok(()) => {
                server.failures = 0;
                if std::mem::replace(&mut server.is_in, true) { Change::None } else { Change::In }
            }
            Err(why) => {
                server.why = why;
                server.failures = server.failures.saturating_add(1);
                let is_given_up = server.failures >= FAILURES;
                // Nobody is helped when the last one is left out: from it, clients hear at least what is missing.
                if is_given_up && self.another_is_in(number) { self.leave_out(number) } else { Change::None }
            }
        }
    }

    /// A server did not take a connection.
    pub(super) fn refused(&mut self, number: usize, why: String) -> Change {
        let server = &mut self.0[number];
        server.why = why;
        server.failures = FAILURES;
        self.leave_out(number)
    }

    fn another_is_in(&self, number: usize) -> bool {
        self.0.iter().enumerate().any(|(other, server)| other != number && server.is_in)
    }

    fn leave_out(&mut self, number: usize) -> Change {
        if std::mem::replace(&mut self.0[number].is_in, false) { Change::Out } else { Change::None }
    }

    /// The server with the fewest connections of those that get any; it has one more. Who has just failed to answer comes after
    /// those that have not.
    pub(super) fn choose(&mut self) -> Option<usize> {
        let (number, server) = self
            .0
            .iter_mut()
            .enumerate()
            .filter(|(_, server)| server.is_in)
            .min_by_key(|(_, one)| (one.failures > 0, one.connections))?;
        server.connections += 1;
        Some(number)
    }

    /// A connection to a server has ended.
    pub(super) fn ended(&mut self, number: usize) {
        let server = &mut self.0[number];
        server.connections = server.connections.saturating_sub(1);
    }

    /// Each server, as text, with why it gets no connections.
    pub(super) fn story(&self, names: &[String]) -> String {
        let each = names.iter().zip(&self.0).map(|(name, server)| format!("{name} ({})", server.why));
        each.collect::<Vec<_>>().join(", ")
    }

    /// Connections, server by server, with whether it gets new ones.
    pub(super) fn counts(&self) -> impl Iterator<Item = (bool, usize)> {
        self.0.iter().map(|server| (server.is_in, server.connections))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed() -> Result<(), String> {
        Err("it says nothing".to_owned())
    }

    #[test]
    fn one_failure_is_forgiven_and_one_success_is_enough() {
        let mut pool = Pool::new(2);
        assert_eq!((pool.choose(), pool.probed(0, Ok(()))), (None, Change::In));
        assert_eq!(pool.probed(1, Ok(())), Change::In);
        for (outcome, change) in [
            (failed(), Change::None),
            (Ok(()), Change::None),
            (failed(), Change::None),
            (failed(), Change::Out),
            (failed(), Change::None),
            (Ok(()), Change::In),
        ] {
            assert_eq!(pool.probed(0, outcome.clone()), change, "{outcome:?}");
        }
    }

    #[test]
    fn the_last_one_stays_until_there_is_another_one() {
        let mut pool = Pool::new(2);
        assert_eq!(pool.probed(0, Ok(())), Change::In);
        for _ in 0..3 {
            assert_eq!(pool.probed(0, failed()), Change::None);
        }
        assert_eq!(pool.choose(), Some(0));
        assert_eq!(pool.probed(1, Ok(())), Change::In);
        assert_eq!(pool.probed(0, failed()), Change::Out);
    }

    #[test]
    fn who_has_just_failed_gets_no_new_connections_while_others_answer() {
        let mut pool = Pool::new(2);
        for number in [0, 1] {
            assert_eq!(pool.probed(number, Ok(())), Change::In);
        }
        assert_eq!(pool.probed(0, failed()), Change::None);
        assert_eq!([pool.choose(), pool.choose()], [Some(1), Some(1)]);
        assert_eq!(pool.probed(0, Ok(())), Change::None);
        assert_eq!(pool.choose(), Some(0));
    }

    #[test]
    fn a_connection_that_is_refused_tells_at_once() {
        let mut pool = Pool::new(1);
        assert_eq!(pool.probed(0, Ok(())), Change::In);
        assert_eq!(pool.refused(0, "refused".to_owned()), Change::Out);
        assert_eq!(pool.refused(0, "refused".to_owned()), Change::None);
        assert_eq!(pool.choose(), None);
    }

    #[test]
    fn connections_go_where_the_fewest_are() {
        let mut pool = Pool::new(3);
        for number in [0, 2] {
            let _ = pool.probed(number, Ok(()));
        }
        let chosen: Vec<_> = (0..4).map(|_| pool.choose()).collect();
        assert_eq!(chosen, [Some(0), Some(2), Some(0), Some(2)], "1 is not ready");
        pool.ended(2);
        assert_eq!(pool.choose(), Some(2));
        assert_eq!(pool.probed(1, Ok(())), Change::In);
        assert_eq!(pool.choose(), Some(1));
        assert_eq!(pool.counts().collect::<Vec<_>>(), [(true, 2), (true, 1), (true, 2)]);
    }

    #[test]
    fn when_nobody_is_there_each_is_told() {
        let mut pool = Pool::new(2);
        let _ = pool.probed(1, failed());
        let names = ["a:1".to_owned(), "b:2".to_owned()];
        assert_eq!(pool.story(&names), "a:1 (was not probed yet), b:2 (it says nothing)");
    }
}
