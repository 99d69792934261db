//! One watch that survives the member it was opened on: it goes on at another, from its own next revision.
//!
//! Never skips or repeats an event.

use std::time::Duration;

use barque_proto::etcdserverpb as pb;
use barque_proto::etcdserverpb::watch_client::WatchClient;
use barque_proto::etcdserverpb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Request, Streaming};

use super::{Connection, Live, failure, token_is_stale, was_cut};
use crate::error::{Failure, ServerError};

/// Requests that a stream may hold before sending waits: one creation, and one question for progress at a time.
const REQUESTS: usize = 4;

/// Between attempts to go on, at first and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What to watch.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchOptions {
    pub(crate) key: Vec<u8>,
    pub(crate) range_end: Vec<u8>,
    /// 0: from now on.
    pub(crate) start_revision: i64,
    pub(crate) prev_kv: bool,
    pub(crate) progress_notify: bool,
}

/// A watch that is open.
pub(crate) struct Watcher {
    connection: Connection,
    options: WatchOptions,
    stream: Stream,
    /// The first revision that has not been told yet.
    next_revision: i64,
}

struct Stream {
    live: Live,
    requests: mpsc::Sender<pb::WatchRequest>,
    answers: Streaming<pb::WatchResponse>,
    /// The answer that said that the watch stands.
    created: pb::WatchResponse,
}

impl Watcher {
    /// Opens the watch; it stands when this returns.
    pub(crate) async fn open(connection: &Connection, options: WatchOptions) -> Result<Self, Failure> {
        let within = connection.settings().short();
        let opening = Stream::open(connection, &options, options.start_revision);
        let stream = tokio::time::timeout(within, opening).await.unwrap_or_else(|_| {
            let endpoints: Vec<_> = connection.endpoints().iter().map(ToString::to_string).collect();
            Err(Failure::Late { endpoint: endpoints.join(", "), within })
        })?;
        let revision = stream.created.header.map_or(0, |header| header.revision);
        let next_revision = if options.start_revision > 0 { options.start_revision } else { revision + 1 };
        Ok(Self { connection: connection.clone(), options, stream, next_revision })
    }

    /// The next events, progress, or the answer that the watch was cancelled, after which there is nothing.
    pub(crate) async fn next(&mut self) -> Result<pb::WatchResponse, Failure> {
        if self.stream.created.canceled {
            return Ok(std::mem::take(&mut self.stream.created));
        }
        loop {
            let status = match self.stream.answers.message().await {
                Ok(Some(answer)) if lost_its_leader(&answer) => None,
                Ok(Some(answer)) => {
                    self.told(&answer);
                    return Ok(answer);
                }
                Ok(None) => None,
                Err(status) => Some(status),
            };
            if let Some(status) = status {
                self.connection.note(&self.stream.live, &status);
                let passes =
                    was_cut(&status) || status.code() == tonic::Code::Unavailable || token_is_stale(&status);
                if !passes {
                    return Err(failure(&self.stream.live, &status));
                }
            }
            self.go_on().await?;
        }
    }

    fn told(&mut self, answer: &pb::WatchResponse) {
        let last = answer.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        let progress = answer.header.map_or(0, |header| header.revision);
        let told = match last {
            Some(revision) => revision,
            None if !answer.canceled => progress,
            None => 0,
        };
        self.next_revision = self.next_revision.max(told + 1);
    }

    /// Opens the watch again, at whichever member takes it, until one does.
    async fn go_on(&mut self) -> Result<(), Failure> {
        let mut pause = FIRST_PAUSE;
        self.connection.leave(&self.stream.live, true).await;
        loop {
            match Stream::open(&self.connection, &self.options, self.next_revision).await {
                Ok(stream) => {
                    self.stream = stream;
                    return Ok(());
                }
                Err(Failure::Connection(_) | Failure::Server(ServerError { unavailable: true, .. })) => {}
                Err(other) => return Err(other),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks how far the watch is; the answer comes as one without events.
    pub(crate) async fn ask_for_progress(&self) {
        let request = RequestUnion::ProgressRequest(pb::WatchProgressRequest {});
        // A stream that has just broken is opened again without the question.
        let _ = self.stream.requests.send(pb::WatchRequest { request_union: Some(request) }).await;
    }
}

/// A member that has lost its leader cancels its watches; they can go on elsewhere.
fn lost_its_leader(answer: &pb::WatchResponse) -> bool {
    answer.canceled && answer.cancel_reason.contains("no leader")
}

impl Stream {
    async fn open(connection: &Connection, options: &WatchOptions, revision: i64) -> Result<Self, Failure> {
        let mut others_left = connection.endpoints().len() - 1;
        let mut token_renewed = false;
        loop {
            let live = connection.live().await?;
            let status = match Self::open_at(connection, &live, options, revision).await {
                Ok(stream) => return Ok(stream),
                Err(status) => status,
            };
            connection.note(&live, &status);
            if !token_renewed && connection.settings().user.is_some() && token_is_stale(&status) {
                token_renewed = true;
                connection.leave(&live, false).await;
            } else if others_left > 0 && (was_cut(&status) || status.code() == tonic::Code::Unavailable) {
                others_left -= 1;
                connection.leave(&live, true).await;
            } else {
                connection.leave(&live, true).await;
                return Err(failure(&live, &status));
            }
        }
    }

    async fn open_at(
        connection: &Connection,
        live: &Live,
        options: &WatchOptions,
        revision: i64,
    ) -> Result<Self, tonic::Status> {
        let create = pb::WatchCreateRequest {
            key: options.key.clone().into(),
            range_end: options.range_end.clone().into(),
            start_revision: revision,
            prev_kv: options.prev_kv,
            progress_notify: options.progress_notify,
            ..Default::default()
        };
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let create = pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        // The channel is new and has room.
        let _ = requests.send(create).await;
        let mut request = Request::new(ReceiverStream::new(receiver));
        // A member without a leader says so instead of letting the watch wait.
        request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        let (_, receive) = connection.limits();
        let mut client = WatchClient::new(live.service()).max_decoding_message_size(receive);
        let mut answers = client.watch(request).await?.into_inner();
        let ended = || tonic::Status::unavailable("the watch ended before it stood");
        let created = answers.message().await?.ok_or_else(ended)?;
        if lost_its_leader(&created) {
            return Err(tonic::Status::unavailable(created.cancel_reason));
        }
        Ok(Self { live: live.clone(), requests, answers, created })
    }
}
