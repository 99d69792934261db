//! Runs a load: one thread, a few connections, `poll`. Owns sockets and the clock; what to ask is the
//! workload's matter. No task, waker or channel stands between a received answer and the next request.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::feed::Feed;
use super::grpc::{Event, Input, Session, Status, StreamId};
use super::stats::{CpuTimes, Stats};
use super::workload::{Outcome, WATCH, Workload};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const INPUT_BYTES: usize = 512 << 10;
/// Tags with this bit are streams of the feed.
const FEED_TAG: u32 = 1 << 31;
/// How long a client rests after an error, and a lost connection between attempts.
const REST_NS: u64 = 10_000_000;
const RECONNECT_NS: u64 = 100_000_000;
const CHECK_NS: u64 = 200_000_000;

/// When a run is over.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    /// After so many operations.
    Operations(u64),
    /// After a warm-up that is not measured, and the time that is.
    Time { warm_up: Duration, measured: Duration },
}

/// How to run.
pub(super) struct Plan<'a> {
    /// host:port of each connection; clients go round them.
    pub(super) connections: Vec<String>,
    pub(super) clients: usize,
    pub(super) limit: Limit,
    /// Operations per second offered whatever the servers do; `None` is a closed loop.
    pub(super) rate: Option<f64>,
    pub(super) timeout: Duration,
    pub(super) server_pids: &'a [u32],
    pub(super) progress: &'a ProgressBar,
}

/// What came of it.
pub(super) struct Measured {
    pub(super) stats: Stats,
    pub(super) elapsed: Duration,
    pub(super) cpu: CpuTimes,
}

struct Connection {
    endpoint: String,
    socket: Option<TcpStream>,
    session: Session,
    input: Input,
    retry_ns: u64,
}

struct Client {
    connection: usize,
    /// The client's stream of requests, if its workload uses one.
    stream: Option<StreamId>,
    started_ns: u64,
    busy: bool,
    outcome: Option<Outcome>,
}

struct Load<'a> {
    workload: &'a mut dyn Workload,
    clients: Vec<Client>,
    idle: VecDeque<usize>,
    resting: VecDeque<(u64, usize)>,
    closed_loop: bool,
    started: u64,
    ended: u64,
    most: u64,
    request: Vec<u8>,
    feed: Option<Feed>,
    stats: Stats,
}

/// Opens a connection and waits until it can carry calls.
fn connect(endpoint: &str) -> Result<(TcpStream, Session, Input)> {
    let address = endpoint
        .to_socket_addrs()
        .with_context(|| format!("the endpoint {endpoint:?} is no host:port that resolves"))?
        .next()
        .with_context(|| format!("the endpoint {endpoint:?} has no address"))?;
    let mut socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)
        .with_context(|| format!("cannot connect to {endpoint}: is a server running there?"))?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
    let mut session = Session::new(endpoint.to_owned());
    let mut input = Input::new(INPUT_BYTES);
    socket.write_all(session.output())?;
    session.output().clear();
    while !session.ready() {
        let read =
            socket.read(input.space()).with_context(|| format!("{endpoint} does not answer in HTTP/2"))?;
        if read == 0 {
            bail!("{endpoint} closed the connection at once: does it want TLS?");
        }
        input.filled(read);
        session.next_event(&mut input).with_context(|| format!("{endpoint} is no gRPC server"))?;
    }
    Ok((socket, session, input))
}

/// One call on a connection of its own.
pub(super) fn call_once(endpoint: &str, path: &'static str, request: &[u8]) -> Result<Vec<u8>> {
    let (mut socket, mut session, mut input) = connect(endpoint)?;
    session.open(path, 0, request, true);
    let mut answer = Vec::new();
    loop {
        if !session.output().is_empty() {
            socket.write_all(session.output())?;
            session.output().clear();
        }
        while let Some(event) = session.next_event(&mut input)? {
            match event {
                Event::Message { body, .. } => answer = body.bytes(&input).to_vec(),
                Event::End { failure: None, .. } => return Ok(answer),
                Event::End { failure: Some(status), .. } => bail!("{endpoint}: {}", error_text(&status)),
            }
        }
        let read = socket.read(input.space()).with_context(|| format!("{endpoint} does not answer"))?;
        if read == 0 {
            bail!("{endpoint} closed the connection");
        }
        input.filled(read);
    }
}

fn error_text(status: &Status) -> String {
    format!("{} (gRPC code {})", status.message, status.code)
}

