//! Connections to the other members.
//!
//! Each member gets two connections: `data` for log entries, forwarded writes and snapshots, `control` for
//! heartbeats, votes and read indexes, which must never wait behind megabytes of data. Connections are made
//! when first used and again after they broke. Nothing here knows what the calls mean.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use barque_proto::peer::peer_client::PeerClient;
use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::dial::{Connection, Dial};
use super::identity::{Identity, IdentityMetadata, Refusal, Roster, identity_from};
use super::traffic::{CountedStream, PeerCounts};
use super::types::PeerNode;
use crate::ids::MemberId;
use crate::metrics::Metrics;
use crate::tls::ConnectError;

/// A message may carry one entry of the largest request, or a batch of a MiB.
const MAX_MESSAGE_BYTES: usize = 64 << 20;

/// All other members.
pub struct Peers {
    own: Identity,
    metadata: IdentityMetadata,
    roster: Arc<Roster>,
    dial: Arc<dyn Dial>,
    connections: Mutex<HashMap<MemberId, Arc<Peer>>>,
    metrics: Arc<Metrics>,
    /// Of members that were met; few, and never forgotten, as their counts are not.
    counts: Mutex<HashMap<MemberId, Arc<PeerCounts>>>,
}

/// One other member.
pub struct Peer {
    /// Its id.
    pub id: MemberId,
    /// What is counted for it.
    pub counts: Arc<PeerCounts>,
    urls: Vec<String>,
    data: PeerClient<Channel>,
    control: PeerClient<Channel>,
}

impl Peer {
    /// For log entries, forwarded writes and snapshots.
    #[must_use]
    pub fn data(&self) -> PeerClient<Channel> {
        self.data.clone()
    }

    /// For heartbeats, votes and read indexes.
    #[must_use]
    pub fn control(&self) -> PeerClient<Channel> {
        self.control.clone()
    }
}

/// A call to a peer failed.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The peer answered with an error, or could not be reached.
    #[error("{} from the peer: {}", .0.code(), .0.message())]
    Status(Box<Status>),
    /// It is not who it should be.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Its answer makes no sense.
    #[error(transparent)]
    Codec(#[from] super::codec::CodecError),
    /// Its address is no URL.
    #[error("peer URL {0:?} is not valid")]
    Url(String),
}

impl From<Status> for PeerError {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Peers {
    /// No connection is made yet.
    #[must_use]
    pub fn new(own: Identity, roster: Arc<Roster>, dial: Arc<dyn Dial>, metrics: Arc<Metrics>) -> Self {
        let metadata = IdentityMetadata::new(&own);
        let (connections, counts) = (Mutex::default(), Mutex::default());
        Self { own, metadata, roster, dial, connections, metrics, counts }
    }

    /// What is counted.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// What is counted for a member; made when first asked for, so ask for real members only.
    #[must_use]
    pub fn counts(&self, id: MemberId) -> Arc<PeerCounts> {
        let mut counts = self.counts.lock();
        let fresh = || Arc::new(PeerCounts::new(self.metrics.network.peer(self.own.member, id)));
        Arc::clone(counts.entry(id).or_insert_with(fresh))
    }

    /// What is counted for a caller, if it would be admitted.
    pub(super) fn counts_of_caller(&self, caller: &Identity) -> Option<Arc<PeerCounts>> {
        self.roster.check(&self.own, caller).ok().map(|()| self.counts(caller.member))
    }

    /// Tells the metrics who the other members are.
    pub fn tell_known(&self, members: &BTreeSet<MemberId>) {
        for &id in members.iter().filter(|id| **id != self.own.member) {
            let _ = self.counts(id);
        }
        for (id, counts) in &*self.counts.lock() {
            counts.metrics.known.set(i64::from(members.contains(id)));
        }
    }

    /// This member.
    #[must_use]
    pub fn own(&self) -> &Identity {
        &self.own
    }

    /// What is known of the others.
    #[must_use]
    pub fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// The connections to a member; made anew when its addresses changed.
    ///
    /// # Errors
    /// When none of the member's URLs can be parsed.
    pub fn peer(&self, id: MemberId, node: &PeerNode) -> Result<Arc<Peer>, PeerError> {
        let mut connections = self.connections.lock();
        if let Some(peer) = connections.get(&id)
            && peer.urls == node.peer_urls
        {
            return Ok(Arc::clone(peer));
        }
        let counts = self.counts(id);
        let peer = Arc::new(Peer {
            id,
            urls: node.peer_urls.clone(),
            data: self.client_of(&node.peer_urls, Some(&counts))?,
            control: self.client_of(&node.peer_urls, Some(&counts))?,
            counts,
        });
        connections.insert(id, Arc::clone(&peer));
        Ok(peer)
    }

