//! Connections of clients joined with those of servers, and cut when a server is left out. Must never keep a client waiting for a
//! server that is not there.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::Server;
use super::choice::{Change, Pool};

/// How long a server may take to take a connection.
const CONNECT: Duration = Duration::from_secs(1);
/// What is read at once in each direction, in bytes.
const BUFFER: usize = 16 << 10;
/// Clients that are sent away come again and again: that is told once in this time.
const TELL: Duration = Duration::from_secs(1);

/// The servers, and who speaks to them.
#[derive(Debug)]
pub(super) struct Relay {
    servers: Vec<Server>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    pool: Pool,
    /// Cuts the connections that a server has now.
    cuts: Vec<CancellationToken>,
    told: Option<Instant>,
}

impl Relay {
    pub(super) fn new(servers: Vec<Server>) -> Self {
        let cuts = servers.iter().map(|_| CancellationToken::new()).collect();
        let state = State { pool: Pool::new(servers.len()), cuts, told: None };
        Self { servers, state: Mutex::new(state) }
    }

    pub(super) fn count(&self) -> usize {
        self.servers.len()
    }

    pub(super) fn server(&self, number: usize) -> &Server {
        &self.servers[number]
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.name.clone()).collect()
    }

    /// A server has answered, or has not.
    pub(super) fn probed(&self, number: usize, outcome: Result<(), String>) {
        let why = outcome.as_ref().err().cloned();
        let mut state = self.state.lock();
        let change = state.pool.probed(number, outcome);
        self.follow(&mut state, number, change, why.as_deref());
    }

    fn refused(&self, number: usize, why: String) {
        let mut state = self.state.lock();
        let change = state.pool.refused(number, why.clone());
        self.follow(&mut state, number, change, Some(&why));
    }

    fn follow(&self, state: &mut State, number: usize, change: Change, why: Option<&str>) {
        let name = &self.servers[number].name;
        match change {
            Change::None => {}
            Change::In => tracing::info!("{name} is ready and gets connections"),
            Change::Out => {
                let connections = state.pool.counts().nth(number).map_or(0, |(_, count)| count);
                tracing::warn!(
                    connections,
                    "{name} gets no connections, and those that it has are cut: it {}",
                    why.unwrap_or("is not ready")
                );
                std::mem::take(&mut state.cuts[number]).cancel();
            }
        }
    }

    /// Cuts every connection.
    pub(super) fn cut_all(&self) {
        for cut in &mut self.state.lock().cuts {
            std::mem::take(cut).cancel();
        }
    }

    /// Passes a connection on until one side ends it, or the server is left out.
    pub(super) async fn pass(&self, mut client: TcpStream) {
        while let Some((number, cut)) = self.choose() {
            let server = &self.servers[number];
            let connecting = TcpStream::connect((server.host.as_str(), server.port));
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(Ok(mut stream)) => {
                    // Small answers go at once; where that cannot be said, they go all the same.
                    let _ = client.set_nodelay(true);
                    let _ = stream.set_nodelay(true);
                    let passing =
                        tokio::io::copy_bidirectional_with_sizes(&mut client, &mut stream, BUFFER, BUFFER);
                    // How a connection ends is a matter of its two ends.
                    let _ = cut.run_until_cancelled(passing).await;
                    self.state.lock().pool.ended(number);
                    return;
                }
                Ok(Err(error)) => self.refused(number, format!("does not take connections: {error}")),
                Err(_) => {
                    self.refused(number, format!("took no connection within {}s", CONNECT.as_secs()));
                }
            }
            self.state.lock().pool.ended(number);
        }
        self.tell_that_nobody_is_there();
    }

    fn choose(&self) -> Option<(usize, CancellationToken)> {
        let mut state = self.state.lock();
        let number = state.pool.choose()?;
        Some((number, state.cuts[number].clone()))
    }

    fn tell_that_nobody_is_there(&self) {
        let mut state = self.state.lock();
        let now = Instant::now();
        if state.told.is_none_or(|told| now.duration_since(told) >= TELL) {
            state.told = Some(now);
            let story = state.pool.story(&self.names());
            tracing::warn!("a client is sent away, as no server is ready: {story}");
        }
    }
}
