//! The network between simulated machines: byte streams as TCP gives them, over links that are slow, stall, are cut in one
//! direction or both, and break.
//!
//! What is written arrives whole and in order, or the connection breaks: that is what TCP promises, and what members rely
//! on. A lost packet is a delay of all that comes behind it. Messages overtake each other and arrive twice where they do
//! in life: on different connections, and when a call is made again. Time is the cluster's, handed in with
//! [`Network::deliver`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use barque_store::raft::dial::{Connection, Dial};
use barque_store::tls::ConnectError;
use bytes::{Buf as _, Bytes};
use futures::Stream;
use futures::future::{BoxFuture, FutureExt as _};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::codegen::http::Uri;
use tonic::transport::server::Connected;

/// What a socket holds that its reader has not taken.
const SOCKET_BYTES: usize = 256 << 10;
/// A lost packet is sent again after so long.
const RETRANSMIT_MS: u64 = 200;
/// Between two attempts to reach a machine that does not answer.
const SYN_MS: u64 = 200;
/// Attempts to connect end after so long.
const CONNECT_MS: u64 = 1000;

/// A machine on the network.
pub type Place = usize;

/// How a link behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkQuality {
    /// The least delay.
    pub delay_ms: u64,
    /// At most so much more, drawn for each packet.
    pub jitter_ms: u64,
    /// Part of the packets that are lost and sent again.
    pub loss: f64,
    /// Nothing arrives.
    pub cut: bool,
}

impl LinkQuality {
    /// As in one data centre.
    pub const GOOD: Self = Self { delay_ms: 2, jitter_ms: 4, loss: 0.0, cut: false };
}

#[derive(Debug)]
enum Segment {
    Data(Bytes),
    /// The other end is gone: nothing more comes, and nothing more is taken.
    Gone,
}

/// One direction of a connection.
#[derive(Debug)]
struct Pipe {
    from: Place,
    to: Place,
    /// The pipe of the other direction.
    opposite: u64,
    under_way: VecDeque<(u64, Segment)>,
    arrived: VecDeque<Bytes>,
    bytes: usize,
    /// No more comes out of it.
    ended: bool,
    /// Nothing goes into it any more.
    closed: bool,
    /// Nobody reads what arrived.
    abandoned: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Pipe {
    /// Who waits for this pipe, to be woken.
    fn waiting(&mut self) -> impl Iterator<Item = Waker> + use<> {
        [self.reader.take(), self.writer.take()].into_iter().flatten()
    }
}

#[derive(Debug, Default)]
struct Port {
    waiting: VecDeque<SimStream>,
    acceptor: Option<Waker>,
}

#[derive(Debug)]
struct State {
    now_ms: u64,
    chance: StdRng,
    links: BTreeMap<(Place, Place), LinkQuality>,
    pipes: BTreeMap<u64, Pipe>,
    next_pipe: u64,
    /// Who listens; a machine that is not here refuses.
    ports: BTreeMap<Place, Port>,
    /// Machines without power: they answer nothing, and what they wrote is not sent.
    dark: BTreeMap<Place, bool>,
    delivered: u64,
    /// To be woken, and to be dropped, when the lock is given back: both may come back here.
    to_wake: Vec<Waker>,
    to_drop: Vec<Port>,
}

/// The state, locked.
struct Locked<'a>(Option<MutexGuard<'a, State>>);

impl std::ops::Deref for Locked<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        self.0.as_ref().expect("taken only when dropped")
    }
}

impl std::ops::DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut State {
        self.0.as_mut().expect("taken only when dropped")
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (to_wake, to_drop) = (std::mem::take(&mut self.to_wake), std::mem::take(&mut self.to_drop));
        self.0 = None;
        to_wake.into_iter().for_each(Waker::wake);
        drop(to_drop);
    }
}

/// The network. Clones share it.
#[derive(Clone, Debug)]
pub struct Network(Arc<Mutex<State>>);

