//! Requests in, replies out, over datagrams and connections. Must never let those who wait for others hold up those whose
//! answer is here.

use core::net::SocketAddr;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::Record;
use parking_lot::RwLock;
use rand::seq::SliceRandom as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::forward::Forwarder;
use crate::metrics::{ELSEWHERE, Metrics, code};
use crate::names::Names;
use crate::reply::{self, Local, Read};

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_secs(10);

/// How many connections a listener holds at a time.
const CONNECTIONS: usize = 512;

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) names: Arc<RwLock<Names>>,
    pub(crate) forwarder: Forwarder,
    pub(crate) metrics: Metrics,
    /// For those who wait for other name servers.
    pub(crate) slots: Arc<Semaphore>,
}

/// What is to be done for a question.
enum Next {
    Reply(Message),
    Ask { chain: Vec<Record>, query: Query },
}

/// Who asks, and how.
#[derive(Clone, Copy)]
struct Client {
    tcp: bool,
    v4: bool,
}

impl Server {
    /// Answers datagrams.
    pub(crate) async fn datagrams(
        self: Arc<Self>,
        socket: Arc<UdpSocket>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let mut buffer = vec![0; 65_535];
        while let Some(received) = stop.run_until_cancelled(socket.recv_from(&mut buffer)).await {
            let (length, from) = match received {
                Ok(received) => received,
                // Such as a client's port that is closed already, told of an earlier reply.
                Err(error) => {
                    tracing::debug!(%error, "no datagram");
                    continue;
                }
            };
            let start = Instant::now();
            let client = Client { tcp: false, v4: from.is_ipv4() };
            let request = match reply::read(&buffer[..length]) {
                Read::Question(request) => *request,
                Read::Refuse(reply) => {
                    self.count(ELSEWHERE, &reply, start);
                    send(&socket, from, &reply, 512).await;
                    continue;
                }
                Read::Ignore => continue,
            };
            match self.start(&request, client) {
                (zone, Next::Reply(reply)) => {
                    self.count(&zone, &reply, start);
                    send(&socket, from, &reply, reply::datagram(&request)).await;
                }
                (_, Next::Ask { chain, query }) => {
                    let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() else {
                        let reply = self.full(&request, start);
                        send(&socket, from, &reply, reply::datagram(&request)).await;
                        continue;
                    };
                    let (server, socket) = (Arc::clone(&self), Arc::clone(&socket));
                    tasks.spawn(async move {
                        let reply = server.ask(&request, chain, query).await;
                        server.count(ELSEWHERE, &reply, start);
                        send(&socket, from, &reply, reply::datagram(&request)).await;
                        drop(slot);
                    });
                }
            }
        }
    }

    /// Answers connections.
    pub(crate) async fn connections(
        self: Arc<Self>,
        listener: TcpListener,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let accept = async {
                // Never closed, so there is a place some time; whoever waits is in the system's queue.
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            };
            let Some((place, accepted)) = stop.run_until_cancelled(accept).await else { break };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "no connection");
                    continue;
                }
            };
            let (server, stop) = (Arc::clone(&self), stop.clone());
            tasks.spawn(async move {
                let client = Client { tcp: true, v4: from.is_ipv4() };
                if let Err(error) = server.connection(stream, client, &stop).await {
                    tracing::debug!(%from, %error, "a connection ended");
                }
                drop(place);
            });
        }
    }

    async fn connection(
        &self,
        mut stream: TcpStream,
        client: Client,
        stop: &CancellationToken,
    ) -> io::Result<()> {
        loop {
            let Some(length) = stop.run_until_cancelled(timeout(IDLE, stream.read_u16())).await else {
                return Ok(());
            };
            let mut buffer = vec![0; usize::from(length??)];
            timeout(IDLE, stream.read_exact(&mut buffer)).await??;
            let start = Instant::now();
            let reply = match reply::read(&buffer) {
                Read::Question(request) => match self.start(&request, client) {
                    (zone, Next::Reply(reply)) => {
                        self.count(&zone, &reply, start);
                        reply
                    }
                    (_, Next::Ask { chain, query }) => match self.slots.try_acquire() {
                        Err(_) => self.full(&request, start),
                        Ok(_slot) => {
                            let reply = self.ask(&request, chain, query).await;
                            self.count(ELSEWHERE, &reply, start);
                            reply
                        }
                    },
                },
                Read::Refuse(reply) => *reply,
                Read::Ignore => return Ok(()),
            };
            let Some(bytes) = reply::encode(&reply, usize::from(u16::MAX)) else { return Ok(()) };
            let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
            let mut framed = length.to_be_bytes().to_vec();
            framed.extend_from_slice(&bytes);
            timeout(IDLE, stream.write_all(&framed)).await??;
        }
    }

    /// What can be said at once, and in which zone that is.
    fn start(&self, request: &Message, client: Client) -> (String, Next) {
        // A question has one query; it was read so.
        let Some(query) = request.queries.first() else {
            return (ELSEWHERE.to_owned(), Next::Reply(reply::reply_to(request, ResponseCode::FormErr)));
        };
        let (zone, local) = {
            let names = self.names.read();
            let inside = names.zone.domain.zone_of(query.name());
            let zone = if inside { names.zone.domain.to_ascii() } else { ELSEWHERE.to_owned() };
            (zone, reply::local(request, query, &names))
        };
        self.metrics.request(&zone, client.tcp, client.v4, &query.query_type().to_string());
        let next = match local {
            Local::Reply(mut reply) => {
                shuffle(&mut reply.answers);
                Next::Reply(reply)
            }
            Local::Ask { chain, query } => {
                match self.forwarder.remembered(&Forwarder::question(request, &query)) {
                    Some(response) => Next::Reply(reply::forwarded(request, chain, &response)),
                    None => Next::Ask { chain, query },
                }
            }
        };
        (zone, next)
    }

    async fn ask(&self, request: &Message, chain: Vec<Record>, query: Query) -> Message {
        let question = Forwarder::question(request, &query);
        match self.forwarder.ask(question, query).await {
            Ok(response) => reply::forwarded(request, chain, &response),
            Err(error) => {
                tracing::debug!(%error, "a name of others is not answered");
                reply::reply_to(request, ResponseCode::ServFail)
            }
        }
    }

    fn full(&self, request: &Message, start: Instant) -> Message {
        self.metrics.rejected.with_label_values::<&str>(&[]).inc();
        let reply = reply::reply_to(request, ResponseCode::Refused);
        self.count(ELSEWHERE, &reply, start);
        reply
    }

    fn count(&self, zone: &str, reply: &Message, start: Instant) {
        self.metrics.response(zone, &code(reply.metadata.response_code), start.elapsed());
    }
}

/// Clients take the first address; each shall be the first one equally often. Only where all are of one name, as the order
/// of names that stand for others matters.
fn shuffle(records: &mut [Record]) {
    let same = records
        .windows(2)
        .all(|pair| pair[0].name == pair[1].name && pair[0].record_type() == pair[1].record_type());
    if same {
        records.shuffle(&mut rand::rng());
    }
}

async fn send(socket: &UdpSocket, to: SocketAddr, reply: &Message, limit: usize) {
    let Some(bytes) = reply::encode(reply, limit) else { return };
    if let Err(error) = socket.send_to(&bytes, to).await {
        tracing::debug!(%to, %error, "a reply cannot be sent");
    }
}
