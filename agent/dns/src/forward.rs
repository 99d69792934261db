//! Asking other name servers: in their order, the ones that answered lately first, the same question once at a time. Must
//! never believe a reply to another question.

use core::net::SocketAddr;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::LowerName;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::cache::{Cache, CacheSettings, Question};
use crate::metrics::{ELSEWHERE, Metrics, SERVER, code};

/// How long a name server that did not answer is asked last.
const DISTRUST: Duration = Duration::from_secs(10);

/// How many times name servers are asked until the question fails.
const TRIES: usize = 4;

/// What is asked of datagrams from other name servers.
const DATAGRAM: u16 = 1232;

/// Why nobody answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ForwardError {
    /// There is nobody to ask.
    #[error("no other name server is known")]
    Nobody,
    /// Nobody answered; the last error.
    #[error("no name server answered, the last one {server}")]
    Silent {
        server: SocketAddr,
        #[source]
        source: Arc<io::Error>,
    },
}

type Asking = Shared<BoxFuture<'static, Result<Arc<Message>, ForwardError>>>;

/// Other name servers, and what they answered.
#[derive(Clone)]
pub(crate) struct Forwarder {
    inner: Arc<Inner>,
}

struct Inner {
    servers: Mutex<Vec<Server>>,
    cache: Mutex<Cache>,
    asking: Mutex<HashMap<Question, Asking>>,
    metrics: Metrics,
    patience: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Server {
    address: SocketAddr,
    failed: Option<Instant>,
}

impl std::fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("servers", &self.inner.servers).finish_non_exhaustive()
    }
}

/// In which order servers are asked: those that did not fail lately in their order, then the others, the one that failed
/// first before the rest.
fn order(servers: &[Server], now: Instant) -> Vec<SocketAddr> {
    let mut sorted: Vec<Server> = servers.to_vec();
    sorted.sort_by_key(|server| server.failed.filter(|failed| now.duration_since(*failed) < DISTRUST));
    sorted.into_iter().map(|server| server.address).collect()
}

impl Forwarder {
    pub(crate) fn new(
        servers: &[SocketAddr],
        cache: CacheSettings,
        patience: Duration,
        metrics: Metrics,
    ) -> Self {
        let inner = Inner {
            servers: Mutex::new(Vec::new()),
            cache: Mutex::new(Cache::new(cache)),
            asking: Mutex::new(HashMap::new()),
            metrics,
            patience,
        };
        let forwarder = Self { inner: Arc::new(inner) };
        forwarder.set_servers(servers);
        forwarder
    }

    /// From now on these; what is known of those that were there stays known.
    pub(crate) fn set_servers(&self, addresses: &[SocketAddr]) {
        let mut servers = self.inner.servers.lock();
        let failed = |address| servers.iter().find(|server| server.address == address)?.failed;
        let new =
            addresses.iter().map(|address| Server { address: *address, failed: failed(*address) }).collect();
        *servers = new;
    }

    /// The question in the form in which it is remembered.
    pub(crate) fn question(request: &Message, query: &Query) -> Question {
        Question {
            name: LowerName::new(query.name()),
            kind: query.query_type(),
            dnssec_ok: request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok),
            checking_disabled: request.metadata.checking_disabled,
        }
    }

    /// The answer, if it is remembered.
    pub(crate) fn remembered(&self, question: &Question) -> Option<Message> {
        let metrics = &self.inner.metrics;
        let found = self.inner.cache.lock().get(question, Instant::now());
        match &found {
            Some(response) => {
                let negative = response.answers.is_empty();
                let kind = if negative { "denial" } else { "success" };
                metrics.hits.with_label_values(&[SERVER, kind, ELSEWHERE, ""]).inc();
            }
            None => metrics.misses.with_label_values(&[SERVER, ELSEWHERE, ""]).inc(),
        }
        found
    }

    /// The answer of a name server. All who ask the same at a time wait for the same answer.
    pub(crate) async fn ask(&self, question: Question, query: Query) -> Result<Arc<Message>, ForwardError> {
        let asking = {
            let mut all = self.inner.asking.lock();
            match all.get(&question) {
                Some(asking) => asking.clone(),
                None => {
                    // The answer may have come since it was looked for.
                    if let Some(response) = self.inner.cache.lock().get(&question, Instant::now()) {
                        return Ok(Arc::new(response));
                    }
                    let inner = Arc::clone(&self.inner);
                    let asked = question.clone();
                    let asking = async move { inner.ask(asked, query).await }.boxed().shared();
                    all.insert(question.clone(), asking.clone());
                    asking
                }
            }
        };
        let _entry = Entry { inner: &self.inner, question, asking: asking.clone() };
        asking.await
    }
}