impl Network {
    /// Without machines.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(State {
            now_ms: 0,
            chance: StdRng::seed_from_u64(seed),
            links: BTreeMap::new(),
            pipes: BTreeMap::new(),
            next_pipe: 0,
            ports: BTreeMap::new(),
            dark: BTreeMap::new(),
            delivered: 0,
            to_wake: Vec::new(),
            to_drop: Vec::new(),
        })))
    }

    fn state(&self) -> Locked<'_> {
        Locked(Some(self.0.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Packets that arrived so far.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.state().delivered
    }

    /// Changes one direction between two machines.
    pub fn set_link(&self, from: Place, to: Place, quality: LinkQuality) {
        self.state().links.insert((from, to), quality);
    }

    /// How one direction is.
    #[must_use]
    pub fn link(&self, from: Place, to: Place) -> LinkQuality {
        self.state().link(from, to)
    }

    /// All links are good again.
    pub fn heal(&self) {
        self.state().links.clear();
    }

    /// Brings what is due at `now_ms` to its readers.
    pub fn deliver(&self, now_ms: u64) {
        let mut state = self.state();
        state.now_ms = now_ms;
        let ids: Vec<u64> = state.pipes.keys().copied().collect();
        for id in ids {
            state.deliver_to(id, now_ms);
        }
        let over = |pipe: &Pipe| pipe.ended && pipe.closed && (pipe.abandoned || pipe.arrived.is_empty());
        state.pipes.retain(|_, pipe| !over(pipe));
    }

    /// Breaks the connections between two machines: what is under way is lost, and both ends learn of it.
    pub fn break_connections(&self, one: Place, other: Place) {
        let mut state = self.state();
        let state = &mut *state;
        for pipe in state.pipes.values_mut() {
            if (pipe.from, pipe.to) == (one, other) || (pipe.from, pipe.to) == (other, one) {
                pipe.under_way.clear();
                pipe.arrived.clear();
                (pipe.ended, pipe.closed) = (true, true);
                state.to_wake.extend(pipe.waiting());
            }
        }
    }

    /// Listens at a machine; ends when the stream is dropped.
    #[must_use]
    pub fn listen(&self, at: Place) -> Incoming {
        let mut state = self.state();
        let before = state.ports.insert(at, Port::default());
        state.to_drop.extend(before);
        drop(state);
        Incoming { network: self.clone(), at }
    }

    /// A machine loses its power: nothing that it still writes is sent, and nobody is told.
    pub fn lose_power(&self, at: Place) {
        let mut state = self.state();
        state.dark.insert(at, true);
        let port = state.ports.remove(&at);
        state.to_drop.extend(port);
    }

    /// The process at a machine ended; its connections are closed by the system when they are dropped.
    pub fn process_ended(&self, at: Place) {
        let mut state = self.state();
        let port = state.ports.remove(&at);
        state.to_drop.extend(port);
    }

    /// A machine is on again. Who wrote to it before it went off learns that nobody knows of the connection.
    pub fn power_on(&self, at: Place) {
        let mut state = self.state();
        if state.dark.remove(&at).is_none() {
            return;
        }
        let due = state.now_ms + RETRANSMIT_MS;
        for pipe in state.pipes.values_mut() {
            if pipe.from == at {
                pipe.under_way.push_back((due, Segment::Gone));
                pipe.closed = true;
            }
            if pipe.to == at {
                pipe.under_way.clear();
                (pipe.ended, pipe.abandoned) = (true, true);
            }
        }
    }

    /// The way from a machine to the others.
    #[must_use]
    pub fn dial_from(&self, from: Place) -> SimDial {
        SimDial { network: self.clone(), from }
    }

    fn connect(&self, from: Place, to: Place) -> Option<SimStream> {
        let mut state = self.state();
        let (forth, back) = (state.next_pipe, state.next_pipe + 1);
        state.next_pipe += 2;
        state.ports.get(&to)?;
        for (id, from, to, opposite) in [(forth, from, to, back), (back, to, from, forth)] {
            let pipe = Pipe {
                from,
                to,
                opposite,
                under_way: VecDeque::new(),
                arrived: VecDeque::new(),
                bytes: 0,
                ended: false,
                closed: false,
                abandoned: false,
                reader: None,
                writer: None,
            };
            state.pipes.insert(id, pipe);
        }
        let accepted = SimStream { network: self.clone(), incoming: forth, outgoing: back };
        let port = state.ports.get_mut(&to)?;
        port.waiting.push_back(accepted);
        let acceptor = port.acceptor.take();
        state.to_wake.extend(acceptor);
        drop(state);
        Some(SimStream { network: self.clone(), incoming: back, outgoing: forth })
    }
}