impl Load<'_> {
    fn may_start(&self) -> bool {
        self.started < self.most
    }

    /// Starts an operation of an idle client.
    fn start(&mut self, client: usize, intended_ns: u64, now_ns: u64, session: &mut Session) {
        self.started += 1;
        self.clients[client].started_ns = intended_ns;
        self.clients[client].busy = true;
        self.call(client, true, now_ns, session);
    }

    fn call(&mut self, client: usize, fresh: bool, now_ns: u64, session: &mut Session) {
        self.request.clear();
        let call = self.workload.call(client, fresh, now_ns, &mut self.request);
        let state = &mut self.clients[client];
        state.outcome = None;
        match state.stream {
            Some(stream) if call.streaming => session.send_message(stream, &self.request),
            _ => {
                let stream = session.open(call.path, client as u32, &self.request, !call.streaming);
                state.stream = if call.streaming { stream } else { None };
            }
        }
    }

    fn handle(&mut self, event: Event, now_ns: u64, session: &mut Session, input: &Input) {
        match event {
            Event::Message { tag, body } => {
                if tag & FEED_TAG != 0 {
                    if let Some(feed) = &mut self.feed {
                        feed.receive(body.bytes(input), now_ns, &mut self.stats);
                    }
                } else {
                    let client = tag as usize;
                    let outcome = self.workload.answer(client, body.bytes(input));
                    self.clients[client].outcome = Some(outcome);
                    if self.clients[client].stream.is_some() {
                        self.conclude(client, outcome, now_ns, session);
                    }
                }
                session.recycle(body);
            }
            Event::End { tag, failure } if tag & FEED_TAG != 0 => {
                let text = failure.map_or("ended by the server".to_owned(), |status| error_text(&status));
                self.stats.error(&format!("watch stream: {text}"));
            }
            Event::End { tag, failure } => {
                let client = tag as usize;
                let streaming = self.clients[client].stream.take().is_some();
                if !self.clients[client].busy {
                    return;
                }
                match (failure, self.clients[client].outcome) {
                    (None, Some(outcome)) if !streaming => self.conclude(client, outcome, now_ns, session),
                    (None, _) => self.fail(client, "the call ended without an answer", now_ns),
                    (Some(status), _) => self.fail(client, &error_text(&status), now_ns),
                }
            }
        }
    }

    fn conclude(&mut self, client: usize, outcome: Outcome, now_ns: u64, session: &mut Session) {
        match outcome {
            Outcome::Again => self.call(client, false, now_ns, session),
            Outcome::Failed(text) => self.fail(client, text, now_ns),
            Outcome::Done(kind) => {
                let state = &mut self.clients[client];
                self.stats.done(kind, now_ns.saturating_sub(state.started_ns));
                state.busy = false;
                self.ended += 1;
                if !self.closed_loop {
                    self.idle.push_back(client);
                } else if self.may_start() {
                    self.start(client, now_ns, now_ns, session);
                }
            }
        }
    }

    fn fail(&mut self, client: usize, text: &str, now_ns: u64) {
        self.stats.error(text);
        self.clients[client].busy = false;
        self.ended += 1;
        self.resting.push_back((now_ns + REST_NS, client));
    }
}

struct Driver<'a> {
    clock: Instant,
    connections: Vec<Connection>,
    load: Load<'a>,
}