/// A question that is being asked; the last one who waits removes it, also one who gave up.
struct Entry<'a> {
    inner: &'a Inner,
    question: Question,
    asking: Asking,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        let mut all = self.inner.asking.lock();
        let ours = all.get(&self.question).is_some_and(|asking| asking.ptr_eq(&self.asking));
        // This one, the map's, and nobody else's.
        if ours && (self.asking.strong_count().is_none_or(|count| count <= 2) || self.asking.peek().is_some())
        {
            all.remove(&self.question);
        }
    }
}

impl Inner {
    async fn ask(&self, question: Question, query: Query) -> Result<Arc<Message>, ForwardError> {
        let mut last = Err(ForwardError::Nobody);
        let servers = order(&self.servers.lock(), Instant::now());
        for server in servers.iter().copied().cycle().take(TRIES.max(servers.len())) {
            let start = Instant::now();
            self.metrics.forwarded.with_label_values(&[&server.to_string()]).inc();
            match exchange(server, &question, &query, self.patience).await {
                Ok(response) => {
                    self.mark(server, None);
                    let name = code(response.metadata.response_code);
                    let labels = [server.to_string(), name];
                    self.metrics.forward_responses.with_label_values(&labels).inc();
                    self.metrics
                        .forward_durations
                        .with_label_values(&labels)
                        .observe(start.elapsed().as_secs_f64());
                    let response = Arc::new(response);
                    let useless = [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp];
                    // Another server may know; if that one does not, this is what is known.
                    if useless.contains(&response.metadata.response_code) {
                        let asked_all = servers.last() == Some(&server);
                        last = Ok(response);
                        if asked_all {
                            break;
                        }
                        continue;
                    }
                    let mut cache = self.cache.lock();
                    cache.put(question, Arc::clone(&response), Instant::now());
                    let entries = i64::try_from(cache.len()).unwrap_or(i64::MAX);
                    self.metrics.entries.with_label_values(&[SERVER, "all", ELSEWHERE, ""]).set(entries);
                    return Ok(response);
                }
                Err(error) => {
                    tracing::debug!(%server, %error, name = %question.name, "a name server did not answer");
                    self.mark(server, Some(Instant::now()));
                    if last.is_err() {
                        last = Err(ForwardError::Silent { server, source: Arc::new(error) });
                    }
                }
            }
        }
        last
    }

    fn mark(&self, address: SocketAddr, failed: Option<Instant>) {
        for server in self.servers.lock().iter_mut().filter(|server| server.address == address) {
            server.failed = failed;
        }
    }
}

/// One question to one server: a datagram, and a connection if the answer does not fit into one.
async fn exchange(
    server: SocketAddr,
    question: &Question,
    query: &Query,
    patience: Duration,
) -> io::Result<Message> {
    let mut request = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    request.metadata.recursion_desired = true;
    request.metadata.checking_disabled = question.checking_disabled;
    request.add_query(query.clone());
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM);
    edns.set_dnssec_ok(question.dnssec_ok);
    request.set_edns(edns);
    let bytes = request.to_vec().map_err(io::Error::other)?;
    let response = timeout(patience, by_datagram(server, &request, &bytes)).await??;
    if !response.metadata.truncation {
        return Ok(response);
    }
    timeout(patience, by_connection(server, &request, &bytes)).await?
}

async fn by_datagram(server: SocketAddr, request: &Message, bytes: &[u8]) -> io::Result<Message> {
    let any = SocketAddr::new(if server.is_ipv4() { [0, 0, 0, 0].into() } else { [0_u16; 8].into() }, 0);
    // A socket, and so a port, for each question: whoever wants to forge an answer has to guess it too.
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(bytes).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if let Some(response) = matching(request, &buffer[..length]) {
            return Ok(response);
        }
    }
}

async fn by_connection(server: SocketAddr, request: &Message, bytes: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(bytes);
    stream.write_all(&framed).await?;
    let mut buffer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut buffer).await?;
    matching(request, &buffer).ok_or_else(|| io::Error::other("the answer is to another question"))
}

/// The response, if it is one to this request.
fn matching(request: &Message, bytes: &[u8]) -> Option<Message> {
    let response = Message::from_vec(bytes).ok()?;
    let same = response.metadata.id == request.metadata.id
        && response.metadata.message_type == MessageType::Response
        && response.queries == request.queries;
    same.then_some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_that_failed_lately_are_asked_last_and_are_trusted_again() {
        let address = |number| SocketAddr::from(([10, 0, 0, number], 53));
        let now = Instant::now() + DISTRUST * 3;
        let server = |number, ago: Option<u64>| Server {
            address: address(number),
            failed: ago.map(|ago| now - Duration::from_secs(ago)),
        };
        let servers = [server(1, Some(3)), server(2, None), server(3, Some(5)), server(4, Some(11))];
        assert_eq!(order(&servers, now), [address(2), address(4), address(3), address(1)]);
        assert_eq!(order(&[], now), []);
    }
}