/// What happens to an attempt to connect.
enum Attempt {
    NoAnswer,
    Refused,
    Connected(SimStream),
}

impl State {
    fn link(&self, from: Place, to: Place) -> LinkQuality {
        self.links.get(&(from, to)).copied().unwrap_or(LinkQuality::GOOD)
    }

    fn draw_delay(&mut self, from: Place, to: Place) -> u64 {
        let link = self.link(from, to);
        let mut delay = link.delay_ms + self.chance.random_range(0..=link.jitter_ms);
        while self.chance.random_bool(link.loss) {
            delay += RETRANSMIT_MS;
        }
        delay
    }

    fn deliver_to(&mut self, id: u64, now_ms: u64) {
        let Some(pipe) = self.pipes.get(&id) else { return };
        if self.link(pipe.from, pipe.to).cut || self.dark.contains_key(&pipe.to) {
            return;
        }
        let Some(pipe) = self.pipes.get_mut(&id) else { return };
        let mut gone = None;
        let mut came = false;
        while pipe.under_way.front().is_some_and(|(due, _)| *due <= now_ms) {
            came = true;
            self.delivered += 1;
            match pipe.under_way.pop_front() {
                Some((_, Segment::Data(bytes))) => pipe.arrived.push_back(bytes),
                Some((_, Segment::Gone)) | None => {
                    pipe.ended = true;
                    gone = Some(pipe.opposite);
                }
            }
        }
        if came {
            self.to_wake.extend(pipe.waiting());
        }
        // Who is gone takes nothing any more.
        if let Some(opposite) = gone.and_then(|opposite| self.pipes.get_mut(&opposite)) {
            opposite.closed = true;
            self.to_wake.extend(opposite.waiting());
        }
    }
}

/// Connections that come in.
#[derive(Debug)]
pub struct Incoming {
    network: Network,
    at: Place,
}

impl Stream for Incoming {
    type Item = io::Result<SimStream>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.network.state();
        let state = &mut *state;
        let Some(port) = state.ports.get_mut(&self.at) else { return Poll::Ready(None) };
        match port.waiting.pop_front() {
            Some(stream) => Poll::Ready(Some(Ok(stream))),
            None => {
                await_pipe(&mut port.acceptor, cx, &mut state.to_wake);
                Poll::Pending
            }
        }
    }
}

/// Connects from one machine to others, whose URLs are `http://m<place>:2380`.
#[derive(Clone, Debug)]
pub struct SimDial {
    network: Network,
    from: Place,
}

/// The URL of the member at a machine.
#[must_use]
pub fn url_of(place: Place) -> String {
    format!("http://m{place}:2380")
}

fn place_of(uri: &Uri) -> Option<Place> {
    uri.host()?.strip_prefix('m')?.parse().ok()
}

impl SimDial {
    async fn attempt(&self, to: Place) -> Attempt {
        let round_trip = {
            let mut state = self.network.state();
            state.draw_delay(self.from, to) + state.draw_delay(to, self.from)
        };
        tokio::time::sleep(Duration::from_millis(round_trip)).await;
        {
            let state = self.network.state();
            let silent = state.dark.contains_key(&to) || state.dark.contains_key(&self.from);
            if silent || state.link(self.from, to).cut || state.link(to, self.from).cut {
                return Attempt::NoAnswer;
            }
        }
        self.network.connect(self.from, to).map_or(Attempt::Refused, Attempt::Connected)
    }
}