impl Driver<'_> {
    fn now_ns(&self) -> u64 {
        self.clock.elapsed().as_nanos() as u64
    }

    fn open_feed(&mut self, only: Option<usize>) {
        let Some(feed) = &self.load.feed else { return };
        let count = self.connections.len();
        for n in 0..feed.streams {
            if only.is_some_and(|connection| connection != n % count) {
                continue;
            }
            let session = &mut self.connections[n % count].session;
            let stream = session.open(WATCH, FEED_TAG | n as u32, &feed.request, false);
            match stream {
                Some(stream) => {
                    for _ in 1..feed.watchers_on(n) {
                        session.send_message(stream, &feed.request);
                    }
                }
                None => self.load.stats.error("the server allows too few streams: give more --connections"),
            }
        }
    }

    fn start_all(&mut self) {
        let now_ns = self.now_ns();
        for client in 0..self.load.clients.len() {
            if !self.load.closed_loop {
                self.load.idle.push_back(client);
            } else if self.load.may_start() {
                let session = &mut self.connections[self.load.clients[client].connection].session;
                self.load.start(client, now_ns, now_ns, session);
            }
        }
    }

    fn wake_rested(&mut self, now_ns: u64) {
        while self.load.resting.front().is_some_and(|(at, _)| *at <= now_ns) {
            let Some((_, client)) = self.load.resting.pop_front() else { return };
            let connection = &mut self.connections[self.load.clients[client].connection];
            if connection.socket.is_none() {
                self.load.resting.push_back((now_ns + REST_NS, client));
            } else if !self.load.closed_loop {
                self.load.idle.push_back(client);
            } else if self.load.may_start() {
                self.load.start(client, now_ns, now_ns, &mut connection.session);
            }
        }
    }

    fn check_timeouts(&mut self, now_ns: u64, timeout_ns: u64) {
        for client in 0..self.load.clients.len() {
            let state = &self.load.clients[client];
            if state.busy && now_ns.saturating_sub(state.started_ns) > timeout_ns {
                let session = &mut self.connections[state.connection].session;
                session.cancel(client as u32);
                self.load.clients[client].stream = None;
                self.load.fail(client, "no answer in time (--timeout)", now_ns);
            }
        }
    }

    fn lost(&mut self, connection: usize, text: &str) {
        let now_ns = self.now_ns();
        self.connections[connection].socket = None;
        self.connections[connection].retry_ns = now_ns + RECONNECT_NS;
        for client in 0..self.load.clients.len() {
            if self.load.clients[client].connection == connection {
                self.load.clients[client].stream = None;
                if self.load.clients[client].busy {
                    self.load.fail(client, text, now_ns);
                }
            }
        }
    }

    fn reconnect(&mut self, now_ns: u64) {
        for n in 0..self.connections.len() {
            let connection = &mut self.connections[n];
            if connection.socket.is_some() || connection.retry_ns > now_ns {
                continue;
            }
            match connect(&connection.endpoint).and_then(|(socket, session, input)| {
                socket.set_nonblocking(true)?;
                Ok((socket, session, input))
            }) {
                Ok((socket, session, input)) => {
                    (connection.session, connection.input) = (session, input);
                    connection.socket = Some(socket);
                    self.open_feed(Some(n));
                }
                Err(_) => connection.retry_ns = now_ns + RECONNECT_NS,
            }
        }
    }

    fn write(&mut self, n: usize) {
        let Connection { socket: Some(socket), session, .. } = &mut self.connections[n] else { return };
        let output = session.output();
        let mut sent = 0;
        while sent < output.len() {
            match socket.write(&output[sent..]) {
                Ok(bytes) => sent += bytes,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return self.lost(n, &format!("connection lost: {}", error.kind())),
            }
        }
        if sent == output.len() {
            output.clear();
        } else {
            output.drain(..sent);
        }
    }

    fn read(&mut self, n: usize) {
        loop {
            let Connection { socket: Some(socket), session, input, .. } = &mut self.connections[n] else {
                return;
            };
            let space = input.space();
            let room = space.len();
            let read = match socket.read(space) {
                Ok(0) => return self.lost(n, "connection lost: closed by the server"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => return self.lost(n, &format!("connection lost: {}", error.kind())),
            };
            input.filled(read);
            let now_ns = self.clock.elapsed().as_nanos() as u64;
            loop {
                match session.next_event(input) {
                    Ok(Some(event)) => self.load.handle(event, now_ns, session, input),
                    Ok(None) => break,
                    Err(error) => return self.lost(n, &format!("connection lost: {error}")),
                }
            }
            if session.exhausted() {
                return self.lost(n, "connection replaced: its streams are used up");
            }
            if read < room {
                return;
            }
        }
    }

    /// Sends what is to be sent, waits for bytes or until `wake_ns`, and handles them.
    fn turn(&mut self, wake_ns: u64) -> Result<()> {
        for n in 0..self.connections.len() {
            if !self.connections[n].session.output().is_empty() {
                self.write(n);
            }
        }
        let wait = Duration::from_nanos(wake_ns.saturating_sub(self.now_ns()));
        let timeout = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
        let mut ready = [false; 64];
        {
            let mut polled = Vec::with_capacity(self.connections.len());
            let mut numbers = Vec::with_capacity(self.connections.len());
            for (n, connection) in self.connections.iter_mut().enumerate() {
                if let Some(socket) = &connection.socket {
                    let blocked = !connection.session.output().is_empty();
                    let flags = if blocked { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
                    polled.push(PollFd::new(socket, flags));
                    numbers.push(n);
                }
            }
            match poll(&mut polled, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("cannot wait for the connections"),
            }
            for (polled, n) in polled.iter().zip(numbers) {
                ready[n] = polled.revents().intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR);
            }
        }
        for (n, ready) in ready.iter().enumerate().take(self.connections.len()) {
            if *ready {
                self.read(n);
                if !self.connections[n].session.output().is_empty() {
                    self.write(n);
                }
            }
        }
        Ok(())
    }
}

/// Most connections of one run.
pub(super) const MOST_CONNECTIONS: usize = 64;