    /// A client for addresses whose owner is not known yet.
    ///
    /// # Errors
    /// When none of the URLs can be parsed.
    pub fn client(&self, urls: &[String]) -> Result<PeerClient<Channel>, PeerError> {
        self.client_of(urls, None)
    }

    fn client_of(
        &self,
        urls: &[String],
        counts: Option<&Arc<PeerCounts>>,
    ) -> Result<PeerClient<Channel>, PeerError> {
        let uris = urls
            .iter()
            .map(|url| url.parse::<Uri>().map_err(|_| PeerError::Url(url.clone())))
            .collect::<Result<Vec<_>, _>>()?;
        let first = uris.first().cloned().ok_or_else(|| PeerError::Url(String::new()))?;
        let connector =
            Connector { uris: uris.into(), dial: Arc::clone(&self.dial), counts: counts.cloned() };
        // The connector does TLS itself, so for tonic every peer is plain.
        let origin = Uri::builder()
            .scheme("http")
            .authority(first.authority().map_or("peer", http::uri::Authority::as_str))
            .path_and_query("/")
            .build()
            .map_err(|_| PeerError::Url(first.to_string()))?;
        let channel = Endpoint::from(origin)
            .tcp_nodelay(true)
            .initial_stream_window_size(Some(8 << 20))
            .initial_connection_window_size(Some(32 << 20))
            .http2_keep_alive_interval(Duration::from_secs(2))
            .keep_alive_timeout(Duration::from_secs(3))
            .connect_with_connector_lazy(connector);
        Ok(PeerClient::new(channel)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES))
    }

    /// Wraps a message with this member's identity.
    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        self.metadata.insert_into(request.metadata_mut());
        request
    }

    /// Wraps an answer with this member's identity.
    pub fn response<T>(&self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        self.metadata.insert_into(response.metadata_mut());
        response
    }

    /// Unwraps an answer if it comes from the member that was meant, on the disk it is known by.
    ///
    /// # Errors
    /// When it does not.
    pub fn accept<T>(&self, expected: MemberId, response: Response<T>) -> Result<T, PeerError> {
        let peer = identity_from(response.metadata())?;
        self.roster.check(&self.own, &peer)?;
        if peer.member != expected {
            return Err(Refusal::OtherMember { expected, found: peer.member }.into());
        }
        Ok(response.into_inner())
    }

    /// The caller's identity, if it is welcome.
    ///
    /// # Errors
    /// A status that tells the caller why it is not.
    pub fn admit<T>(&self, request: &Request<T>) -> Result<Identity, Status> {
        let peer = identity_from(request.metadata())?;
        self.roster.check(&self.own, &peer)?;
        Ok(peer)
    }

    /// Whether nobody listens at any of a member's addresses: its process is gone, not just slow.
    /// Unlike a broken stream this cannot be caused by a busy network.
    pub async fn is_dead(&self, node: &PeerNode) -> bool {
        for url in &node.peer_urls {
            let Ok(uri) = url.parse::<Uri>() else { continue };
            if !self.dial.refuses(uri).await {
                return false;
            }
        }
        true
    }
}

/// Connects to the first of a member's addresses that answers.
#[derive(Clone)]
struct Connector {
    uris: Arc<[Uri]>,
    dial: Arc<dyn Dial>,
    counts: Option<Arc<PeerCounts>>,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<CountedStream<Connection>>;
    type Error = ConnectError;
    type Future = BoxFuture<'static, Result<Self::Response, ConnectError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), ConnectError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let mut last = ConnectError::Url(uri);
            for uri in this.uris.iter() {
                match this.dial.connect(uri.clone()).await {
                    Ok(stream) => return Ok(TokioIo::new(CountedStream::new(stream, this.counts))),
                    Err(error) => last = error,
                }
            }
            if let Some(counts) = this.counts {
                counts.metrics.sent_failures.inc();
            }
            Err(last)
        })
    }
}