impl Dial for SimDial {
    fn connect(&self, uri: Uri) -> BoxFuture<'static, Result<Connection, ConnectError>> {
        let this = self.clone();
        async move {
            let to = place_of(&uri).ok_or_else(|| ConnectError::Url(uri.clone()))?;
            let within = Duration::from_millis(CONNECT_MS);
            let attempts = async {
                loop {
                    match this.attempt(to).await {
                        Attempt::NoAnswer => tokio::time::sleep(Duration::from_millis(SYN_MS)).await,
                        Attempt::Refused => return Err(io::ErrorKind::ConnectionRefused.into()),
                        Attempt::Connected(stream) => return Ok(Box::new(stream) as Connection),
                    }
                }
            };
            match tokio::time::timeout(within, attempts).await {
                Ok(connected) => connected.map_err(|source: io::Error| ConnectError::Tcp { uri, source }),
                Err(_) => Err(ConnectError::Late { uri, within }),
            }
        }
        .boxed()
    }

    fn refuses(&self, uri: Uri) -> BoxFuture<'static, bool> {
        let this = self.clone();
        async move {
            match place_of(&uri) {
                Some(to) => matches!(this.attempt(to).await, Attempt::Refused),
                None => false,
            }
        }
        .boxed()
    }
}

/// One end of a connection.
#[derive(Debug)]
pub struct SimStream {
    network: Network,
    incoming: u64,
    outgoing: u64,
}

impl Connected for SimStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

/// Has a task woken when a pipe changes; a task that waited there before is woken, to find that out.
fn await_pipe(place: &mut Option<Waker>, cx: &Context<'_>, to_wake: &mut Vec<Waker>) {
    if place.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
        to_wake.extend(place.replace(cx.waker().clone()));
    }
}

impl AsyncRead for SimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.network.state();
        let state = &mut *state;
        let Some(pipe) = state.pipes.get_mut(&self.incoming) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        let Some(first) = pipe.arrived.front_mut() else {
            if pipe.ended {
                return Poll::Ready(Ok(()));
            }
            await_pipe(&mut pipe.reader, cx, &mut state.to_wake);
            return Poll::Pending;
        };
        let taken = first.len().min(buf.remaining());
        buf.put_slice(&first[..taken]);
        first.advance(taken);
        if first.is_empty() {
            pipe.arrived.pop_front();
        }
        pipe.bytes -= taken;
        state.to_wake.extend(pipe.writer.take());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.network.state();
        let state = &mut *state;
        let Some(pipe) = state.pipes.get(&self.outgoing) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let (from, to) = (pipe.from, pipe.to);
        let due = state.now_ms + state.draw_delay(from, to);
        let is_dark = state.dark.contains_key(&from);
        let Some(pipe) = state.pipes.get_mut(&self.outgoing) else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if pipe.closed {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if is_dark {
            return Poll::Ready(Ok(bytes.len()));
        }
        let taken = bytes.len().min(SOCKET_BYTES.saturating_sub(pipe.bytes));
        if taken == 0 && !bytes.is_empty() {
            await_pipe(&mut pipe.writer, cx, &mut state.to_wake);
            return Poll::Pending;
        }
        let due = pipe.under_way.back().map_or(due, |(before, _)| due.max(*before));
        pipe.under_way.push_back((due, Segment::Data(Bytes::copy_from_slice(&bytes[..taken]))));
        pipe.bytes += taken;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The other end is told when this one is dropped, which comes next.
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimStream {
    fn drop(&mut self) {
        let mut state = self.network.state();
        let state = &mut *state;
        if let Some(pipe) = state.pipes.get_mut(&self.incoming) {
            (pipe.ended, pipe.abandoned) = (true, true);
            state.to_wake.extend(pipe.waiting());
        }
        let Some(pipe) = state.pipes.get(&self.outgoing) else { return };
        let (from, to) = (pipe.from, pipe.to);
        if state.dark.contains_key(&from) {
            // Nobody is told. Who writes to this end learns of it when the machine is on again.
            return;
        }
        let due = state.now_ms + state.draw_delay(from, to);
        if let Some(pipe) = state.pipes.get_mut(&self.outgoing) {
            let due = pipe.under_way.back().map_or(due, |(before, _)| due.max(*before));
            pipe.under_way.push_back((due, Segment::Gone));
            pipe.closed = true;
        }
    }
}