/// Runs `workload` as planned, with the watches of `feed` beside it.
pub(super) fn run(plan: &Plan<'_>, workload: &mut dyn Workload, feed: Option<Feed>) -> Result<Measured> {
    let mut connections = Vec::new();
    for endpoint in &plan.connections {
        let (socket, session, input) = connect(endpoint)?;
        socket.set_nonblocking(true)?;
        connections.push(Connection {
            endpoint: endpoint.clone(),
            socket: Some(socket),
            session,
            input,
            retry_ns: 0,
        });
    }
    let clients = (0..plan.clients)
        .map(|n| Client {
            connection: n % connections.len(),
            stream: None,
            started_ns: 0,
            busy: false,
            outcome: None,
        })
        .collect();
    let stats = Stats::new(workload.kinds());
    let most = match plan.limit {
        Limit::Operations(most) => most,
        Limit::Time { .. } => u64::MAX,
    };
    let load = Load {
        workload,
        clients,
        idle: VecDeque::new(),
        resting: VecDeque::new(),
        closed_loop: plan.rate.is_none(),
        started: 0,
        ended: 0,
        most,
        request: Vec::new(),
        feed,
        stats,
    };
    let mut driver = Driver { clock: Instant::now(), connections, load };
    let timeout_ns = plan.timeout.as_nanos() as u64;

    driver.open_feed(None);
    while let Some(feed) = &driver.load.feed
        && feed.created < feed.watchers
    {
        if let Some(text) = driver.load.stats.errors.keys().next() {
            bail!("the watches cannot be made: {text}");
        }
        if driver.now_ns() > timeout_ns {
            bail!("only {} of {} watches were made within --timeout", feed.created, feed.watchers);
        }
        driver.turn(driver.now_ns() + CHECK_NS)?;
    }

    let begin_ns = driver.now_ns();
    let (mut measured_from_ns, end_ns) = match plan.limit {
        Limit::Operations(_) => (begin_ns, u64::MAX),
        Limit::Time { warm_up, measured } => {
            let from = begin_ns + warm_up.as_nanos() as u64;
            (from, from + measured.as_nanos() as u64)
        }
    };
    let mut cpu = None;
    let mut check_ns = begin_ns + CHECK_NS;
    let interval_ns = plan.rate.map(|rate| 1e9 / rate);
    let mut offered = 0u64;
    driver.start_all();
    loop {
        let now_ns = driver.now_ns();
        if cpu.is_none() && now_ns >= measured_from_ns {
            driver.load.stats.reset();
            measured_from_ns = now_ns;
            cpu = Some(CpuTimes::now(plan.server_pids));
        }
        if now_ns >= end_ns || driver.load.ended >= driver.load.most {
            break;
        }
        let mut wake_ns = check_ns.min(end_ns);
        if cpu.is_none() {
            wake_ns = wake_ns.min(measured_from_ns);
        }
        if let Some(interval_ns) = interval_ns {
            loop {
                let due_ns = begin_ns + (offered as f64 * interval_ns) as u64;
                if !driver.load.may_start() || driver.load.idle.is_empty() {
                    break;
                }
                if due_ns > now_ns {
                    wake_ns = wake_ns.min(due_ns);
                    break;
                }
                let Some(client) = driver.load.idle.pop_front() else { break };
                offered += 1;
                let connection = &mut driver.connections[driver.load.clients[client].connection];
                if connection.socket.is_none() {
                    driver.load.stats.error("connection lost: not offered");
                    driver.load.resting.push_back((now_ns + REST_NS, client));
                    continue;
                }
                driver.load.start(client, due_ns, now_ns, &mut connection.session);
            }
        }
        driver.wake_rested(now_ns);
        if let Some((at, _)) = driver.load.resting.front() {
            wake_ns = wake_ns.min(*at);
        }
        if now_ns >= check_ns {
            check_ns = now_ns + CHECK_NS;
            driver.check_timeouts(now_ns, timeout_ns);
            driver.reconnect(now_ns);
            show(plan, &driver, now_ns.saturating_sub(begin_ns));
        }
        driver.turn(wake_ns)?;
    }
    let used = CpuTimes::now(plan.server_pids).since(&cpu.unwrap_or_default());
    plan.progress.finish_and_clear();
    let elapsed = Duration::from_nanos(driver.now_ns().saturating_sub(measured_from_ns));
    Ok(Measured { stats: driver.load.stats, elapsed, cpu: used })
}

fn show(plan: &Plan<'_>, driver: &Driver<'_>, elapsed_ns: u64) {
    match plan.limit {
        Limit::Operations(_) => plan.progress.set_position(driver.load.ended),
        Limit::Time { .. } => plan.progress.set_position(elapsed_ns / 1_000_000),
    }
    let errors: u64 = driver.load.stats.errors.values().sum();
    plan.progress.set_message(format!("{} operations, {errors} errors", driver.load.ended));
}
